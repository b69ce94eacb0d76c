"""Hugging Face model folders: `config.json`, safetensors, `tokenizer.json`.

Only safetensors is read. The older `pytorch_model.bin` is a pickle, which can run any code when it is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glassgpt.core.errors import FormatError, NotFoundError
from glassgpt.core.files import read_json
from glassgpt.formats.families import read_settings, weight_names, write_settings
from glassgpt.formats.stored import check_shape
from glassgpt.formats.weights import build, to_save
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT

_OLD_BUFFERS = re.compile(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)|.*\.rotary_emb\.inv_freq")


def huggingface_network(folder: str | Path, dtype: torch.dtype) -> GPT:
    """The network in a Hugging Face folder.

    Raises:
        NotFoundError: the folder lacks `config.json` or safetensors files.
        FormatError: the family is unknown, or the weights do not fit it.
    """
    folder = Path(folder)
    config = read_settings(read_json(folder / "config.json"), folder.name)
    return build(config, _renamed(folder, config), folder.name, dtype)


def save_huggingface(model: GPT, folder: str | Path) -> None:
    """Write `config.json` and `model.safetensors`, which transformers can load; raises FormatError if it cannot."""
    folder = Path(folder)
    settings = write_settings(model.config) | {"dtype": "float32"}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: to_save(t.float()) for name, t in _their_tensors(model)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def chat_template(folder: str | Path) -> str | None:
    """The text of the model's own chat template, to be recognised and never executed; None without one."""
    folder = Path(folder)
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    path = folder / "tokenizer_config.json"
    template = read_json(path).get("chat_template") if path.is_file() else None
    return template if isinstance(template, str) else None


def safetensors_files(folder: Path) -> list[Path]:
    """The weight files of a folder, by its index where there is one.

    Raises:
        NotFoundError: there are none, or one that the index names is missing.
        FormatError: the index is damaged or names a file outside the folder.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
            raise FormatError("{path} has no weight_map", hint="Fetch the file again.", path=index)
        names = sorted(set(weight_map.values()))
        if any(Path(name).name != name for name in names):
            raise FormatError("{path} names files outside its folder", hint="Do not use this model.", path=index)
    else:
        names = ["model.safetensors"]
    for name in names:
        if not (folder / name).is_file():
            pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
            raise NotFoundError(
                "{folder} has no file {name}",
                hint="It holds pickled weights (.bin), which can run code; use a safetensors version of the model."
                if pickled
                else "The folder is not a complete model; fetch it again.",
                folder=folder,
                name=name,
            )
    return [folder / name for name in names]


def read_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one file by name; raises FormatError if it is damaged or cut off."""
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(
            "{path} is damaged or cut off ({reason})",
            hint="Fetch the file again, and check its hash.",
            path=path,
            reason=str(error)[:120],
        ) from None


def _renamed(folder: Path, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """The folder's tensors under our names and in our layout."""
    ours = {theirs: name for name, theirs in weight_names(config.family).items()}
    gpt2, gemma = config.family == "gpt2", config.family == "gemma3"
    embed = head = None
    for path in safetensors_files(folder):
        for name, tensor in read_safetensors(path):
            if _OLD_BUFFERS.fullmatch(name):
                continue  # masks and frequencies that old versions stored; both are computed
            if gpt2 and not name.startswith(("transformer.", "lm_head.")):
                name = "transformer." + name  # the first GPT-2 files have no prefix
            stem, _, kind = name.rpartition(".")
            layer = next(iter(re.findall(r"\.(\d+)\.", stem)), "")
            pattern = re.sub(r"\.\d+\.", ".{}.", stem, count=1)
            if gpt2 and pattern == "transformer.h.{}.attn.c_attn":
                check_shape(folder.name, name, tuple(tensor.shape)[-1:], (3 * config.n_embd,))
                for letter, piece in zip("qkv", tensor.chunk(3, dim=-1), strict=True):
                    yield f"blocks.{layer}.attention.{letter}_proj.{kind}", piece.mT if piece.dim() == 2 else piece
                continue
            if config.tie_embeddings and pattern == "lm_head":
                head = tensor  # a second copy of the embeddings, if the file is right: checked below
                continue
            if gemma and "norm" in pattern:
                tensor = tensor.float() + 1.0  # Gemma stores what is added to 1
            if gpt2 and tensor.dim() == 2 and ".h." in stem:
                tensor = tensor.mT  # GPT-2 stores input by output
            ours_name = ours.get(pattern, name).replace("{}", layer)
            if ours_name == "embed":
                embed = tensor
            yield f"{ours_name}.{kind}" if pattern in ours else name, tensor
    if head is not None and embed is not None and not torch.equal(embed, head):
        raise FormatError(
            "{source}: config.json ties the head to the embeddings, but their weights differ",
            hint="Correct tie_word_embeddings in config.json.",
            source=folder.name,
        )


def _their_tensors(model: GPT) -> Iterator[tuple[str, Tensor]]:
    """The network's tensors under the family's names and in its layout."""
    names, config = weight_names(model.config.family), model.config
    state: dict[str, Tensor] = dict(model.named_parameters())
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        layer = next(iter(re.findall(r"\.(\d+)\.", stem)), "")
        pattern = re.sub(r"\.\d+\.", ".{}.", stem, count=1)
        if config.family == "gpt2" and pattern.endswith(("q_proj", "k_proj", "v_proj")):
            if pattern.endswith("q_proj"):
                parts = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                yield (
                    f"transformer.h.{layer}.attn.c_attn.{kind}",
                    torch.cat(parts).mT if kind == "weight" else torch.cat(parts),
                )
            continue
        if config.family == "gpt2" and tensor.dim() == 2 and layer:
            tensor = tensor.mT
        if config.family == "gemma3" and "norm" in stem:
            tensor = tensor.float() - 1.0
        yield names[pattern].replace("{}", layer) + "." + kind, tensor
