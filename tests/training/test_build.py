"""The whole trip on a small dirty file: every row accounted for, measured before and after, told in two languages."""

from __future__ import annotations

import csv
import math
import random
import re

import pytest

from glassgpt.core.errors import GlassError, InputError
from glassgpt.core.runs import Run
from glassgpt.core.words import Sentence
from glassgpt.data.shards import open_shards
from glassgpt.engine.load import load
from glassgpt.training.build import BuildSettings, build
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
    assert cleaning.rows_in == 64 and cleaning.kept == 60 and sum(cleaning.dropped.values()) == 4
    assert cleaning.kept == story.train_rows + story.held_out_rows and story.leaks == 0
    assert abs(story.held_out_rows - 12) <= 1
    shards = [open_shards(run.folder / "data" / side) for side in ("train", "validation")]
    assert sum(s.documents for s in shards) == cleaning.kept - len(story.refused) == 60
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
    run = Run.create(tmp_path / "run", {})
    built = build(run, dirty_file(tmp_path / "qa.csv", rows=14), settings("scratch", batch=14))
    assert built.story.loss_after < built.story.loss_before
    assert load(run.folder).network.config.n_layer == 4
    assert built.tuned.result.progress.step == math.ceil(20 * built.story.train_rows / 14)


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
    with pytest.raises(InputError, match=told):
        build(Run.create(tmp_path / "run", {}), tmp_path / "qa.csv", settings(tiny_model))


def test_an_unknown_model_is_told_before_anything_is_read(tmp_path):
    run = Run.create(tmp_path / "run", {})
    told: list[Sentence] = []
    with pytest.raises(GlassError, match="smolm2"):
        build(run, dirty_file(tmp_path / "qa.csv"), settings("smolm2"), tell=told.append)
    assert told == [] and not (run.folder / "cleaning").exists()
