"""Input n-gram tables: beside its own vector, a token brings one for itself together with the tokens just before it.

Which letters stand together is most of what a small model learns first, and it spends a layer on it; a table knows it
by looking it up, at the price of memory instead of arithmetic. Where there are too many pairs and triples for the rows,
some share one (Bojanowski et al. 2017, arXiv:1607.04606, hash theirs in the same way).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SPREAD = 0x1E3779B97F4A7C15  # an odd number whose multiples fall far apart


class NgramEmbedding(nn.Module):
    """Vectors for the 2-grams, 3-grams, ... up to `longest` that end at each position, added up.

    Each length has `buckets` rows of `width` numbers, which begin at zero.
    """

    def __init__(self, vocab_size: int, longest: int, buckets: int, width: int) -> None:
        super().__init__()
        self.vocab_size, self.longest, self.buckets = vocab_size, longest, buckets
        self.weight = nn.Parameter(torch.zeros((longest - 1) * buckets, width))

    def forward(
        self, ids: Tensor, before: Tensor | None = None, keep: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """`ids` [B, T] to [B, T, C]. `before` [B, n - 1] are the ids that precede them (-1: none); `keep` and
        `segments` as in `GPT.forward`: padding and other documents are no predecessors."""
        return F.embedding(self.rows(ids, before, keep, segments), self.weight).sum(-2)

    def rows(
        self, ids: Tensor, before: Tensor | None = None, keep: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """Which row of the table each n-gram has, [B, T, n - 1]."""
        batch, length = ids.shape
        reach = self.longest - 1
        known = ids + 1  # 0 is for "nothing there"
        if keep is not None:
            known = known * keep[:, -length:]
        start = known.new_zeros(batch, reach) if before is None else before + 1
        line = torch.cat((start, known), dim=1)  # [B, n - 1 + T]
        if segments is not None:
            parts = torch.cat((segments.new_full((batch, reach), -2), segments), dim=1)
        code, found = known, []
        for back in range(1, self.longest):
            at = slice(reach - back, reach - back + length)
            earlier = line[:, at]
            if segments is not None:
                earlier = earlier * (parts[:, at] == segments)
            code = code * (self.vocab_size + 1) + earlier
            found.append(self._row(code, back + 1) + (back - 1) * self.buckets)
        return torch.stack(found, dim=-1)

    def _row(self, code: Tensor, order: int) -> Tensor:
        if (self.vocab_size + 1) ** order <= self.buckets:
            return code  # a row for each
        mixed = code * _SPREAD  # wraps around, as hashing wants it to
        return (mixed ^ (mixed >> 29)).remainder(self.buckets)
