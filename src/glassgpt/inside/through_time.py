"""The same text at every step of a training whose weights are there: its probabilities, its loss, and what a head looks
at. A run keeps snapshots and checkpoints (`training.snapshots`), of a whole network or of a low-rank correction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassgpt.core.config import settings_from
from glassgpt.core.errors import GlassError, NotFoundError
from glassgpt.core.runs import Run, check_prepared
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.load import load
from glassgpt.formats.checkpoint import load_checkpoint
from glassgpt.inside.look import (
    Look,
    choose_head,
    each_pattern,
    heads_held,
    look_numbers,
    looked_ids,
    read_all,
    read_patterns,
)
from glassgpt.inside.subject import Prompt, texts_of
from glassgpt.model.lora import add_lora, load_adapter
from glassgpt.text.template import get_template
from glassgpt.training.sft import ADAPTER, FineTuneSettings
from glassgpt.training.snapshots import series
from glassgpt.training.state import load_tensors


@dataclass(frozen=True)
class Moment:
    """One step of a training: what was seen of the text, and the losses that the run measured, in nats per token: that
    of the step itself, and the newest one on held-out data. None where there was none yet."""

    step: int
    seen: Look
    training_loss: float | None
    held_out_loss: float | None


@dataclass(frozen=True)
class ThroughTime:
    """A text through a training.

    Attributes:
        moments: the first step first.
        training, held_out: every loss that the run measured, as pairs of step and nats per token.
    """

    run: str
    steps: int
    moments: tuple[Moment, ...]
    training: tuple[tuple[int, float], ...]
    held_out: tuple[tuple[int, float], ...]


def through_time(folder: str | Path, prompt: Prompt, *, layer: int | None = None, head: int | None = None,
                 top: int = 5, every_head: bool = False) -> ThroughTime:  # fmt: skip
    """Look at a text at every step of a run whose weights are there.

    Args:
        layer, head: whose attention; of what is left open, the head that changed the most from the first to the last.
        every_head: other heads too, as many as a page holds.

    Raises:
        NotFoundError: it is no run, or nothing was kept of it.
        FormatError: weights are damaged.
        InputError: the text cannot be read or is too long.
        ConfigError: there is no such layer or head.
    """
    run = Run.open(Path(folder))
    for attempt in range(_ATTEMPTS):
        places = series(run.folder)
        if not places:
            raise NotFoundError("the run {folder} has no checkpoint yet", hint="Let it train for a while.",
                                folder=run.folder)  # fmt: skip
        try:
            return _through(run, places, prompt, layer, head, top, every_head)
        except GlassError:  # a training that is under way prunes its checkpoints
            if attempt + 1 == _ATTEMPTS or all(place.is_dir() for _, place in places):
                raise
    raise AssertionError("the last attempt returns or raises")


_ATTEMPTS = 3


def _through(run: Run, places: Sequence[tuple[int, Path]], prompt: Prompt, layer: int | None, head: int | None,
             top: int, every_head: bool) -> ThroughTime:  # fmt: skip
    losses = {name: tuple((m["step"], m[name]) for m in run.metrics() if name in m) for name in ("loss", "val_loss")}
    heads = _heads(run, places, prompt, layer, head, every_head)
    moments: list[Moment] = []
    for step, model in models(run, places):
        ids = looked_ids(model, prompt)
        steps, after = read_all(model, ids, top)
        seen = Look(tuple(ids), tuple(texts_of(model.tokenizer, ids)), steps, after, read_patterns(model, ids, heads))
        own = next((loss for at, loss in losses["loss"] if at == step), None)
        held_out = next((loss for at, loss in reversed(losses["val_loss"]) if at <= step), None)
        moments.append(Moment(step, seen, own, held_out))
    total = int(run.about[check_prepared(run)]["train"]["steps"])
    return ThroughTime(run.folder.name, total, tuple(moments), losses["loss"], losses["val_loss"])


def models(run: Run, places: Sequence[tuple[int, Path]]) -> Iterator[tuple[int, LanguageModel]]:
    """The model as it was at each of some steps; two at a time are in memory, and a correction's network is changed for
    the next. Raises FormatError, ConfigError."""
    settings = settings_from(FineTuneSettings, run.about["settings"]) if "settings" in run.about else None
    if settings is None or settings.lora.rank == 0:
        for step, place in places:
            found = load_checkpoint(place, torch.float32)
            template = get_template(found.template) if found.template else None
            yield step, LanguageModel(run.folder.name, found.network, found.tokenizer, "float32", template)
        return
    base = load(settings.base, in_torch=True, template=settings.template or None)
    network = add_lora(base.network, settings.lora.rank, settings.lora.alpha)
    for step, place in places:
        load_adapter(network, load_tensors(place / ADAPTER), str(place))
        yield step, base


def _heads(run: Run, places: Sequence[tuple[int, Path]], prompt: Prompt, layer: int | None, head: int | None,
           every_head: bool) -> list[tuple[int, int]]:  # fmt: skip
    """The chosen head, or the one whose pattern changed the most, and others beside it."""
    first: dict[int, Tensor] = {}

    def change(number: int, pattern: Tensor) -> Tensor:
        return (pattern - first[number]).abs().mean(dim=(1, 2))

    ends = [places[0], places[-1]]
    for number, (_, model) in enumerate(models(run, ends)):
        ids, config = looked_ids(model, prompt), model.config
        if number == 0:
            each_pattern(model, ids, lambda at, pattern: first.update({at: pattern.clone()}))
        else:
            chosen = choose_head(model, ids, change, layer, head)
    if not every_head:
        return [chosen]
    return heads_held(config.n_layer, config.n_head, chosen, len(ids), len(places))


def time_numbers(through: ThroughTime) -> dict[str, Any]:
    """All numbers of it, for `json.dumps`."""
    moments = [
        {"step": moment.step, "training_loss": moment.training_loss, "held_out_loss": moment.held_out_loss}
        | {name: value for name, value in look_numbers(moment.seen).items() if name != "kind"}
        for moment in through.moments
    ]
    losses = {"training": list(map(list, through.training)), "held_out": list(map(list, through.held_out))}
    return {"kind": "through time", "run": through.run, "steps": through.steps, "moments": moments} | losses
