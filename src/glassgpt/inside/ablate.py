"""What changes when a part is switched off, or given what it computed for another text.

Parts are named as `inside.trace` names values. A head that is off reads nothing (its `z` is zero), a layer's attention
or MLP that is off adds nothing; the network itself is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.engine.kv_cache import KVCache
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.request import Piece, Request, Writer, plan_length, sampling_settings
from glassgpt.engine.sampling import History, generator, sample, softmax
from glassgpt.engine.settings import check_int
from glassgpt.inside.steps import MOST_ALTERNATIVES, Alternative
from glassgpt.inside.subject import Prompt, ids_of, network_of, read_seen, token_text
from glassgpt.inside.trace import choose_names
from glassgpt.model.gpt import GPT
from glassgpt.model.probe import Probe


@dataclass(frozen=True)
class Switches:
    """What is off: heads as pairs of layer and head, and layers whose attention or whose MLP is."""

    heads: tuple[tuple[int, int], ...] = ()
    attention: tuple[int, ...] = ()
    mlps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple((int(layer), int(head)) for layer, head in self.heads))
        object.__setattr__(self, "attention", tuple(map(int, self.attention)))
        object.__setattr__(self, "mlps", tuple(map(int, self.mlps)))

    def __bool__(self) -> bool:
        return bool(self.heads or self.attention or self.mlps)

    def probe(self, network: GPT) -> Probe | None:
        """What switches them off in one computation; None where nothing is off.

        Raises:
            ConfigError: there is no such layer or head.
        """
        config = network.config
        layers = [layer for layer, _ in self.heads] + [*self.attention, *self.mlps]
        for number in layers:
            if not 0 <= number < config.n_layer:
                raise ConfigError("there is no layer {number}; the model's are 0 to {last}", number=number,
                                  last=config.n_layer - 1)  # fmt: skip
        for _, number in self.heads:
            if not 0 <= number < config.n_head:
                raise ConfigError("there is no head {number}; a layer's are 0 to {last}", number=number,
                                  last=config.n_head - 1)  # fmt: skip
        if not self:
            return None
        off = {f"blocks.{layer}.attn_out" for layer in self.attention} | {f"blocks.{n}.mlp_out" for n in self.mlps}
        heads: dict[str, list[int]] = {}
        for layer, head in self.heads:
            heads.setdefault(f"blocks.{layer}.attn.z", []).append(head)

        def switch(name: str, value: Tensor) -> Tensor:
            if name in off:
                return torch.zeros_like(value)
            if name in heads:
                value = value.clone()
                value[:, heads[name]] = 0
            return value

        return switch


@dataclass(frozen=True)
class Shift:
    """A token's probability with everything on and with something off."""

    id: int
    text: str
    before: float
    after: float


@dataclass(frozen=True)
class Ablation:
    """What the next token would be.

    Attributes:
        shifts: the tokens that are likeliest before or after.
        divergence: how far the second distribution is from the first, KL(before || after) in bits.
    """

    switches: Switches
    shifts: tuple[Shift, ...]
    divergence: float

    @property
    def before(self) -> Shift:
        """The likeliest token with everything on."""
        return max(self.shifts, key=lambda shift: shift.before)

    @property
    def after(self) -> Shift:
        """The likeliest token with the parts off."""
        return max(self.shifts, key=lambda shift: shift.after)


def ablate(model: LanguageModel, prompt: Prompt, switches: Switches, top: int = 5) -> Ablation:
    """The next token after a prompt with parts switched off, beside that with all on; both by the network in torch.

    Raises:
        InputError: the prompt cannot be read.
        ConfigError: there is no such layer or head, or `top` is out of range.
    """
    network, ids = network_of(model), ids_of(model, prompt)
    check_int("top", top, 1, MOST_ALTERNATIVES)
    before, after = (_next(network, ids, probe) for probe in (None, switches.probe(network)))
    likely = dict.fromkeys(np.argsort(-before)[:top].tolist() + np.argsort(-after)[:top].tolist())
    shifts = tuple(Shift(i, token_text(model.tokenizer, i), float(before[i]), float(after[i])) for i in likely)
    return Ablation(switches, shifts, divergence_of(before, after))


def answer_with(model: LanguageModel, prompt: Prompt, switches: Switches, max_new_tokens: int | None = None, *,
                ends: Collection[int] | None = None, stops: Sequence[str] = (),
                **settings: object) -> Iterator[Piece]:  # fmt: skip
    """Write on with parts switched off, piece by piece; `settings` are those of `SamplingSettings`. The same seed draws
    with the same chance as with everything on. Unless told otherwise it ends after 100 tokens or at the end of the
    context. Messages are answered until the model's turn is over, other prompts until one of `ends` (the tokenizer's
    own end of a text unless given) or `stops`.

    Raises:
        InputError, ConfigError: as `LanguageModel.generate`, and where there is no such part.
    """
    network, ids = network_of(model), ids_of(model, prompt)
    chosen = sampling_settings(dict(settings))
    limit = plan_length(len(ids), model.context_length, max_new_tokens, None, 100)
    stops = [stops] if isinstance(stops, str) else stops
    ends = model.end_ids if ends is None else ends
    if not isinstance(prompt, str) and prompt and isinstance(prompt[0], dict):
        ends, stops = model.template.stop_ids(model.tokenizer), model.template.stop_strings
    probe = switches.probe(network)
    return _written(model, network, Request(ids, limit, chosen, 0, frozenset(ends), tuple(stops)), probe)


@torch.no_grad()
def _written(model: LanguageModel, network: GPT, request: Request, probe: Probe | None) -> Iterator[Piece]:
    cache = KVCache(network.config, 1, network.embed.weight.dtype, network.embed.weight.device)
    writer, history = Writer(model.tokenizer, request), History(request.prompt)
    random = generator(request.settings.seed or 0, 0)
    ids = list(request.prompt)
    while writer.finish is None:
        hidden = read_seen(network, torch.tensor([ids], device=cache.device), probe, cache)
        scores = network.logits(hidden[0, -1]).float().cpu().numpy()
        token, logprob = sample(scores, request.settings, history, random)
        history.append(token)
        yield from writer.push(token, logprob)
        ids = [token]


@dataclass(frozen=True)
class Patching:
    """How much of an answer comes back when one text's computation is given another's values, part by part.

    Attributes:
        restored: [layer or part][place] 0 where nothing comes back, 1 where the whole difference does.
        names: what each row is.
        tokens: the texts of the places, in the text that is patched.
        clean, corrupted: the answer's score above the other's, in each text by itself.
    """

    names: tuple[str, ...]
    tokens: tuple[str, ...]
    restored: tuple[tuple[float, ...], ...]
    clean: float
    corrupted: float


@torch.no_grad()
def patch(model: LanguageModel, clean: Prompt, corrupted: Prompt, answer: str | int, other: str | int,
          names: Sequence[str] = ("resid_pre",)) -> Patching:  # fmt: skip
    """Activation patching (Vig et al. 2020; Meng et al. 2022, arXiv:2202.05262): in the corrupted text, each value of
    the clean one by itself, place by place; how far the score of `answer` over `other` comes back.

    Args:
        clean, corrupted: two prompts with as many tokens, which are answered differently.
        answer, other: the next token of each, an id or a text of one token.
        names: which values, of width C for each place, such as "resid_pre", "attn_out", "mlp_out".

    Raises:
        InputError: the prompts differ in length, are answered alike, or an answer is not one token.
        ConfigError: a name is unknown or has no place for each token, or an answer is not in the vocabulary.
    """
    network = network_of(model)
    good, bad = ids_of(model, clean), ids_of(model, corrupted)
    if len(good) != len(bad):
        raise InputError("the two prompts have {first} and {second} tokens; expected as many", first=len(good),
                         second=len(bad), hint="Change words for others of the same length.")  # fmt: skip
    first, second = (_one_token(model, text) for text in (answer, other))
    wanted = choose_names(network.config, names)
    device = network.embed.weight.device
    kept: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> Tensor:
        if name in wanted:
            kept[name] = value
        return value

    def above(hidden: Tensor) -> Tensor:
        scores = network.logits(hidden[:, -1]).float()
        return scores[:, first] - scores[:, second]  # [B]

    up = float(above(read_seen(network, torch.tensor([good], device=device), keep)))
    down = float(above(read_seen(network, torch.tensor([bad], device=device), lambda name, value: value)))
    if good == bad or abs(up - down) < 1e-6:
        raise InputError("both prompts are answered alike", hint="Choose prompts that the model answers differently.")
    wrong = [name for name, value in kept.items() if value.dim() != 3] + sorted(wanted - kept.keys())
    if wrong:
        raise ConfigError("{name} cannot be carried over; expected a value of the stream with one row a token",
                          hint="Take resid_pre, attn_out or mlp_out.", name=wrong[0])  # fmt: skip
    rows = []
    for name, value in kept.items():
        restored: list[float] = []
        for at in range(0, len(bad), _PATCHED):
            places = list(range(at, min(at + _PATCHED, len(bad))))

            def replace(place: str, own: Tensor, name: str = name, value: Tensor = value,
                        places: list[int] = places) -> Tensor:  # fmt: skip
                if place != name:
                    return own
                own = own.clone()
                own[range(len(places)), places] = value[0, places]
                return own

            hidden = read_seen(network, torch.tensor([bad] * len(places), device=device), replace)
            restored += ((above(hidden) - down) / (up - down)).tolist()
        rows.append(tuple(restored))
    tokens = tuple(token_text(model.tokenizer, id) for id in bad)
    return Patching(tuple(kept), tokens, tuple(rows), up, down)


_PATCHED = 16  # places that are tried at once


def divergence_of(before: np.ndarray, after: np.ndarray) -> float:
    """KL(before || after) of two distributions, in bits."""
    real = before > 0
    return max(0.0, float((before[real] * np.log2(before[real] / np.maximum(after[real], 1e-300))).sum()))


def _one_token(model: LanguageModel, text: str | int) -> int:
    if isinstance(text, int):
        check_int("answer", text, 0, model.config.vocab_size - 1)
        return text
    ids = model.tokenizer.encode(text, add_bos=False)
    if len(ids) != 1:
        raise InputError("{text} is {count} tokens; expected one", hint="A word often begins with a space: ' Paris'.",
                         text=repr(text)[:60], count=len(ids))  # fmt: skip
    return ids[0]


@torch.no_grad()
def _next(network: GPT, ids: Sequence[int], probe: Probe | None) -> np.ndarray:
    hidden = read_seen(network, torch.tensor([list(ids)], device=network.embed.weight.device), probe)
    return softmax(network.logits(hidden[0, -1]).float().cpu().numpy())


__all__ = ["Ablation", "Alternative", "Patching", "Shift", "Switches", "ablate", "answer_with", "patch"]
