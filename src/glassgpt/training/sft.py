"""Supervised fine-tuning: a model learns answers from examples, by a low-rank correction (LoRA) or with all weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from glassgpt.core.config import settings_from
from glassgpt.core.errors import ConfigError, InputError
from glassgpt.core.memory import keep_large_apart, release
from glassgpt.core.runs import MODEL, Run
from glassgpt.core.words import Sentence
from glassgpt.data.batches import ROW_TOKENS, Batch, ExampleBatches, pack_examples
from glassgpt.data.doctor import check
from glassgpt.data.examples import Example, Refused, make_example
from glassgpt.data.rows import Row
from glassgpt.data.shards import Shards, open_shards, write_shards
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.load import load
from glassgpt.evaluation.answers import Answer, answer_row
from glassgpt.evaluation.held_out import answer_loss
from glassgpt.formats.checkpoint import load_checkpoint, write_checkpoint
from glassgpt.model.gpt import GPT
from glassgpt.model.lora import adapter_state, add_lora, load_adapter, merge_lora
from glassgpt.training.loop import Event, Result, Stage, best_checkpoint, held_out_loss, measuring, train
from glassgpt.training.machine import on_this_machine
from glassgpt.training.pretrain import HELD_OUT, TRAIN, make_optimizers
from glassgpt.training.processes import start_workers
from glassgpt.training.settings import LoraSettings, TrainSettings, check_above_0
from glassgpt.training.state import load_tensors, save_tensors
from glassgpt.training.usual import ANSWERS
from glassgpt.training.workers import Job

ADAPTER = "adapter.safetensors"
SAMPLES, EVALUATIONS = 2, 4


@dataclass(frozen=True)
class FineTuneSettings:
    """What is fine-tuned and how: the model's name or folder, its template where it must be named, the size of the
    correction (rank 0: all weights), how often every example is read, and the loop's settings (`steps` follows from
    `epochs`). Raises ConfigError."""

    base: str = "smollm2"
    template: str = ""
    epochs: float = 3.0
    lora: LoraSettings = field(default_factory=LoraSettings)
    train: TrainSettings = field(default_factory=lambda: TrainSettings(**ANSWERS))
    order: Literal["shuffled", "sequential"] = "shuffled"

    def __post_init__(self) -> None:
        check_above_0("epochs", self.epochs)
        if self.train.compile:
            raise ConfigError("train.compile is true, but fine-tuning is not compiled", hint="Leave train.compile out.")


@dataclass(frozen=True)
class FineTuned:
    """What a finished fine-tuning leaves: how it ended, and the model with the correction merged into it."""

    result: Result
    model: LanguageModel


def prepare_finetune(
    run: Run, rows: Iterable[Row], held_out: Iterable[Row], settings: FineTuneSettings
) -> tuple[FineTuneSettings, list[Refused]]:
    """Put a new run's examples into shards and its settings, with what was left open decided, into run.json; gives
    these and the rows that make no example.

    Raises:
        InputError: no example is left on one of the sides, or one must not be trained on (see `data.doctor`).
        ConfigError: the model is unknown.
    """
    base = load(settings.base, in_torch=True, template=settings.template or None)
    context = min(settings.train.context, base.context_length)
    refused: list[Refused] = []
    sides: list[list[Example]] = []
    for side in (rows, held_out):
        made: list[Example] = []
        for row in side:
            template = None if row.kind == "text" else base.template
            example = make_example(row, base.tokenizer, template, context)
            if isinstance(example, Refused):
                refused.append(example)
            else:
                made.append(example)
        if not any(example.trained for example in made):
            raise InputError(
                "no example is left to {purpose}",
                hint="Look at the rows with `glassgpt doctor`, or give a longer context (--set train.context=...).",
                purpose=Sentence("train on") if not sides else Sentence("hold out"),
            )
        sides.append(made)
    named = dict(zip(("train", "validation"), sides, strict=True))
    checked = check(named, base.tokenizer, base.chat_template, context=context)
    checked.refuse()
    for place, examples in zip((TRAIN, HELD_OUT), sides, strict=True):
        write_shards(examples, run.folder / place, base.tokenizer)
    settings = replace(settings, train=_resolved(settings, len(sides[0])), base=_lasting_name(settings.base))
    run.update(kind="finetune", status="ready", settings=asdict(settings), threads=torch.get_num_threads(),
               doctor=checked.summary())  # fmt: skip
    return settings, refused


def _resolved(settings: FineTuneSettings, examples: int) -> TrainSettings:
    """The loop's settings with the steps that the epochs make, evaluations between, and a precision of this machine."""
    loop = on_this_machine(settings.train)
    steps = max(1, math.ceil(settings.epochs * examples / (loop.batch * loop.accumulate)))
    return replace(loop, steps=steps, evaluate_every=loop.evaluate_every or evaluation_gap(steps))


def evaluation_gap(steps: int) -> int:
    """Steps between two evaluations where the user named none."""
    return max(1, math.ceil(steps / EVALUATIONS))


def _lasting_name(base: str) -> str:
    """A model's name that still holds when the run is resumed from another folder."""
    return str(Path(base).absolute()) if Path(base).exists() else base


def finetune(
    run: Run, *, resume: bool = False, until: float | None = None, watch: Callable[[Event], None] = lambda event: None
) -> FineTuned:
    """Train the run that `prepare_finetune` made (or go on with it) and leave the best model in its `model/`."""
    settings = settings_from(FineTuneSettings, run.about["settings"])
    torch.set_num_threads(run.about["threads"])  # sums are grouped by thread: another count gives other bits
    keep_large_apart()
    result, trained = _train(run, settings, resume, until, watch)
    release()  # the network that was trained, before another is loaded
    model = trained if isinstance(trained, LanguageModel) else _corrected(settings, trained, run)
    model.save(run.folder / MODEL)
    run.update(status="stopped" if result.signal else "finished", progress=result.progress.facts())
    return FineTuned(result, model)


@dataclass(frozen=True)
class Prepared:
    """What is trained of a prepared run: the base model, whose network has the correction in it, the stage, and what an
    evaluation reads."""

    base: LanguageModel
    stage: Stage
    held_out: list[Batch]


def prepare_stage(run: Run, settings: FineTuneSettings) -> Prepared:
    """The stage of a run that `prepare_finetune` made, at its beginning."""
    lora = settings.lora.rank > 0
    # Frozen weights may as well be stored in the type they are multiplied in; weights that are trained are not.
    stored = settings.train.precision if lora else "float32"
    base = load(
        settings.base, in_torch=True, precision=stored, device=settings.train.device, template=settings.template or None
    )
    network = base.network.requires_grad_(True)
    torch.manual_seed(settings.train.seed)
    if lora:
        add_lora(network, settings.lora.rank, settings.lora.alpha, settings.lora.dropout)
    network.train()
    shards = open_shards(run.folder / TRAIN, base.tokenizer)
    held_out = open_shards(run.folder / HELD_OUT, base.tokenizer)
    batches = ExampleBatches(
        shards, settings.train.batch, settings.train.seed, order=settings.order, row_tokens=_room(network)
    )
    parts = example_parts(held_out, settings.train.batch, _room(network))
    passes = settings.train.accumulate

    def save(folder: Path) -> None:
        if lora:
            save_tensors(adapter_state(network), folder / ADAPTER)
        else:
            write_checkpoint(folder, network, base.tokenizer, base.template.name if base.chat_template else "")

    def restore(folder: Path) -> None:
        if lora:
            load_adapter(network, load_tensors(folder / ADAPTER), str(folder))
        else:
            network.load_state_dict(load_checkpoint(folder, torch.float32).network.state_dict())

    stage = Stage(
        network=network,
        optimizers=make_optimizers(network, settings.train),
        batches=lambda step: [part for i in range(passes) for part in batches(step * passes + i).split(1)],
        loss=answer_loss,
        evaluate=lambda workers: held_out_loss(workers, parts),
        save=save,
        load=restore,
        sample=lambda: sample_answers(base, held_out, settings.train.sample_tokens),
    )
    return Prepared(base, stage, parts)


def _train(
    run: Run, settings: FineTuneSettings, resume: bool, until: float | None, watch: Callable[[Event], None]
) -> tuple[Result, LanguageModel | dict[str, Tensor]]:
    """Train; gives the model at its best, or, where a correction is trained, the correction alone: of the network then
    nothing is left in memory."""
    prepared = prepare_stage(run, settings)
    base, stage = prepared.base, prepared.stage
    run.update(status="training")
    result = train(stage, settings.train, run, resume=resume, until=until, watch=watch)
    if place := best_checkpoint(run, result.progress, settings.train.steps, watch):
        stage.load(place)
    if settings.lora.rank > 0:
        return result, adapter_state(stage.network)
    stage.network.eval().requires_grad_(False)
    return result, base


def _corrected(settings: FineTuneSettings, adapter: dict[str, Tensor], run: Run) -> LanguageModel:
    """The base model in float32 with a trained correction merged into it: added to weights in bfloat16, much of a small
    correction would be rounded away, and those that stayed frozen would not be the base's own."""
    base = load(settings.base, in_torch=True, device=settings.train.device, template=settings.template or None)
    network = add_lora(base.network, settings.lora.rank, settings.lora.alpha)
    load_adapter(network, adapter, str(run.folder))
    merge_lora(network).eval().requires_grad_(False)
    return base


def _room(network: GPT) -> int:
    """The most tokens of a row: no more than the network can read."""
    return min(ROW_TOKENS, network.config.context_length)


def example_parts(shards: Shards, batch: int, room: int) -> list[Batch]:
    """Every example once, `batch` of them packed at a time, in rows of at most `room` tokens."""
    groups = [range(i, min(i + batch, shards.documents)) for i in range(0, shards.documents, batch)]
    return [part for group in groups for part in pack_examples(shards, group, room).split(1)]


def measure_model(
    model: LanguageModel, shards: Shards, asked: Sequence[Row], settings: TrainSettings
) -> tuple[float, list[Answer]]:
    """The mean loss per learned token over every example, each read once, and the model's answers to some rows; the
    workers share out both."""
    network = model.network.eval()
    jobs: dict[str, Job] = {
        "measure": measuring(answer_loss, settings),
        "answer": lambda replica, row: answer_row(model, row),
    }
    with closing(start_workers(network, jobs)) as workers:
        loss = held_out_loss(workers, example_parts(shards, settings.batch, _room(network)))
        return loss, workers.map("answer", asked) if model.chat_template else []


def sample_answers(model: LanguageModel, shards: Shards, tokens: int) -> list[str]:
    """What the network now says to the first few held-out questions: the same ones every time."""
    texts = []
    for document in range(min(SAMPLES if tokens else 0, shards.documents)):
        start, stop = shards.span(document)
        learned = np.flatnonzero(shards.mask(start, stop))
        prompt = shards.tokens(start, start + int(learned[0])).tolist() if len(learned) else []
        room = model.context_length - len(prompt)
        if prompt and room > 0:
            ends = model.template.stop_ids(model.tokenizer) if model.chat_template else None
            pieces = model.stream_pieces(prompt, max_new_tokens=min(tokens, room), temperature=0, end_ids=ends)
            texts.append(model.tokenizer.decode(prompt) + "→ " + "".join(piece.text for piece in pieces))
    return texts
