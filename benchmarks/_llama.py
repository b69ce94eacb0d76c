"""One measurement of llama.cpp; runs in the environment that `peers` makes and imports nothing of glassgpt.

    python _llama.py MEASURE TASK.json

The loop is the low-level one: llama_decode and an argmax of numpy, without the library's own sampling and its Python
around each token. Every measure is taken with flash attention and without (and for several streams with one cache for
all and with one for each), all told; whoever reads them takes the best. Prints {"values": {variant: value}, ...}.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np

BATCH = 512
QUIET = llama.llama_log_callback(lambda level, text, data: None)
VARIANTS = {"flash": (True, True), "plain": (False, True)}
STREAM_VARIANTS = {**VARIANTS, "flash, a cache each": (True, False), "plain, a cache each": (False, False)}


class Session:
    """A model and one context of it, as llama.cpp's own programs use them."""

    def __init__(self, path: str, threads: int) -> None:
        llama.llama_log_set(QUIET, ctypes.c_void_p(0))
        llama.llama_backend_init()
        self.model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.threads, self.context = threads, None
        self.batch = llama.llama_batch_init(BATCH, 0, 1)
        self.token, self.pos, self.logits = (
            np.ctypeslib.as_array(field, (BATCH,)) for field in (self.batch.token, self.batch.pos, self.batch.logits)
        )
        for i in range(BATCH):
            self.batch.n_seq_id[i] = 1

    def open(self, length: int, sequences: int = 1, flash: bool = True, unified: bool = True) -> Session:
        """A new, empty cache for `sequences` of `length` tokens each."""
        if self.context:
            llama.llama_free(self.context)
        wanted = llama.llama_context_default_params()
        wanted.n_ctx, wanted.n_seq_max = sequences * (-(-length // 256) * 256), sequences
        wanted.n_batch = wanted.n_ubatch = BATCH
        wanted.n_threads = wanted.n_threads_batch = self.threads
        wanted.flash_attn_type = int(flash)
        wanted.kv_unified, wanted.swa_full = unified, False
        self.context = llama.llama_init_from_model(self.model, wanted)
        return self

    def feed(self, ids: list[int], start: int, sequence: int = 0) -> int:
        """Read tokens of one sequence; the likeliest next one."""
        for first in range(0, len(ids), BATCH):
            part = ids[first : first + BATCH]
            n = len(part)
            self.token[:n], self.pos[:n] = part, range(start + first, start + first + n)
            self.logits[:n] = 0
            self.logits[n - 1] = first + n == len(ids)
            for i in range(n):
                self.batch.seq_id[i][0] = sequence
            self._run(n)
        return int(self._rows(1)[0])

    def step(self, ids: Any, positions: Any) -> np.ndarray:
        """One token more for each sequence; the likeliest next ones."""
        n = len(ids)
        self.token[:n], self.pos[:n], self.logits[:n] = ids, positions, 1
        for i in range(n):
            self.batch.seq_id[i][0] = i
        self._run(n)
        return self._rows(n)

    def scores(self, ids: list[int], start: int) -> np.ndarray:
        """Read at most a batch of tokens of the first sequence; the scores after each [T, V], until the next call."""
        n = len(ids)
        self.token[:n], self.pos[:n], self.logits[:n] = ids, range(start, start + n), 1
        for i in range(n):
            self.batch.seq_id[i][0] = 0
        self._run(n)
        found = ctypes.cast(llama.llama_get_logits(self.context), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(found, (n, self.vocabulary))

    def _run(self, n: int) -> None:
        self.batch.n_tokens = n
        if llama.llama_decode(self.context, self.batch):
            sys.exit("llama_decode failed")

    def _rows(self, n: int) -> np.ndarray:
        """The argmax of each row of scores that the last batch asked for."""
        scores = ctypes.cast(llama.llama_get_logits(self.context), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(scores, (n, self.vocabulary)).argmax(axis=1)

    def write(self, token: int, position: int, count: int) -> list[int]:
        """`count` tokens after a first one, greedily."""
        tokens = []
        for i in range(count):
            token = int(self.step([token], [position + i])[0])
            tokens.append(token)
        return tokens


def clock(work: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def decode(session: Session, task: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of one stream, the first token left out."""
    prompt, new, values, tokens = task["prompt"], task["new"], {}, []
    for name, (flash, unified) in VARIANTS.items():
        session.open(len(prompt) + new + 16, 1, flash, unified)
        session.write(session.feed(prompt, 0), len(prompt), 8)
        session.open(len(prompt) + new + 16, 1, flash, unified)
        first = session.feed(prompt, 0)
        seconds, more = clock(lambda first=first: session.write(first, len(prompt), new - 1))
        values[name], tokens = (new - 1) / seconds, [first, *more]
    return {"values": values, "tokens": tokens}


def prefill(session: Session, task: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of reading a prompt."""
    ids, values = task["prompt"], {}
    for name, (flash, unified) in VARIANTS.items():
        session.open(len(ids), 1, flash, unified).feed(ids, 0)
        llama.llama_memory_clear(llama.llama_get_memory(session.context), False)
        values[name] = len(ids) / clock(lambda: session.feed(ids, 0))[0]
    return {"values": values}


def streams(session: Session, task: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of several streams together, their prompts read before."""
    prompts, new, values = task["prompts"], task["new"], {}
    for name, (flash, unified) in STREAM_VARIANTS.items():
        session.open(max(map(len, prompts)) + new + 8, len(prompts), flash, unified)
        ids = np.array([session.feed(prompt, 0, number) for number, prompt in enumerate(prompts)])
        positions = np.array([len(prompt) for prompt in prompts])
        ids = session.step(ids, positions)  # the first step allocates
        began = time.perf_counter()
        for i in range(1, new):
            ids = session.step(ids, positions + i)
        values[name] = len(prompts) * (new - 1) / (time.perf_counter() - began)
    return {"values": values}


def turn(session: Session, task: dict[str, Any]) -> dict[str, Any]:
    """Seconds from a message to the first token of its answer, the conversation before it in the cache."""
    history, message, values = task["history"] + task["history"][: task["reply"]], task["message"], {}
    for name, (flash, unified) in VARIANTS.items():
        session.open(len(history) + len(message) + 16, 1, flash, unified)
        session.write(session.feed(history[:-8], 0), len(history) - 8, 8)
        values[name] = clock(lambda: session.feed(message, len(history)))[0]
    return {"values": values}


def contexts(session: Session, task: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds a token where so many stand before it, the best variant of each."""
    ids, new, values = task["prompt"], task["new"], {}
    for flash, unified in VARIANTS.values():
        session.open(len(ids) + new, 1, flash, unified)
        filled = 0
        for length in task["lengths"]:
            first = session.feed(ids[filled : length - new], filled)
            seconds = clock(lambda first=first, start=length - new: session.write(first, start, new))[0]
            values[str(length)] = min(values.get(str(length), np.inf), 1000 * seconds / new)
            filled = length
    return {"values": values}


def widths(session: Session, task: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds a token of so many streams at once (a step's time divided by them), the best variant of each."""
    prompts, values = task["prompts"], {}
    for count in task["counts"]:
        found = streams(session, {"prompts": prompts[:count], "new": task["new"]})["values"]
        values[str(count)] = 1000 / max(found.values())
    return {"values": values}


def loss(session: Session, task: dict[str, Any]) -> dict[str, Any]:
    """Nats per predicted token, each window read as a text of its own; the softmax is taken in float64."""
    nats, count = 0.0, 0
    for window in task["windows"]:
        session.open(len(window))
        for first in range(0, len(window) - 1, BATCH):
            own = window[first : min(first + BATCH, len(window) - 1)]
            scores = session.scores(own, first)
            for row, target in zip(scores, window[first + 1 :], strict=False):
                exact = row.astype(np.float64)
                top = exact.max()
                nats += top + np.log(np.exp(exact - top).sum()) - exact[target]
            count += len(own)
    return {"values": {"": nats / count}, "tokens": count}


MEASURES = {f.__name__: f for f in (decode, prefill, streams, turn, contexts, widths, loss)}


def main() -> None:
    task = json.loads(Path(sys.argv[2]).read_text())
    session = Session(task["path"], task["threads"])
    result = MEASURES[sys.argv[1]](session, task)
    print(json.dumps(result | {"bytes": llama.llama_model_size(session.model)}))


if __name__ == "__main__":
    main()
