"""The key/value cache: what attention computed for earlier tokens, kept instead of computed again."""

from __future__ import annotations

import torch
from torch import Tensor

from glassgpt.core.errors import InputError
from glassgpt.model.config import ModelConfig

_STEP = 256  # positions by which the storage grows: a short chat must not pay for the whole context


class KVCache:
    """Keys and values of one batch of sequences, growing up to the model's context.

    The network calls `append` once per layer and step; `length` counts whole steps.
    """

    def __init__(self, config: ModelConfig, batch: int = 1, dtype: torch.dtype = torch.float32,
                 device: torch.device | str = "cpu") -> None:  # fmt: skip
        self.config, self.batch, self.dtype, self.device = config, batch, dtype, device
        self.length = 0
        self.capacity = 0
        self._keys: list[Tensor] = []  # per layer [B, K, capacity, D]
        self._values: list[Tensor] = []
        self._ids = torch.empty((batch, 0), dtype=torch.long, device=device)  # only networks with n-grams fill it
        self._grow(min(_STEP, config.context_length))

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add `k` and `v` [B, K, T, D] of new positions; return all so far, [B, K, S, D].

        Raises:
            InputError: there are more positions than the model's context holds.
        """
        end = self.length + k.shape[2]
        if end > self.config.context_length:
            raise InputError(
                "{total} tokens do not fit: the model's context is {limit}",
                hint="Shorten the input, or use a model with a longer context.",
                total=end,
                limit=self.config.context_length,
            )
        if end > self.capacity:
            self._grow(min(self.config.context_length, max(2 * self.capacity, -(-end // _STEP) * _STEP)))
        self._keys[layer][:, :, self.length : end] = k
        self._values[layer][:, :, self.length : end] = v
        if layer == self.config.n_layer - 1:
            self.length = end
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def remember(self, ids: Tensor, count: int) -> Tensor:
        """Note the ids [B, T] of new positions, before their keys; gives the `count` ids before them, [B, count], -1
        where there is none."""
        missing = self._ids.new_full((self.batch, max(0, count - self.length)), -1)
        before = torch.cat((missing, self._ids[:, max(0, self.length - count) : self.length]), dim=1)
        self._ids = torch.cat((self._ids[:, : self.length], ids), dim=1)
        return before

    def truncate(self, length: int) -> None:
        """Forget everything after the first `length` positions."""
        self.length = min(self.length, length)

    def _grow(self, capacity: int) -> None:
        config = self.config
        shape = (self.batch, config.n_kv_head, capacity, config.head_dim)
        for storage in (self._keys, self._values):
            for layer in range(config.n_layer):
                new = torch.empty(shape, dtype=self.dtype, device=self.device)
                if layer < len(storage):
                    new[:, :, : self.length] = storage[layer][:, :, : self.length]
                    storage[layer] = new
                else:
                    storage.append(new)
        self.capacity = capacity
