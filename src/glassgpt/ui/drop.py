"""A place to drop files, which is a button too."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path

from nicegui import events, ui

from glassgpt.core.errors import InputError
from glassgpt.ui.uploads import safe_name
from glassgpt.ui.window import Window

LARGEST = 200_000_000  # bytes of a file; the guard of the server cuts off a little above it


class Drop:
    """Takes files into a folder of their own, which goes when `got` has done with each.

    Args:
        label: what may be dropped.
        accept: the endings that the browser offers first, such as ".csv,.jsonl".
        got: is given each file, under the name that it had.
        keep: in which folder files are put; None: in one that goes again.
    """

    def __init__(self, window: Window, label: str, accept: str, got: Callable[[Path], Awaitable[None]], *,
                 multiple: bool = True) -> None:  # fmt: skip
        self.window, self._got = window, got
        words = window.words
        self._upload = ui.upload(multiple=multiple, auto_upload=True, max_file_size=LARGEST,
                                 on_upload=self._uploaded, on_rejected=self._rejected)  # fmt: skip
        self._upload.classes("hidden")  # what it shows has no labels; it only sends what is given to the field below
        more = " multiple" if multiple else ""
        inside = (
            f'<input type="file" class="gg-hidden" accept="{escape(accept)}"{more}>'
            f"<strong>{escape(label)}</strong><span>{escape(words('Drop it here, or click to choose'))}</span>"
        )
        self.element = ui.html(inside, tag="label", sanitize=False).classes("gg-drop")
        self.element.props.update({"data-upload": str(self._upload.id)})

    async def _uploaded(self, event: events.UploadEventArguments) -> None:
        folder = Path(tempfile.mkdtemp(prefix="glassgpt-"))
        try:
            path = folder / safe_name(event.file.name)
            await event.file.save(path)
            await self._got(path)
        except Exception as error:
            self.window.tell_error(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._upload.reset()

    def _rejected(self) -> None:
        self.window.tell_error(InputError("the file is larger than {most} MB", hint="Give a smaller one.",
                                          most=LARGEST // 1_000_000))  # fmt: skip
