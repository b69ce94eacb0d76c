"""Minutes instead of sizes: plans are arithmetic that can be checked, counting is that of a brute-force count, and a
real run sets what it expected beside what came."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter, defaultdict

import numpy as np
import pytest

from glassgpt.cli.main import main
from glassgpt.core.errors import ConfigError, InputError
from glassgpt.data.rows import Row
from glassgpt.text.bpe import train_bpe
from glassgpt.training import budget, minutes, speed
from glassgpt.training.budget import LADDER, Plan, Size, Speed, choose_data, interpolate, make_plan, recipe_for
from glassgpt.training.forecast import Text, expected_loss, ngram_losses
from glassgpt.training.settings import DataSettings, Recipe, TrainSettings

BASE = Recipe(model={"n_layer": 1, "n_head": 2, "n_embd": 64})
SHAKESPEARE = Text(65, 1_003_854, 111_540, (3.35, 2.49, 2.05, 1.77, 1.67))
NOVEL = Text(4096, 466_835, 51_000, (7.4, 6.2, 6.1, 6.2, 6.2))  # Chinese, by byte pairs
TINY = Text(60, 700, 80, (3.2, 2.9, 2.9, 3.0, 3.0))
HUGE = Text(16384, 30_000_000_000, 100_000, (7.1, 5.0, 4.2, 4.1, 4.1))
TEXTS = [SHAKESPEARE, NOVEL, TINY, HUGE]
MINUTES = [0.5, 1, 2, 5, 10, 20, 40, 60, 300, 5000]


def machine(factor: float = 1.0, vocab_size: int = 65) -> list[Speed]:
    """A machine of 100 GFLOP/s, or `factor` times that, on three sizes."""
    found = []
    for place in (1, 6, 10):
        size = Size(*LADDER[place], vocab_size)
        found.append(Speed(size, (size.flops / 100e9 + 2e-6) / factor, size.matrices * 1e-8 / factor))
    return found


def plan(text: Text = SHAKESPEARE, minutes: float = 20, factor: float = 1.0, spent: float = 10.0) -> Plan:
    return make_plan(BASE, text, machine(factor, text.vocab_size), minutes, spent)


@pytest.mark.parametrize("text", TEXTS)
def test_more_time_and_a_faster_machine_never_make_the_expected_loss_higher(text):
    by_time = [plan(text, m).val_loss.middle for m in MINUTES]
    by_speed = [plan(text, 5, f).val_loss.middle for f in (0.5, 1, 1.1, 2, 4, 10, 100)]
    for losses in (by_time, by_speed):
        assert losses == sorted(losses, reverse=True)
    if text is not TINY:
        assert by_time[-1] < 0.95 * by_time[0]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("minutes", MINUTES[2:])
@pytest.mark.parametrize("factor", [0.2, 1, 30])
def test_a_plan_does_not_take_more_time_than_there_is(text, minutes, factor):
    made = plan(text, minutes, factor)
    train = made.recipe.train
    token_s, step_s = interpolate(machine(factor, text.vocab_size), made.size)
    read = train.steps * train.batch * train.context
    evaluations = math.ceil(train.steps / train.evaluate_every)
    each = budget.evaluation_seconds(made.size, token_s, text.held_out_tokens)
    seconds = 10 + read * token_s + train.steps * step_s + evaluations * each
    assert seconds <= 60 * minutes
    assert made.minutes.low < made.minutes.middle < made.minutes.high and made.minutes.middle <= minutes
    assert made.minutes.middle >= (0.99 * seconds) / 60
    assert read <= budget.MAX_EPOCHS * text.train_tokens
    if not made.capped and minutes >= 2:  # nor does it leave much of it unused
        assert seconds >= 0.75 * 60 * minutes


def test_sizes_grow_with_time_and_are_held_back_by_a_small_text():
    sizes = [plan(SHAKESPEARE, m).size.matrices for m in MINUTES]
    assert sizes == sorted(sizes) and sizes[-1] > 10 * sizes[0]
    assert plan(TINY, 60, 100).size == Size(1, 64, 16, 60) and plan(TINY, 60).capped
    assert plan(HUGE, 5000, 100).size.n_embd == LADDER[-1][1] and not plan(HUGE, 5000).capped


@pytest.mark.parametrize("text", TEXTS)
def test_every_plan_is_a_recipe_that_the_loop_takes(text):
    from glassgpt.training.pretrain import network_config

    for m in MINUTES:
        made = plan(text, m)
        config = network_config(made.recipe, text.vocab_size)
        assert config.n_embd % config.n_head == 0 and config.head_dim % 2 == 0
        assert made.recipe.train.context < min(text.train_tokens, text.held_out_tokens)
        assert made.recipe.train.steps >= 5


def test_a_text_that_is_read_again_has_more_dropout():
    drops = [recipe_for(BASE, Size(*LADDER[3], 65), 10**6, epochs).model["dropout"] for epochs in (0.5, 6, 14)]
    assert drops == sorted(set(drops)) and drops[0] == 0


def test_rates_of_a_recipe_are_kept():
    mine = Recipe(train=TrainSettings(lr=0.0012, beta1=0.7))
    kept = recipe_for(mine, Size(*LADDER[0], 65), 50_000, 1, rates=False).train
    chosen = recipe_for(mine, Size(*LADDER[0], 65), 50_000, 1).train
    assert (kept.lr, kept.beta1, kept.weight_decay) == (0.0012, 0.7, 0.0)
    assert chosen.lr != 0.0012 and chosen.weight_decay > 0


def test_too_little_time_says_how_much_is_needed():
    with pytest.raises(InputError, match=r"0.2 minutes are too few: 10 s are over, and training takes \d+ s"):
        plan(minutes=0.2)
    with pytest.raises(InputError, match="too few"):
        plan(minutes=5, spent=400)


@pytest.mark.parametrize("wrong", [0, -3, 1e9, math.nan, math.inf])
def test_minutes_are_a_number_of_minutes(wrong):
    with pytest.raises(ConfigError, match=r"minutes is .*; expected a number above 0 and at most 43200"):
        budget.check_minutes(wrong)


@pytest.mark.parametrize(
    ("text", "tokenizer"),
    [("the sea was calm. " * 100, "characters"), ("the sea was calm. " * 200_000, "bpe"),
     ("".join(map(chr, range(0x4E00, 0x5E00))) * 20, "bpe"), ("".join(map(chr, range(0x4E00, 0x4E30))), "characters")],
)  # fmt: skip
def test_few_different_characters_are_tokens_and_many_are_cut_into_byte_pairs(text, tokenizer):
    data = choose_data([text[:100], text[100:]])
    assert data.tokenizer == tokenizer and 0 < data.validation <= 0.1
    assert data.validation * len(text) <= 400_001
    if tokenizer == "bpe":
        train_bpe([text[:5000]], data.vocab_size)  # a number that the tokenizer takes


def test_every_chinese_character_of_a_text_may_have_a_token():
    chinese = "".join(map(chr, range(0x4E00, 0x5E00))) * 20
    assert choose_data([chinese]).vocab_size >= 4096 > choose_data(["plain words, again é 人 …" * 3000]).vocab_size


def brute_force(train: list[int], held_out: list[int], vocab_size: int, orders: int) -> list[float]:
    """Witten & Bell's mixture with dictionaries."""
    tables = [defaultdict(Counter) for _ in range(orders)]
    for n in range(orders):
        for t in range(n, len(train)):
            tables[n][tuple(train[t - n : t])][train[t]] += 1
    losses = []
    for n in range(orders):
        total = 0.0
        for t in range(n, len(held_out)):
            p = 1 / vocab_size
            for m in range(n + 1):
                counts = tables[m].get(tuple(held_out[t - m : t]))
                if counts:
                    p = (counts[held_out[t]] + len(counts) * p) / (sum(counts.values()) + len(counts))
            total -= math.log(p)
        losses.append(total / (len(held_out) - n))
    return losses


@pytest.mark.parametrize("seed", range(20))
def test_counting_is_that_of_a_brute_force_count(seed):
    chance = random.Random(seed)
    kinds = chance.choice([2, 3, 5, 20])
    train = [chance.randrange(kinds) for _ in range(chance.choice([8, 60, 300]))]
    held_out = [chance.randrange(kinds + 2) for _ in range(40)]  # with tokens that do not occur
    counted = ngram_losses(np.array(train), np.array(held_out), kinds + 2)
    assert counted == pytest.approx(brute_force(train, held_out, kinds + 2, 5))


def test_the_forecast_falls_with_size_and_tokens_and_less_so_on_text_that_is_read_again():
    def loss(matrices=400_000, tokens=1_000_000):
        return expected_loss(SHAKESPEARE, matrices, tokens).middle

    assert loss(4_000_000) < loss() and loss(tokens=2_000_000) < loss()
    assert loss(tokens=8_000_000) / loss(tokens=4_000_000) > loss() / loss(tokens=500_000)
    low, middle, high = expected_loss(SHAKESPEARE, 400_000, 256_000)
    assert low < middle < high


def test_speeds_between_measured_sizes_lie_between_theirs():
    measured = machine()
    for known in measured:
        assert interpolate(measured, known.size) == pytest.approx((known.token_s, known.step_s))
    between = interpolate(measured, Size(*LADDER[4], 65))
    assert measured[0].token_s < between[0] < measured[1].token_s
    above, largest = Size(*LADDER[12], 65), measured[-1]
    assert interpolate(measured, above)[0] == pytest.approx(largest.token_s * above.flops / largest.size.flops)


def test_a_setting_that_the_plan_chooses_cannot_be_set_beside_it():
    rows = [Row("sea.txt", 1, ("text",), ["the sea " * 100])]
    for changes in ({"train": {"steps": 5}}, {"model": {"n_layer": 2}}):
        with pytest.raises(ConfigError, match=r"(train.steps|model.n_layer) is chosen by --minutes"):
            minutes.first_recipe(rows, None, changes)
    kept = minutes.first_recipe(rows, None, {"train": {"lr": 0.001, "seed": None}, "data": {"validation": 0.2}})
    assert (kept.train.lr, kept.data.validation, kept.data.tokenizer) == (0.001, 0.2, "characters")
    mine = Recipe(model={"n_layer": 9, "mlp_dim": 77, "ngrams": 3}, data=DataSettings(tokenizer="bpe", vocab_size=600))
    kept = minutes.first_recipe(rows, mine, {})
    assert kept.data == mine.data and kept.model["ngrams"] == 3 and "mlp_dim" not in kept.model


@pytest.fixture
def book(tmp_path) -> str:
    """Some 60,000 characters of sentences."""
    chance = random.Random(4)
    words = ["the sea", "a boat", "was calm", "went out", "and", "came home", "小船", "出海", "in the evening", "again"]
    text = "".join(chance.choice(words) + chance.choice(". ") for _ in range(8000))
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    return str(tmp_path / "book.txt")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--minutes", "0"], "minutes is 0; expected a number above 0"),
        (["--minutes", "-2"], "minutes is -2; expected a number above 0"),
        (["--minutes", "1e9"], "minutes is 1e+09; expected a number above 0 and at most 43200"),
        (["--minutes", "nan"], "minutes is nan"),
        (["--minutes", "1", "--set", "train.steps=5"], "train.steps is chosen by --minutes"),
        (["--minutes", "1", "--set", "model.n_embd=64"], "model.n_embd is chosen by --minutes"),
        (["--minutes", "0.0001"], "0.0001 minutes are too few"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_run(book, tmp_path, capsys, monkeypatch, given, told):
    monkeypatch.setattr(speed, "LEAST_STEPS", 1)
    for language in ("en", "zh"):
        out = tmp_path / "runs" / language
        assert main(["pretrain", "--data", book, "--out", str(out), *given, "--lang", language]) == 1
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("错误：") if language == "zh" else told in line
        assert not out.exists()


def test_a_text_too_small_and_no_text_are_told(tmp_path, capsys):
    (tmp_path / "note.txt").write_text("the sea was calm")
    given = ["pretrain", "--minutes", "1", "--out", str(tmp_path / "run")]
    assert main([*given, "--data", str(tmp_path / "note.txt")]) == 1
    assert "one window of 16 does not fit" in capsys.readouterr().err
    assert main(given) == 1
    assert "--minutes needs a text" in capsys.readouterr().err


@pytest.mark.slow
def test_half_a_minute_sets_what_it_expected_beside_what_came(book, tmp_path, capsys):
    out, began = tmp_path / "run", time.monotonic()
    command = ["pretrain", "--data", book, "--minutes", "0.5", "--set", "train.sample_tokens=0", "--json"]
    assert main([*command, "--out", str(out), "--threads", "1"]) == 0
    assert time.monotonic() - began < 3 * 30 + 30
    told = capsys.readouterr()
    line = json.loads(told.out.splitlines()[-1])
    assert "expected: held-out loss" in told.err and "held-out loss: " in told.err and "minutes: " in told.err
    about = json.loads((out / "run.json").read_text(encoding="utf-8"))
    for values in line["predicted"].values():
        assert len(values) == 3 and values == sorted(values)
    assert line["actual"]["val_loss"] == line["val_loss"] and line["steps"] == about["recipe"]["train"]["steps"]
    kept = about["budget"]
    assert (kept["predicted"], kept["actual"]) == (line["predicted"], line["actual"])

    # Going on with it keeps the expectation.
    assert main(["pretrain", "--resume", str(out), "--minutes", "3", "--json"]) == 0
    told = capsys.readouterr()
    again = json.loads(told.out.splitlines()[-1])
    assert again["predicted"] == line["predicted"] and "--minutes" in told.err
