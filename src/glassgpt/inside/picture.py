"""What all pictures share: a matplotlib figure that shows itself in a notebook, and how it is written to a file."""

from __future__ import annotations

import io
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.core.errors import ConfigError
from glassgpt.core.files import write_whole
from glassgpt.core.words import say
from glassgpt.inside.letters import families, without_glyph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One hue from light to dark, and two that the colour-blind tell apart and that differ in grey (Okabe and Ito 2008).
SHADES, BLUE, ORANGE, GREY = "Blues", "#0072b2", "#e69f00", "#666666"
_drawing = threading.Lock()  # matplotlib's settings are the whole process's


def picture(width: float, height: float, language: str) -> tuple[Figure, Axes]:
    """An empty figure of that many inches, and its axes. It is not pyplot's: no display, no global state."""
    if language not in ("en", "zh"):
        raise ConfigError("language is {name!r}; expected one of {choices}", name=language, choices="en, zh")
    figure = _kind()(figsize=(width, height), layout="constrained")
    figure.language = language
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def finished(figure: Figure) -> Figure:
    """The figure with every text in the fonts of `letters` and none read as mathematics: a token may hold a `$`."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_fontfamily(list(families()))
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write a picture as .svg, whose texts stay texts, or as .png; an older file is replaced.

    Raises:
        ConfigError: the file has another ending.
        GlassError: the disk refuses it.
    """
    path = Path(path)
    if path.suffix.lower() not in (".svg", ".png"):
        raise ConfigError("{path} ends neither in .svg nor in .png", hint="Name one of the two.", path=path)
    held = io.BytesIO()
    figure.savefig(held, format=path.suffix.lower()[1:])
    write_whole(path, held.getvalue())


@cache
def _kind() -> Any:
    """matplotlib's Figure, which is imported late, with texts as texts in SVG and pictures for notebooks."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class Picture(Figure):
        """A figure that a notebook shows, and that draws without a warning for each character."""

        language = "en"

        def savefig(self, fname: Any, **settings: Any) -> None:
            kind = str(settings.get("format") or Path(str(fname)).suffix[1:] or "png").lower()
            if kind == "svg":
                settings["metadata"] = {"Date": None} | (settings.get("metadata") or {})
            elif lacking := without_glyph(text.get_text() for text in self.findobj(Text)):
                warnings.warn(say("no installed font has {count} of the characters, such as {example}; Noto Sans CJK "
                                  "has the Chinese ones", self.language, count=len(lacking), example=lacking[0]),
                              stacklevel=2)  # fmt: skip
            with (
                _drawing,
                matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "glassgpt"}),
                warnings.catch_warnings(),
            ):
                warnings.filterwarnings("ignore", "Glyph .* missing from")  # told above, in one line
                super().savefig(fname, **({"dpi": 150} | settings))

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return Picture
