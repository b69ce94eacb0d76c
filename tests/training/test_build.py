"""The whole trip on a small dirty file: every row accounted for, measured before and after, told in two languages."""

from __future__ import annotations

import csv
import json
import math
import random
import re
import signal

import pytest

from glassgpt.core.config import override, settings_from
from glassgpt.core.errors import ConfigError, FormatError, GlassError, InputError
from glassgpt.core.runs import Run
from glassgpt.core.words import Sentence
from glassgpt.data.shards import open_shards
from glassgpt.engine.load import load
from glassgpt.training.build import BuildSettings, build, defaults, resume_build
from glassgpt.training.build_report import shortened
from glassgpt.training.settings import LoraSettings, TrainSettings
from glassgpt.training.sft import ANSWERS, FineTuneSettings

THINGS = ["boat", "net", "fish", "hook", "sail", "rope", "oar", "lamp", "鱼", "船", "网", "帆", "灯", "海"]


def dirty_file(path, rows: int = 60, seed: int = 1):
    """So many questions and answers with HTML in them, two of them twice, and two that are half empty."""
    chance = random.Random(seed)
    lines = [["question", "answer"]]
    for _ in range(rows):
        thing = f"{chance.choice(THINGS)} {chance.randrange(10**6)}"
        lines.append([f"where can I find the {thing}?", f"<b>{chance.choice(THINGS)}</b> {chance.randrange(10**6)}"])
    lines += [lines[1], lines[5], ["what is this?", ""], ["", "nothing"]]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


def settings(base: str, rank: int = 4, **train) -> BuildSettings:
    loop = TrainSettings(**(ANSWERS | {"precision": "float32", "sample_tokens": 0, "lr": 0.01} | train))
    tuning = FineTuneSettings(base=base, epochs=2.0, lora=LoraSettings(rank=rank), train=loop)
    return BuildSettings(finetune=tuning, held_out=0.2, answers=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("build")
    run = Run.create(folder / "run", {"kind": "build", "status": "reading"})
    told: list[Sentence] = []
    data = dirty_file(folder / "qa.csv")
    return run, build(run, data, settings(tiny_model), language="zh", tell=told.append), told


def test_every_row_is_accounted_for(made):
    run, built, _ = made
    story, cleaning = built.story, built.story.cleaning
    assert cleaning["rows_in"] == 64 and cleaning["kept"] == 60 and sum(cleaning["dropped"].values()) == 4
    assert cleaning["kept"] == story.train_rows + story.held_out_rows and story.leaks == 0
    assert abs(story.held_out_rows - 12) <= 1
    shards = [open_shards(run.folder / "data" / side) for side in ("train", "validation")]
    assert sum(s.documents for s in shards) == cleaning["kept"] - story.refused == 60
    origins = {(o.source, o.row) for s in shards for o in (s.origin(s.span(d)[0]) for d in range(s.documents))}
    assert origins == {("qa.csv", n) for n in range(1, 61)}
    with (run.folder / "cleaning" / "rejects.csv").open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_it_is_measured_before_and_after_on_the_same_rows(made):
    run, built, _ = made
    story = built.story
    assert story.loss_after < story.loss_before
    assert story.loss_after == pytest.approx(built.tuned.result.progress.best_loss, abs=1e-5)
    assert [a.question for a in story.answers_before] == [a.question for a in story.answers_after]
    assert len(story.answers_after) == 3 and all("<b>" not in a.wanted for a in story.answers_after)
    about = Run.open(run.folder).about
    assert (about["kind"], about["status"]) == ("build", "finished")
    assert (about["loss_before"], about["loss_after"]) == (story.loss_before, story.loss_after)


def test_the_report_tells_the_story_and_the_model_can_chat(made):
    run, built, told = made
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert 'lang="zh"' in page and "<svg" in page
    for part in (f"{built.story.loss_before:.3f}", f"{built.story.loss_after:.3f}", "训练前", "64", "60"):
        assert part in page
    assert all(a.question in page for a in built.story.answers_after)
    assert not re.search(r"(src|href)=.http", page)  # it loads nothing from elsewhere
    assert load(run.folder).template.name == "chatml"
    assert [s.text("zh") != s.text("en") for s in told] == [True] * 4


def test_a_base_model_without_a_template_gets_the_plain_one(tmp_path, tiny_model):
    model = load(tiny_model)
    model.chat_template = None
    model.save(tmp_path / "base")
    run = Run.create(tmp_path / "run", {})
    built = build(run, dirty_file(tmp_path / "qa.csv"), settings(str(tmp_path / "base")))
    assert built.tuned.model.template.name == load(run.folder).template.name == "plain"


@pytest.mark.slow
def test_from_scratch_it_makes_a_network_and_a_vocabulary_of_its_own(tmp_path):
    """Its usual settings lie beneath what is given: here fewer readings and AdamW."""
    run = Run.create(tmp_path / "run", {})
    given = {"base": "scratch", "epochs": 3.0, "train": {"optimizer": "adamw", "sample_tokens": 0, "lr": 0.004}}
    tuning = settings_from(FineTuneSettings, override(defaults("scratch"), given))
    assert (tuning.lora.rank, tuning.train.schedule, tuning.train.weight_decay) == (0, "wsd", 0.1)
    built = build(run, dirty_file(tmp_path / "qa.csv", rows=14), BuildSettings(finetune=tuning, held_out=0.2))
    assert built.story.loss_after < built.story.loss_before
    assert load(run.folder).network.config.n_layer == 4
    assert built.tuned.result.progress.step == math.ceil(3 * built.story.train_rows / 8)
    kept = Run.open(run.folder).about["settings"]
    assert (kept["epochs"], kept["train"]["optimizer"], kept["train"]["lr"]) == (3.0, "adamw", 0.004)


@pytest.mark.slow
def test_a_seed_repeats_a_build(tmp_path, tiny_model):
    data, losses = dirty_file(tmp_path / "qa.csv", rows=20), []
    for name in ("a", "b"):
        story = build(Run.create(tmp_path / name, {}), data, settings(tiny_model)).story
        losses.append((story.loss_before, story.loss_after, [a.given for a in story.answers_after]))
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("question,answer\n,\n,x\n", "none is left after cleaning"),
        ("question,answer\n" + "the same question here,the same answer here\n" * 5, "nothing can be held out"),
        ("question,answer\n", "header and no records"),
        ("", "is empty"),
    ],
    ids=["all dropped", "all alike", "header", "empty"],
)
def test_a_file_of_which_nothing_can_be_made_is_refused(tmp_path, tiny_model, content, told):
    (tmp_path / "qa.csv").write_text(content)
    run = Run.create(tmp_path / "run", {"status": "reading"})
    with pytest.raises(InputError, match=told) as error:
        build(run, tmp_path / "qa.csv", settings(tiny_model))
    cleaned = (run.folder / "cleaning").exists()
    assert Run.open(run.folder).about["status"] == ("failed" if cleaned else "reading")
    assert ("rejects.csv" in error.value.line()) == ("none is left" in told)


def test_an_unknown_model_is_told_before_anything_is_read(tmp_path):
    run = Run.create(tmp_path / "run", {})
    told: list[Sentence] = []
    with pytest.raises(GlassError, match="smolm2"):
        build(run, dirty_file(tmp_path / "qa.csv"), settings("smolm2"), tell=told.append)
    assert told == [] and not (run.folder / "cleaning").exists()


def test_a_device_that_is_unknown_is_told_before_anything_is_read(tmp_path, tiny_model):
    run = Run.create(tmp_path / "run", {})
    with pytest.raises(ConfigError, match="abacus"):
        build(run, dirty_file(tmp_path / "qa.csv"), settings(tiny_model, device="abacus"))
    assert not (run.folder / "cleaning").exists()


def with_long_rows(path, short: int, long: int):
    """Questions of which some, the first ones, are too long for the tiny model's context of 128 tokens."""
    lines = [["question", "answer"]]
    lines += [[f"=long {n * 7919}", " ".join(str(n * 104729 + i * 1299709) for i in range(300))] for n in range(long)]
    lines += [[f"where is the net {n * 7919}?", f"boat {n * 104729}"] for n in range(short)]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


def rejects_of(run: Run) -> list[dict[str, str]]:
    with (run.folder / "cleaning" / "rejects.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_too_long_are_told_counted_and_stand_among_the_rejects(tmp_path, tiny_model):
    run, told = Run.create(tmp_path / "run", {}), []
    data = with_long_rows(tmp_path / "qa.csv", short=24, long=3)
    built = build(run, data, settings(tiny_model), language="zh", tell=told.append)
    rejects = rejects_of(run)
    assert [(r["source"], r["row"], r["filter"]) for r in rejects] == [
        ("qa.csv", str(n), "too-long") for n in (1, 2, 3)
    ]
    assert all("128" in r["reason"] and r["text"].startswith("'=long") for r in rejects)
    assert (built.story.cleaning["kept"], built.story.refused) == (27, 3)
    assert built.story.train_rows + built.story.held_out_rows == 24
    assert any("27" in s.text("en") and "3 of" in s.text("en") and "rejects.csv" in s.text("en") for s in told)
    assert "<td>过长或无法表达</td><td>3</td>" in re.sub(
        r" class=.\w+.", "", (run.folder / "report.html").read_text(encoding="utf-8")
    )


def test_rows_too_long_are_never_the_ones_held_out(tmp_path, tiny_model):
    """Four rows, of which two make no example: whatever the seed, one is trained on and one held out."""
    data = with_long_rows(tmp_path / "qa.csv", short=2, long=2)
    for seed in range(4):
        run = Run.create(tmp_path / str(seed), {})
        story = build(run, data, settings(tiny_model, seed=seed)).story
        assert (story.train_rows, story.held_out_rows, story.refused) == (1, 1, 2)


def test_when_every_row_is_too_long_the_rejects_are_named(tmp_path, tiny_model):
    run = Run.create(tmp_path / "run", {"status": "reading"})
    with pytest.raises(InputError, match="3 clean rows none makes an example") as error:
        build(run, with_long_rows(tmp_path / "qa.csv", short=0, long=3), settings(tiny_model))
    assert "rejects.csv" in error.value.hint() and Run.open(run.folder).about["status"] == "failed"
    assert len(rejects_of(run)) == 3


def test_of_a_tiny_file_it_is_told_that_little_is_learned(tmp_path, tiny_model, made):
    run, told = Run.create(tmp_path / "run", {}), []
    built = build(run, with_long_rows(tmp_path / "qa.csv", short=5, long=0), settings(tiny_model), tell=told.append)
    assert any("hardly have learned" in str(s) for s in told)
    assert not any("hardly have learned" in str(s) for s in made[2])
    batch = Run.open(run.folder).about["settings"]["train"]["batch"]
    assert batch == built.story.train_rows == 4 and built.tuned.result.progress.step == 2


def test_a_build_that_is_stopped_is_not_measured_again_but_tells_what_there_is(tmp_path, tiny_model):
    run, told = Run.create(tmp_path / "run", {}), []

    def stop(event) -> None:
        if event.kind == "step" and event.progress.step == 3:
            signal.raise_signal(signal.SIGTERM)

    built = build(run, dirty_file(tmp_path / "qa.csv"), settings(tiny_model), tell=told.append, watch=stop)
    story, about = built.story, Run.open(run.folder).about
    assert built.tuned.result.signal == signal.SIGTERM and built.tuned.result.progress.step == 3
    assert story.loss_before > 0 and len(story.answers_before) == 3
    assert story.loss_after is None and story.answers_after == [] and "measuring again" not in map(str, told)
    assert (about["status"], about["loss_after"]) == ("stopped", None)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert f"glassgpt build --resume {run.folder}" in page and story.answers_before[0].question in page

    resumed = resume_build(Run.open(run.folder), language="zh").story
    whole = build(Run.create(tmp_path / "whole", {}), tmp_path / "qa.csv", settings(tiny_model)).story
    assert (resumed.loss_after, resumed.answers_after) == (whole.loss_after, whole.answers_after)
    assert (resumed.loss_before, resumed.cleaning["kept"]) == (whole.loss_before, whole.cleaning["kept"])
    assert Run.open(run.folder).about["status"] == "finished"
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "--resume" not in page and f"{whole.loss_after:.3f}" in page


def test_a_build_that_ended_while_it_measured_the_base_measures_it_when_it_goes_on(tmp_path, tiny_model, monkeypatch):
    run = Run.create(tmp_path / "run", {})
    with monkeypatch.context() as patch:
        patch.setattr("glassgpt.training.build.measure_model", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(run, dirty_file(tmp_path / "qa.csv", rows=20), settings(tiny_model))
    story = resume_build(Run.open(run.folder)).story
    assert len(story.answers_before) == len(story.answers_after) == 3
    assert story.loss_after < story.loss_before


def test_a_build_without_or_with_a_damaged_story_does_not_go_on(tmp_path):
    with pytest.raises(ConfigError, match="is no build"):
        resume_build(Run.create(tmp_path / "run", {}))
    whole = {"rows_in": 1, "kept": 1, "changed": 0, "unreadable": 0, "dropped": {}}
    of_cleaning = ({}, whole | {"kept": "1"}, whole | {"dropped": 3})
    damaged = [{"data": "x"}, {"data": "x", "cleaning": 3}, *({"data": "x", "cleaning": c} for c in of_cleaning)]
    damaged += [{"data": "x", "cleaning": whole} | wrong for wrong in ({"asked": [3]}, {"loss_before": "low"})]
    for content in ("{", "[]", *map(json.dumps, damaged)):
        (tmp_path / "run" / "story.json").write_text(content)
        with pytest.raises(FormatError, match="damaged"):
            resume_build(Run.open(tmp_path / "run"))


def test_the_base_is_loaded_once_to_be_measured_and_on_the_device_that_was_asked_for(tmp_path, tiny_model, monkeypatch):
    """The stage of fine-tuning loads its own, in the precision that it trains in."""
    calls = []
    monkeypatch.setattr(
        "glassgpt.training.build.load", lambda name, **given: calls.append((name, given)) or load(name, **given)
    )
    data = with_long_rows(tmp_path / "qa.csv", short=4, long=0)
    build(Run.create(tmp_path / "run", {}), data, settings(tiny_model, device="auto"))
    assert calls == [(tiny_model, {"in_torch": True, "device": "auto", "template": None})]


def test_an_answer_that_repeats_itself_does_not_fill_the_report():
    assert shortened("A:\n\n" * 500) == ("A: " * 100)[:299] + "…"
    assert shortened("好 的。\n") == "好 的。"
