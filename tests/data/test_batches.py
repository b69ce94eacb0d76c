"""Batches: every window and every example once an epoch, and nothing but a number to remember."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from glassgpt.data.batches import IGNORED, ExampleBatches, TextBatches, pack_examples
from glassgpt.data.examples import Example
from glassgpt.data.shards import Shards, open_shards, write_shards
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_characters

TOKENIZER = train_characters([chr(0x4E00 + i) for i in range(2000)])


def numbered(folder, lengths: list[int]) -> Shards:
    """Documents in which every token is its own position, so that a window tells where it begins."""
    starts = np.cumsum([0, *lengths])
    made = [Example(list(range(a, b)), [True] * (b - a), "t", n) for n, (a, b) in enumerate(pairwise(starts))]
    write_shards(made, folder, TOKENIZER, shard_tokens=97)
    return open_shards(folder)


@pytest.mark.parametrize(("tokens", "context"), [(1000, 16), (1000, 10), (161, 16), (34, 16), (18, 16), (17, 16)])
def test_an_epoch_reads_every_window_once_and_none_overlap(tmp_path, tokens, context):
    batches = TextBatches(numbered(tmp_path / "s", [tokens]), 1, context, seed=3)
    offsets = set()
    for epoch in range(4):
        rows = [batches(epoch * batches.windows + i) for i in range(batches.windows)]
        starts = sorted(int(b.ids[0, 0]) for b in rows)
        assert np.diff(starts).tolist() == [context] * (batches.windows - 1)
        assert {b.epoch for b in rows} == {epoch}
        assert starts[0] >= 0 and starts[-1] + context < tokens
        assert tokens - 1 - batches.windows * context < 2 * context  # no more is left out than gives room to shift
        offsets.add(starts[0] % context)
    assert len(offsets) > 1 or tokens == context + 1


def test_targets_are_the_tokens_that_follow(tmp_path):
    batches = TextBatches(numbered(tmp_path / "s", [500]), 4, 16, seed=3)
    for number in range(20):
        batch = batches(number)
        assert batch.ids.shape == batch.targets.shape == (4, 16) and batch.segments is None
        assert (batch.targets == batch.ids + 1).all()
        assert batch.trained == batch.tokens == 64


def test_separate_documents_are_not_learned_across(tmp_path):
    lengths = [5, 40, 1, 30, 90]
    batches = TextBatches(numbered(tmp_path / "s", lengths), 3, 16, seed=3)
    of = np.repeat(np.arange(5), lengths)
    for number in range(10):
        batch = batches(number)
        assert batch.segments is not None
        for r, t in np.ndindex(batch.ids.shape):
            token = batch.ids[r, t]
            same = of[token] == of[token + 1]
            assert batch.targets[r, t] == (token + 1 if same else IGNORED)
        assert ((np.diff(batch.segments) != 0) == (np.diff(of[batch.ids]) != 0)).all()
        assert batch.trained == (batch.targets != IGNORED).sum()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 500), min_size=1, max_size=6), st.integers(0, 9))
def test_a_batch_is_a_function_of_seed_and_number_alone(tmp_path_factory, far, before, seed):
    """Whatever was asked for before, and in a new object that has seen nothing."""
    shards = numbered(tmp_path_factory.mktemp("f") / "s", [30] * 20)
    for make in (lambda: TextBatches(shards, 4, 16, seed), lambda: ExampleBatches(shards, 4, seed)):
        used, fresh = make(), make()
        for number in before:
            used(number)
        assert (used(far).ids == fresh(far).ids).all() and (used(far).targets == fresh(far).targets).all()


def test_other_seeds_and_epochs_have_other_orders(tmp_path):
    shards = numbered(tmp_path / "s", [30] * 30)
    text = [TextBatches(shards, 56, 16, seed)(n).ids[:, 0].tolist() for seed in (1, 2) for n in (0, 1)]
    examples = [ExampleBatches(shards, 30, seed)(n).ids.tolist() for seed in (1, 2) for n in (0, 1)]
    for orders in (text, examples):
        assert len({str(o) for o in orders}) == 4


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("kind", ["text", "examples"])
def test_ranks_share_out_what_one_process_would_read(tmp_path, ranks, kind):
    shards = numbered(tmp_path / "s", [30] * 20)

    def firsts(batch):
        if kind == "text":
            return batch.ids[:, 0].tolist()
        return sorted(int(token) for token in batch.ids.flatten() if token % 30 == 0 and token)

    def make(batch, **place):
        return (
            TextBatches(shards, batch, 16, 5, **place) if kind == "text" else ExampleBatches(shards, batch, 5, **place)
        )

    whole = make(2 * ranks)
    for number in range(12):
        parts = [firsts(make(2, rank=rank, ranks=ranks)(number)) for rank in range(ranks)]
        assert sorted(chain(*parts)) == sorted(firsts(whole(number)))


def answers(folder, seed: int, count: int, longest: int) -> tuple[list[Example], Shards]:
    chance = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(chance.integers(2, longest + 1))
        mask = [False, *(chance.random(length - 1) < 0.5).tolist()]
        made.append(Example(chance.integers(0, 60, length).tolist(), mask, "qa", number))
    write_shards(made, folder, TOKENIZER)
    return made, open_shards(folder)


def unpacked(batch) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each segment of a batch as (ids, targets)."""
    found: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
    for ids, targets, segments in zip(batch.ids, batch.targets, batch.segments, strict=True):
        for segment in set(segments[segments >= 0].tolist()):
            at = segments == segment
            found[tuple(ids[at].tolist()), tuple(targets[at].tolist())] += 1
    return found


def alone(example: Example) -> tuple[tuple[int, ...], tuple[int, ...]]:
    follows = [t if m else IGNORED for t, m in zip(example.ids[1:], example.loss_mask[1:], strict=True)]
    return tuple(example.ids), (*follows, IGNORED)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(1, 12), st.integers(2, 80), st.integers(1, 120))
def test_packing_loses_nothing_and_mixes_nothing(tmp_path_factory, seed, count, longest, row_tokens):
    made, shards = answers(tmp_path_factory.mktemp("p") / "s", seed, count, longest)
    batch = pack_examples(shards, range(count), row_tokens)
    assert unpacked(batch) == Counter(map(alone, made))
    assert batch.tokens == sum(len(e.ids) for e in made) and batch.trained == sum(e.trained for e in made)
    assert (batch.targets[batch.segments < 0] == IGNORED).all()
    room = max(row_tokens, *(len(e.ids) for e in made))
    assert batch.ids.shape[1] <= room
    for segments in batch.segments:  # padding stands at the end, each segment in one piece
        used = segments[segments >= 0]
        assert (segments[: len(used)] >= 0).all() and (np.diff(used) >= 0).all()
    assert sum((part.trained for part in batch.split(1)), 0) == batch.trained
    assert sum((part.tokens for part in batch.split(1)), 0) == batch.tokens


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
def test_an_epoch_reads_every_example_once(tmp_path, order):
    made, shards = answers(tmp_path / "s", 4, 24, 30)
    batches = ExampleBatches(shards, 4, 9, order=order)
    for epoch in range(3):
        parts = [batches(epoch * 6 + i) for i in range(6)]
        assert sum(map(unpacked, parts), Counter()) == Counter(map(alone, made))
        assert {p.epoch for p in parts} == {epoch}
        if order == "sequential":
            assert unpacked(parts[1]) == Counter(map(alone, made[4:8]))


CONFIGS = {
    "rotary": ModelConfig.modern(vocab_size=60, n_layer=2, n_head=2, n_embd=32, context_length=64),
    "learned positions": ModelConfig.gpt2(vocab_size=60, n_layer=2, n_head=2, n_embd=32, context_length=64),
    "sliding window": ModelConfig(vocab_size=60, n_layer=2, n_head=2, n_embd=32, context_length=64, sliding_window=8),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_loss_of_a_packed_batch_is_that_of_its_examples_alone(tmp_path, config):
    made, shards = answers(tmp_path / "s", 6, 12, 40)
    torch.manual_seed(1)
    network = GPT(config).eval()
    batch = pack_examples(shards, range(12), 64)
    with torch.no_grad():
        logits = network(torch.from_numpy(batch.ids), segments=torch.from_numpy(batch.segments))
        packed = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten(), reduction="sum")
        single = 0.0
        for ids, targets in map(alone, made):
            scores = network(torch.tensor([ids]))[0].log_softmax(-1)
            single -= sum(scores[t, target].item() for t, target in enumerate(targets) if target != IGNORED)
    assert 1 < len(batch.ids) < 12 and packed.item() == pytest.approx(single, rel=1e-4)
