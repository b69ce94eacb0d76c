"""The encoder-decoder of "Attention Is All You Need" (Vaswani et al. 2017, arXiv:1706.03762).

The encoder reads the whole source at once; the decoder writes the target from left to right, looking at what
it has written and, through cross-attention, at the encoder's memory. Batch first throughout.

Shapes: B sequences, S source positions, T target positions, C width, V target vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.model.attention import SelfAttention, causal_mask, padding_mask
from glassgpt.model.layers import MLP, LayerNorm
from glassgpt.model.positions import PositionalEncoding
from glassgpt.model.probe import Probe, seen


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of a `Transformer`; the defaults are the paper's base model (table 3).

    `max_len` is the longest source or target in tokens. A token equal to `source_pad` or `target_pad` is
    padding wherever it stands. `pre_norm` puts the norm before each sublayer instead of after the residual
    sum (Xiong et al. 2020, arXiv:2002.04745), and one more after each stack. `share_embeddings` gives source
    and target one table (3.4), as one vocabulary for both allows.

    Raises:
        ConfigError: a value is out of range or two values contradict each other.
    """

    source_vocab: int
    target_vocab: int
    embed_size: int = 512
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    mlp_dim: int = 2048
    max_len: int = 512
    source_pad: int = 0
    target_pad: int = 0
    dropout: float = 0.1
    pre_norm: bool = False
    share_embeddings: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("dropout", "pre_norm", "share_embeddings"):
                continue
            least = 0 if field.name.endswith("_pad") else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(
                    "{name} is {value!r}; expected a whole number of at least {least}",
                    name=field.name,
                    value=value,
                    least=least,
                )
        if self.embed_size % self.heads:
            raise ConfigError(
                "embed_size {width} is not a multiple of heads {heads}",
                hint="Choose a width that the heads divide.",
                width=self.embed_size,
                heads=self.heads,
            )
        for side in ("source", "target"):
            pad, vocab = getattr(self, f"{side}_pad"), getattr(self, f"{side}_vocab")
            if pad >= vocab:
                raise ConfigError(
                    "{side}_pad is {pad}; the {side} vocabulary has ids 0 to {last}",
                    side=side,
                    pad=pad,
                    last=vocab - 1,
                )
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(
                "dropout is {value}; expected a number from 0 up to, not including, 1", value=self.dropout
            )
        if self.share_embeddings and self.source_vocab != self.target_vocab:
            raise ConfigError(
                "share_embeddings needs one vocabulary; source_vocab is {source} and target_vocab {target}",
                hint="Use one tokenizer for both sides, or leave share_embeddings off.",
                source=self.source_vocab,
                target=self.target_vocab,
            )


class Residual(nn.Module):
    """One sublayer's frame: dropout, residual sum and norm, the norm last (2017) or first (`pre_norm`)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm, self.pre_norm = LayerNorm(config.embed_size), config.pre_norm
        self.dropout = nn.Dropout(config.dropout)

    def before(self, x: Tensor) -> Tensor:
        """What the sublayer reads."""
        return self.norm(x) if self.pre_norm else x

    def after(self, x: Tensor, out: Tensor) -> Tensor:
        """The stream once the sublayer's output has joined it."""
        x = x + self.dropout(out)
        return x if self.pre_norm else self.norm(x)


class EncoderLayer(nn.Module):
    """Self-attention over the source, then an MLP (section 3.1)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.embed_size, config.heads, bias=True)
        self.mlp = MLP(config.embed_size, config.mlp_dim, "relu")
        self.attention_residual, self.mlp_residual = Residual(config), Residual(config)

    def forward(self, x: Tensor, mask: Tensor, probe: Probe | None = None, place: str = "") -> Tensor:
        """`x` [B, S, C], `mask` [B, 1, 1, S]; gives [B, S, C]. `place` begins the names that `probe` is told."""
        x = seen(probe, place, "resid_pre", x)
        h = self.attention_residual.before(x)
        out = seen(probe, place, "attn_out", self.attention(h, h, h, mask, probe, place + "attn."))
        x = seen(probe, place, "resid_mid", self.attention_residual.after(x, out))
        out = seen(probe, place, "mlp_out", self.mlp(self.mlp_residual.before(x), probe, place + "mlp."))
        return seen(probe, place, "resid_post", self.mlp_residual.after(x, out))


class DecoderLayer(nn.Module):
    """Causal self-attention over the target, cross-attention to the memory, then an MLP (section 3.1)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.embed_size, config.heads, bias=True)
        self.cross = SelfAttention(config.embed_size, config.heads, bias=True)
        self.mlp = MLP(config.embed_size, config.mlp_dim, "relu")
        self.attention_residual, self.cross_residual = Residual(config), Residual(config)
        self.mlp_residual = Residual(config)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor, memory_mask: Tensor, probe: Probe | None = None,
                place: str = "") -> Tensor:  # fmt: skip
        """`x` [B, T, C], `memory` [B, S, C], masks [B, 1, T, T] and [B, 1, 1, S]; gives [B, T, C]. `place` begins the
        names that `probe` is told."""
        x = seen(probe, place, "resid_pre", x)
        h = self.attention_residual.before(x)
        out = seen(probe, place, "attn_out", self.attention(h, h, h, mask, probe, place + "attn."))
        x = seen(probe, place, "resid_mid", self.attention_residual.after(x, out))
        h = self.cross_residual.before(x)
        out = seen(probe, place, "cross_out", self.cross(memory, memory, h, memory_mask, probe, place + "cross."))
        x = seen(probe, place, "resid_cross", self.cross_residual.after(x, out))
        out = seen(probe, place, "mlp_out", self.mlp(self.mlp_residual.before(x), probe, place + "mlp."))
        return seen(probe, place, "resid_post", self.mlp_residual.after(x, out))


class Transformer(nn.Module):
    """Encoder and decoder with their embeddings; the target's table is also the output projection (3.4)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.target_embedding = nn.Embedding(config.target_vocab, config.embed_size)
        self.source_embedding = (
            self.target_embedding if config.share_embeddings else nn.Embedding(config.source_vocab, config.embed_size)
        )
        self.positions = PositionalEncoding(config.embed_size, config.max_len, config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        # Only a pre-norm stack ends without a norm of its own.
        self.encoder_norm = LayerNorm(config.embed_size) if config.pre_norm else nn.Identity()
        self.decoder_norm = LayerNorm(config.embed_size) if config.pre_norm else nn.Identity()
        self.apply(self._start)

    def _start(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):  # times sqrt(C) on the way in, so of size 1 beside the positions
            nn.init.normal_(module.weight, std=self.config.embed_size**-0.5)

    def forward(self, source: Tensor, target: Tensor, probe: Probe | None = None) -> Tensor:
        """`source` [B, S] and `target` [B, T] token ids to logits [B, T, V]: at each position, the next token. `probe`
        is shown every value on its way, and may replace it.

        Raises:
            InputError: a sequence is longer than `max_len`, or a source row is all padding.
        """
        return self.decode(target, *self.encode(source, probe), probe)

    def encode(self, source: Tensor, probe: Probe | None = None) -> tuple[Tensor, Tensor]:
        """`source` [B, S] to the memory [B, S, C] and the mask [B, 1, 1, S] that hides its padding."""
        keep = source != self.config.source_pad
        if not bool(keep.any(dim=1).all()):
            raise InputError(
                "source row {row} holds nothing but padding",
                hint="Leave empty sources out.",
                row=int(keep.any(dim=1).int().argmin()),
            )
        mask = padding_mask(keep)
        x = seen(probe, "encoder.", "embed", self._embed(self.source_embedding, source))  # [B, S, C]
        for number, layer in enumerate(self.encoder):
            x = layer(x, mask, probe, f"encoder.blocks.{number}.")
        return seen(probe, "encoder.", "final_norm", self.encoder_norm(x)), mask

    def decode(self, target: Tensor, memory: Tensor, memory_mask: Tensor, probe: Probe | None = None) -> Tensor:
        """`target` [B, T] and what `encode` gave to logits [B, T, V]."""
        places = torch.arange(target.shape[1], device=target.device).expand(target.shape)  # [B, T]
        mask = causal_mask(places, places, keep=target != self.config.target_pad)  # [B, 1, T, T]
        x = seen(probe, "decoder.", "embed", self._embed(self.target_embedding, target))  # [B, T, C]
        for number, layer in enumerate(self.decoder):
            x = layer(x, memory, mask, memory_mask, probe, f"decoder.blocks.{number}.")
        x = seen(probe, "decoder.", "final_norm", self.decoder_norm(x))
        return seen(probe, "", "logits", F.linear(x, self.target_embedding.weight))  # [B, T, V]

    @torch.no_grad()
    def generate(self, source: Tensor, bos: int, eos: int, max_len: int) -> Tensor:
        """The likeliest next token, again and again, for every source row [B, S].

        Gives ids [B, T], T at most `max_len`, without `bos`; a row that ended holds `eos` and then padding, a
        row that was cut off at `max_len` holds no `eos`. Put the model in `eval()` first.

        Raises:
            InputError: `bos` or `eos` is padding or not in the vocabulary, or `max_len` is out of range.
        """
        pad, vocab = self.config.target_pad, self.config.target_vocab
        for name, given in (("bos", bos), ("eos", eos)):
            if given == pad or not 0 <= given < vocab:
                raise InputError(
                    "{name} is {token}; expected an id from 0 to {last} other than the padding {pad}",
                    name=name,
                    token=given,
                    last=vocab - 1,
                    pad=pad,
                )
        if not 1 <= max_len <= self.config.max_len:
            raise InputError(
                "max_len is {value}; this model writes 1 to {limit} tokens",
                value=max_len,
                limit=self.config.max_len,
            )
        memory, memory_mask = self.encode(source)
        target = torch.full((len(source), 1), bos, device=source.device)
        done = torch.zeros(len(source), dtype=torch.bool, device=source.device)
        while target.shape[1] <= max_len and not bool(done.all()):
            logits = self.decode(target, memory, memory_mask)[:, -1]  # [B, V]
            logits[:, pad] = -math.inf  # the model reads padding as nothing, so it must not write it
            token = logits.argmax(dim=-1).masked_fill(done, pad)  # [B]
            target = torch.cat((target, token[:, None]), dim=1)
            done |= token == eos
        return target[:, 1:]

    def _embed(self, table: nn.Embedding, ids: Tensor) -> Tensor:
        return self.positions(table(ids) * math.sqrt(self.config.embed_size))
