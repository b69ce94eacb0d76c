"""Receipts: what is needed to compute a reply again, and to see that it is the same.

A receipt names the model by a hash of its weights, the prompt by its ids, every setting, the seed, the precision and
what computed it. `check` compares all of that with what is here, and names the first difference.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.core.errors import FormatError, GlassError, InputError
from glassgpt.engine.request import Request
from glassgpt.engine.settings import SamplingSettings

if TYPE_CHECKING:
    from glassgpt.engine.language_model import Completion, LanguageModel

_MOST = 16 << 20  # bytes of a receipt file
# What the numbers depend on beside the weights; the processor is not among it.
_ARITHMETIC = ("fields", "vectors", "dots", "kernels", "parts", "step", "packing", "quantize", "network", "sampling",
               "nucleus", "settings", "generate")  # fmt: skip


class ReceiptError(GlassError):
    """A receipt that does not fit what is here."""


@dataclass(frozen=True)
class Receipt:
    """One reply, repeatable.

    Attributes:
        glassgpt: the version.
        model, model_sha256: the name it was loaded as, and a hash of its weights and settings as files.
        precision: what its weights were kept in.
        path: "engine" or "torch".
        arithmetic: a hash of the code that computed it.
        request: the prompt's ids, the limit, the settings with the seed, and what ends the text.
        tokens: what came.
    """

    glassgpt: str
    model: str
    model_sha256: str
    precision: str
    path: str
    arithmetic: str
    request: dict[str, Any]
    tokens: list[int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def receipt(model: LanguageModel, completion: Completion) -> Receipt:
    """The receipt of a completion of this model.

    Raises:
        InputError: the completion was not made by `generate`, or the model lies in no file.
    """
    if completion.request is None or model.path is None:
        raise InputError(
            "there is no receipt for this text", hint="Only what a loaded model has generated can be repeated."
        )
    return Receipt(
        version("glassgpt"), model.name, files_hash(model.path), model.precision, model.computed_by, arithmetic(),
        _plain(completion.request), completion.tokens,
    )  # fmt: skip


def read_receipt(path: str | Path) -> Receipt:
    """A receipt from a JSON file: one of its own, or what `glassgpt generate --json` printed.

    Raises:
        FormatError: it is none.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST:
            raise ValueError
        given = json.loads(path.read_text(encoding="utf-8"))
        if "completions" in given:
            given = given["completions"][0]["receipt"]
        found = Receipt(**given)
        _request(found)
        if not all(isinstance(token, int) for token in found.tokens):
            raise ValueError
        return found
    except OSError as error:
        raise FormatError(
            "{path} cannot be read ({reason})", hint="Check the path.", path=path, reason=error.strerror or ""
        ) from None
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise FormatError(
            "{path} is not a receipt", hint="Give a file that `glassgpt generate --json` printed.", path=path
        ) from None


def check(found: Receipt, model: LanguageModel) -> Request:
    """What to generate to get the same text.

    Raises:
        ReceiptError: something is not what it was, which is named.
    """
    here = {
        "glassgpt": version("glassgpt"), "model_sha256": files_hash(model.path) if model.path else "",
        "precision": model.precision, "path": model.computed_by, "arithmetic": arithmetic(),
    }  # fmt: skip
    for name, value in here.items():
        was = getattr(found, name)
        if was != value:
            raise ReceiptError(
                "the receipt cannot be repeated: {name} was {was} and is {value}",
                hint="Use the same model and the same version of glassgpt.",
                name=name,
                was=was,
                value=value,
            )
    return _request(found)


def same_tokens(found: Receipt, tokens: list[int]) -> None:
    """Raise ReceiptError unless these are the receipt's tokens."""
    if tokens != found.tokens:
        at = next((i for i, (a, b) in enumerate(zip(tokens, found.tokens, strict=False)) if a != b),
                  min(len(tokens), len(found.tokens)))  # fmt: skip
        raise ReceiptError(
            "the text differs from the receipt from token {at} on",
            hint="Something that it depends on is not in the receipt; please report it.",
            at=at + 1,
        )


@cache
def arithmetic() -> str:
    """A hash of the code on which the numbers depend."""
    digest = hashlib.sha256()
    for name in _ARITHMETIC:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def files_hash(path: Path) -> str:
    """A hash of a model's files."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".json"))
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _plain(request: Request) -> dict[str, Any]:
    return {
        "prompt": list(request.prompt), "limit": request.limit, "index": request.index,
        "ends": sorted(request.ends), "stops": list(request.stops), "settings": asdict(request.settings),
        "format": asdict(request.format) if request.format is not None else None,
    }  # fmt: skip


def _request(found: Receipt) -> Request:
    given = dict(found.request)
    settings = dict(given["settings"])
    settings["logit_bias"] = tuple((int(id), float(value)) for id, value in settings["logit_bias"])
    format_ = None
    if given["format"] is not None:
        from glassgpt.engine.constrain import OutputFormat

        told = dict(given["format"])
        told["choices"] = None if told["choices"] is None else tuple(told["choices"])
        format_ = OutputFormat(**told)
    numbers = [*given["prompt"], *given["ends"], given["limit"], given["index"]]
    if not all(isinstance(number, int) for number in numbers) or not all(isinstance(s, str) for s in given["stops"]):
        raise ValueError
    return Request(given["prompt"], given["limit"], SamplingSettings(**settings), given["index"],
                   frozenset(given["ends"]), tuple(given["stops"]), format_)  # fmt: skip
