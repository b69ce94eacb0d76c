"""The whole trip: a file goes in, a model that answers in its words comes out, and every row is accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.core.runs import Run
from glassgpt.core.words import Sentence
from glassgpt.data.clean import clean
from glassgpt.data.clean_report import CleanReport
from glassgpt.data.filters import CleanSettings
from glassgpt.data.report import Problem, SourceReport
from glassgpt.data.rows import Row
from glassgpt.data.shards import open_shards
from glassgpt.data.sources import read_rows
from glassgpt.data.split import leakage, split
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.load import load
from glassgpt.evaluation.answers import Answer, answer_rows
from glassgpt.formats.checkpoint import save_checkpoint
from glassgpt.formats.place import find_model
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.training.build_report import write_report
from glassgpt.training.loop import Event
from glassgpt.training.pretrain import HELD_OUT, start_quietly
from glassgpt.training.record import plot_losses
from glassgpt.training.settings import LoraSettings
from glassgpt.training.sft import FineTuned, FineTuneSettings, examples_loss, finetune, prepare_finetune
from glassgpt.training.workers import Workers

SCRATCH = "scratch"
CLEANING = "cleaning"
PLAIN = "plain"


@dataclass(frozen=True)
class BuildSettings:
    """What a build does: `clean` is `CleanSettings`' changes, `held_out` the share of rows that is measured on,
    `answers` how many of those are answered before and after. Raises ConfigError."""

    finetune: FineTuneSettings = field(default_factory=FineTuneSettings)
    clean: dict[str, Any] = field(default_factory=dict)
    held_out: float = 0.1
    answers: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ConfigError("{name} is {value}; expected a number above 0 and below 1", name="held_out",
                              value=self.held_out)  # fmt: skip
        if self.answers < 0:
            raise ConfigError("{name} is {value}; expected {least} or more", name="answers", value=self.answers,
                              least=0)  # fmt: skip


@dataclass
class Story:
    """What happened, for the report: `before` and `after` training, on the same held-out rows."""

    data: str
    sources: list[SourceReport]
    cleaning: CleanReport
    train_rows: int = 0
    held_out_rows: int = 0
    refused: list[tuple[str, int, Sentence]] = field(default_factory=list)
    leaks: int = 0
    loss_before: float = 0.0
    loss_after: float = 0.0
    answers_before: list[Answer] = field(default_factory=list)
    answers_after: list[Answer] = field(default_factory=list)


@dataclass(frozen=True)
class Built:
    """A finished build: its story, how the training ended, and the model."""

    story: Story
    tuned: FineTuned


def build(
    run: Run,
    data: str | Path,
    settings: BuildSettings,
    *,
    columns: dict[str, str] | None = None,
    encoding: str | None = None,
    language: str = "en",
    tell: Callable[[Sentence], None] = lambda sentence: None,
    watch: Callable[[Event], None] = lambda event: None,
) -> Built:
    """Read, clean, split, measure, fine-tune, measure again, and leave it all in `run`, with a report.html.

    Args:
        tell: called with what is being done now.
        watch: called with the training's events.

    Raises:
        InputError: no row is left after cleaning, or nothing can be held out.
        NotFoundError: the model is unknown.
        GlassError: whatever reading, cleaning or training refuses.
    """
    if settings.finetune.base != SCRATCH:
        find_model(settings.finetune.base)  # a wrong name is told now, and not when a large file has been cleaned
    tell(Sentence("reading and cleaning {data}", data=data))
    problems: list[Problem] = []
    sources: list[SourceReport] = []
    rows = read_rows(data, columns=columns, encoding=encoding, report=sources, problems=problems.append)
    report = clean(
        rows,
        run.folder / CLEANING,
        settings=CleanSettings.from_dict(settings.clean),
        problems=problems,
        language=language,
    )
    story = Story(str(data), sources, report)
    kept = _kept(run)
    if not kept:
        raise InputError(
            "of {count} rows none is left after cleaning",
            hint="Look into {rejects} for the reasons.",
            count=report.rows_in,
            rejects=run.folder / CLEANING / "rejects.csv",
        )
    train_rows, held_out = split(kept, settings.held_out, settings.finetune.train.seed)
    story.train_rows, story.held_out_rows = len(train_rows), len(held_out)
    story.leaks = len(leakage(train_rows, held_out))
    tuning = _with_base(run, settings.finetune, train_rows)
    tuning, refused = prepare_finetune(run, train_rows, held_out, tuning)
    story.refused = [(r.source, r.number, r.reason) for r in refused]
    run.update(kind="build", data=str(data), build=asdict(replace(settings, finetune=tuning)))

    base = load(tuning.base, template=tuning.template or None)
    asked = [row for row in held_out if row.kind == "messages"][: settings.answers]
    tell(Sentence("measuring {model} before training, on {count} held-out rows", model=settings.finetune.base,
                  count=len(held_out)))  # fmt: skip
    story.loss_before, story.answers_before = _measure(run, base, asked, tuning)
    del base
    tell(Sentence("training on {count} rows, {epochs:g} times", count=len(train_rows), epochs=tuning.epochs))
    tuned = finetune(run, watch=watch)
    tell(Sentence("measuring again"))
    story.loss_after, story.answers_after = _measure(run, tuned.model, asked, tuning)
    plot_losses(run, run.folder / "loss.svg")
    write_report(run, story, tuning, language)
    run.update(status="stopped" if tuned.result.signal else "finished", loss_before=story.loss_before,
               loss_after=story.loss_after)  # fmt: skip
    return Built(story, tuned)


def _kept(run: Run) -> list[Row]:
    """The clean rows, under the names and numbers of the file that they came from."""
    path = run.folder / CLEANING / "clean.jsonl"
    rows = list(read_rows(path)) if path.stat().st_size else []
    with path.open(encoding="utf-8") as lines:
        for row, line in zip(rows, lines, strict=True):
            origin = json.loads(line)
            row.source, row.number = origin["source"], origin["row"]
    return rows


def _with_base(run: Run, settings: FineTuneSettings, rows: Sequence[Row]) -> FineTuneSettings:
    """Settings whose base model has a template; "scratch" becomes a small network with a vocabulary of its own."""
    if settings.base == SCRATCH:
        make_scratch(run.folder / SCRATCH, rows, settings)
        train = replace(settings.train, optimizer="muon", lr=0.003, matrix_lr=0.02, schedule="wsd", weight_decay=0.1)
        return replace(settings, base=str(run.folder / SCRATCH), lora=LoraSettings(rank=0), train=train,
                       epochs=max(settings.epochs, 20.0))  # fmt: skip
    if not settings.template and load(settings.base).chat_template is None:
        return replace(settings, template=PLAIN)  # a base model, which has never seen a conversation
    return settings


def make_scratch(folder: Path, rows: Sequence[Row], settings: FineTuneSettings) -> None:
    """A small network with random weights and a tokenizer trained on these rows."""
    torch.manual_seed(settings.train.seed)
    tokenizer = train_bpe((text for row in rows for text in row.texts), vocab_size=2048)
    config = ModelConfig.modern(
        vocab_size=tokenizer.vocab_size, n_layer=4, n_head=4, n_embd=192, context_length=512, dropout=0.1
    )
    network = GPT(config)
    start_quietly(network)
    save_checkpoint(folder, network, tokenizer, "chatml")


def _measure(run: Run, model: LanguageModel, asked: list[Row], tuning: FineTuneSettings) -> tuple[float, list[Answer]]:
    """The loss on the held-out examples and the answers to some of them."""
    with closing(Workers(model.network.eval(), torch.get_num_threads())) as workers:
        loss = examples_loss(workers, open_shards(run.folder / HELD_OUT), tuning.train)
    return loss, answer_rows(model, asked) if asked and model.chat_template else []
