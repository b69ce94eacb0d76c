"""Records what TransformerLens computes for a network of GPT-2's architecture, as `transformer_lens.safetensors`.

    pip install --target FOLDER --no-deps transformer-lens==4.3.0 jaxtyping beartype einops fancy-einsum typeguard \\
        wadler-lindig better-abc transformers-stream-generator
    PYTHONPATH=FOLDER python tests/inside/make_transformer_lens.py

TransformerLens (MIT) is no dependency of the project: it ran once, and the file says which version it was. The network
is the library's own (`boot_native`), nothing folded or centred; its weights come from a formula, which the test uses
too.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

FILE = Path(__file__).with_name("transformer_lens.safetensors")
LAYERS, HEADS, HEAD, WIDTH, INSIDE, LENGTH, VOCABULARY, CONTEXT = 3, 3, 8, 24, 40, 10, 300, 16
HEAD_OFF, MLP_OFF = (1, 2), 0  # layer and head, layer
IDS = [7, 290, 31, 7, 118, 31, 256, 0, 299, 118]
# Our last parts of names and TransformerLens's; by head theirs are [B, T, H, D], ours [B, H, T, D].
PARTS = {
    "resid_pre": "hook_resid_pre", "attn.q": "attn.hook_q", "attn.k": "attn.hook_k", "attn.v": "attn.hook_v",
    "attn.pattern": "attn.hook_pattern", "attn.z": "attn.hook_z", "attn_out": "hook_attn_out",
    "resid_mid": "hook_resid_mid", "mlp.hidden": "mlp.hook_post", "mlp_out": "hook_mlp_out",
    "resid_post": "hook_resid_post",
}  # fmt: skip


def shapes() -> dict[str, tuple[int, ...]]:
    """The parameters by our names."""
    found: dict[str, tuple[int, ...]] = {"embed.weight": (VOCABULARY, WIDTH), "positions.weight": (CONTEXT, WIDTH)}
    norms = [f"blocks.{layer}.{name}" for layer in range(LAYERS) for name in ("attention_norm", "mlp_norm")]
    for name in [*norms, "norm"]:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (WIDTH,)
    for layer in range(LAYERS):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found[f"blocks.{layer}.attention.{name}.weight"] = (WIDTH, WIDTH)
            found[f"blocks.{layer}.attention.{name}.bias"] = (WIDTH,)
        found |= {f"blocks.{layer}.mlp.up.weight": (INSIDE, WIDTH), f"blocks.{layer}.mlp.up.bias": (INSIDE,)}
        found |= {f"blocks.{layer}.mlp.down.weight": (WIDTH, INSIDE), f"blocks.{layer}.mlp.down.bias": (WIDTH,)}
    return found


def weights() -> dict[str, torch.Tensor]:
    """All parameters: sines of squares, which look like chance and are the same everywhere."""
    made = {}
    for number, (name, shape) in enumerate(sorted(shapes().items())):
        at = np.arange(np.prod(shape), dtype=np.float64)
        values = np.sin(0.37 * at**2 + 1.3 * at + 0.7 * number).reshape(shape)
        scale = 1.0 if name == "embed.weight" else 0.5 if "q_proj" in name or "k_proj" in name else 0.3
        if "norm" in name:
            values = values + (name.endswith("weight") * 3.0)  # around 0.9
        made[name] = torch.from_numpy((scale * values).astype(np.float32))
    return made


def their_weights(own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same under the library's names."""
    found = {"tok_embed": own["embed.weight"], "pos": own["positions.weight"], "head": own["embed.weight"]}
    found = {f"{name}.weight": value for name, value in found.items()}
    places = {"attention_norm": "ln1", "mlp_norm": "ln2", "attention.q_proj": "attn.q", "attention.k_proj": "attn.k",
              "attention.v_proj": "attn.v", "attention.out_proj": "attn.o", "mlp.up": "mlp.fc_in",
              "mlp.down": "mlp.fc_out"}  # fmt: skip
    for kind in ("weight", "bias"):
        found[f"ln_out.{kind}"] = own[f"norm.{kind}"]
        for layer in range(LAYERS):
            for ours, theirs in places.items():
                found[f"layers.{layer}.{theirs}.{kind}"] = own[f"blocks.{layer}.{ours}.{kind}"]
    return found


class _Empty(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Stub(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands for packages that the library imports and that nothing here uses."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """An empty module for those."""
        if name.split(".")[0] in ("datasets", "wandb"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> ModuleType:
        """A module in which every name stands for an empty class."""
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


@torch.no_grad()
def main() -> None:
    """Run the library and write the file."""
    sys.meta_path.append(_Stub())
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources import native

    config = TransformerBridgeConfig(
        d_model=WIDTH, d_head=HEAD, n_heads=HEADS, n_layers=LAYERS, n_ctx=CONTEXT, d_vocab=VOCABULARY, d_mlp=INSIDE,
        act_fn="gelu_new", normalization_type="LN", eps=1e-5, attention_dir="causal",
        positional_embedding_type="standard", init_weights=False,
    )  # fmt: skip
    network = native.NativeModel(config)
    network.load_state_dict(their_weights(weights()))
    alone = network(torch.tensor([IDS]))
    model = native.boot(config)
    model.original_model.load_state_dict(_spread(model.original_model, their_weights(weights())))
    ids = torch.tensor([IDS])
    logits, cache = model.run_with_cache(ids)
    assert (alone - logits).abs().max() < 1e-5, "the weights arrived"
    found = {"embed": cache["hook_embed"], "final_norm": cache["ln_final.hook_out"], "logits": logits}
    for layer in range(LAYERS):
        for ours, theirs in PARTS.items():
            value = cache[f"blocks.{layer}.{theirs}"]
            found[f"blocks.{layer}.{ours}"] = value.transpose(1, 2) if ours[-2:] in (".q", ".k", ".v", ".z") else value
    streams = [cache[f"blocks.{layer}.hook_resid_pre"] for layer in range(LAYERS)]
    streams.append(cache[f"blocks.{LAYERS - 1}.hook_resid_post"])
    for number, stream in enumerate(streams):
        found[f"lens.{number}"] = model.unembed(model.ln_final(stream))

    def head_off(value: torch.Tensor, hook: Any) -> torch.Tensor:
        value = value.clone()
        value[:, :, HEAD_OFF[1]] = 0
        return value

    def mlp_off(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return torch.zeros_like(value)

    hooks = {"head_off": (f"blocks.{HEAD_OFF[0]}.attn.hook_z", head_off),
             "mlp_off": (f"blocks.{MLP_OFF}.hook_mlp_out", mlp_off)}  # fmt: skip
    for name, hook in hooks.items():
        found[name] = model.run_with_hooks(ids, fwd_hooks=[hook])
        assert (found[name] - logits).abs().max() > 0.1, "a hook that does nothing proves nothing"
    made = f"transformer-lens {version('transformer-lens')}, torch {torch.__version__}"
    save_file({name: value.contiguous().clone() for name, value in found.items()}, FILE, {"made by": made})
    print(f"{FILE}: {FILE.stat().st_size / 1e3:.0f} KB by {made}")


def _spread(module: torch.nn.Module, own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights under all names that the library's wrapping of the module knows for them."""
    aliases = {"mlp.in.": "mlp.fc_in.", "mlp.out.": "mlp.fc_out."}
    found = {}
    for name, value in module.state_dict().items():
        plain = name.replace("_original_component.", "")
        for alias, meant in aliases.items():
            plain = plain.replace(alias, meant)
        found[name] = own.get(plain, torch.zeros_like(value))
    return found


if __name__ == "__main__":
    main()
