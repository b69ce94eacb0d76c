"""Runs steps of a network: rows of several sequences in, scores out; keys and values stay in pages.

One thread calls `run`; the others of the budget wait inside compiled code for the next step, and fall asleep when
none comes.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.engine import fields
from glassgpt.engine.native import Work, load_work
from glassgpt.engine.network import Network
from glassgpt.engine.quantize import LANES, Floats, zeros

SPINS = 200_000  # looks for the next step before a thread falls asleep: some milliseconds


@dataclass(frozen=True)
class Rows:
    """Consecutive tokens of one sequence to be read in a step.

    Attributes:
        ids: the tokens.
        start: the position of the first.
        pages: where keys and values of the sequence's positions lie, in order; enough for these too.
        outputs: how many of the last rows need scores.
        before: the tokens before `start`, the nearest last, for networks that look at n-grams.
    """

    ids: Sequence[int]
    start: int
    pages: Sequence[int]
    outputs: int
    before: Sequence[int] = ()


class Runner:
    """A network with room for keys and values and for the rows of a step.

    Attributes:
        pages: how many pages there are, of 16 positions each.
        rows: the most rows in a step.
        outputs: the most rows with scores in a step.
        patience: how often a helping thread looks for the next step before it falls asleep; few where another runner
            needs the cores in between.
    """

    def __init__(self, network: Network, *, threads: int, pages: int, rows: int = 256, outputs: int = 0,
                 cache_bits: int = 0, work: Work | None = None, patience: int = SPINS) -> None:  # fmt: skip
        self.network, self.pages, self.rows, self.outputs = network, pages, rows, outputs or rows
        self.cache_bits = cache_bits or (32 if network.precision == "float32" else 16)
        self.program = zeros((fields.PROGRAM_FIELDS,), np.int64)
        self._arrays: list[Any] = [self.program, network]  # what a helping thread may still look at
        network.describe(self.program)
        self._allocate(threads)
        self._work = work or load_work()
        self._turn = 0
        self._awake = [threading.Event() for _ in range(threads - 1)]
        for number, event in enumerate(self._awake):
            arguments = (self._work, self.program.ctypes.data, number + 1, patience, self._shared, event, self._arrays)
            threading.Thread(target=_help, args=arguments, name=f"glassgpt-{number + 1}", daemon=True).start()
        self._end = weakref.finalize(self, _stop, self._shared, self._awake)

    def close(self) -> None:
        """Ends the helping threads. Not while a step runs: call it from the thread that runs them."""
        self._end()

    def run(self, work: Sequence[Rows]) -> Floats:
        """Computes the rows and gives the scores of those that need them, [outputs, V], in the order of `work`, until
        the next call overwrites them."""
        program, network = self.program, self.network
        count = 0
        ids: list[int] = []
        positions: list[int] = []
        before: list[Sequence[int]] = []
        output_rows: list[int] = []
        lists: list[NDArray[np.int32]] = []
        of_row: list[int] = []
        back = network.config.ngrams - 1
        for number, rows in enumerate(work):
            own = len(rows.ids)
            ids += rows.ids
            positions += range(rows.start, rows.start + own)
            if back:
                line = [*rows.before, *rows.ids]
                before += [line[: len(rows.before) + i][-back:] for i in range(own)]
            output_rows += range(count + own - rows.outputs, count + own)
            lists.append(np.array(rows.pages, np.int32))
            of_row += [number] * own
            count += own
        if count > self.rows or len(output_rows) > self.outputs:
            raise ValueError(
                f"{count} rows with {len(output_rows)} outputs are more than {self.rows} and {self.outputs}"
            )
        network.prepare(max(positions) + 1)
        self.positions[:count] = positions
        if network.embed_record:
            self.ids[:count] = ids
        else:
            self.x[:count] = network.inputs(np.array(ids, np.int64), np.array(positions, np.int64), before)
        self.page_lists[:count] = np.array([pages.ctypes.data for pages in lists], np.int64)[of_row]
        self.output_rows[: len(output_rows)] = output_rows
        if network.config.encoder:
            assert not any(rows.start for rows in work), "a text is read whole: each of its tokens sees all others"
            self._sees[:count] = np.repeat([len(rows.ids) - 1 for rows in work], [len(rows.ids) for rows in work])
        program[fields.ROWS], program[fields.OUTPUTS] = count, len(output_rows)
        self._step()
        return self.logits[: len(output_rows), : network.vocabulary]

    def hidden(self, outputs: int) -> Floats:
        """What the last norm gave for the rows with scores, [outputs, C], until the next `run`."""
        return self._normed[:outputs, : self.network.config.n_embd]

    def masses(self, outputs: int) -> list[float]:
        """The natural log of the sum of e^score, over the vocabulary, of each of the last rows with scores; no number
        where a score was none."""
        parts = self._masses[:outputs].astype(np.float64)
        top = parts[:, :, 0].max(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            weights = parts[:, :, 1] * np.exp(parts[:, :, 0] - top[:, None])
            return (top + np.log(weights.sum(axis=1))).tolist()

    def _step(self) -> None:
        self.program[fields.MET_BEFORE] = self._shared[_MET]
        before, self._turn = self._turn, self._turn + 1
        self._shared[_TURN] = self._turn  # after everything else: the others begin
        for event in self._awake:
            event.set()
        self._work(self.program.ctypes.data, 0, before, 1)

    def _allocate(self, threads: int) -> None:
        config, shape, rows, program = self.network.config, self.network.shape, self.rows, self.program
        context = -(-config.context_length // fields.PAGE) * fields.PAGE
        heads, kv_heads = config.n_head * shape.head, config.n_kv_head * shape.head
        gated = 2 if program[fields.GATED] else 1
        vocabulary = -(-self.network.vocabulary // LANES) * LANES
        self._shared = self._array(fields.TURN, (32,), np.int64)  # the turn and the meetings, on lines of their own
        program[fields.MET] = program[fields.TURN] + 8 * _MET
        self.x = self._array(fields.X, (rows, shape.width))
        self.positions = self._array(fields.POSITIONS, (rows,), np.int32)
        self._sees = self.positions  # a decoder's rows see what comes before them
        if config.encoder:
            self._sees = self._array(fields.SEES, (rows,), np.int32)
        program[fields.SEES] = self._sees.ctypes.data
        self.ids = self._array(fields.IDS, (rows,), np.int32)
        self._masses = self._array(fields.MASSES, (self.outputs, -(-vocabulary // LANES // fields.CHUNK), 2))
        self.page_lists = self._array(fields.PAGES, (rows,), np.int64)
        self.output_rows = self._array(fields.OUTPUT_ROWS, (self.outputs,), np.int32)
        self.logits = self._array(fields.LOGITS, (self.outputs, vocabulary))
        self._normed = self._array(fields.NORMED, (max(rows, self.outputs), shape.width))
        self._array(fields.QUANTIZED, (max(rows, self.outputs), max(shape.width, heads) * 5 // 4), np.uint8)
        self._array(fields.HIDDEN, (rows, shape.mlp))
        self._array(fields.HIDDEN_QUANTIZED, (rows, shape.mlp * 5 // 4), np.uint8)
        self._array(fields.QKV, (rows, heads + 2 * kv_heads))
        self._array(fields.ATTENDED, (rows, heads))
        self._array(fields.UP, (rows, gated * shape.mlp))
        self._array(fields.ADDITION, (rows, shape.width))
        self._array(fields.SCORES, (threads, 4, context))  # for four queries at once
        self._array(fields.SCRATCH, (threads, 64))
        program[fields.THREADS], program[fields.SCORES_BYTES] = threads, 4 * context
        program[fields.CACHE_BITS] = self.cache_bits
        size = self.pages * config.n_kv_head * fields.page_bytes(self.cache_bits, shape.head)
        self.layers = self._array(fields.LAYERS, self.network.layers.shape, np.int64)  # with a cache of our own
        self.layers[:] = self.network.layers
        # An encoder's keys and values are done with when their layer is.
        caches = 1 if config.encoder else config.n_layer
        cache = zeros((caches, -(-size // 64) * 64), np.uint8)  # the system gives memory when it is written to
        self._arrays.append(cache)
        self.layers[:, fields.CACHE] = [row.ctypes.data for row in cache]

    def _array(self, field: int, shape: tuple[int, ...], kind: Any = np.float32) -> NDArray[Any]:
        array = zeros(shape, kind)
        self._arrays.append(array)
        self.program[field] = array.ctypes.data
        return array


_TURN, _MET = 0, 16


def _help(
    work: Work, program: int, index: int, patience: int, shared: NDArray[np.int64], awake: threading.Event, alive: Any
) -> None:
    """A helping thread: runs its share of every step, until the turn is negative."""
    seen = 0
    while seen >= 0:
        seen = work(program, index, seen, patience)
        awake.clear()
        if 0 <= seen == shared[_TURN]:  # looked at after the clearing: whoever sets a turn wakes us after it
            awake.wait()


def _stop(shared: NDArray[np.int64], awake: list[threading.Event]) -> None:
    shared[_TURN] = -1
    for event in awake:
        event.set()
