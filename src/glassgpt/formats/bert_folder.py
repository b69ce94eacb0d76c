"""An encoder of BERT's family in a Hugging Face folder, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from glassgpt.core.errors import FormatError, GlassError
from glassgpt.core.files import read_json
from glassgpt.formats.stored import Numbers, Stored
from glassgpt.model.config import ModelConfig

_IN_LAYER = {
    "attention.self.query": "attention.q_proj", "attention.self.key": "attention.k_proj",
    "attention.self.value": "attention.v_proj", "attention.output.dense": "attention.out_proj",
    "intermediate.dense": "mlp.up", "output.dense": "mlp.down",
}  # fmt: skip


def read_bert(folder: Path) -> tuple[ModelConfig, dict[str, Stored]]:
    """The settings, and the tensors by the names of `model.encoder`.

    Raises:
        NotFoundError: the folder lacks a file.
        FormatError: it is no encoder of this family, or damaged.
    """
    settings = read_json(folder / "config.json")
    if settings.get("model_type") != "bert" or settings.get("hidden_act") != "gelu":
        raise FormatError(
            "{folder} holds no encoder of BERT's family",
            hint="Give a folder whose config.json says bert, or `e5-small`.",
            folder=folder.name,
        )
    try:
        config = ModelConfig(
            vocab_size=settings["vocab_size"], n_layer=settings["num_hidden_layers"],
            n_head=settings["num_attention_heads"], n_embd=settings["hidden_size"],
            mlp_dim=settings["intermediate_size"], context_length=settings["max_position_embeddings"],
            norm_eps=settings["layer_norm_eps"], positions="learned", norm="layernorm", mlp="gelu", qkv_bias=True,
            out_bias=True, mlp_bias=True, encoder=True, family="bert",
        )  # fmt: skip
        return config, _tensors(folder / "model.safetensors", config.n_layer)
    except GlassError:
        raise
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise FormatError(
            "{folder} is not a whole encoder ({reason})",
            hint="Fetch the file again.",
            folder=folder.name,
            reason=str(error)[:100],
        ) from None


def _tensors(path: Path, layers: int) -> dict[str, Stored]:
    with safe_open(path, framework="numpy") as file:
        names = set(file.keys())

        def get(name: str) -> Any:
            return np.asarray(file.get_tensor(name if name in names else f"bert.{name}"), np.float32)

        found = {"embed.weight": get("embeddings.word_embeddings.weight")}
        types = get("embeddings.token_type_embeddings.weight")
        found["positions.weight"] = get("embeddings.position_embeddings.weight") + types[0]

        def both(ours: str, theirs: str) -> None:
            for kind in ("weight", "bias"):
                found[f"{ours}.{kind}"] = get(f"{theirs}.{kind}")

        both("blocks.0.attention_norm", "embeddings.LayerNorm")
        for number in range(layers):
            block, layer = f"blocks.{number}", f"encoder.layer.{number}"
            for theirs, ours in _IN_LAYER.items():
                both(f"{block}.{ours}", f"{layer}.{theirs}")
            both(f"{block}.mlp_norm", f"{layer}.attention.output.LayerNorm")
            # A norm stands at the beginning of what follows it, as in `model.encoder`.
            both(f"blocks.{number + 1}.attention_norm" if number + 1 < layers else "norm", f"{layer}.output.LayerNorm")
    return {name: Numbers(values) for name, values in found.items()}
