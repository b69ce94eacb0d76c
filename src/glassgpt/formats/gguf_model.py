"""The torch network in a GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from glassgpt.formats.gguf import GGUF
from glassgpt.formats.gguf_tensors import gguf_config, stored_tensors
from glassgpt.formats.weights import build
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT


def gguf_network(file: GGUF, dtype: torch.dtype, threads: int) -> GPT:
    """The network with the file's weights, dequantised to `dtype`; raises FormatError as `weights.build` does."""
    config = gguf_config(file)
    return build(config, _dequantized(file, config, threads), file.path.name, dtype)


def _dequantized(file: GGUF, config: ModelConfig, threads: int) -> Iterator[tuple[str, Tensor]]:
    with ThreadPoolExecutor(threads) as pool:
        for name, stored in stored_tensors(file, config):
            yield name, torch.from_numpy(stored.float32(pool))
