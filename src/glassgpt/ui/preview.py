"""A look at a file in a process of its own: however large or strange it is, the server goes on, and the look can be
broken off.

The process is given a temporary folder with a request in it, and leaves its result there. It ends when the server does,
however that ends: it then finds its standard input closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glassgpt.core.errors import GlassError
from glassgpt.core.files import write_whole
from glassgpt.core.words import say
from glassgpt.ui.builds import NICE, training_threads
from glassgpt.ui.examine import Changed, Count, Dropped, Kept, Preview, Source, examine

SECONDS = 180.0  # a look may take
LARGEST = 16 << 20  # bytes of a result
REQUEST, RESULT, SAID = "request.json", "result.json", "said.txt"


class PreviewJob:
    """A look that has begun. `result` waits for it, `cancel` breaks it off; one of both must be called, from whatever
    thread. Arguments as in `preview`."""

    def __init__(
        self, data: Path, base: str, *, columns: Mapping[str, str] | None = None, mask_personal: bool = False,
        language: str = "en", limit_rows: int = 100_000, seconds: float = SECONDS,
    ) -> None:  # fmt: skip
        self.language, self.seconds = language, seconds
        self._cancelled = False
        self._folder = Path(tempfile.mkdtemp(prefix="glassgpt-preview-"))
        try:
            request = {"data": str(data.absolute()), "base": base, "columns": dict(columns or {}),
                       "mask_personal": mask_personal, "language": language, "limit_rows": limit_rows}  # fmt: skip
            write_whole(self._folder / REQUEST, json.dumps(request))
            with (self._folder / SAID).open("wb") as said:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-X", "utf8", "-m", "glassgpt.ui.preview", str(self._folder)],
                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
                )  # fmt: skip
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)

    def result(self) -> Preview:
        """What was found, or a `Preview` whose `error` says why nothing was. Waits until it is there."""
        try:
            self._process.wait(self.seconds)
        except subprocess.TimeoutExpired:
            self._end()
            return self._failed("the look took longer than {seconds:.0f} s", seconds=self.seconds)
        try:
            return self._read()
        finally:
            self._end()

    def cancel(self) -> None:
        """Break it off; `result`, where it is being waited for, then says so."""
        self._cancelled = True
        self._end()

    def _read(self) -> Preview:
        if self._cancelled:
            return self._failed("the look was broken off")
        path = self._folder / RESULT
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            if path.stat().st_size <= LARGEST:
                return Preview.from_json(json.loads(path.read_text(encoding="utf-8")))
        if self._cancelled:  # while it was read
            return self._failed("the look was broken off")
        said = ""
        with contextlib.suppress(OSError):
            said = (self._folder / SAID).read_text(encoding="utf-8", errors="replace").strip()
        return self._failed("the look ended early ({reason})",
                            reason=said.splitlines()[-1][:300] if said else self._process.returncode)  # fmt: skip

    def _failed(self, template: str, **facts: Any) -> Preview:
        return Preview(error=say(template, self.language, **facts))

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def preview(
    data: Path, base: str, *, columns: Mapping[str, str] | None = None, mask_personal: bool = False,
    language: str = "en", limit_rows: int = 100_000, seconds: float = SECONDS,
) -> Preview:  # fmt: skip
    """What would come of a file if a model were built with it: how it is read, what cleaning keeps, changes and drops,
    and what a model would learn of it. An error is told in the result, in `language`.

    Args:
        base: the model to begin with, or "scratch"; one that is not on this machine is not fetched, and the rows are
            then not shown in tokens.
        limit_rows: no more rows are looked at.
        seconds: no longer is waited for.
    """
    job = PreviewJob(data, base, columns=columns, mask_personal=mask_personal, language=language,
                     limit_rows=limit_rows, seconds=seconds)  # fmt: skip
    return job.result()


def main(folder: Path) -> None:
    """The process: reads the request, looks, writes the result."""
    threading.Thread(target=_end_with_server, args=(folder,), daemon=True).start()
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    try:
        found = examine(
            Path(request["data"]), request["base"], folder, columns=request["columns"],
            mask_personal=request["mask_personal"], language=request["language"], limit_rows=request["limit_rows"],
            processes=training_threads(),
        )  # fmt: skip
    except GlassError as error:
        found = Preview(error=error.line(request["language"]))
    # Half of a surrogate pair, which a file can hold, is no text that a page can show.
    write_whole(folder / RESULT, json.dumps(asdict(found), ensure_ascii=False).encode("utf-8", "replace"))


def _end_with_server(folder: Path) -> None:
    sys.stdin.buffer.read()
    for _ in range(100):  # the look goes on writing meanwhile, so that a folder may be filled again while it is emptied
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.01)
    os._exit(1)


__all__ = ["Changed", "Count", "Dropped", "Kept", "Preview", "PreviewJob", "Source", "preview"]

if __name__ == "__main__":
    main(Path(sys.argv[1]))
