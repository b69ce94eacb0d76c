"""The files of a tokenizer in a model's folder, read with limits and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassgpt.core.errors import FormatError, NotFoundError
from glassgpt.text import tokenizer_json as tj

_MAX_FILE = 256 << 20  # bytes; Gemma's tokenizer.json has 33 MB


@dataclass(frozen=True)
class TokenizerFiles:
    """What a folder says: the tokenizer.json and its path, the settings for `Tokenizer`, and, where glassgpt
    wrote the folder for a SentencePiece tokenizer, its tokens, scores and types by id."""

    file: Path
    spec: tj.Spec
    settings: dict[str, Any]
    tokens: list[str]
    scores: list[float] | None
    types: list[int] | None


def read_files(path: Path) -> TokenizerFiles:
    """Reads a tokenizer.json (or the folder that holds one) and the configuration beside it.

    Raises:
        NotFoundError: there is no such file.
        FormatError: a file is damaged, or of a kind that cannot be streamed.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise NotFoundError(
            "there is no tokenizer at {path}",
            hint="Name a tokenizer.json, or a folder that holds one.",
            path=str(file),
        )
    spec = _read_json(file)
    folder = file.parent
    config = _read_json_beside(folder, "tokenizer_config.json")
    with refusing_damage(file):
        tj.kind_of(spec)
        ids = tj.vocabulary(spec)
        settings = _settings(spec, ids, config, folder)
    scores, types = config.get("glassgpt_scores"), config.get("glassgpt_types")
    tokens: list[str] = []
    if scores and types:
        tokens = sorted(ids, key=lambda token: ids[token])
        if not len(scores) == len(types) == len(tokens) == ids[tokens[-1]] + 1:
            raise _damaged(folder / "tokenizer_config.json", f"{len(scores)} scores, {len(tokens)} tokens")
    return TokenizerFiles(file, spec, settings, tokens, scores, types)


@contextmanager
def refusing_damage(file: Path) -> Iterator[None]:
    """Turns what goes wrong inside because the content has another shape than expected into a FormatError."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(file, f"{type(error).__name__} {error}") from error


def _settings(spec: tj.Spec, ids: dict[str, int], config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`bos_id`, `eos_id` and `add_bos`: from the configuration, else from what the file puts before a text."""
    special = _read_json_beside(folder, "special_tokens_map.json")
    generation = _read_json_beside(folder, "generation_config.json")

    def find(name: str) -> int | None:
        for source in (config, special):
            token = source.get(f"{name}_token")
            token = token.get("content") if isinstance(token, dict) else token
            if token is not None:
                return ids.get(token)
        number = generation.get(f"{name}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        return number if isinstance(number, int) else None

    first = _first_of_template(spec)
    bos = find("bos")
    bos = first if bos is None else bos
    add_bos = config.get("add_bos_token")
    add_bos = (first is not None and first == bos) if add_bos is None else bool(add_bos)
    return {"bos_id": bos, "eos_id": find("eos"), "add_bos": add_bos}


def _first_of_template(spec: tj.Spec) -> int | None:
    """The token that the file's post-processor puts before every text, if it puts one."""
    post = spec.get("post_processor") or {}
    for part in [post, *(post.get("processors") or [])]:
        single = part.get("single") or [{}] if part.get("type") == "TemplateProcessing" else [{}]
        if name := single[0].get("SpecialToken", {}).get("id"):
            return part["special_tokens"][name]["ids"][0]
    return None


def _read_json_beside(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    return _read_json(file) if file.is_file() else {}


def _read_json(file: Path) -> dict[str, Any]:
    if (size := file.stat().st_size) > _MAX_FILE:
        raise _damaged(file, f"{size} > {_MAX_FILE} bytes")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(file, f"JSON {type(content).__name__}")
    return content


def _damaged(file: Path, reason: str) -> FormatError:
    return FormatError(
        "{file} cannot be read: {reason}",
        hint="Take the file from the model's own folder again; it may be cut off.",
        file=str(file),
        reason=reason[:200],
    )
