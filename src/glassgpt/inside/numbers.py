"""What a picture shows, as numbers that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from glassgpt.core.errors import ConfigError
from glassgpt.inside.ablate import Ablation, Patching
from glassgpt.inside.attribute import Attribution
from glassgpt.inside.carried import Carried
from glassgpt.inside.heads import HeadScore
from glassgpt.inside.lens import Lens
from glassgpt.inside.steps import Step
from glassgpt.inside.trace import Trace


@dataclass(frozen=True)
class HeadPattern:
    """What one head of one layer looks at: `pattern` [T, S], whose rows sum to 1, the texts of the tokens that read
    [T], and of those that are read [S]: in cross-attention the source's, else the same."""

    layer: int
    head: int
    tokens: tuple[str, ...]
    pattern: Tensor
    sources: tuple[str, ...]


def head_pattern(trace: Trace, layer: int, head: int, part: str | None = None) -> HeadPattern:
    """One head's pattern from a trace; of several sequences the first's.

    Args:
        part: of an encoder and decoder "encoder", "decoder", or "cross", where the decoder reads the encoder's memory.

    Raises:
        ConfigError: the trace has no such part or layer, or the layer no such head.
    """
    parts = _PARTS[1:] if trace.target_tokens is not None else _PARTS[:1]
    if part not in parts:
        raise ConfigError("part is {given}; expected one of {known}", given=repr(part),
                          known=", ".join(map(str, parts)),
                          hint="An encoder with a decoder has parts, other networks have none.")  # fmt: skip
    stack = {None: "", "encoder": "encoder."}.get(part, "decoder.")
    name = f"{stack}blocks.{layer}.{'cross' if part == 'cross' else 'attn'}.pattern"
    if name not in trace:
        raise ConfigError("the trace holds no {name}", hint="Make it with names=['pattern'], and count layers from "
                          "0.", name=name)  # fmt: skip
    value = trace[name][0]  # [H, T, S]
    if not 0 <= head < len(value):
        raise ConfigError("there is no head {number}; a layer's are 0 to {last}", number=head, last=len(value) - 1)
    own = tuple(trace.tokens)
    target = own if trace.target_tokens is None else tuple(trace.target_tokens)
    reading = target if part in ("decoder", "cross") else own
    return HeadPattern(layer, head, reading, value[head].detach().float().cpu(), own if part == "cross" else reading)


_PARTS = (None, "encoder", "decoder", "cross")


Shown = HeadPattern | Step | Lens | Attribution | Carried | Ablation | Patching | Sequence[Step] | Sequence[HeadScore]


def numbers(thing: Shown) -> dict[str, Any]:
    """The numbers of a picture for `json.dumps`; what is no number there (the logarithm of 0) is None.

    Args:
        thing: a list of steps or one, a lens, an attribution, what was carried, an ablation, a patching, the scores of
            heads, or one head's pattern (`head_pattern`).

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(thing, HeadPattern):
        pattern = thing.pattern.tolist()
        return {"kind": "attention", "layer": thing.layer, "head": thing.head, "tokens": list(thing.tokens),
                "sources": list(thing.sources), "pattern": pattern}  # fmt: skip
    if isinstance(thing, Step):
        return {"kind": "step"} | _plain(asdict(thing))
    if isinstance(thing, Lens | Attribution | Carried | Ablation | Patching):
        return {"kind": type(thing).__name__.lower()} | _plain(asdict(thing))
    if isinstance(thing, list | tuple):
        if all(isinstance(item, Step) for item in thing):
            return {"kind": "steps", "steps": [_plain(asdict(item)) for item in thing]}
        if all(isinstance(item, HeadScore) for item in thing):
            return {"kind": "heads", "heads": [asdict(item) | {"names": list(item.names)} for item in thing]}
    raise ConfigError("{name} has no numbers to show", hint="Give steps, a lens, an attribution, an ablation, a "
                      "patching, the scores of heads or a head's pattern.", name=type(thing).__name__)  # fmt: skip


def _plain(value: Any) -> Any:
    """Lists for tuples, and None for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
