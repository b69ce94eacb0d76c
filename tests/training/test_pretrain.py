"""Pre-training: every character has its side and its count, and the losses are those of a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from glassgpt.core.errors import InputError
from glassgpt.core.runs import Run
from glassgpt.data.rows import Row
from glassgpt.data.shards import open_shards
from glassgpt.engine.load import load
from glassgpt.training.loop import Event
from glassgpt.training.pretrain import make_network, prepare, pretrain
from glassgpt.training.settings import DataSettings, Recipe, TrainSettings

SIZES = {"n_layer": 1, "n_head": 2, "n_embd": 16}
TEXT = "在海边，the sea was calm; 小船出去找鱼 and came back. " * 30


def prepared(folder, texts=(TEXT,), tokenizer="characters", **train) -> Run:
    run = Run.create(folder, {})
    settings = TrainSettings(**({"steps": 4, "batch": 2, "context": 16, "precision": "float32"} | train))
    rows = [Row(f"{n}.txt", 1, ("text",), [text]) for n, text in enumerate(texts)]
    data = DataSettings(tokenizer=tokenizer, vocab_size=300, validation=0.2)
    prepare(run, rows, Recipe(model=SIZES, data=data, train=settings))
    return run


def sides(run: Run):
    return [open_shards(run.folder / "data" / name) for name in ("train", "validation")]


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
def test_the_end_of_each_text_is_held_out_and_no_character_is_lost(tmp_path, tokenizer):
    texts = [TEXT, TEXT[:400].upper()]
    run = prepared(tmp_path / "run", texts, tokenizer)
    words = load_tokenizer(run)
    train, held_out = sides(run)
    for document, text in enumerate(texts):
        cut = round(len(text) * 0.8)
        before = train.tokens(*train.span(document)).tolist()
        after = held_out.tokens(*held_out.span(document)).tolist()
        assert words.decode(before) == text[:cut]
        assert after[0] == before[-1]  # read, so that the first held-out token can be predicted
        assert words.decode(after[1:]) == text[cut:]
        assert train.origin(train.span(document)[0]).source == f"{document}.txt"


def load_tokenizer(run: Run):
    from glassgpt.text.tokenizer import Tokenizer

    return Tokenizer.from_file(run.folder / "data" / "tokenizer")


@pytest.mark.parametrize("context", [4, 16, 50])
def test_the_held_out_loss_counts_every_token_in_windows_of_the_context(tmp_path, context):
    run = prepared(tmp_path / "run", context=context)
    done = pretrain(run)
    ids = sides(run)[1].tokens(0, len(sides(run)[1])).tolist()
    network, losses = load(run.folder).network, []
    for start in range(0, len(ids) - 1, context):
        window = ids[start : start + context + 1]
        with torch.no_grad():
            scores = network(torch.tensor([window[:-1]]))[0].log_softmax(-1)
        losses += [-scores[t, following].item() for t, following in enumerate(window[1:])]
    assert len(losses) == len(ids) - 1
    assert done.result.progress.last_loss == pytest.approx(np.mean(losses), abs=1e-4)


def test_a_new_network_knows_nothing_and_learns(tmp_path):
    run = prepared(tmp_path / "run", steps=60, lr=0.01)
    vocab = load_tokenizer(run).vocab_size
    seen: list[Event] = []
    done = pretrain(run, watch=seen.append)
    losses = [e.values["loss"] for e in seen if e.kind == "step"]
    assert losses[0] == pytest.approx(math.log(vocab), abs=0.3)
    assert np.mean(losses[-5:]) < 0.6 * losses[0] and done.result.progress.last_loss < 0.7 * losses[0]
    assert done.result.progress.tokens == 60 * 2 * 16


def test_a_seed_repeats_a_run_and_another_one_does_not(tmp_path):
    def weights(name: str, seed: int):
        network = pretrain(prepared(tmp_path / name, seed=seed)).network
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    first, again, other = weights("a", 1), weights("b", 1), weights("c", 2)
    assert torch.equal(first, again) and not torch.equal(first, other)
    recipe = Recipe(model=SIZES, train=TrainSettings(seed=1))
    assert torch.equal(make_network(recipe, 50).embed.weight, make_network(recipe, 50).embed.weight)


def test_accumulated_passes_learn_what_one_large_batch_does(tmp_path):
    ends = []
    for name, sizes in (("one", {"batch": 8}), ("four", {"batch": 2, "accumulate": 4})):
        done = pretrain(prepared(tmp_path / name, optimizer="adamw", lr=0.01, **sizes))
        assert done.result.progress.tokens == 4 * 8 * 16
        ends.append(done.result.progress.last_loss)
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)


def test_the_wanted_loss_ends_the_run(tmp_path):
    run = prepared(tmp_path / "run", steps=300, evaluate_every=10, lr=0.01)
    done = pretrain(run, until=2.5)
    told = [m["val_loss"] for m in run.metrics() if "val_loss" in m]
    assert done.result.progress.step < 300 and told[-1] <= 2.5 < min(told[:-1])
    assert done.result.reached


@pytest.mark.parametrize("change", [{"context": 2}, {"context": 8, "batch": 64}, {"precision": "bfloat16"}])
def test_extreme_settings_train_and_show_samples(tmp_path, change):
    run = prepared(tmp_path / "run", evaluate_every=2, sample_tokens=6, **change)
    pretrain(run)
    samples = [m["samples"] for m in run.metrics() if "samples" in m]
    assert len(samples) == 2 and all(len(texts) == 1 and texts[0] for texts in samples)
    assert math.isfinite(run.metrics()[-1]["val_loss"])


def test_a_text_too_short_for_one_window_says_which_part(tmp_path):
    with pytest.raises(InputError, match=r"data/train has \d+ tokens; one window of 2000 does not fit"):
        prepared(tmp_path / "a", context=2000)
    with pytest.raises(InputError, match="data/validation"):
        prepared(tmp_path / "b", context=700)
    with pytest.raises(InputError):
        prepared(tmp_path / "c", ["x"] * 200)
    with pytest.raises(InputError, match="does not fit"):
        prepared(tmp_path / "d", [*["x"] * 50, "abc def ghi jkl"])


def test_of_conversations_every_message_is_read(tmp_path):
    rows = [Row("qa.csv", n, ("user", "assistant"), [f"what is {n}? " * 9, f"it is {n}. " * 9]) for n in range(9)]
    run = Run.create(tmp_path / "run", {})
    prepare(run, rows, Recipe(model=SIZES, data=DataSettings(tokenizer="characters"), train=TrainSettings(context=16)))
    characters = sum(len(text) for row in rows for text in row.texts) + len(rows)  # and a line break in each
    train, held_out = sides(run)
    assert len(train) + len(held_out) == characters + len(rows)  # and the token before what is held out
