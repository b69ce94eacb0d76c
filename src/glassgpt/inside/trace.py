"""Every value that a network computes on its way, under the field's names.

    logits, trace = run_with_trace(model, "The capital of France is")
    trace["blocks.3.attn.pattern"]                                      # [B, H, T, S]

Shapes: B sequences, T positions, S positions that are read from, C width, H query heads, K key/value heads, D head
width, M the MLP's inside, V vocabulary.

    embed                  [B, T, C]     token vectors, before positions are added
    blocks.3.resid_pre     [B, T, C]     the residual stream as it comes into the block
    blocks.3.attn.q        [B, H, T, D]  queries as they meet the keys: normed and turned
    blocks.3.attn.k, .v    [B, K, S, D]
    blocks.3.attn.pattern  [B, H, T, S]  rows sum to 1
    blocks.3.attn.z        [B, H, T, D]  what each head read, before the output projection
    blocks.3.attn_out      [B, T, C]     what attention adds to the stream
    blocks.3.resid_mid     [B, T, C]
    blocks.3.mlp.hidden    [B, T, M]     the MLP's neurons
    blocks.3.mlp_out       [B, T, C]     what the MLP adds
    blocks.3.resid_post    [B, T, C]
    final_norm             [B, T, C]
    logits                 [B, T, V]

Encoder and decoder have these with `encoder.` or `decoder.` before them; a decoder's blocks also `cross.q` and so on,
`cross_out` and `resid_cross`. Where norms come last (the Transformer of 2017, BERT), the stream is shown after them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor

from glassgpt.core.errors import ConfigError, InputError, nearest
from glassgpt.engine.language_model import LanguageModel
from glassgpt.inside.subject import (
    Prompt,
    check_room,
    check_still,
    engine_network,
    engine_scores,
    ids_of,
    network_of,
    texts_of,
)
from glassgpt.model.config import ModelConfig
from glassgpt.model.encoder import Encoder
from glassgpt.model.gpt import GPT
from glassgpt.model.probe import Probe
from glassgpt.model.transformer import Transformer, TransformerConfig

ATTENTION = ("q", "k", "v", "pattern", "z")
Network = GPT | Encoder | Transformer


class Trace(Mapping[str, Tensor]):
    """The values of one computation by their names, in the order in which they were computed.

    Attributes:
        ids: the tokens that were read; of several sequences or of a pair, the first's.
        tokens: their texts.
        target_tokens: of an encoder and decoder, the texts of what the decoder read; else None.
        logits: the scores [B, T, V], whether they were among the names or not.
    """

    def __init__(self, values: dict[str, Tensor], logits: Tensor, ids: list[int], tokens: list[str],
                 model: LanguageModel | Network) -> None:  # fmt: skip
        self._values, self.logits, self.ids, self.tokens, self._model = values, logits, ids, tokens, model
        self.target_tokens: list[str] | None = None
        self._difference: float | None = None

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._values:
            raise KeyError(f"{name}; the nearest that was kept is {nearest(name, list(self._values)) or 'none'}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Trace({len(self.ids)} tokens, {len(self)} values)"

    @property
    def engine_difference(self) -> float | None:
        """The largest difference between these scores and those of the engine, which computes with fewer bits on its
        way; None where no engine answers. Computed when it is asked for."""
        network = engine_network(self._model) if isinstance(self._model, LanguageModel) else None
        if network is not None and self._difference is None:
            own = self.logits[0].float().numpy()
            parts = engine_scores(network, self.ids)
            self._difference = max(float(np.abs(own[at : at + len(s)] - s).max()) for at, s in parts)
        return self._difference


def run_with_trace(
    model: LanguageModel | Network,
    prompt: Prompt | Tensor | tuple[Tensor, Tensor],
    names: Sequence[str] | None = None,
    *,
    probe: Probe | None = None,
) -> tuple[Tensor, Trace]:
    """Read a prompt once and keep what is computed on the way.

    The network is not changed: a request that is answered at the same time notices nothing. Attention is computed step
    by step (`model.attention.attend_seen`), everything else as always. No gradients.

    Args:
        model: what `glassgpt.load` gives, or a network in torch.
        prompt: a text, ids, or messages ({"role": ..., "content": ...}); for a network also ids [B, T], for an encoder
            and decoder a pair of them.
        names: which values to keep; None: all. `*` stands for anything, and the last part alone for that of every
            block: ["pattern"], ["blocks.3.*"].
        probe: is asked first, and may replace values (`glassgpt.inside.ablate`).

    Returns:
        logits [B, T, V] (of an encoder: its vectors [B, T, C]), and the trace.

    Raises:
        ConfigError: a name is unknown, the values would not fit into memory, or the network is being trained with
            dropout.
        InputError: the prompt is empty, too long, or not for this model.
    """
    network = network_of(model) if isinstance(model, LanguageModel) else model
    inputs = _inputs(model, prompt)
    wanted = choose_names(network.config, names)
    _check(network, wanted, inputs)
    values: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> Tensor:
        value = value if probe is None else probe(name, value)
        if name in wanted:
            values[name] = value
        return value

    with torch.no_grad():
        logits = network(*inputs, probe=keep)
    ids = inputs[0][0].tolist()
    tokenizer = model.tokenizer if isinstance(model, LanguageModel) else None
    trace = Trace(values, logits, ids, texts_of(tokenizer, ids), model)
    if len(inputs) > 1:
        trace.target_tokens = texts_of(tokenizer, inputs[1][0].tolist())
    return logits, trace


def trace_names(config: ModelConfig | TransformerConfig) -> list[str]:
    """The names of all values that a network with this config computes."""
    if isinstance(config, TransformerConfig):
        encoder = [f"encoder.{name}" for name in ["embed", *_blocks(config.encoder_layers), "final_norm"]]
        decoder = ["embed", *_blocks(config.decoder_layers, cross=True), "final_norm"]
        return [*encoder, *(f"decoder.{name}" for name in decoder), "logits"]
    last = [] if config.encoder else ["logits"]
    return ["embed", *_blocks(config.n_layer), "final_norm", *last]


def choose_names(config: ModelConfig | TransformerConfig, names: Sequence[str] | None) -> set[str]:
    """The names that are meant; raises ConfigError where one is unknown."""
    known = trace_names(config)
    if names is None:
        return set(known)
    if isinstance(names, str):
        names = [names]
    chosen: set[str] = set()
    for name in names:
        meant = [k for k in known if fnmatchcase(k, name) or k.endswith("." + name)]
        if not meant:
            raise ConfigError(
                "nothing in this network is called {name}",
                hint="The nearest is {nearest}; `glassgpt.inside.trace` lists them.",
                name=repr(name)[:60],
                nearest=nearest(name, known) or known[0],
            )
        chosen.update(meant)
    return chosen


def _blocks(count: int, cross: bool = False) -> list[str]:
    one = ["resid_pre", *(f"attn.{name}" for name in ATTENTION), "attn_out", "resid_mid"]
    if cross:
        one += [*(f"cross.{name}" for name in ATTENTION), "cross_out", "resid_cross"]
    one += ["mlp.hidden", "mlp_out", "resid_post"]
    return [f"blocks.{number}.{name}" for number in range(count) for name in one]


def _inputs(model: LanguageModel | Network, prompt: object) -> tuple[Tensor, ...]:
    """What the network's call is given."""
    if isinstance(model, Transformer):
        if not isinstance(prompt, tuple | list) or len(prompt) != 2:
            raise InputError("an encoder and decoder reads two sequences", hint="Give a pair: source ids, target ids.")
        config = model.config
        source, target = (_rows(model, part, size) for part, size in zip(
            prompt, (config.source_vocab, config.target_vocab), strict=True))  # fmt: skip
        if len(source) != len(target):
            raise InputError("{first} sources and {second} targets were given; expected as many", first=len(source),
                             second=len(target))  # fmt: skip
        return source, target
    several = isinstance(prompt, list | tuple) and len(prompt) > 0 and isinstance(prompt[0], list | tuple)
    given = isinstance(prompt, Tensor | np.ndarray)
    if isinstance(model, Encoder) or (isinstance(model, GPT) and (given or several)):
        return (_rows(model, prompt, model.config.vocab_size),)
    device = network_of(model).embed.weight.device
    return (torch.tensor([ids_of(model, prompt)], device=device),)  # type: ignore[arg-type]


def _rows(network: Network, ids: object, size: int) -> Tensor:
    """Ids as a tensor [B, T] of a vocabulary of that size."""
    try:
        rows = torch.as_tensor(ids, device=next(network.parameters()).device)
        if rows.dim() == 1:
            rows = rows[None]
        fits = rows.dim() == 2 and rows.numel() > 0 and not rows.is_floating_point() and rows.dtype != torch.bool
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise InputError("a network alone reads token ids", hint="Give ids, or what `glassgpt.load` gives.")
    if not 0 <= int(rows.min()) <= int(rows.max()) < size:
        wrong = int(rows.min()) if rows.min() < 0 else int(rows.max())
        raise InputError("token id {id} is not in the vocabulary, which has {size} entries", id=wrong, size=size)
    config = network.config
    limit = config.context_length if isinstance(config, ModelConfig) else config.max_len
    if rows.shape[1] > limit:
        raise InputError("{total} tokens do not fit: the model's context is {limit}", total=rows.shape[1], limit=limit,
                         hint="Shorten the input, or use a model with a longer context.")  # fmt: skip
    return rows.long()


def _check(network: Network, wanted: set[str], inputs: tuple[Tensor, ...]) -> None:
    check_still(network)
    config = network.config
    batch, length = len(inputs[0]), max(rows.shape[1] for rows in inputs)
    # The scores are there whether they are kept or not, and so are three tables of attention of one layer.
    held = {*wanted, "logits"}
    numbers = sum(_numbers(name, config, length) for name in held) + 3 * _numbers("attn.pattern", config, length)
    check_room(4 * batch * length * numbers, length)


def _numbers(name: str, config: ModelConfig | TransformerConfig, length: int) -> int:
    """How many numbers a value has for each position, at most."""
    last = name.rpartition(".")[2]
    if isinstance(config, TransformerConfig):
        heads, width, inside, vocabulary = config.heads, config.embed_size, config.mlp_dim, config.target_vocab
        across = width
    else:
        heads, width, inside, vocabulary = config.n_head, config.n_embd, config.mlp_dim, config.vocab_size
        across = heads * config.head_dim
    sizes = {"pattern": heads * length, "hidden": inside, "logits": vocabulary} | dict.fromkeys("qkvz", across)
    return math.ceil(sizes.get(last, width))
