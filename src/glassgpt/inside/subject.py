"""What is looked into: the network behind a model, the ids of a prompt, and the scores of every position."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from glassgpt.core.errors import InputError
from glassgpt.core.threads import thread_budget
from glassgpt.engine.draft import BRIEF
from glassgpt.engine.engine import Engine
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.network import Network
from glassgpt.engine.pages import pages_for
from glassgpt.engine.quantize import Floats
from glassgpt.engine.runner import Rows, Runner
from glassgpt.engine.unpacking import unpack
from glassgpt.formats.weights import build
from glassgpt.model.gpt import GPT
from glassgpt.text.tokenizer import Tokenizer

Prompt = str | Sequence[int] | Sequence[dict[str, str]]
AT_ONCE = 64  # positions whose scores are held together: over a vocabulary of 262,144 they fill 67 MB

_networks: WeakKeyDictionary[LanguageModel, GPT] = WeakKeyDictionary()
_making = threading.Lock()


def network_of(model: LanguageModel | GPT) -> GPT:
    """The network in torch that computes as the model does. One that runs in the engine is unpacked when it is first
    looked into, with the numbers that its weights of fewer bits stand for, in float32; it stays as long as the
    model."""
    if isinstance(model, GPT):
        return model
    engine = engine_network(model)
    if engine is None:
        return model.network
    with _making:
        if model not in _networks:
            unpacked = unpack(engine.config, engine.parts, thread_budget())
            tensors = ((name, torch.from_numpy(numbers)) for name, numbers in unpacked)
            _networks[model] = build(engine.config, tensors, model.name, torch.float32)
        return _networks[model]


def engine_network(model: LanguageModel | GPT) -> Network | None:
    """The network of the engine, where that is what answers."""
    if isinstance(model, GPT) or not isinstance(model.loop, Engine):
        return None
    return model.loop.network


def ids_of(model: LanguageModel | GPT, prompt: Prompt | Tensor | np.ndarray) -> list[int]:
    """A prompt as ids. Messages are laid out by the model's template, ready for a reply where none is the last.

    Raises:
        InputError: the prompt is empty, too long, of another kind, holds an unknown id, or is a text and the model has
            no tokenizer.
        GlassError: the model has no chat template.
    """
    if isinstance(prompt, Tensor | np.ndarray):
        prompt = prompt.flatten().tolist()
    if not isinstance(prompt, Sequence):
        raise InputError("a prompt is a text, token ids or messages; {kind} was given", kind=type(prompt).__name__)
    if isinstance(model, GPT):
        if isinstance(prompt, str) or (prompt and isinstance(prompt[0], dict)):
            raise InputError("a network alone reads token ids", hint="Give ids, or what `glassgpt.load` gives.")
        ids: list[int] = list(prompt)  # type: ignore[arg-type]
        limit, size = model.config.context_length, model.config.vocab_size
        wrong = [i for i in ids if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < size]
        if wrong:
            raise InputError("token id {id} is not in the vocabulary, which has {size} entries", id=wrong[0], size=size)
    elif not isinstance(prompt, str) and prompt and isinstance(prompt[0], dict):
        messages: Any = list(prompt)
        ready = messages[-1].get("role") != "assistant"
        ids = model.template.encode(model.tokenizer, messages, add_generation_prompt=ready).ids
        limit = model.context_length
    else:
        ids, limit = model.encode(prompt), model.context_length  # type: ignore[arg-type]
    if not ids:
        raise InputError("the prompt is empty", hint="Give some text to continue.")
    if len(ids) > limit:
        raise InputError(
            "{total} tokens do not fit: the model's context is {limit}",
            hint="Shorten the input, or use a model with a longer context.",
            total=len(ids),
            limit=limit,
        )
    return ids


def texts_of(tokenizer: Tokenizer | None, ids: Sequence[int]) -> list[str]:
    """What each id stands for, as it is shown: a piece of a character alone is shown by its bytes."""
    if tokenizer is None:
        return [str(id) for id in ids]
    return [token_text(tokenizer, id) for id in ids]


def token_text(tokenizer: Tokenizer, id: int) -> str:
    """What one id stands for; a piece of a character as its bytes, <E4>."""
    raw = tokenizer.token_bytes(id)
    if not raw:
        return tokenizer.decode([id], show_control=True)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "".join(f"<{byte:02X}>" for byte in raw)


def scores_of(model: LanguageModel | GPT, ids: Sequence[int], start: int = 0) -> Iterator[tuple[int, Floats]]:
    """The scores [N, V] of the positions from `start` on, some at a time, each with the first's place; computed by what
    answers: the engine, or the network in torch. They stay until the next are asked for."""
    engine = engine_network(model)
    yield from torch_scores(network_of(model), ids, start) if engine is None else engine_scores(engine, ids, start)


def engine_scores(network: Network, ids: Sequence[int], start: int = 0) -> Iterator[tuple[int, Floats]]:
    """`scores_of` by the compiled step, in pages of its own."""
    pages = range(pages_for(len(ids)))
    runner = Runner(network, threads=thread_budget(), pages=len(pages), rows=AT_ONCE, patience=BRIEF)
    try:
        for at in range(0, len(ids), AT_ONCE):
            own = list(ids[at : at + AT_ONCE])
            wanted = min(len(own), at + len(own) - start)
            scores = runner.run([Rows(own, at, pages, max(wanted, 0), list(ids[:at]))])
            if wanted > 0:
                yield at + len(own) - wanted, scores
    finally:
        runner.close()


def torch_scores(network: GPT, ids: Sequence[int], start: int = 0) -> Iterator[tuple[int, Floats]]:
    """`scores_of` by the network in torch."""
    device = network.embed.weight.device
    with torch.no_grad():
        hidden = network.hidden(torch.tensor([list(ids)], device=device))[0]  # [T, C]
        for at in range(start, len(ids), AT_ONCE):
            yield at, np.asarray(network.logits(hidden[at : at + AT_ONCE]).float().cpu())
