"""What is seen of a token in each view, as numbers and sentences for `glass.js`. No page library here, and torch in the
views alone that need it."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from glassgpt.core.errors import InputError
from glassgpt.core.words import say
from glassgpt.engine.request import sampling_settings
from glassgpt.engine.settings import check_int
from glassgpt.inside.steps import decide
from glassgpt.ui.inside_origins import origins
from glassgpt.ui.insight import Reply

if TYPE_CHECKING:
    from glassgpt.inside.ablate import Switches
    from glassgpt.inside.heads import Summary

MOST_MATRIX = 1024  # places in a picture of attention; of longer texts the last ones
WINDOW = (6, 4)  # places before and after the one that is looked at, in the view of layers
PATIENCE_S = 20.0  # for the gradients of one token
AGAIN = 40  # tokens that are written with parts switched off

View = Callable[[Reply, int, Mapping[str, Any], str], dict[str, Any]]


def about(reply: Reply, place: int, language: str) -> dict[str, Any]:
    """What the page needs of a reply before any view is seen."""
    opened = reply.opened
    return {
        "message": reply.message.id,
        "tokens": opened.tokens,
        "start": reply.start,
        "place": place,
        "layers": opened.layers,
        "heads": opened.heads,
        "chances": [step.probability for step in reply.steps],
        "ablation": say("Switch parts off and let the model answer again from here. Rows are layers, columns heads.",
                        language),
    }  # fmt: skip


def choices(reply: Reply, place: int, given: Mapping[str, Any], language: str) -> dict[str, Any]:
    """What else could have come here, and what other settings would have made of it."""
    step, opened = reply.steps[place - reply.start], reply.opened
    usual = sampling_settings(reply.sampling)
    settings = sampling_settings(reply.sampling | {
        "temperature": _number(given.get("temperature"), usual.temperature),
        "top_p": _number(given.get("top_p"), usual.top_p),
    })  # fmt: skip
    decision = decide(opened.model, opened.ids[:place], settings, top=100)
    after = {one.id: one.after for one in decision.considered}
    ends = opened.model.template.stop_ids(opened.model.tokenizer) if opened.model.chat_template else frozenset()
    alternatives = list(step.alternatives)
    rows = [{"id": a.id, "text": a.text, "probability": a.probability, "after": after.get(a.id, 0.0),
             "here": a.id == step.id, "ends": a.id in ends} for a in alternatives]  # fmt: skip
    if step.id not in {a.id for a in alternatives}:
        rows.append({"id": step.id, "text": step.text, "probability": step.probability,
                     "after": after.get(step.id, 0.0), "here": True, "ends": False})  # fmt: skip
    said = say("“{token}” was token number {rank} of the likeliest. The choice was as open as one among {count:.1f} "
               "that are alike ({bits:.1f} bits).", language, token=visible(step.text), rank=step.rank,
               count=2**step.entropy, bits=step.entropy)  # fmt: skip
    kept = say("Tokens to choose from: {kept}", language, kept=decision.kept)
    return {"place": place, "said": said, "kept": kept, "temperature": settings.temperature,
            "top_p": settings.top_p, "alternatives": rows, "rank": step.rank, "entropy": step.entropy}  # fmt: skip


def attention(reply: Reply, place: int, given: Mapping[str, Any], language: str) -> dict[str, Any]:
    """What a head read when this token was chosen, and its whole pattern."""
    opened = reply.opened
    layer, head = _whole(given.get("layer")), _whole(given.get("head"))
    readers = opened.readers(place)
    if layer < 0:  # nothing was chosen yet
        layer, head = (readers[0].layer, readers[0].head) if readers else (0, 0)
    pattern = opened.pattern(layer, head)
    row = pattern[place - 1].tolist()
    most = sorted(range(place), key=lambda p: -row[p])[:8]
    last = max(0, len(opened.ids) - MOST_MATRIX)
    matrix = (pattern[last:, last:].numpy() * 255).round().astype(np.uint8)
    said = say("Layer {layer}, head {head}, when “{token}” was chosen. In this text it {does}.", language, layer=layer,
               head=head, token=visible(opened.tokens[place]), does=does(opened.summary(layer, head), language),
               )  # fmt: skip
    return {"place": place, "said": said, "layer": layer, "head": head, "weights": row[:place], "first": last,
            "most": [{"place": p, "weight": row[p]} for p in most], "size": len(matrix),
            "readers": [{"layer": r.layer, "head": r.head, "place": r.place, "weight": r.weight} for r in readers],
            "matrix": base64.b64encode(matrix.tobytes()).decode()}  # fmt: skip


def does(summary: Summary, language: str) -> str:
    """What a head does, in words."""
    from glassgpt.inside.heads import NAMED

    if summary.previous >= NAMED:
        return say("looks mostly at the token before ({share:.0%})", language, share=summary.previous)
    if summary.first >= NAMED:
        return say("rests mostly on the first token ({share:.0%})", language, share=summary.first)
    if summary.same >= NAMED:
        return say("looks mostly at the token itself ({share:.0%})", language, share=summary.same)
    return say("spreads over some {count:.0f} tokens", language, count=2**summary.entropy)


def layers(reply: Reply, place: int, given: Mapping[str, Any], language: str) -> dict[str, Any]:
    """What each layer would have said, around this place; by the model's own tuned lens where that is asked for."""
    from glassgpt.inside.tuned import lens_file

    opened = reply.opened
    start, stop = max(0, place - WINDOW[0]), min(len(opened.ids), place + WINDOW[1])
    lens = opened.lens(start, stop, 5, opened.tuned if given.get("tuned") is True else None)
    chosen = place - 1 - start
    final = lens.readings[-1][chosen].alternatives[0]
    since = next(i for i in range(len(lens.readings))
                 if all(r[chosen].alternatives[0].id == final.id for r in lens.readings[i:]))  # fmt: skip
    said = say("The likeliest token for this place, “{token}”, leads from layer {layer} of {count} on.", language,
               token=visible(final.text), layer=since, count=opened.layers)  # fmt: skip
    rows = [
        {
            "layer": str(number),
            "cells": [
                {"text": r.alternatives[0].text, "probability": r.alternatives[0].probability,
                 "divergence": r.divergence,
                 "others": [{"text": a.text, "probability": a.probability} for a in r.alternatives]}
                for r in reading
            ],
        }
        for number, reading in reversed(list(enumerate(lens.readings)))
    ]  # fmt: skip
    hint = say("A tuned lens reads early layers more truly. This trains one in five minutes: {command} (or name a "
               "text file of yours)", language,
               command=f"glassgpt look {shlex.quote(opened.model.name)} --tune python-docs")  # fmt: skip
    there = opened.model.path is not None and lens_file(opened.model).is_file()
    return {"place": place, "said": said, "places": list(range(start, stop)), "rows": rows, "tuned": lens.tuned,
            "tunable": there, "hint": "" if there or opened.model.path is None else hint}  # fmt: skip


def influence(reply: Reply, place: int, given: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Which tokens made this one likely: what they carried, at once; by integrated gradients where it is asked for."""
    from glassgpt.inside.attribute import attribute, strongest
    from glassgpt.inside.carried import carried_to

    opened = reply.opened
    if given.get("exactly") and place not in reply.computed:
        exact = attribute(opened.model, opened.ids[:place], opened.ids[place], seconds=PATIENCE_S, going=reply.going)
        if reply.going():  # else it was broken off
            reply.computed[place] = exact
    if found := reply.computed.get(place):
        scores = found.scores
        said = say("What each token before added to the log-probability of “{token}” (integrated gradients; {gap:.1%} "
                   "of the whole are unexplained, {steps} gradients).", language, token=visible(found.target_text),
                   gap=found.gap, steps=found.steps)  # fmt: skip
    else:
        direct = carried_to(opened, place, opened.ids[place])
        scores = direct.scores
        said = say("What each token before carried to “{token}”, whose score is {total:.1f} above the others. "
                   "Where the heads looked is taken as given.", language, token=visible(direct.target_text),
                   total=direct.total)  # fmt: skip
    return {"place": place, "said": said, "scores": list(scores), "exactly": found is not None,
            "most": [{"place": p, "score": scores[p]} for p in strongest(scores, 8) if scores[p]]}  # fmt: skip


def switches(reply: Reply, place: int, given: Mapping[str, Any], language: str) -> dict[str, Any]:
    """What would have come here with parts switched off, and how the reply would have gone on."""
    from glassgpt.inside.ablate import Switches, ablate, answer_with

    opened = reply.opened
    off = switches_of(given.get("off"))
    ids = opened.ids[:place]
    found = ablate(opened.model, ids, off)
    model = opened.model
    ends, stops = model.template.stop_ids(model.tokenizer), model.template.stop_strings
    most = min(AGAIN, model.context_length - place)
    both = [
        "".join(piece.text for piece in takewhile(
            lambda _: reply.going(), answer_with(model, ids, parts, most, ends=ends, stops=stops, temperature=0.0)))
        for parts in (Switches(), off)
    ]  # fmt: skip
    said = say("The likeliest token here is “{token}” instead of “{before}”; the distributions are {bits:.2f} bits "
               "apart.", language, token=visible(found.after.text), before=visible(found.before.text),
               bits=found.divergence)  # fmt: skip
    if found.after.id == found.before.id:
        said = say("The likeliest token here stays “{token}”; the distributions are {bits:.2f} bits apart.", language,
                   token=visible(found.before.text), bits=found.divergence)  # fmt: skip
    return {"place": place, "said": said, "before": both[0], "after": both[1], "divergence": found.divergence,
            "shifts": [{"text": s.text, "before": s.before, "after": s.after} for s in found.shifts]}  # fmt: skip


def switches_of(given: object) -> Switches:
    """What the page's names of parts mean: "h3.1" a head, "a3" a layer's attention, "m3" its MLP. Raises InputError."""
    from glassgpt.inside.ablate import Switches

    heads: list[tuple[int, int]] = []
    attention: list[int] = []
    mlps: list[int] = []
    names = given if isinstance(given, list) else []
    for name in names[:10_000]:
        kind, _, rest = str(name)[:1], "", str(name)[1:]
        numbers = rest.split(".")
        if (
            kind not in "ham"
            or not all(n.isascii() and n.isdigit() for n in numbers)
            or len(numbers) != (2 if kind == "h" else 1)
        ):
            raise InputError("{name} names no part", name=repr(name)[:40])
        if kind == "h":
            heads.append((int(numbers[0]), int(numbers[1])))
        else:
            (attention if kind == "a" else mlps).append(int(numbers[0]))
    return Switches(tuple(heads), tuple(attention), tuple(mlps))


VIEWS: dict[str, View] = {
    "choices": choices, "attention": attention, "layers": layers, "influence": influence, "switches": switches,
    "origins": origins,
}  # fmt: skip

WITHOUT_TORCH = ("choices", "origins")


def check_place(reply: Reply, place: object) -> int:
    """A place in the reply; raises ConfigError."""
    number = _whole(place)
    check_int("place", number, reply.start, len(reply.opened.ids) - 1)
    return number


def visible(text: str) -> str:
    """A token with its white space made visible."""
    return text.replace("\n", "⏎").replace("\t", "⇥").strip(" ") or "␣" * len(text) or "∅"


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return -1
    try:
        return int(value)
    except (ValueError, OverflowError):
        return -1


def _number(value: object, usual: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else usual
