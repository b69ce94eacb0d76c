"""A fine-tuning that is given minutes: how many readings fit, and what is too little or too much."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glassgpt.core.config import settings_from
from glassgpt.core.errors import InputError
from glassgpt.core.runs import Run
from glassgpt.training.budget import END_SECONDS, RESERVE
from glassgpt.training.loop import CHECKPOINT_SECONDS
from glassgpt.training.readings import Pace, fit_readings, measure_pace, most_readings, plan_readings
from glassgpt.training.settings import LoraSettings, TrainSettings
from glassgpt.training.sft import FineTuneSettings, finetune

PACE = Pace(load_s=2.0, step_s=0.5, evaluation_s=3.0, save_s=1.0)


def settings(examples: int, most: float = 10.0, **train) -> FineTuneSettings:
    steps = max(1, -int(-most * examples // 8))
    loop = TrainSettings(**({"batch": 8, "steps": steps, "evaluate_every": -(-steps // 4)} | train))
    return FineTuneSettings(epochs=most, train=loop)


@example(0.34375, 81, 2.0, 2.0, 0.375)  # little time, of which the end takes a large part
@example(4.0, 1000, 0.0, 0.0, 20.0)  # ten steps fit with one evaluation, not with four
@given(st.floats(0.1, 600), st.integers(1, 100_000), st.floats(0, 100), st.floats(0, 100), st.floats(0.01, 20))
def test_what_is_planned_ends_in_time_and_reads_no_more_than_the_most(minutes, examples, spent, after, step_s):
    pace = replace(PACE, step_s=step_s)
    try:
        made, capped = fit_readings(settings(examples), examples, pace, minutes, spent, after, 10.0)
    except InputError:
        fixed = spent + after + 2 * pace.load_s + pace.evaluation_s + pace.save_s + END_SECONDS
        least = min(10, -(-examples // 8)) * step_s * (1 + pace.save_s / CHECKPOINT_SECONDS)
        assert fixed + least > (1 - RESERVE) * 60 * minutes - 1e-6
        return
    evaluations = -(-made.train.steps // made.train.evaluate_every)
    assert 1 <= evaluations <= 4
    learning = made.train.steps * step_s
    total = spent + after + 2 * pace.load_s + evaluations * (pace.evaluation_s + pace.save_s) + learning
    assert total <= 60 * minutes
    assert made.train.steps * 8 < 10 * examples + 8 and 0 < made.epochs <= 10
    assert made.epochs == pytest.approx(min(10, made.train.steps * 8 / examples), rel=0.01)
    if not capped:  # the time is used up, but for the reserve, a step, an evaluation and the end
        assert total > 0.94 * 60 * minutes - 1.02 * step_s - 0.01 * learning - 5 - 4 * 4


def test_with_little_time_it_is_evaluated_less_often():
    evaluations = []
    for minutes in (1, 2, 4, 60):
        made, _ = fit_readings(settings(10**5), 10**5, replace(PACE, evaluation_s=20), minutes, 5.0, 0, 10.0)
        evaluations.append(-(-made.train.steps // made.train.evaluate_every))
    assert evaluations == sorted(evaluations) and evaluations[0] == 1 and evaluations[-1] == 4


def test_a_gap_that_the_user_chose_stays():
    made, _ = fit_readings(settings(1000, evaluate_every=7), 1000, PACE, 2, 0, 0, 10.0)
    assert made.train.evaluate_every == 7


def test_too_few_minutes_say_how_many_seconds_it_takes():
    with pytest.raises(InputError, match=r"0.2 minutes are too few: 3 s are over, and the rest takes \d+ s"):
        fit_readings(settings(1000), 1000, PACE, 0.2, 3.0, 1.0, 10.0)


def test_weights_that_knew_nothing_may_read_more_often():
    assert most_readings(FineTuneSettings(lora=LoraSettings(rank=0))) > most_readings(FineTuneSettings())


def test_measuring_leaves_the_run_as_it_was_and_the_same_training_comes_of_it(answer_run):
    one, other = answer_run("one", epochs=0.5), answer_run("other", epochs=0.5)
    before = {path.relative_to(other.folder) for path in other.folder.rglob("*")}
    pace = measure_pace(other, settings_from(FineTuneSettings, other.about["settings"]), 0.1)
    assert min(pace.load_s, pace.step_s, pace.evaluation_s, pace.save_s) > 0
    assert {path.relative_to(other.folder) for path in other.folder.rglob("*")} == before
    results = [finetune(run).result.progress for run in (one, other)]
    assert results[0].last_loss == results[1].last_loss and results[0].step == results[1].step


@pytest.mark.slow
def test_the_plan_stands_in_the_run(answer_run):
    run = answer_run("run", epochs=10.0)
    told: list[str] = []
    found = settings_from(FineTuneSettings, run.about["settings"])
    made = plan_readings(run, found, 10, time.monotonic(), 1.0, lambda sentence: told.append(str(sentence)))
    assert any("by heart" in one for one in told), "a tiny model reads a tiny file ten times in no time"
    kept = Run.open(run.folder).about
    assert settings_from(FineTuneSettings, kept["settings"]) == made and made.epochs == 10
    assert kept["budget"]["minutes"] == 10 and kept["pace"]["step_s"] > 0
