"""What each token carried to the next one: an exact sum, found in one walk backwards through the network.

Who looks at whom, what norms divide by and how far neurons are open is taken as it was in this text. With that held
still the network is linear from its first vectors to its scores, so a score is a sum with one part for each place (Ali
et al. 2022, arXiv:2202.07304). That tells by which token a score came, not why the heads looked there:
`attribute` asks that too, with hundreds of gradients.

What is taken apart is how far the target's score is above the others': their mean, each weighted with the probability
that it would have if the target could not come. Only differences of scores count, and this one says something of a
token that was as good as certain, too.

Shapes: T positions, C width, H query heads, K key/value heads, D head width, M the MLP's inside, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassgpt.core.errors import ConfigError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.settings import check_int
from glassgpt.inside.opened import Opened
from glassgpt.inside.subject import Prompt, ids_of, network_of, texts_of
from glassgpt.model.attention import join_heads, split_heads
from glassgpt.model.gpt import GPT, Block
from glassgpt.model.layers import GatedMLP, LayerNorm, RMSNorm, activate

_TINY = 1e-6  # a neuron nearer to 0 than this is open as at 0


@dataclass(frozen=True)
class Carried:
    """What each token carried to the next one.

    Attributes:
        tokens: the texts of the tokens before it.
        scores: what each of them added to the target's score; negative where it spoke against it.
        target, target_text: the next token that is explained.
        total: the target's score less the mean of the others, in nats.
        rest: what no token carried: biases of the network.
    """

    tokens: tuple[str, ...]
    scores: tuple[float, ...]
    target: int
    target_text: str
    total: float
    rest: float


def carried(model: LanguageModel, prompt: Prompt, target: int | None = None) -> Carried:
    """Take the score of the token after a prompt apart: `target`, or the likeliest.

    Raises:
        InputError: the prompt cannot be read.
        ConfigError: the target is not in the vocabulary.
    """
    ids = ids_of(model, prompt)
    return carried_to(Opened(model, ids), len(ids), target)


@torch.no_grad()
def carried_to(opened: Opened, place: int, target: int | None = None) -> Carried:
    """`carried` for the token at a place of a text that is open: `target`, or the likeliest, after those before it.

    Raises:
        ConfigError: the target is not in the vocabulary, or there is no such place.
    """
    check_int("place", place, 1, len(opened.ids))
    network = network_of(opened.model)
    if target is not None and not 0 <= target < network.config.vocab_size:
        raise ConfigError("token id {id} is not in the vocabulary, which has {size} entries", id=target,
                          size=network.config.vocab_size)  # fmt: skip
    streams, middles = opened.streams, opened.middles
    last = streams[-1][place - 1]
    scores = network.logits(network.norm(last)).float()  # [V]
    target = int(scores.argmax()) if target is None else target
    others = scores.clone()
    others[target] = -torch.inf
    weights = -others.softmax(-1)
    weights[target] = 1
    total = float(scores @ weights)
    back = torch.zeros_like(streams[0][:place])  # [T, C]: by how much the score grows with each number of the stream
    back[-1] = _through_norm(network.norm, last, _through_head(network, scores, weights))
    for layer in reversed(range(opened.layers)):
        block: Block = network.blocks[layer]  # type: ignore[assignment]
        back = back + _through_mlp(block, middles[layer][:place], back)
        patterns = opened.patterns(layer, place)
        back = back + _through_attention(block, streams[layer][:place], patterns, back)
    parts = (back * streams[0][:place]).sum(-1).cpu().double()
    tokens = tuple(opened.tokens[:place])
    (text,) = texts_of(opened.model.tokenizer, [target])
    return Carried(tokens, tuple(parts.tolist()), target, text, total, total - float(parts.sum()))


def _through_head(network: GPT, scores: Tensor, weights: Tensor) -> Tensor:
    """By how much the weighted sum of the scores [V] grows with the numbers behind the last norm, [C]."""
    cap = network.config.logit_softcap
    if cap is not None:  # a score s became cap * tanh(s / cap): by this share
        before = torch.atanh((scores / cap).clamp(-1 + _TINY, 1 - _TINY)) * cap
        weights = weights * torch.where(before.abs() < _TINY, 1.0, scores / before)
    head = network.embed.weight if network.head is None else network.head.weight
    return weights.to(head.dtype) @ head


def _through_mlp(block: Block, x: Tensor, back: Tensor) -> Tensor:
    """Through a block's MLP, which read the stream `x` [T, C]: [T, C] after it to [T, C] before it."""
    mlp = block.mlp
    normed = block.mlp_norm(x)
    if isinstance(mlp, GatedMLP):
        opened = activate(mlp.gate(normed), mlp.kind)  # [T, M]
    else:  # a neuron's share of what comes in
        hidden = mlp.up(normed)  # type: ignore[operator]
        kind: str = mlp.kind  # type: ignore[assignment]
        hidden = torch.where(hidden.abs() < _TINY, torch.full_like(hidden, _TINY), hidden)
        opened = activate(hidden, kind) / hidden
    if not isinstance(block.mlp_post_norm, nn.Identity):
        out = mlp.down(opened * mlp.up(normed))  # type: ignore[operator]
        back = _through_norm(block.mlp_post_norm, out, back)
    inner = (back @ mlp.down.weight) * opened  # type: ignore[union-attr,operator]
    return _through_norm(block.mlp_norm, x, inner @ mlp.up.weight)  # type: ignore[union-attr,operator]


def _through_attention(block: Block, x: Tensor, patterns: Tensor, back: Tensor) -> Tensor:
    """Through a block's attention with these patterns [H, T, T], as `_through_mlp`."""
    attention = block.attention
    if not isinstance(block.attention_post_norm, nn.Identity):
        values = split_heads(attention.v_proj(block.attention_norm(x))[None], attention.n_kv_head)  # [1, K, T, D]
        values = values.repeat_interleave(attention.n_head // attention.n_kv_head, dim=1)
        out = attention.out_proj(join_heads(patterns[None] @ values))[0]
        back = _through_norm(block.attention_post_norm, out, back)
    read = split_heads((back @ attention.out_proj.weight)[None], attention.n_head)[0]  # [H, T, D]
    given = patterns.mT @ read  # [H, T, D]: what is wanted of each place by all that look at it
    given = given.unflatten(0, (attention.n_kv_head, -1)).sum(1)  # [K, T, D]
    return _through_norm(block.attention_norm, x, join_heads(given[None])[0] @ attention.v_proj.weight)


def _through_norm(norm: nn.Module, x: Tensor, back: Tensor) -> Tensor:
    """Through a norm that divided `x` [..., C] as it did."""
    if isinstance(norm, RMSNorm):
        return back * norm.weight * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps)
    if isinstance(norm, LayerNorm):
        scaled = back * norm.weight * torch.rsqrt(x.var(-1, correction=0, keepdim=True) + norm.eps)
        return scaled - scaled.mean(-1, keepdim=True)
    raise TypeError(f"no norm of this network: {type(norm).__name__}")
