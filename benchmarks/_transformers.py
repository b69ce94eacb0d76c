"""One measurement of transformers' `generate`; runs in the environment that `peers` makes, without glassgpt.

    python _transformers.py MEASURE TASK.json

Prints {"values": {"": value}, ...}, as `_llama` does; `task["format"]` is the type to compute in.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers


class Clock(transformers.generation.streamers.BaseStreamer):
    """When the prompt and each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


def write(model: Any, rows: list[list[int]], new: int, streamer: Any = None, cache: Any = None) -> torch.Tensor:
    """Exactly `new` tokens after each row, greedily."""
    ids = torch.tensor(rows)
    return model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new,
                          streamer=streamer, past_key_values=cache, eos_token_id=-1, pad_token_id=0)  # fmt: skip


def decode(model: Any, task: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of one stream, the first token left out."""
    write(model, [task["prompt"]], 4)
    clock = Clock()
    out = write(model, [task["prompt"]], task["new"], clock)
    speed = (len(clock.times) - 2) / (clock.times[-1] - clock.times[1])  # the first entry is the prompt
    return {"values": {"": speed}, "tokens": out[0, len(task["prompt"]) :].tolist()}


def prefill(model: Any, task: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of reading a prompt."""
    write(model, [task["prompt"]], 1)
    began = time.perf_counter()
    write(model, [task["prompt"]], 1)
    return {"values": {"": len(task["prompt"]) / (time.perf_counter() - began)}}


def streams(model: Any, task: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of several streams together: the whole less a run of one token each."""
    times = []
    for new in (1, 1, task["new"]):
        began = time.perf_counter()
        write(model, task["prompts"], new)
        times.append(time.perf_counter() - began)
    return {"values": {"": len(task["prompts"]) * (task["new"] - 1) / (times[2] - times[1])}}


def turn(model: Any, task: dict[str, Any]) -> dict[str, Any]:
    """Seconds from a message to the first token of its answer, the conversation before it in the cache."""
    cache = transformers.DynamicCache(config=model.config)
    with torch.inference_mode():
        history = task["history"] + task["history"][: task["reply"]]
        model(torch.tensor([history]), past_key_values=cache, use_cache=True, logits_to_keep=1)
    began = time.perf_counter()
    write(model, [history + task["message"]], 1, cache=cache)
    return {"values": {"": time.perf_counter() - began}}


MEASURES = {f.__name__: f for f in (decode, prefill, streams, turn)}


def main() -> None:
    task = json.loads(Path(sys.argv[2]).read_text())
    torch.set_num_threads(task["threads"])
    transformers.utils.logging.set_verbosity_error()
    dtype = getattr(torch, task["format"])
    model = transformers.AutoModelForCausalLM.from_pretrained(task["path"], dtype=dtype).eval()
    size = sum(p.numel() * p.element_size() for p in model.parameters())  # shared matrices come once
    print(json.dumps(MEASURES[sys.argv[1]](model, task) | {"bytes": size}))


if __name__ == "__main__":
    main()
