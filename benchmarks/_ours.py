"""One measurement of glassgpt's engine, as `_llama` and `_transformers` take theirs.

    python -m benchmarks._ours MEASURE TASK.json

Each measure has one small function that uses nothing but the public face; `task["format"]` is the precision.
Prints {"values": {"": value}, ...}.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import glassgpt
from glassgpt.engine.engine import EngineSettings
from glassgpt.engine.language_model import LanguageModel, Piece, Timings
from glassgpt.engine.request import Request
from glassgpt.engine.sampling import SamplingSettings


def write(model: LanguageModel, ids: list[int], new: int) -> tuple[Timings, list[int]]:
    """Greedily, up to `new` tokens; where the time went."""
    timings = Timings()
    done = model.generate(ids, max_new_tokens=new, temperature=0, timings=timings)[0]
    return timings, done.tokens


def decode(model: LanguageModel, task: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of one stream, the first token left out."""
    write(model, task["prompt"], 9)
    timings, tokens = write(model, task["prompt"], task["new"])
    return {"values": {"": timings.decode_tokens / timings.decode_s}, "tokens": tokens}


def prefill(model: LanguageModel, task: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of reading a prompt; another of the same length goes before."""
    ids = task["prompt"]
    write(model, ids[::-1], 1)
    timings, _ = write(model, ids, 1)
    return {"values": {"": timings.prefill_tokens / timings.prefill_s}}


def streams(model: LanguageModel, task: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of several streams together: those that came after each had its first, their prompts read."""
    settings, new = SamplingSettings(temperature=0.0, seed=0), task["new"]
    requests = [Request(list(prompt), new, settings) for prompt in task["prompts"]]
    came: list[list[float]] = [[] for _ in requests]
    ended = threading.Semaphore(0)

    def deliver(times: list[float]) -> Callable[[Piece | Exception], None]:
        def take(piece: Piece | Exception) -> None:
            assert isinstance(piece, Piece), piece
            if piece.token is not None:
                times.append(time.perf_counter())
            if piece.finish_reason:
                ended.release()

        return take

    model.loop.submit(requests, [deliver(times) for times in came])
    for _ in requests:
        ended.acquire()
    begin, end = max(times[0] for times in came), max(times[-1] for times in came)
    return {"values": {"": sum(at > begin for times in came for at in times) / (end - begin)}}


def turn(model: LanguageModel, task: dict[str, Any]) -> dict[str, Any]:
    """Seconds from a message to the first token of its answer, the conversation before it read and answered already;
    and, as "without reuse", the same for one of that length which nobody has read."""
    whole = len(task["history"]) + task["reply"] + len(task["message"])
    began = time.perf_counter()
    timings, _ = write(model, (task["history"] + task["history"])[::-1][:whole], 1)
    values = {"without reuse": timings.first_token_at - began}
    _, reply = write(model, task["history"], task["reply"])
    began = time.perf_counter()
    timings, _ = write(model, task["history"] + reply + task["message"], 1)
    return {"values": {"": timings.first_token_at - began} | values}


def contexts(model: LanguageModel, task: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds a token where so many stand before it."""
    values, new = {}, task["new"]
    for length in task["lengths"]:
        timings, _ = write(model, task["prompt"][: length - new - 1], new + 1)
        values[str(length)] = 1000 * timings.decode_s / max(1, timings.decode_tokens)
    return {"values": values}


def widths(model: LanguageModel, task: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds a token of so many streams at once."""
    found = {}
    for count in task["counts"]:
        speed = streams(model, {"prompts": task["prompts"][:count], "new": task["new"]})["values"][""]
        found[str(count)] = 1000 / speed
    return {"values": found}


MEASURES = {f.__name__: f for f in (decode, prefill, streams, turn, contexts, widths)}


def main() -> None:
    task = json.loads(Path(sys.argv[2]).read_text())
    # Every token computed: guessing is measured elsewhere.
    model = glassgpt.load(
        task["name"], precision=task["format"], engine=EngineSettings(speculate=False, max_running=32)
    )
    print(json.dumps(MEASURES[sys.argv[1]](model, task) | {"bytes": model.loop.network.nbytes}))


if __name__ == "__main__":
    main()
