"""The tab Build."""

from glassgpt.ui.window import Window


class BuildPage:
    """Stub."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def build(self, talk_to) -> None:
        """The elements."""
        self.window.text("...")
