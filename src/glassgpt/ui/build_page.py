"""The tab Build: a file, what would come of it, and a training that makes a model of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from nicegui import background_tasks, ui
from nicegui.events import GenericEventArguments

from glassgpt.core.errors import InputError
from glassgpt.core.html import element
from glassgpt.formats.catalog import CATALOG
from glassgpt.ui.build_info import BuildInfo
from glassgpt.ui.build_list import BuildList
from glassgpt.ui.build_run import BuildRun
from glassgpt.ui.build_view import preview_html
from glassgpt.ui.chat_settings import option
from glassgpt.ui.drop import Drop
from glassgpt.ui.preview import PreviewJob
from glassgpt.ui.uploads import KINDS, keep_upload, sample_file
from glassgpt.ui.window import Field, Window

LOOK_S = 1.0  # between two looks at the trainings
MINUTES = 10  # on a slow or busy computer, five are too few for the default model
SCRATCH = "scratch"


class BuildPage:
    """What one window shows of the trainings."""

    def __init__(self, window: Window) -> None:
        self.window, self.desk, self.builds = window, window.desk, window.desk.builds
        self.data: Path | None = None
        self.base = next(iter(CATALOG))
        self.masks = False
        self._job: PreviewJob | None = None

    def build(self, talk_to: Callable[[str], None]) -> None:
        """The elements. `talk_to` shows the chat with a model of the hub."""
        words = self.window.words
        with ui.element("div").classes("gg-sheet"):
            self.window.text(words("Make a model of your own"), tag="h2")
            about = words("A file of questions and answers goes in; a model that answers in its words comes out. "
                          "Everything happens on this computer.")  # fmt: skip
            self.window.text(about, "gg-faint")
            Drop(self.window, words("A file of questions and answers"), ",".join(KINDS), self._got, multiple=False)
            with ui.element("div").classes("gg-row"):
                self.chosen = self.window.text("", "gg-status")
                self.sample = self.window.button(words("Use the sample"), self._take_sample)
            self.form = ui.element("div").classes("gg-form")
            self.form.visible = False
            with self.form:
                self._build_form()
            self.report = ui.element("div")
            self.run = BuildRun(self.window, self._talk(talk_to), self._refresh)
            self.run.build()
            self.list = BuildList(self.window, self.run.show, self._talk(talk_to), self._refresh)
            self.list.build()
        ui.timer(LOOK_S, self._look)
        self.window.client.on_delete(self._cancel)

    def _build_form(self) -> None:
        words = self.window.words
        with ui.element("div").classes("gg-row"):
            with ui.element("label"):
                self.window.text(words("Begin with"), tag="span")
                self.bases = ui.html("", tag="span", sanitize=False)
                self.bases.on("change", self.window.safely(self._chose_base), js_handler="(e) => emit(e.target.value)")
            self.minutes = Field(words("Minutes to spend"), str(MINUTES), "number", min="0.5", max="10000", step="0.5")
            with ui.element("label").classes("gg-check"):
                check = ui.element("input")
                check.props.update({"type": "checkbox"})
                self.window.text(words("Hide personal data, such as phone numbers"), tag="span")
                check.on("change", self.window.safely(self._chose_masks), js_handler="(e) => emit(e.target.checked)")
            self.window.button(words("Start the training"), self._start, "main")

    # What the user does

    async def _got(self, path: Path) -> None:
        def keep() -> Path:
            with path.open("rb") as file:
                return keep_upload(self.desk.folder / "uploads", path.name, iter(lambda: file.read(1 << 20), b""))

        await self._take(await asyncio.to_thread(keep))

    async def _take_sample(self) -> None:
        await self._take(sample_file())

    async def _take(self, path: Path) -> None:
        self.data = path
        self.chosen.set_text(path.name)
        self.form.visible = True
        await self._fill_bases()
        await self._preview()

    async def _chose_base(self, event: GenericEventArguments) -> None:
        if event.args in self._bases:
            self.base = str(event.args)
            await self._preview()

    async def _chose_masks(self, event: GenericEventArguments) -> None:
        self.masks = bool(event.args)
        await self._preview()

    async def _start(self) -> None:
        assert self.data is not None
        try:
            minutes = float(self.minutes.value)
        except ValueError:
            raise InputError("the minutes are {given}; expected a number", given=repr(self.minutes.value[:20]),
                             hint="Type how long it may take, such as 5.") from None  # fmt: skip
        data = self.data

        def begin() -> str:
            return self.builds.start(data, self.base, minutes=minutes, mask_personal=self.masks,
                                     language=self.window.language)  # fmt: skip

        name = await asyncio.to_thread(begin)
        self.report.clear()
        self.form.visible = False
        await self.run.show(name)
        await self._refresh()

    def _talk(self, talk_to: Callable[[str], None]) -> Callable[[str], None]:
        def talk(name: str) -> None:
            path = self.builds.model_path(name)
            if path is None:
                raise InputError("the training {name} has left no model yet", hint="Wait for its end.", name=name)
            talk_to(self.desk.hub.add_model(str(path), name))

        return talk

    # What is shown

    async def _fill_bases(self) -> None:
        words = self.window.words
        infos = await asyncio.to_thread(self.builds.list)
        self._bases = [e.name for e in CATALOG.values() if e.kind in ("chat", "base")] + [SCRATCH]
        own = {str(self.builds.folder / one.name): one.name for one in infos if one.has_model}
        labels = {name: CATALOG[name].title if name in CATALOG else name for name in self._bases}
        labels |= {SCRATCH: words("nothing: a small model that learns from your file alone"), **own}
        self._bases += list(own)
        options = [option(name, labels[name], name == self.base) for name in self._bases]
        self.bases.set_content(element("select", *options, class_="gg-select"))

    async def _preview(self) -> None:
        """What would come of the file; a look that goes on is broken off."""
        self._cancel()
        assert self.data is not None
        words, name = self.window.words, self.data.name
        job = await asyncio.to_thread(PreviewJob, self.data, self.base, mask_personal=self.masks,
                                      language=self.window.language)  # fmt: skip
        self._job = job
        self.report.clear()
        with self.report:
            said = self.window.text(words("Reading and cleaning {name}", name=name), "gg-status")
            said.props.update({"role": "status"})
        found = await asyncio.to_thread(job.result)
        if self._job is not job:  # another look began meanwhile
            return
        self._job = None
        self.report.clear()
        with self.report:
            if found.error:
                self.window.text(
                    words("{name} was refused: {why}", name=name, why=found.error), "gg-error"
                ).props.update({"role": "alert"})
                return
            ui.html(preview_html(found, self.window.language), sanitize=False)

    def _cancel(self) -> None:
        if self._job is not None:
            job, self._job = self._job, None
            background_tasks.create(asyncio.to_thread(job.cancel))

    async def _look(self) -> None:
        if self.window.seen == "build":
            await self._refresh()

    async def _refresh(self) -> None:
        infos: list[BuildInfo] = await asyncio.to_thread(self.builds.list)
        await self.list.refresh(infos)
        await self.run.refresh(infos)
