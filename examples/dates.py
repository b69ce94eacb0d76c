"""The Transformer learns to read dates: "Wed, March 3rd, 2021" and "二〇二一年三月三日" to 2021-03-03.

    python examples/dates.py
    python examples/dates.py "the 4th of May, 1999" "一九九九年五月四日"

It trains from nothing, one character at a time, and is then asked for days that it never saw in any form. The
texts given as arguments are read by the trained model at the end.
"""

from __future__ import annotations

import argparse
import random
import time
from datetime import date

import torch
from dates_data import ALPHABET, BOS, EOS, LANGUAGES, PAD, split_days, write
from torch import Tensor
from torch.nn import functional as F

from glassgpt.model.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(
    source_vocab=len(ALPHABET),
    target_vocab=len(ALPHABET),
    embed_size=64,
    heads=4,
    encoder_layers=2,
    decoder_layers=2,
    mlp_dim=128,
    max_len=64,
    dropout=0.0,  # texts are made as they are needed: hardly one is seen twice
    pre_norm=True,
    share_embeddings=True,
)
BATCH = 64
POOL = 16  # batches drawn at once and sorted by length, which halves the padding
PEAK_RATE = 6e-3
WARMUP = 0.05  # of the training


def train(days: list[date], seed: int, steps: int, minutes: float) -> Transformer:
    """A model trained for `steps` batches, or for as many as fit into `minutes`."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = Transformer(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    started, step, losses = time.monotonic(), 0, []
    pool: list[tuple[Tensor, Tensor]] = []
    # Whichever limit is nearer drives the schedule, so that a slow machine too ends with small steps.
    while (progress := max(step / steps, (time.monotonic() - started) / (60 * minutes))) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(progress / WARMUP, 1 - progress)
        pool = pool or make_pool(days, rng)
        source, target = pool.pop()
        logits = model(source, target[:, :-1])  # [B, T, V]
        loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        losses.append(loss.item())
        if step % 200 == 0:
            mean = sum(losses[-200:]) / 200
            print(f"step {step}/{steps}  loss {mean:.4f}  {time.monotonic() - started:.0f} s", flush=True)
    if step < steps:
        print(f"stopped after {step} of {steps} steps: {minutes:g} minutes were over")
    return model.eval()


def make_pool(days: list[date], rng: random.Random) -> list[tuple[Tensor, Tensor]]:
    """POOL batches in random order: sources [B, S], and targets [B, T] in ISO form between start and end marks."""
    chosen = [(day, write(day, rng.choice(LANGUAGES), rng)) for day in rng.choices(days, k=BATCH * POOL)]
    chosen.sort(key=lambda item: len(item[1]))
    batches = []
    for start in range(0, len(chosen), BATCH):
        part = chosen[start : start + BATCH]
        sources = [ALPHABET.encode(text) for _, text in part]
        targets = [[BOS, *ALPHABET.encode(day.isoformat()), EOS] for day, _ in part]
        batches.append((pad(sources), pad(targets)))
    rng.shuffle(batches)
    return batches


def pad(rows: list[list[int]]) -> Tensor:
    """Rows of ids to one tensor [B, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


def read(model: Transformer, texts: list[str]) -> list[str]:
    """What the model makes of each text."""
    ids = model.generate(pad([ALPHABET.encode(text) for text in texts]), BOS, EOS, max_len=12)
    return [ALPHABET.decode(row) for row in ids.tolist()]


def exact_match(model: Transformer, days: list[date], language: str, seed: int) -> float:
    """The share of `days`, each written once, that the model reads without a fault; prints the first faults."""
    rng = random.Random(f"{seed} {language}")
    texts = [write(day, language, rng) for day in days]
    answers = [answer for start in range(0, len(texts), 500) for answer in read(model, texts[start : start + 500])]
    wrong = [item for item in zip(texts, answers, days, strict=True) if item[1] != item[2].isoformat()]
    for text, answer, day in wrong[:3]:
        print(f"  wrong: {text!r} read as {answer}, is {day}")
    return 1 - len(wrong) / len(days)


def main() -> None:
    parser = argparse.ArgumentParser(description="Teach the Transformer to read dates in English and Chinese.")
    parser.add_argument("texts", nargs="*", help="dates for the trained model to read")
    parser.add_argument("--steps", type=int, default=2000, help="training batches (default 2000)")
    parser.add_argument("--minutes", type=float, default=4.0, help="stop training after this time (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="chooses weights, texts and held-out days (default 0)")
    args = parser.parse_args()
    unknown = sorted(set("".join(args.texts).lower()) - set(ALPHABET.alphabet))
    if unknown:
        parser.error(f"characters that occur in no date here: {' '.join(unknown)}")

    # For matrices this small a second core gains a tenth, and costs many times that when it is wanted elsewhere.
    torch.set_num_threads(1)
    days, held_out = split_days(args.seed, held_out=2000)
    model = train(days, args.seed, args.steps, args.minutes)
    print(f"exact match on {len(held_out)} held-out days:")
    for language in LANGUAGES:
        print(f"{language} {exact_match(model, held_out, language, args.seed):.2%}", flush=True)
    for text, answer in zip(args.texts, read(model, args.texts) if args.texts else [], strict=True):
        print(f"{text} -> {answer}")


if __name__ == "__main__":
    main()
