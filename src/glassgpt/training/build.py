"""The whole trip: a file goes in, a model that answers in its words comes out, and every row is accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from glassgpt.core.config import settings_from
from glassgpt.core.errors import ConfigError, GlassError, InputError
from glassgpt.core.processes import this_process
from glassgpt.core.runs import Run
from glassgpt.core.words import Sentence
from glassgpt.data.clean import add_rejects, clean, read_kept
from glassgpt.data.examples import Refused, make_example
from glassgpt.data.filters import CleanSettings
from glassgpt.data.report import Problem
from glassgpt.data.rows import Row
from glassgpt.data.shards import open_shards
from glassgpt.data.sources import read_rows
from glassgpt.data.split import leakage, split
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.load import load
from glassgpt.evaluation.answers import Answer
from glassgpt.formats.checkpoint import save_checkpoint
from glassgpt.formats.place import find_model
from glassgpt.model.config import ModelConfig
from glassgpt.model.device import choose_device
from glassgpt.model.gpt import GPT
from glassgpt.text.template import Template, get_template
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.training.build_report import write_report
from glassgpt.training.loop import Event
from glassgpt.training.pretrain import HELD_OUT, start_quietly
from glassgpt.training.readings import most_held_out, most_readings, plan_readings
from glassgpt.training.record import plot_losses
from glassgpt.training.sft import FineTuned, FineTuneSettings, finetune, measure_model, prepare_finetune
from glassgpt.training.story import Story
from glassgpt.training.usual import ANSWERS, PLAIN, SCRATCH, SCRATCH_CONTEXT, SCRATCH_TEMPLATE, vocabulary

CLEANING, REJECTS = "cleaning", "rejects.csv"
FEW_ROWS, FEW_STEPS = 20, 10  # below either, next to nothing is learned
MILESTONE = 100_000  # rows cleaned between two remarks


def defaults(base: str) -> dict[str, Any]:
    """What a fine-tuning of `base` does unless the user says otherwise, as a table of `FineTuneSettings`. A network
    that knows nothing has all its weights trained, by Muon, and needs many more readings."""
    if base != SCRATCH:
        return {"train": ANSWERS}
    train = {"optimizer": "muon", "lr": 0.003, "matrix_lr": 0.02, "schedule": "wsd", "weight_decay": 0.1}
    return {"epochs": 20.0, "lora": {"rank": 0}, "train": ANSWERS | train}


@dataclass(frozen=True)
class BuildSettings:
    """What a build does: `clean` is `CleanSettings`' changes, `held_out` the share of rows that is measured on,
    `answers` how many of those are answered before and after. Raises ConfigError."""

    finetune: FineTuneSettings = field(default_factory=FineTuneSettings)
    clean: dict[str, Any] = field(default_factory=dict)
    held_out: float = 0.1
    answers: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ConfigError("{name} is {value}; expected a number above 0 and below 1", name="held_out",
                              value=self.held_out)  # fmt: skip
        if self.answers < 0:
            raise ConfigError("{name} is {value}; expected {least} or more", name="answers", value=self.answers,
                              least=0)  # fmt: skip


@dataclass(frozen=True)
class Built:
    """A finished build: its story, how the training ended, and the model."""

    story: Story
    tuned: FineTuned


def check_base(settings: BuildSettings) -> None:
    """Raises what is wrong with the model's name or the device, before a large file is read and cleaned."""
    choose_device(settings.finetune.train.device)
    if settings.finetune.base != SCRATCH:
        find_model(settings.finetune.base)


def build(
    run: Run,
    data: str | Path,
    settings: BuildSettings,
    *,
    columns: dict[str, str] | None = None,
    encoding: str | None = None,
    minutes: float | None = None,
    began: float | None = None,
    processes: int | None = None,
    language: str = "en",
    tell: Callable[[Sentence], None] = lambda sentence: None,
    watch: Callable[[Event], None] = lambda event: None,
) -> Built:
    """Read, clean, split, measure, fine-tune, measure again, and leave it all in `run`, with a report.html.

    A training that a signal stops is not measured again; the report tells what there is. What fails after cleaning
    leaves the status "failed" and the rejects.csv that says why.

    Args:
        minutes: the time from start to end, which decides how often the rows are read, instead of the settings' epochs.
        began: when the minutes began, by `time.monotonic()`; now, where it is left out.
        processes: how many clean at the same time (see `data.clean`).
        tell: called with what is being done now.
        watch: called with the training's events.

    Raises:
        InputError: no row is left after cleaning, nothing can be held out, or the minutes are too few.
        NotFoundError: the model is unknown.
        GlassError: whatever reading, cleaning or training refuses.
    """
    check_base(settings)
    began = time.monotonic() if began is None else began
    if minutes is not None:
        tuning = settings.finetune
        settings = replace(settings, finetune=replace(tuning, epochs=most_readings(tuning)))
        run.update(minutes=minutes)
    try:
        tell(Sentence("reading and cleaning {data}", data=data))
        problems: list[Problem] = []
        report = clean(
            read_rows(data, columns=columns, encoding=encoding, problems=problems.append),
            run.folder / CLEANING,
            settings=CleanSettings.from_dict(settings.clean),
            processes=processes,
            problems=problems,
            progress=_milestones(tell),
            language=language,
        )
        story = Story(str(data), report.summary())
        base, tuning = _prepare(run, story, settings, minutes, language, tell)
        story.save(run.folder)
        run.update(kind="build", data=str(data), build=asdict(replace(settings, finetune=tuning)))
        measured = _measure_before(run, story, base, tuning, tell)
        del base
        if minutes is not None:
            tuning = plan_readings(run, tuning, minutes, began, measured, tell)
        _tell_few(story, tuning, tell)
    except GlassError:
        if (run.folder / CLEANING).exists():
            run.update(status="failed")
        raise
    except BaseException:
        if (run.folder / CLEANING).exists() and "threads" not in run.about:  # with them it can go on
            run.update(status="failed")
        raise
    tell(Sentence("training on {count} rows, {epochs:g} times", count=story.train_rows, epochs=tuning.epochs))
    return _train(run, story, tuning, language, tell, watch, resume=False)


def resume_build(
    run: Run,
    *,
    language: str = "en",
    tell: Callable[[Sentence], None] = lambda sentence: None,
    watch: Callable[[Event], None] = lambda event: None,
) -> Built:
    """Go on with a build that was stopped or killed when its rows were ready: train what is left of it, measure, and
    write the report. Arguments as in `build`.

    Raises:
        ConfigError: the run is no build, or its rows were not ready.
        FormatError: the run is damaged.
    """
    story, tuning = Story.read(run.folder), settings_from(FineTuneSettings, run.about["settings"])
    began, measured = time.monotonic(), 0.0
    run.update(kind="build", status="ready", process=this_process())
    torch.set_num_threads(run.about["threads"])  # those that it began with
    if story.loss_before is None:
        base = load(tuning.base, in_torch=True, device=tuning.train.device, template=tuning.template or None)
        measured = _measure_before(run, story, base, tuning, tell)
        del base
    if "minutes" in run.about and "budget" not in run.about:  # it ended before they were planned with
        tuning = plan_readings(run, tuning, run.about["minutes"], began, measured, tell)
    tell(Sentence("going on with the training on {count} rows", count=story.train_rows))
    return _train(run, story, tuning, language, tell, watch, resume=True)


def _measure_before(
    run: Run, story: Story, base: LanguageModel, tuning: FineTuneSettings, tell: Callable[[Sentence], None]
) -> float:
    """Measure what the model can do before; gives the seconds that took."""
    began = time.monotonic()
    tell(Sentence("measuring {model} before training, on {count} held-out rows", model=Path(tuning.base).name,
                  count=story.held_out_rows))  # fmt: skip
    story.loss_before, story.answers_before = _measure(run, base, story.asked, tuning)
    story.save(run.folder)
    run.update(loss_before=story.loss_before)
    return time.monotonic() - began


def _train(
    run: Run, story: Story, tuning: FineTuneSettings, language: str, tell: Callable[[Sentence], None],
    watch: Callable[[Event], None], *, resume: bool,
) -> Built:  # fmt: skip
    """Train, measure again unless a signal stopped it, and write the report."""
    tuned = finetune(run, resume=resume, watch=watch)
    if tuned.result.signal:
        story.loss_after, story.answers_after = None, []  # of an earlier end, if any
    else:
        tell(Sentence("measuring again"))
        story.loss_after, story.answers_after = _measure(run, tuned.model, story.asked, tuning)
    story.save(run.folder)
    plot_losses(run, run.folder / "loss.svg")
    write_report(run, story, tuning, language)
    run.update(status="stopped" if tuned.result.signal else "finished", loss_before=story.loss_before,
               loss_after=story.loss_after)  # fmt: skip
    return Built(story, tuned)


def _prepare(
    run: Run,
    story: Story,
    settings: BuildSettings,
    minutes: float | None,
    language: str,
    tell: Callable[[Sentence], None],
) -> tuple[LanguageModel, FineTuneSettings]:
    """Split what makes examples and put it into the run; gives the base model and the settings as they were decided."""
    kept = read_kept(run.folder / CLEANING)
    rejects = run.folder / CLEANING / REJECTS
    if not kept:
        raise InputError("of {count} rows none is left after cleaning", hint="Look into {rejects} for the reasons.",
                         count=story.cleaning["rows_in"], rejects=rejects)  # fmt: skip
    tuning, base = settings.finetune, None
    if tuning.base == SCRATCH:  # whose vocabulary must not know the rows held out; this one only measures lengths
        template = get_template(tuning.template or SCRATCH_TEMPLATE)
        tokenizer, room = vocabulary(kept), SCRATCH_CONTEXT
    else:
        base = load(tuning.base, in_torch=True, device=tuning.train.device, template=tuning.template or None)
        if base.chat_template is None:  # a base model, which has never seen a conversation
            tuning, base.chat_template = replace(tuning, template=PLAIN), get_template(PLAIN)
        tokenizer, template, room = base.tokenizer, base.template, base.context_length
    # Before rows are held out: the only one held out could be too long.
    refused = _refused(kept, tokenizer, template, min(tuning.train.context, room))
    rows = _without(run, story, kept, refused, language)
    if not rows:
        raise InputError("of {count} clean rows none makes an example", hint="Look into {rejects} for the reasons.",
                         count=len(kept), rejects=rejects)  # fmt: skip
    share = settings.held_out if minutes is None else min(settings.held_out, most_held_out(minutes) / len(rows))
    train_rows, held_out = split(rows, share, tuning.train.seed)
    if base is None:
        make_scratch(run.folder / SCRATCH, train_rows, tuning)
        tuning = replace(tuning, base=str(run.folder / SCRATCH))
        base = load(tuning.base, in_torch=True, device=tuning.train.device, template=tuning.template or None)
    tuning = replace(tuning, train=replace(tuning.train, batch=min(tuning.train.batch, len(train_rows))))
    tuning, refused = prepare_finetune(run, train_rows, held_out, tuning)
    # Few or none: a vocabulary of its own that is not quite the one that lengths were measured with.
    train_rows, held_out = (_without(run, story, side, refused, language) for side in (train_rows, held_out))
    story.train_rows, story.held_out_rows = len(train_rows), len(held_out)
    story.leaks = len(leakage(train_rows, held_out))
    story.asked = [row for row in held_out if row.kind == "messages"][: settings.answers]
    if story.refused:
        tell(Sentence("too long or not to be expressed: {count} of {rows} rows; the reasons stand in {path}",
                      count=story.refused, rows=len(kept), path=rejects))  # fmt: skip
    return base, tuning


def _tell_few(story: Story, tuning: FineTuneSettings, tell: Callable[[Sentence], None]) -> None:
    if story.train_rows < FEW_ROWS or tuning.train.steps < FEW_STEPS:
        tell(Sentence("the model will hardly have learned anything: {rows} rows and {steps} steps are few; give more "
                      "rows or more --epochs", rows=story.train_rows, steps=tuning.train.steps))  # fmt: skip


def _milestones(tell: Callable[[Sentence], None]) -> Callable[[int], None]:
    """Tells now and then how many rows are cleaned."""
    told = 0

    def progress(rows: int) -> None:
        nonlocal told
        if rows - told >= MILESTONE:
            told = rows
            tell(Sentence("{rows:,} rows", rows=rows))

    return progress


def _refused(rows: Iterable[Row], tokenizer: Tokenizer, template: Template, context: int) -> list[Refused]:
    """The rows that make no example, as `prepare_finetune` would find them."""
    made = (make_example(row, tokenizer, None if row.kind == "text" else template, context) for row in rows)
    return [example for example in made if isinstance(example, Refused)]


def _without(run: Run, story: Story, rows: list[Row], refused: list[Refused], language: str) -> list[Row]:
    """The rows that were not refused; the others come into the story and into rejects.csv."""
    reasons = {(r.source, r.number): r for r in refused}
    gone = [(row, reasons[row.source, row.number]) for row in rows if (row.source, row.number) in reasons]
    story.refused += len(gone)
    if gone:
        names = [(row, "too-long" if r.tokens else "not-expressible", r.reason) for row, r in gone]
        add_rejects(run.folder / CLEANING, names, language)
    return [row for row in rows if (row.source, row.number) not in reasons]


def make_scratch(folder: Path, rows: Sequence[Row], settings: FineTuneSettings) -> None:
    """A small network with random weights and a tokenizer trained on these rows."""
    torch.manual_seed(settings.train.seed)
    tokenizer = vocabulary(rows)
    config = ModelConfig.modern(
        vocab_size=tokenizer.vocab_size, n_layer=4, n_head=4, n_embd=192, context_length=SCRATCH_CONTEXT, dropout=0.1
    )
    network = GPT(config)
    start_quietly(network)
    save_checkpoint(folder, network, tokenizer, SCRATCH_TEMPLATE)


def _measure(run: Run, model: LanguageModel, asked: list[Row], tuning: FineTuneSettings) -> tuple[float, list[Answer]]:
    """The loss on the held-out examples and the answers to some of them."""
    return measure_model(model, open_shards(run.folder / HELD_OUT), asked, tuning.train)
