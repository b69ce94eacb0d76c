"""OpenAI's `/v1/embeddings`: a text as a vector, the mean over its tokens of what the model's last layer gives."""

from __future__ import annotations

import asyncio
import base64
import math
from contextlib import aclosing
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from glassgpt.core.errors import InputError
from glassgpt.engine.engine import Engine
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.request import Request
from glassgpt.engine.settings import SamplingSettings
from glassgpt.server.answer import pieces
from glassgpt.server.completions import Ids
from glassgpt.server.fields import MAX_ITEMS, Body, Name, Short, Text
from glassgpt.server.problems import Problem

_AT_ONCE = 8  # texts of one request in the engine together


class EmbeddingsRequest(Body):
    """The body of a request."""

    model: Name
    input: Text | Ids | Annotated[list[Text], Field(min_length=1, max_length=MAX_ITEMS)] | \
        Annotated[list[Ids], Field(min_length=1, max_length=MAX_ITEMS)]  # fmt: skip
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    user: Short | None = None

    def inputs(self) -> list[str | list[int]]:
        """Each text, or its ids."""
        given: Any = self.input
        return [given] if isinstance(given, str) or isinstance(given[0], int) else list(given)


async def embed(model: LanguageModel, request: EmbeddingsRequest) -> dict[str, Any]:
    """The vectors, each of length 1.

    Raises:
        GlassError: a text is empty or too long, or too many requests are waiting.
        Problem: fewer dimensions are asked for, which needs a model that was trained for it.
    """
    width = model.config.n_embd
    if request.dimensions not in (None, width):
        raise Problem(400, f"this model's vectors have {width} dimensions and cannot be shortened",
                      param="dimensions")  # fmt: skip
    prompts = await asyncio.to_thread(_encoded, model, request.inputs())
    settings = SamplingSettings(temperature=0.0, seed=0)
    vectors: list[Any] = []
    engine: Engine = model.loop  # type: ignore[assignment]
    for at in range(0, len(prompts), _AT_ONCE):
        group = [Request(ids, 1, settings, pooled=True) for ids in prompts[at : at + _AT_ONCE]]
        found: dict[int, Any] = {}
        async with aclosing(pieces(engine, group, lambda lines: None, wait=at > 0)) as stream:
            async for batch in stream:
                found.update({index: piece.pooled for index, piece in batch if piece.pooled is not None})
        vectors += [found[index] / max(1e-12, math.sqrt(float(found[index] @ found[index]))) for index in sorted(found)]
    tokens = sum(map(len, prompts))
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": _written(vector, request.encoding_format)}
                 for index, vector in enumerate(vectors)],
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }  # fmt: skip


def _encoded(model: LanguageModel, texts: list[str | list[int]]) -> list[list[int]]:
    found = [model.encode(text) for text in texts]
    for ids in found:
        if len(ids) >= model.context_length:
            raise InputError("a text has {tokens} tokens; the model's context is {context}", tokens=len(ids),
                             context=model.context_length)  # fmt: skip
    return found


def _written(vector: Any, form: str | None) -> Any:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(x) for x in vector.astype(np.float32)]
