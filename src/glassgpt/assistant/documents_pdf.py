"""PDF: the text of each page, with the page as its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from glassgpt.assistant.outline import Reading, Section, add_sections
from glassgpt.assistant.pdf_pages import MAX_CHARACTERS, MAX_PAGES
from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.core.words import Sentence
from glassgpt.data.languages import MARK

SECONDS = 120.0  # for one file; a book of 500 pages takes about 20
_SHOWN = 10  # pages that are named in a note


def read_pdf(data: bytes, reading: Reading, *, seconds: float = SECONDS) -> None:
    """The passages of a PDF.

    Args:
        seconds: after which the reading is given up.

    Raises:
        FormatError: it is damaged, encrypted, or too large to be read in that time.
        InputError: no page holds text, as when all of them are scanned.
        ConfigError: pypdf is not installed.
    """
    if b"%PDF-" not in data[:1024]:
        raise _damaged(reading.name, Sentence("it does not begin as a PDF does"))
    found = _pages(data, reading.name, seconds)
    pages, failed = found["pages"], found["failed"]
    empty = [n for n, text in enumerate(pages, 1) if not text.strip() and n not in set(failed)]
    for number, page in enumerate(pages, 1):
        text = MARK.sub("\ufffd", page)
        place = f"page {number}"
        add_sections(reading, text, [Section(0, len(text), ())], (), lambda start, end, place=place: place)  # type: ignore[misc]
    if failed and len(failed) == len(pages):
        raise _damaged(reading.name, Sentence("none of its pages can be read"))
    if not reading.passages:
        raise InputError(
            "{name} has {count} pages and no text; they seem to be pictures",
            hint="A document of pictures has to be read by text recognition (OCR) first.",
            name=reading.name,
            count=len(pages),
        )
    if failed:
        reading.note(
            Sentence("pages that could not be read: {count} ({pages})", count=len(failed), pages=_some(failed))
        )
    if empty:
        reading.note(
            Sentence(
                "pages without text, scanned or blank: {count} of {all} ({pages})",
                count=len(empty),
                all=len(pages),
                pages=_some(empty),
            )
        )


def _some(pages: list[int]) -> str:
    return ", ".join(map(str, pages[:_SHOWN])) + (", …" if len(pages) > _SHOWN else "")


def _damaged(name: str, reason: Sentence | str) -> FormatError:
    return FormatError(
        "{name} is damaged or no PDF ({reason})",
        hint="Open it in a PDF reader and print it to a new PDF.",
        name=name,
        reason=reason,
    )


def _pages(data: bytes, name: str, seconds: float) -> dict[str, Any]:
    """What the process that reads the file found."""
    # -P and the paths of this process: nothing from the folder where the user happens to be is imported.
    command = [sys.executable, "-P", "-m", "glassgpt.assistant.pdf_pages"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(command, input=data, env=environment, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise _too_large(
            name, Sentence("reading it takes more than {seconds} seconds", seconds=round(seconds))
        ) from None
    found: dict[str, Any]
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = {"error": "damaged", "reason": Sentence("reading it needs too much memory, or failed")}
    error = found.get("error")
    if error == "missing":
        raise ConfigError("pypdf is needed to read {name}", hint="Install it with `pip install pypdf`.", name=name)
    if error == "encrypted":
        raise FormatError("{name} is encrypted", hint="Save it without a password and add it again.", name=name)
    if error == "pages":
        raise _too_large(
            name, Sentence("it has {count} pages; {limit} are allowed", count=found["count"], limit=MAX_PAGES)
        )
    if error == "characters":
        raise _too_large(name, Sentence("it holds more than {limit} characters", limit=f"{MAX_CHARACTERS:,}"))
    if error:
        raise _damaged(name, found["reason"])
    return found


def _too_large(name: str, reason: Sentence) -> FormatError:
    return FormatError(
        "{name} is too large ({reason})",
        hint="Split it into several files, and add those that are asked about.",
        name=name,
        reason=reason,
    )
