"""The tab Knowledge: the files that assistants answer from, and what a question finds in them."""

from __future__ import annotations

import asyncio
import time
from importlib.resources import as_file, files
from pathlib import Path

from nicegui import background_tasks, ui

from glassgpt.assistant.index import Source
from glassgpt.assistant.knowledge import Hit
from glassgpt.assistant.knowledge_files import AddedFiles
from glassgpt.assistant.passage import Note, place_text
from glassgpt.ui.drop import Drop
from glassgpt.ui.views import answer_alone
from glassgpt.ui.window import Window

ACCEPT = ".csv,.tsv,.xlsx,.jsonl,.json,.txt,.md,.html,.htm,.pdf,.docx,.parquet"
HITS = 5


class KnowledgePage:
    """What one window shows of the shelf."""

    def __init__(self, window: Window) -> None:
        self.window, self.shelf = window, window.desk.shelf

    def build(self) -> None:
        """The elements."""
        words = self.window.words
        with ui.element("div").classes("gg-sheet"):
            self.window.text(words("What your assistants know"), tag="h2")
            self.window.text(words("Assistants answer from these files word for word, and say where the answer stands. "
                                   "The files stay on this computer."), "gg-faint")  # fmt: skip
            Drop(self.window, words("Questions and answers, or documents"), ACCEPT, self._add)
            self.status = self.window.text("", "gg-status")
            self.status.props.update({"role": "status"})
            self.notes = ui.element("div")
            self.list = ui.element("div")
            self.window.text(words("Ask it"), tag="h2")
            with ui.element("form").classes("gg-row gg-nowrap") as form:
                self.field = ui.element("input").classes("gg-field")
                self.field.props.update({"type": "search", "aria-label": words("A question to your files"),
                                         "placeholder": words("A question to your files"), "maxlength": "4000",
                                         "name": "question"})  # fmt: skip
                with ui.element("button").classes("gg-button gg-main") as send:
                    send.props.update({"type": "submit"})
                    self.window.text(words("Search"), tag="span")
            form.on("submit", self.window.safely(self._ask),
                    js_handler="(e) => { e.preventDefault(); emit(e.target.elements.question.value); }")  # fmt: skip
            self.hits = ui.element("div")
            self.hits.props.update({"aria-live": "polite"})
        background_tasks.create(self._refresh())

    async def _refresh(self) -> None:
        sources = await asyncio.to_thread(self.shelf.sources)
        given = self.shelf.beside.sources() if self.shelf.beside is not None else []
        words = self.window.words
        self.list.clear()
        with self.list:
            if not sources and not given:
                self.window.text(words("No file yet. The sample is an online shop's: questions of its customers, with "
                                       "the answers."), "gg-faint")  # fmt: skip
                self.window.button(words("Add the sample"), self._add_sample)
                return
            with ui.element("div").classes("gg-wide"), ui.element("table").classes("gg-table"):
                with ui.element("thead"), ui.element("tr"):
                    for label, looks in ((words("File"), ""), (words("Passages"), "gg-number"),
                                         (words("Added"), "gg-number"), ("", "")):  # fmt: skip
                        self.window.text(label, looks, tag="th")
                with ui.element("tbody"):
                    for source in given:
                        self._row(source, given=True)
                    for source in sources:
                        self._row(source)

    def _row(self, source: Source, given: bool = False) -> None:
        """One file. `given`: with --knowledge, so that it is not removed from here."""
        words = self.window.words
        with ui.element("tr"):
            with ui.element("td"):
                self.window.text(source.name, tag="strong")
                if source.notes:
                    with ui.element("details"):
                        self.window.text(words("Notes"), tag="summary")
                        for note in source.notes:
                            self.window.text(self._said(note), "gg-faint")
            self.window.text(f"{source.passages:,}", "gg-number", tag="td")
            added = time.strftime("%Y-%m-%d %H:%M", time.localtime(source.added))
            self.window.text(added, "gg-number", tag="td")
            with ui.element("td"):
                if given:
                    self.window.text(words("given with --knowledge"), "gg-faint")
                else:
                    label = words("Remove {name}", name=source.name)
                    self.window.icon("delete", label, lambda: self._remove(source.name))

    def _said(self, note: str) -> str:
        return note.sentence.text(self.window.language) if isinstance(note, Note) else note

    async def _remove(self, name: str) -> None:
        await asyncio.to_thread(self.shelf.remove, name)
        await self._refresh()

    async def _add_sample(self) -> None:
        with as_file(files("glassgpt") / "samples" / "shop.csv") as path:
            await self._add(path)

    async def _add(self, path: Path) -> None:
        """Reads a file; what became of it is told below the field."""
        words, done = self.window.words, [0, 0]
        self.notes.clear()

        def progress(read: int, all: int) -> None:
            done[:] = read, all

        task = asyncio.create_task(asyncio.to_thread(self.shelf.add, [path], progress))
        try:
            while not task.done():
                self._tell_progress(path.name, done)
                await asyncio.wait([task], timeout=0.25)
            found = task.result()
        except Exception as error:
            self._tell(words("{name} was refused: {why}", name=path.name, why=self.window.line(error)), "gg-error")
            return
        finally:
            self.status.set_text("")
        self._tell_added(found)
        await self._refresh()

    def _tell_progress(self, name: str, done: list[int]) -> None:
        words, fetching = self.window.words, self.shelf.fetching
        if fetching is not None:
            said = words("Fetching {what}, once: {done:.0f} of {total:.0f} MB", what=fetching[0],
                         done=fetching[1] / 1e6, total=fetching[2] / 1e6)  # fmt: skip
        elif done[1]:
            said = words("Reading {name}: {done:,} of {all:,} passages", name=name, done=done[0], all=done[1])
        else:
            said = words("Reading {name}", name=name)
        self.status.set_text(said)

    def _tell_added(self, found: AddedFiles) -> None:
        words = self.window.words
        for one in found.added:
            if one.unchanged:
                self._tell(words("{name} was there already, unchanged.", name=one.source))
            else:
                self._tell(words("{name}: {count:,} passages can be found now.", name=one.source, count=one.passages))
            for note in one.notes:
                self._tell(self._said(note), "gg-faint")
        for note in found.notes:
            self._tell(self._said(note), "gg-faint")

    def _tell(self, text: str, looks: str = "gg-good") -> None:
        with self.notes:
            said = self.window.text(text, looks)
            said.props.update({"role": "alert" if looks == "gg-error" else "status"})

    async def _ask(self, event: object) -> None:
        question = str(getattr(event, "args", ""))
        hits = await asyncio.to_thread(self.shelf.search, question, HITS)
        self.hits.clear()
        with self.hits:
            if not hits:
                self.window.text(
                    self.window.words("Nothing in the files has anything in common with that."), "gg-faint"
                )
            elif not hits[0].known:
                self.window.text(
                    self.window.words("Nothing fits well enough to be the answer; the nearest:"), "gg-faint"
                )
            for hit in hits:
                self._hit(hit)

    def _hit(self, hit: Hit) -> None:
        words = self.window.words
        meaning = words("not compared") if hit.meaning is None else f"{hit.meaning:.2f}"
        with ui.element("figure").classes("gg-hit" + (" gg-known" if hit.known else "")):
            place = f"{hit.source}, {place_text(hit.passage.place, self.window.language)}"
            self.window.text(f"{place} · {hit.score:.0%}", tag="figcaption")
            if hit.passage.question:
                self.window.text(hit.passage.question, "gg-asked")
            self.window.text(answer_alone(hit.passage.text, hit.passage.question or ""), tag="blockquote")
            compared = words("Words in common: {words:.0%}; meaning: {meaning}", words=hit.words, meaning=meaning)
            self.window.text(compared, "gg-faint")
