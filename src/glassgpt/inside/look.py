"""One look into a model at one text: how likely each token was, what comes next, what heads look at, how the guess
forms and what made it likely. What `glassgpt look` tells, writes and prints.

Shapes: T positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.sampling import softmax, top_logprobs
from glassgpt.engine.settings import check_int
from glassgpt.inside.attribute import Attribution, attribute
from glassgpt.inside.lens import Lens, logit_lens
from glassgpt.inside.numbers import HeadPattern, numbers
from glassgpt.inside.steps import MOST_ALTERNATIVES, Alternative, Step, entropy_of, step_of
from glassgpt.inside.subject import Prompt, ids_of, network_of, read_seen, scores_of, texts_of, token_text
from glassgpt.inside.tuned import TunedLens
from glassgpt.model.gpt import GPT

MOST_TOKENS = 512  # of a text that is looked at
LENS_PLACES = 48  # the last ones of a text, whose guesses are read layer by layer
MOST_SHARES = 1_500_000  # of attention that a page holds


@dataclass(frozen=True)
class Next:
    """What comes after the text: the likeliest tokens, and how open the choice is in bits."""

    alternatives: tuple[Alternative, ...]
    entropy: float


@dataclass(frozen=True)
class Look:
    """What one look saw.

    Attributes:
        steps: one for each token but the first.
        loss: the mean of their negative log-probabilities, in nats; None of a text of one token.
        patterns: what heads look at, the chosen head's first.
        lens, attribution: None where they were not asked for.
    """

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    steps: tuple[Step, ...]
    next: Next
    patterns: tuple[HeadPattern, ...]
    lens: Lens | None = None
    attribution: Attribution | None = None

    @property
    def loss(self) -> float | None:
        logprobs = [step.logprob for step in self.steps]
        return -math.fsum(logprobs) / len(logprobs) if logprobs and all(map(math.isfinite, logprobs)) else None


def look(model: LanguageModel, prompt: Prompt, *, layer: int | None = None, head: int | None = None, top: int = 5,
         every_head: bool = False, deep: bool = True, tuned: TunedLens | None = None) -> Look:  # fmt: skip
    """Look into a model at a text or conversation of up to `MOST_TOKENS` tokens.

    Args:
        layer, head: whose attention; of what is left open, the head that reads one earlier token the most clearly.
        every_head: other heads too, as many as a page holds (`MOST_SHARES`).
        deep: with lens and attribution.
        tuned: a trained lens, of the same model.

    Raises:
        InputError: the text cannot be read or is too long.
        ConfigError: there is no such layer or head, `top` is out of range, or the lens is another model's.
    """
    ids = looked_ids(model, prompt)
    steps, after = read_all(model, ids, top)
    chosen = choose_head(model, ids, clearness, layer, head)
    config = network_of(model).config
    heads = heads_held(config.n_layer, config.n_head, chosen, len(ids)) if every_head else [chosen]
    lens = attribution = None
    if deep:
        lens = logit_lens(model, ids, top=min(3, max(top, 1)), start=max(0, len(ids) - LENS_PLACES),
                          tuned=tuned)  # fmt: skip
        attribution = attribute(model, ids)
    return Look(tuple(ids), tuple(texts_of(model.tokenizer, ids)), steps, after, read_patterns(model, ids, heads), lens,
                attribution)  # fmt: skip


def looked_ids(model: LanguageModel, prompt: Prompt) -> list[int]:
    """The ids of a prompt that is short enough to be looked at; raises InputError."""
    ids = ids_of(model, prompt)
    if len(ids) > MOST_TOKENS:
        raise InputError("the text has {count} tokens; up to {most} can be looked at", hint="Give a part of it.",
                         count=len(ids), most=MOST_TOKENS)  # fmt: skip
    return ids


def read_all(model: LanguageModel, ids: Sequence[int], top: int) -> tuple[tuple[Step, ...], Next]:
    """The step of every token but the first, and what comes next."""
    check_int("top", top, 1, MOST_ALTERNATIVES)
    steps: list[Step] = []
    for at, scores in scores_of(model, ids):
        for place, values in enumerate(scores, at + 1):
            if place < len(ids):
                steps.append(step_of(model, place, ids[place], values, top))
            else:
                best = [
                    Alternative(i, token_text(model.tokenizer, i), math.exp(p)) for i, p in top_logprobs(values, top)
                ]
                after = Next(tuple(best), entropy_of(softmax(values)))
    return tuple(steps), after


def read_patterns(model: LanguageModel | GPT, ids: Sequence[int],
                  heads: Iterable[tuple[int, int]]) -> tuple[HeadPattern, ...]:  # fmt: skip
    """What some heads look at, in their order."""
    heads = list(heads)
    kept: dict[tuple[int, int], Tensor] = {}

    def keep(layer: int, pattern: Tensor) -> None:
        kept.update({(layer, head): pattern[head].float().cpu().clone() for at, head in heads if at == layer})

    each_pattern(model, ids, keep)
    tokens = tuple(texts_of(None if isinstance(model, GPT) else model.tokenizer, ids))
    return tuple(HeadPattern(layer, head, tokens, kept[layer, head], tokens) for layer, head in heads)


def each_pattern(model: LanguageModel | GPT, ids: Sequence[int], see: Callable[[int, Tensor], None]) -> None:
    """Call `see` with each layer's number and its pattern [H, T, T], of which one is in memory at a time."""
    network = network_of(model)

    def keep(name: str, value: Tensor) -> Tensor:
        if name.endswith(".attn.pattern"):
            see(int(name.split(".")[1]), value[0])
        return value

    with torch.no_grad():
        read_seen(network, torch.tensor([list(ids)], device=network.embed.weight.device), keep)


def clearness(layer: int, pattern: Tensor) -> Tensor:
    """How much the last token gives to the one token that it reads the most, [H]; the first of all, the one before and
    itself, where most heads look anyway, left out."""
    return pattern[:, -1, 1:-2].amax(-1) if pattern.shape[-1] > 3 else pattern[:, -1, 0]


def choose_head(model: LanguageModel | GPT, ids: Sequence[int], score: Callable[[int, Tensor], Tensor],
                layer: int | None = None, head: int | None = None) -> tuple[int, int]:  # fmt: skip
    """The layer and head that were chosen, or of those that fit the one with the highest score, which is computed from
    a layer's number and pattern [H, T, T] as [H]. Raises ConfigError: there is none such."""
    config = network_of(model).config
    if layer is not None and not 0 <= layer < config.n_layer:
        raise ConfigError("there is no layer {number}; the model's are 0 to {last}", number=layer,
                          last=config.n_layer - 1)  # fmt: skip
    if head is not None and not 0 <= head < config.n_head:
        raise ConfigError("there is no head {number}; a layer's are 0 to {last}", number=head, last=config.n_head - 1)
    if layer is not None and head is not None:
        return layer, head
    found: list[tuple[float, int, int]] = []

    def see(number: int, pattern: Tensor) -> None:
        if layer in (None, number):
            scores = score(number, pattern).tolist()
            found.extend((value, -number, -n) for n, value in enumerate(scores) if head in (None, n))

    each_pattern(model, ids, see)
    _, number, n = max(found)
    return -number, -n


def heads_held(
    layers: int, heads: int, chosen: tuple[int, int], length: int, moments: int = 1
) -> list[tuple[int, int]]:
    """Which heads a page holds: the chosen one, those of its layer, and then the others, while there is room."""
    each = length * (length + 1) // 2 * moments
    others = [(layer, head) for layer in range(layers) for head in range(heads)]
    others.sort(key=lambda pair: (pair != chosen, pair[0] != chosen[0], pair))
    return others[: max(1, MOST_SHARES // each)]


def look_numbers(look: Look) -> dict[str, Any]:
    """All numbers of a look, for `json.dumps`."""
    parts = {name: numbers(part) for name, part in (("lens", look.lens), ("attribution", look.attribution)) if part}
    return {
        "kind": "look",
        "ids": list(look.ids),
        "tokens": list(look.tokens),
        "loss": look.loss,
        "steps": numbers(look.steps)["steps"],
        "next": {"entropy": look.next.entropy, "alternatives": [asdict(found) for found in look.next.alternatives]},
        "attention": [numbers(pattern) for pattern in look.patterns],
    } | parts
