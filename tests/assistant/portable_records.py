"""Conversations as they stand in files, for tests."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any


def record(**changes: Any) -> dict[str, Any]:
    """A conversation as it stands in a file."""
    message = {"id": "m1", "parent": None, "role": "user", "text": "q", "created": 1, "state": "done", "extras": {}}
    reply = message | {"id": "m2", "parent": "m1", "role": "assistant", "text": "a"}
    opinion = {"message": "m2", "created": 3.5, "thumb": 1, "correction": None, "note": None}
    return {"id": "c1", "title": "t", "created": 1.0, "updated": 2.0, "persona": "", "model": "", "head": "m2",
            "messages": [message, reply], "feedback": [opinion]} | changes  # fmt: skip


def write(path: Path, *records: Any) -> Path:
    path.write_text(json.dumps({"format": "glassgpt-conversations", "version": 1, "conversations": list(records)}))
    return path


def packed(path: Path, files: dict[str, bytes]) -> Path:
    """A zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zip:
        for name, content in files.items():
            zip.writestr(name, content)
    return path
