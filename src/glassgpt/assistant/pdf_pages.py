"""The text of a PDF's pages, in a process of its own: `documents_pdf` starts it, with limits of time and memory.

A PDF from outside can take a reader hours or all memory, and no limit within the reader covers every way to do so.
Bytes come in by standard input, one JSON object goes out: {"pages": [...], "failed": [...]} or {"error": ...}.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

MAX_PAGES = 5_000
MAX_CHARACTERS = 20_000_000
MEMORY = 2 << 30  # bytes


def pages_of(data: bytes) -> dict[str, Any]:
    """The text of each page; "error" is "missing", "encrypted", "damaged", "pages" or "characters"."""
    try:
        from pypdf import PdfReader
    except ImportError:
        return {"error": "missing"}
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(io.BytesIO(data), strict=False)
        if reader.is_encrypted:
            return {"error": "encrypted"}
        count = len(reader.pages)
        if count > MAX_PAGES:
            return {"error": "pages", "count": count}
    except Exception as error:  # whatever a damaged file does to a reader
        return {"error": "damaged", "reason": type(error).__name__}
    pages: list[str] = []
    failed: list[int] = []
    size = 0
    for number in range(count):
        try:
            text = reader.pages[number].extract_text()
        except Exception:
            text = ""
            failed.append(number + 1)
        size += len(text)
        if size > MAX_CHARACTERS:
            return {"error": "characters"}
        pages.append(text)
    return {"pages": pages, "failed": failed}


def main() -> None:
    """What the process does."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):  # not on Windows, or less is allowed already
        pass
    sys.stdout.write(json.dumps(pages_of(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
