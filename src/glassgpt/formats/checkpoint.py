"""Our own checkpoint folder: `model.json`, `weights.safetensors`, the tokenizer's files.

A checkpoint is written under a temporary name and moved into place when it is whole, so that a full disk or a
power cut never leaves half a model, and never costs the one that was there.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from glassgpt.core.errors import FormatError, GlassError
from glassgpt.core.files import read_json, umask
from glassgpt.formats.huggingface import read_safetensors
from glassgpt.formats.weights import build, to_save
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.tokenizer import Tokenizer

SETTINGS_FILE, WEIGHTS_FILE = "model.json", "weights.safetensors"
_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds: the network, its tokenizer, and the name of its chat template ("" for none)."""

    network: GPT
    tokenizer: Tokenizer
    template: str


def save_checkpoint(folder: str | Path, network: GPT, tokenizer: Tokenizer, template: str = "") -> None:
    """Write a checkpoint; an older one in the same place is replaced only when the new one is whole.

    Raises:
        GlassError: the folder exists and is not a checkpoint, or the disk refused the files.
    """
    folder = Path(folder).absolute()
    _recover(folder)
    if folder.exists() and not (folder / SETTINGS_FILE).is_file() and any(folder.iterdir()):
        raise GlassError("{folder} holds other files", hint="Choose an empty or a new folder.", folder=folder)
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        temporary.chmod(0o777 & ~umask())  # mkdtemp's folder is for its maker alone
        write_checkpoint(temporary, network, tokenizer, template)
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        _replace(temporary, folder)
    except OSError as error:
        raise GlassError(
            "the checkpoint {folder} could not be written ({reason})",
            hint="Free some space or choose another place; nothing that was there is lost.",
            folder=folder,
            reason=error.strerror or str(error),
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_checkpoint(folder: Path, network: GPT, tokenizer: Tokenizer, template: str = "") -> None:
    """Put a checkpoint's files into a folder that the caller moves into place; raises OSError."""
    tensors = {name: to_save(p) for name, p in network.named_parameters()}
    try:
        save_file(tensors, folder / WEIGHTS_FILE)
    except SafetensorError as error:  # how the library tells of a full disk
        raise OSError(str(error)) from error
    tokenizer.save(folder)
    settings = {
        "format": "glassgpt",
        "version": _VERSION,
        "config": network.config.to_dict(),
        "template": template,
        "tokenizer_fingerprint": tokenizer.fingerprint(),
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_checkpoint(folder: str | Path, dtype: torch.dtype) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        NotFoundError: a file is missing.
        FormatError: a file is damaged, of a newer version, or the tokenizer is not the one it was saved with.
    """
    folder = Path(folder).absolute()
    _recover(folder)
    settings = read_json(folder / SETTINGS_FILE)
    if settings.get("format") != "glassgpt" or not isinstance(settings.get("config"), dict):
        raise FormatError(
            "{path} is not a glassgpt checkpoint",
            hint="Give a folder that glassgpt saved.",
            path=folder / SETTINGS_FILE,
        )
    if settings.get("version") != _VERSION:
        raise FormatError(
            "{path} has version {version}; this glassgpt reads version {known}",
            hint="Update glassgpt.",
            path=folder / SETTINGS_FILE,
            version=settings.get("version"),
            known=_VERSION,
        )
    config = ModelConfig.from_dict(settings["config"])
    network = build(config, read_safetensors(folder / WEIGHTS_FILE), folder.name, dtype)
    tokenizer = Tokenizer.from_file(folder)
    if tokenizer.fingerprint() != settings.get("tokenizer_fingerprint"):
        raise FormatError(
            "{folder}: the tokenizer is not the one that this checkpoint was saved with",
            hint="Restore the folder's tokenizer.json.",
            folder=folder,
        )
    return Checkpoint(network, tokenizer, str(settings.get("template") or ""))


def _replace(new: Path, place: Path) -> None:
    """Move a whole folder into place. A folder cannot be swapped in one step everywhere, so the old one steps
    aside first; it comes back if the move fails, and `_recover` brings it back after a crash."""
    old = _aside(place)
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    try:
        new.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _recover(place: Path) -> None:
    """Put the old checkpoint back if a crash came between the two moves of `_replace`."""
    if not place.exists() and _aside(place).is_dir():
        _aside(place).rename(place)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")
