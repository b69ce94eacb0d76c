"""How well the loss of a training is foretold: trainings of many sizes on eleven texts, and what
`glassgpt pretrain --minutes` would have said before each.

    python -m benchmarks.forecast                          the trainings kept in benchmarks/forecast.jsonl
    python -m benchmarks.forecast --fit                    the constants of training/forecast.py fitted to them again
    python -m benchmarks.forecast --data ../shared/data --out FILE [--only NAME ...]        trains all again
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from glassgpt.training.forecast import ALPHA, BETA, SAMPLE_TOKENS, SPREAD, Text, count_losses, expected_loss, fresh

KEPT = Path(__file__).with_suffix(".jsonl")
TEXTS = {
    "shakespeare": "pretrain_en/tinyshakespeare.txt", "python-docs": "python-docs",
    "xiyouji": "pretrain_zh/xiyouji.txt", "tinystories": "pretrain_en/tinystories_sample_0.9MB.txt",
    "alice": "pretrain_en/alice_pg11.txt", "verdict": "pretrain_en/the-verdict.txt",
    "wikitext": "pretrain_en/wikitext2_valid.txt", "pride": "pretrain_en/pride_and_prejudice_pg1342.txt",
    "javaguide": "pretrain_zh/javaguide_1MB.txt", "oz": "pretrain_en/wizard_of_oz.txt",
    "sherlock": "pretrain_en/sherlock_holmes_pg1661.txt",
}  # fmt: skip
# text, place on the ladder of sizes, thousands of tokens
RUNS = [
    ("shakespeare", 3, 128), ("shakespeare", 3, 256), ("shakespeare", 0, 256), ("alice", 3, 300), ("xiyouji", 3, 256),
    ("python-docs", 3, 256), ("wikitext", 3, 400), ("javaguide", 3, 256), ("pride", 3, 400), ("tinystories", 3, 256),
    ("verdict", 0, 200), ("alice", 0, 1000), ("shakespeare", 0, 1000), ("oz", 1, 600), ("xiyouji", 0, 600),
    ("python-docs", 0, 600), ("verdict", 3, 200), ("shakespeare", 3, 1000), ("shakespeare", 5, 512),
    ("oz", 3, 900), ("wikitext", 0, 800), ("javaguide", 5, 400), ("pride", 5, 800), ("alice", 3, 1000),
    ("xiyouji", 5, 500), ("python-docs", 5, 500), ("tinystories", 5, 500), ("sherlock", 5, 600),
    ("shakespeare", 6, 600), ("xiyouji", 6, 500), ("wikitext", 6, 500), ("python-docs", 6, 600),
    ("shakespeare", 8, 700), ("pride", 6, 1500),
]  # fmt: skip


def measure(text: str, place: int, tokens: int, data: Path) -> dict[str, Any]:
    """One training: what was known before, and its loss."""
    from glassgpt.core.runs import HELD_OUT, TOKENIZER, TRAIN, Run
    from glassgpt.data.shards import open_shards
    from glassgpt.data.sources import read_rows
    from glassgpt.text.tokenizer import Tokenizer
    from glassgpt.training.budget import LADDER, Size, choose_data, recipe_for
    from glassgpt.training.pretrain import prepare, pretrain
    from glassgpt.training.settings import Recipe, TrainSettings

    name = TEXTS[text]
    rows = list(read_rows(name if name == "python-docs" else str(data / name), text_unit="file"))
    settings = choose_data(["\n".join(row.texts) for row in rows])
    base = Recipe(
        model={"n_layer": 1, "n_head": 2, "n_embd": 64}, data=settings, train=TrainSettings(sample_tokens=0, context=16)
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", {})
        base = prepare(run, rows, base)
        tokenizer = Tokenizer.from_file(run.folder / TOKENIZER)
        train, held_out = (open_shards(run.folder / part, tokenizer) for part in (TRAIN, HELD_OUT))
        counted = count_losses(train, held_out, tokenizer.vocab_size)
        layers, width, context = LADDER[place]
        size = Size(layers, width, context, tokenizer.vocab_size)
        recipe = recipe_for(base, size, tokens, tokens / len(train))
        run.update(recipe=asdict(recipe))
        done = pretrain(run)
    return {
        "text": text, "layers": layers, "width": width, "context": context, "vocab": tokenizer.vocab_size,
        "train_tokens": len(train), "ngrams": [round(x, 5) for x in counted], "steps": recipe.train.steps,
        "batch": recipe.train.batch, "tokens": done.result.progress.tokens,
        "loss": round(done.result.progress.last_loss, 5), "best": round(done.result.progress.best_loss, 5),
    }  # fmt: skip


def text_of(run: dict[str, Any]) -> Text:
    """What was known of a kept training's text."""
    return Text(run["vocab"], run["train_tokens"], 0, tuple(run["ngrams"]))


def table(runs: list[dict[str, Any]]) -> None:
    """What is said, and would have been said without having seen that text, beside what came."""
    print(f"{'text':<13}{'layers x width':>15}{'tokens':>10}{'loss':>8}{'expected':>10}{'unseen':>8}")
    errors = []
    for run in runs:
        matrices = 12 * run["layers"] * run["width"] ** 2
        expected = expected_loss(text_of(run), matrices, run["tokens"]).middle
        others = fit([r for r in runs if r["text"] != run["text"]])
        unseen = math.exp(predict(others, [run]).item())
        errors.append(abs(math.log(unseen / run["loss"])))
        shape = f"{run['layers']} x {run['width']}"
        print(f"{run['text']:<13}{shape:>15}{run['tokens']:>10}{run['loss']:>8.3f}{expected:>10.3f}{unseen:>8.3f}")
    inside = sum(error <= math.log(SPREAD) for error in errors)
    print(f"\nof {len(runs)} unseen, {inside} within a factor of {SPREAD}; 80 % within "
          f"{math.exp(sorted(errors)[math.ceil(0.8 * len(errors)) - 1]):.3f}")  # fmt: skip


def predict(constants: torch.Tensor, runs: list[dict[str, Any]]) -> torch.Tensor:
    """Logarithms of the losses; the constants are (ln FLOOR, ln SIZE, ln READ, COUNTED, ORDER)."""
    floor, size, read, counted, order = constants
    n, d, u, h, first = (
        torch.tensor(values, dtype=torch.double)
        for values in zip(*(
            (12 * r["layers"] * r["width"] ** 2 / 1e6, fresh(text_of(r), r["tokens"]) / 1e6,
             min(r["train_tokens"], SAMPLE_TOKENS) / 1e6, min(r["ngrams"]), r["ngrams"][0]) for r in runs
        ), strict=True)
    )  # fmt: skip
    learned = floor.exp() + size.exp() * n**-ALPHA + read.exp() * d**-BETA
    return h.log() + counted * u.log() + order * (first / h).log() + learned.log()


def fit(runs: list[dict[str, Any]]) -> torch.Tensor:
    """Least squares of logarithms, held a little towards what is plausible: few runs leave some directions open."""
    losses = torch.tensor([r["loss"] for r in runs], dtype=torch.double).log()
    start = torch.tensor([-1.0, -2.0, -2.0, 0.0, 0.25], dtype=torch.double)
    constants = start.clone().requires_grad_()
    search = torch.optim.LBFGS([constants], max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        search.zero_grad()
        wrong = (predict(constants, runs) - losses).square().sum() + 0.01 * (constants - start)[:3].square().sum()
        wrong.backward()
        return wrong

    search.step(closure)
    return constants.detach()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*", default=list(TEXTS))
    parser.add_argument("--out", type=Path, default=KEPT)
    parser.add_argument("--fit", action="store_true")
    args = parser.parse_args()
    if args.data:
        for text, place, thousands in RUNS:
            if text in args.only:
                found = measure(text, place, thousands * 1000, args.data)
                with args.out.open("a") as file:
                    file.write(json.dumps(found) + "\n")
    runs = [json.loads(line) for line in args.out.read_text().splitlines()]
    if args.fit:
        floor, size, read, counted, order = fit(runs).tolist()
        print(f"FLOOR, SIZE, READ, COUNTED, ORDER = {math.exp(floor):.4f}, {math.exp(size):.4f}, {math.exp(read):.4f}, "
              f"{counted:.4f}, {order:.4f}\n")  # fmt: skip
    table(runs)


if __name__ == "__main__":
    main()
