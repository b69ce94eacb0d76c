"""Where a model lies, and its tokenizer alone: what can be had of a model without reading its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.core.errors import FormatError, NotFoundError
from glassgpt.formats.fetch import locate

if TYPE_CHECKING:
    from glassgpt.text.tokenizer import Tokenizer

_SETTINGS = ("model.json", "config.json")


def find_model(name: str, *, pull_missing: bool = True) -> Path:
    """The folder or .gguf file of a model, by anything that `load` takes: of a run the model that it left, of a folder
    that holds nothing but one .gguf file that file.

    Raises:
        NotFoundError: nothing of that name is known, or the run has no model yet.
        FetchError: it could not be brought here.
        FormatError: the folder holds no model.
    """
    path = locate(name, pull_missing=pull_missing)
    if path.is_file():
        return path
    from glassgpt.core.runs import is_run

    if is_run(path):
        path = _model_of_run(path)
    if path.is_dir() and not any((path / settings).is_file() for settings in _SETTINGS):
        return _only_gguf(path)
    return path


def read_tokenizer(name: str, *, pull_missing: bool = True) -> Tokenizer:
    """The tokenizer of a model, or one that lies alone in a folder or a tokenizer.json; weights are not read.

    Raises:
        NotFoundError: nothing of that name is known, or there is no tokenizer in it.
        FetchError: it could not be brought here.
        FormatError: it is damaged, or of a kind that cannot be read.
    """
    from glassgpt.core.runs import TOKENIZER, is_run
    from glassgpt.text.tokenizer import Tokenizer

    path = locate(name, pull_missing=pull_missing)
    if is_run(path):  # pre-training makes its tokenizer first, long before there is a model
        path = path / TOKENIZER if (path / TOKENIZER).is_dir() else _model_of_run(path)
    if (path.is_file() and path.suffix == ".json") or (path / "tokenizer.json").is_file():
        return Tokenizer.from_file(path)
    if path.is_dir() and not any(path.glob("*.gguf")):
        raise NotFoundError(
            "{folder} holds no tokenizer",
            hint="Give a model, or a folder with a tokenizer.json, such as `glassgpt tokenizer train` leaves.",
            folder=path,
        )
    from glassgpt.formats.gguf import read_gguf

    with read_gguf(path if path.is_file() else _only_gguf(path)) as file:
        return Tokenizer.from_lists(file.tokenizer_lists())


def _model_of_run(run: Path) -> Path:
    from glassgpt.core.runs import MODEL

    if not (run / MODEL).is_dir():
        raise NotFoundError(
            "the run {folder} has no finished model yet", hint="Let it end, or go on with it: --resume.", folder=run
        )
    return run / MODEL


def _only_gguf(folder: Path) -> Path:
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise FormatError(
            "{folder} is not a model folder: it has no model.json, no config.json and {count} .gguf files",
            hint="Give a folder that holds one model, or a .gguf file itself.",
            folder=folder,
            count=len(files),
        )
    return files[0]
