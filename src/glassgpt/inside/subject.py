"""What is looked into: the network behind a model, the ids of a prompt, and the scores of every position.

torch is imported by what needs it: the scores of a model that runs in the engine are there without.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from glassgpt.core.errors import ConfigError, GlassError, InputError
from glassgpt.core.memory import available_memory
from glassgpt.core.threads import thread_budget
from glassgpt.engine.draft import BRIEF
from glassgpt.engine.engine import Engine
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.network import Network
from glassgpt.engine.pages import pages_for
from glassgpt.engine.quantize import Floats
from glassgpt.engine.runner import Rows, Runner
from glassgpt.engine.unpacking import unpack
from glassgpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from glassgpt.engine.kv_cache import KVCache
    from glassgpt.model.encoder import Encoder
    from glassgpt.model.gpt import GPT
    from glassgpt.model.probe import Probe
    from glassgpt.model.transformer import Transformer

Prompt = str | Sequence[int] | Sequence[dict[str, str]]
AT_ONCE = 64  # positions whose scores are held together: over a vocabulary of 262,144 they fill 67 MB

MOST_BYTES = 4 << 30  # that one look may take beside the weights

_networks: WeakKeyDictionary[LanguageModel, GPT] = WeakKeyDictionary()
_making = threading.Lock()


def network_of(model: LanguageModel | GPT) -> GPT:
    """The network in torch that computes as the model does. One that runs in the engine is unpacked when it is first
    looked into, with the numbers that its weights of fewer bits stand for, in float32; it stays as long as the
    model.

    Raises:
        ConfigError: the network is being trained with dropout.
        GlassError: there is not so much memory.
    """
    if not isinstance(model, LanguageModel):
        check_still(model)
        return model
    engine = engine_network(model)
    if engine is None:
        check_still(model.network)
        return model.network
    with _making:
        if model not in _networks:
            need, free = unpacked_bytes(model), available_memory()
            if free is not None and need > free:
                raise GlassError("to look into {model} takes {need} GB of memory; {free} GB are free",
                                 hint="Look into a smaller model, or close other programs.", model=model.name,
                                 need=f"{need / 1e9:.1f}", free=f"{free / 1e9:.1f}")  # fmt: skip
            import torch

            from glassgpt.formats.weights import build

            unpacked = unpack(engine.config, engine.parts, thread_budget())
            tensors = ((name, torch.from_numpy(numbers)) for name, numbers in unpacked)
            _networks[model] = build(engine.config, tensors, model.name, torch.float32)
        return _networks[model]


def unpacked_bytes(model: LanguageModel) -> int:
    """How many bytes `network_of` makes for a model that runs in the engine; 0 where there is nothing to be made."""
    engine = engine_network(model)
    if engine is None or model in _networks:
        return 0
    import torch

    from glassgpt.model.gpt import GPT

    with torch.device("meta"):
        return 4 * GPT(engine.config).count_parameters()


def check_still(network: GPT | Encoder | Transformer) -> None:
    """Raises ConfigError where the network drops values at random: no two looks would see the same."""
    if network.training and network.config.dropout:
        raise ConfigError("the network drops values at random while it is trained", hint="Call its eval() first.")


def read_seen(network: GPT, rows: Tensor, probe: Probe | None, cache: KVCache | None = None) -> Tensor:
    """The hidden states [B, T, C] of ids [B, T] with a probe, where attention is computed step by step: its scores,
    their exponentials and the pattern of one layer are in memory together. Without a probe as always.

    Raises:
        ConfigError: that would be more than `MOST_BYTES`.
    """
    if probe is not None:
        check_room(3 * 4 * rows.shape[0] * network.config.n_head * rows.shape[1] ** 2, rows.shape[1])
    return network.hidden(rows, cache=cache, probe=probe)


def check_room(total: int, tokens: int) -> None:
    """Raises ConfigError where a look would take so many bytes for a text of so many tokens."""
    if total > MOST_BYTES:
        raise ConfigError("the values of {tokens} tokens take {size} GB; a look holds up to {limit}",
                          hint="Choose some with names=, or give a shorter prompt.", tokens=tokens,
                          size=f"{total / 1e9:.1f}", limit=f"{MOST_BYTES / 1e9:.1f}")  # fmt: skip


def engine_network(model: LanguageModel | GPT) -> Network | None:
    """The network of the engine, where that is what answers."""
    if not isinstance(model, LanguageModel) or not isinstance(model.loop, Engine):
        return None
    return model.loop.network


def ids_of(model: LanguageModel | GPT, prompt: Prompt | Tensor | np.ndarray) -> list[int]:
    """A prompt as ids. Messages are laid out by the model's template, ready for a reply where none is the last.

    Raises:
        InputError: the prompt is empty, too long, of another kind, holds an unknown id, or is a text and the model has
            no tokenizer.
        GlassError: the model has no chat template.
    """
    if not isinstance(prompt, Sequence) and hasattr(prompt, "tolist"):  # torch's or numpy's
        if prompt.ndim > 1 and prompt.shape[0] != 1:
            raise InputError("{count} sequences were given; one can be read here", count=prompt.shape[0],
                             hint="Give them one by one, or to a network alone by run_with_trace.")  # fmt: skip
        prompt = prompt.flatten().tolist()
    if not isinstance(prompt, Sequence):
        raise InputError("a prompt is a text, token ids or messages; {kind} was given", kind=type(prompt).__name__)
    if not isinstance(prompt, str):
        given: list[Any] = [int(one) if isinstance(one, np.integer) else one for one in prompt]
        prompt = given
        if any(isinstance(one, dict) for one in prompt) and not all(isinstance(one, dict) for one in prompt):
            raise InputError("a prompt is a text, token ids or messages; {kind} was given",
                             kind="messages among other things")  # fmt: skip
    if not isinstance(model, LanguageModel):
        if isinstance(prompt, str) or (prompt and isinstance(prompt[0], dict)):
            raise InputError("a network alone reads token ids", hint="Give ids, or what `glassgpt.load` gives.")
        ids: list[int] = list(prompt)
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
        ids, limit = model.encode(prompt), model.context_length
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
    import torch

    device = network.embed.weight.device
    with torch.no_grad():
        hidden = network.hidden(torch.tensor([list(ids)], device=device))[0]  # [T, C]
        for at in range(start, len(ids), AT_ONCE):
            yield at, np.asarray(network.logits(hidden[at : at + AT_ONCE]).float().cpu())
