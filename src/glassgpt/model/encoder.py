"""A text encoder as BERT (Devlin et al. 2018, arXiv:1810.04805): every position reads the whole text.

BERT's norms come after each sum and change the residual stream itself. The same network, told from one norm to the
next: a norm changes the stream, then attention or the MLP adds to it. So the names are those of `gpt.GPT`, with each
norm at the beginning of what follows it: the norm of the embeddings is the first block's, and so on.

Shapes: B texts, T positions, C width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glassgpt.core.errors import ConfigError
from glassgpt.model.attention import padding_mask
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import Block
from glassgpt.model.layers import make_norm
from glassgpt.model.positions import LearnedPositions
from glassgpt.model.probe import Probe, seen


class EncoderBlock(Block):
    """Attention and MLP, each added to a stream that was normed before."""

    def read(self, x: Tensor, mask: Tensor, probe: Probe | None = None) -> Tensor:
        """`x` [B, T, C] to the same shape; `mask` [B, 1, T, T] is True where a position may look."""
        x = seen(probe, self.place, "resid_pre", self.attention_norm(x))
        x = x + seen(probe, self.place, "attn_out", self.attention(x, mask, probe=probe))
        x = seen(probe, self.place, "resid_mid", self.mlp_norm(x))
        x = x + seen(probe, self.place, "mlp_out", self.mlp(x, probe, self.mlp_place))
        return seen(probe, self.place, "resid_post", x)


class Encoder(nn.Module):
    """The network; `engine.encoder` runs it fast, and this is its plain twin.

    Raises:
        ConfigError: the settings are a decoder's.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not config.encoder or config.positions != "learned":
            raise ConfigError("an encoder needs the settings encoder = true and positions = learned")
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = LearnedPositions(config.context_length, config.n_embd)
        self.blocks = nn.ModuleList(EncoderBlock(config, layer) for layer in range(config.n_layer))
        self.norm = make_norm(config.norm, config.n_embd, config.norm_eps)

    def forward(self, ids: Tensor, keep: Tensor | None = None, probe: Probe | None = None) -> Tensor:
        """Token ids [B, T] to vectors [B, T, C]; `keep` [B, T] is False on padding at the end. `probe` is shown every
        value on its way; what a norm changes is shown after it."""
        keep = torch.ones_like(ids, dtype=torch.bool) if keep is None else keep
        length = ids.shape[1]
        mask = padding_mask(keep).expand(-1, -1, length, -1)  # [B, 1, T, T]
        x = seen(probe, "", "embed", self.embed(ids)) + self.positions(torch.arange(length, device=ids.device)[None])
        for block in self.blocks:
            x = block.read(x, mask, probe)  # type: ignore[operator]
        return seen(probe, "", "final_norm", self.norm(x))
