"""Fine-tuning by LoRA, glassgpt beside TRL's SFTTrainer with PEFT: same rows in the same order, same ids and masks,
same first weights, rank 16 on all linear layers, batch 8, AdamW at a constant rate.

    python -m benchmarks.lora --data FILE [--steps 12] [--rounds 2] [--peer PYTHON]

`--peer` names a Python that has trl, peft, datasets and transformers; without them only glassgpt is measured. The two
sides run alternately. Tokens are counted without padding and the first step left out; peak memory is the largest that a
side ever was, all its processes together, in a run of its own: looking at it ten times a second takes a part of a core.
The loss of each step is compared in float32.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil

RANK, ALPHA, BATCH, RATE, SEED = 16, 32.0, 8, 2e-4, 1

THEIRS = """
import json, sys, time
from pathlib import Path
import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer

folder, steps, precision = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rank, alpha, batch, rate, seed = int(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6]), float(sys.argv[7]), 1
rows = json.loads((folder / "rows.json").read_text())
tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "model" / "tokenizer.json"), pad_token="<|endoftext|>",
                                    eos_token="<|im_end|>")
model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=getattr(torch, precision))
times = []

class Clock(TrainerCallback):
    def on_step_begin(self, *args, **more): times.append([time.perf_counter(), 0.0])
    def on_step_end(self, *args, **more): times[-1][1] = time.perf_counter()

class InOrder(SFTTrainer):
    def _get_train_sampler(self, *args, **more): return SequentialSampler(self.train_dataset)

trainer = InOrder(
    model=model, processing_class=tokenizer, callbacks=[Clock()],
    train_dataset=Dataset.from_list([{"input_ids": i, "completion_mask": m} for i, m in rows]),
    args=SFTConfig(
        output_dir=str(folder / "theirs"), per_device_train_batch_size=batch, max_steps=steps, learning_rate=rate,
        lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, adam_beta2=0.99, logging_steps=1,
        report_to=[], save_strategy="no", use_cpu=True, bf16=precision == "bfloat16", max_length=None, seed=seed,
        completion_only_loss=True, gradient_checkpointing=False, disable_tqdm=True, dataloader_pin_memory=False,
    ),
    peft_config=LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear",
                           task_type="CAUSAL_LM"),
)
first = load_file(folder / "first.safetensors")
with torch.no_grad():
    for name, p in trainer.model.named_parameters():
        if "lora_" in name:
            p.copy_(first[name.split("base_model.model.")[1].replace(".default", "")])
trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print(json.dumps({"seconds": [b - a for a, b in times], "losses": losses}))
"""

NAMES = {
    "attention.q_proj": "self_attn.q_proj", "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj", "attention.out_proj": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
}  # fmt: skip


def prepare(folder: Path, data: str, steps: int) -> list[int]:
    """The base model as a folder for the other side, the rows as ids and masks, the first weights of the correction;
    gives the tokens of each step."""
    import torch
    from safetensors.torch import save_file

    from glassgpt.data.examples import Example, make_example
    from glassgpt.data.sources import read_rows
    from glassgpt.engine.load import load
    from glassgpt.formats.huggingface import save_huggingface
    from glassgpt.model.lora import adapter_state, add_lora

    base = load("smollm2")
    save_huggingface(base.network, folder / "model")
    base.tokenizer.save(folder / "model")
    made = [make_example(row, base.tokenizer, base.template, 1024) for row in read_rows(data)]
    rows = [e for e in made if isinstance(e, Example)][: steps * BATCH]
    (folder / "rows.json").write_text(json.dumps([[e.ids, [int(x) for x in e.loss_mask]] for e in rows]))
    torch.manual_seed(SEED)
    state = adapter_state(add_lora(base.network.requires_grad_(True), RANK, ALPHA))
    named = {}
    for name, tensor in state.items():
        block, part = name.removeprefix("blocks.").split(".", 1)
        layer, side = part.rsplit(".", 1)
        named[f"model.layers.{block}.{NAMES[layer]}.lora_{side.upper()}.weight"] = tensor.contiguous()
    save_file(named, folder / "first.safetensors")
    return [sum(len(e.ids) for e in rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]


def run(command: list[str], look: bool) -> tuple[str, float]:
    """What a process printed last, and, where it is looked at, the most memory it ever had, in GB."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        together = 0.0
        while look:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            together = max(together, _memory(process.pid))
            time.sleep(0.1)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(errors.read().decode()[-3000:])
        return out.read().decode().splitlines()[-1], max(usage.ru_maxrss / 1e6, together)


def _memory(pid: int) -> float:
    """What a process and those that it began hold now, in GB; what they share is counted once (Linux's Pss)."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            total += process.memory_full_info().pss
    return total / 1e9


def ours(folder: Path, data: str, steps: int, precision: str, number: int, look: bool) -> dict[str, Any]:
    """One training by glassgpt."""
    from glassgpt.core.runs import Run

    place = folder / f"ours-{precision}-{number}"
    changes = {
        "order": "sequential", "train.schedule": "constant", "train.warmup": 0.0, "train.precision": precision,
        "train.lr": RATE, "train.batch": BATCH, "train.evaluate_every": steps + 1, "train.sample_tokens": 0,
        "train.clip": 1.0, "lora.rank": RANK, "lora.alpha": ALPHA,
    }  # fmt: skip
    given = [word for name, value in changes.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    rows = json.loads((folder / "rows.json").read_text())
    (folder / "few.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in _messages(data, len(rows))))
    command = [sys.executable, "-m", "glassgpt", "finetune", str(folder / "few.jsonl"), "--epochs", "1", "--seed",
               str(SEED), "--validation", str(folder / "few.jsonl"), "--out", str(place), "--json", *given]  # fmt: skip
    _, memory = run(command, look)
    measured = [m for m in Run.open(place).metrics() if "loss" in m]
    clock = [0.0, *(m["train_s"] for m in measured)]
    return {"seconds": [b - a for a, b in pairwise(clock)], "memory": memory,
            "losses": [m["loss"] for m in measured]}  # fmt: skip


def _messages(data: str, count: int) -> list[list[dict[str, str]]]:
    from glassgpt.data.sources import read_rows

    return [row.messages() for row, _ in zip(read_rows(data), range(count), strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lora")
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    args = parser.parse_args()
    there = subprocess.run([args.peer, "-c", "import trl, peft, datasets"], capture_output=True).returncode == 0
    if not there:
        print("trl, peft or datasets is missing: glassgpt alone is measured")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = prepare(folder, args.data, args.steps)
        results: dict[tuple[str, str], list[dict[str, Any]]] = {}
        memory: dict[tuple[str, str], float] = {}
        for number in range(args.rounds + 1):
            look = number == 0
            for precision in args.precisions:
                found = {"glassgpt": ours(folder, args.data, args.steps, precision, number, look)}
                if there:
                    words = [args.peer, "-c", THEIRS, str(folder), str(args.steps), precision, str(RANK), str(ALPHA)]
                    line, peak = run([*words, str(BATCH), str(RATE)], look)
                    found["trl"] = json.loads(line) | {"memory": peak}
                for who, result in found.items():
                    if look:
                        memory[who, precision] = result["memory"]
                    else:
                        results.setdefault((who, precision), []).append(result)
        print(f"{'':<10}{'precision':<10}{'tokens/s':>10}{'peak GB':>10}   loss of the first and the last step")
        for (who, precision), runs in results.items():
            speed, losses = median(sum(tokens[1:]) / sum(r["seconds"][1:]) for r in runs), runs[0]["losses"]
            peak = memory[who, precision]
            print(f"{who:<10}{precision:<10}{speed:>10.1f}{peak:>10.2f}   {losses[0]:.4f} {losses[-1]:.4f}")
        if there and "float32" in args.precisions:
            a, b = (results[who, "float32"][0]["losses"] for who in ("glassgpt", "trl"))
            apart = max(abs(x - y) / y for x, y in zip(a, b, strict=True))
            print(f"largest difference of a step's loss in float32: {apart:.2%}")


if __name__ == "__main__":
    main()
