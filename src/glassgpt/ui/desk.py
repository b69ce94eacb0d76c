"""What all windows of the page work on: the models, the conversations, the files, the builds, and the settings."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from glassgpt.assistant.store import Store
from glassgpt.core.errors import ConfigError, GlassError
from glassgpt.core.files import refusing_disk, write_whole
from glassgpt.engine.packing import BITS
from glassgpt.engine.request import sampling_settings
from glassgpt.server.hub import Hub
from glassgpt.ui.builds import Builds
from glassgpt.ui.insight import Insight
from glassgpt.ui.shelf import Shelf
from glassgpt.ui.talks import Options, Talks

STORE, KNOWLEDGE, SETTINGS, SECRET = "conversations.db", "knowledge.db", "settings.json", "page.secret"
PRECISIONS = ("auto", *BITS)
LONGEST_SYSTEM = 20_000  # characters


def data_folder() -> Path:
    """Where the page keeps what must not be lost, unless told otherwise: the user's data folder of this system."""
    from platformdirs import user_data_path

    return user_data_path("glassgpt", appauthor=False)


def page_secret(folder: Path) -> bytes:
    """What signs the cookies of this installation; made when it is first wanted, readable by its user alone. Raises
    GlassError where the disk refuses it."""
    path = folder / SECRET
    with refusing_disk(path):
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.stat().st_size >= 32:
            return path.read_bytes()
        made = os.urandom(32)
        write_whole(path, made, private=True)
    return made


@dataclass
class Settings:
    """How replies are written, as the page's user has chosen; None and "" where the usual holds."""

    model: str = ""
    precision: str = "auto"
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_new_tokens: int | None = None
    system: str = ""

    def checked(self) -> Settings:
        """Itself; raises ConfigError where something is out of range."""
        sampling_settings(self.sampling())
        if self.max_new_tokens is not None and not 1 <= self.max_new_tokens <= 100_000:
            raise ConfigError("{name} is {value}; expected {low} to {high}", name="max_new_tokens",
                              value=self.max_new_tokens, low=1, high=100_000)  # fmt: skip
        if self.precision not in PRECISIONS:
            raise ConfigError("precision={given} is not one of {known}", given=self.precision,
                              known=", ".join(PRECISIONS))  # fmt: skip
        if len(self.system) > LONGEST_SYSTEM:
            raise ConfigError("the system message has {count} characters; expected at most {most}",
                              count=len(self.system), most=LONGEST_SYSTEM)  # fmt: skip
        return self

    def sampling(self) -> dict[str, Any]:
        """What was chosen of the sampling settings."""
        return {
            name: getattr(self, name) for name in ("temperature", "top_p", "seed") if getattr(self, name) is not None
        }


@dataclass
class Desk:
    """Everything that the page stands on; `close` ends it."""

    hub: Hub
    store: Store
    shelf: Shelf
    builds: Builds
    folder: Path
    language: str = "en"
    personas: Sequence[str] = ()
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.talks = Talks(self.hub, self.store)
        self.insight = Insight(self.hub, self.store, self.talks)
        self.settings = self._read()

    @property
    def model(self) -> str:
        """The model or assistant that was chosen last."""
        chosen = self.settings.model
        return chosen if chosen in self.hub.entries else next(iter(self.hub.entries))

    def options(self, model: str, language: str) -> Options:
        """How the next reply of a model or assistant is to be written."""
        chosen = self.settings
        name = self.hub.at_precision(model, None if chosen.precision == "auto" else chosen.precision)
        return Options(name, chosen.system.strip() or None, chosen.sampling(), chosen.max_new_tokens, language)

    def change(self, **changes: Any) -> None:
        """Change settings and keep them; raises ConfigError, and then nothing is changed."""
        new = Settings(**(asdict(self.settings) | changes)).checked()
        self.settings = new
        write_whole(self.folder / SETTINGS, json.dumps(asdict(new), ensure_ascii=False, indent=2) + "\n")

    async def close(self) -> None:
        """Stops replies and lets everything go."""
        await self.talks.close()
        await self.insight.close()
        self.shelf.close()
        self.store.close()

    def _read(self) -> Settings:
        """The settings that were kept; what is damaged counts as not kept."""
        try:
            given = json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))
            known = {f.name for f in fields(Settings)}
            return Settings(**{name: value for name, value in given.items() if name in known}).checked()
        except (OSError, ValueError, TypeError, AttributeError, GlassError):
            return Settings()
