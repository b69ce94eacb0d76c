"""A look as one HTML page that needs nothing else: our script draws what stands in it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from glassgpt.core.html import Html, data, element, page
from glassgpt.core.words import say
from glassgpt.inside.letters import shown
from glassgpt.inside.look import LENS_PLACES, Look
from glassgpt.inside.numbers import HeadPattern
from glassgpt.inside.steps import Alternative
from glassgpt.inside.through_time import ThroughTime

POINTS = 300  # of a curve; of more, so many groups are averaged
_WORDS = (
    "step {step} of {steps}", "the step before", "the next step", "play", "stop", "loss of this text", "training loss",
    "held-out loss", "training step", "probability", "bits", "rank {rank}", "next",
    "The text: the stronger the shade, the likelier",
    "Choose a token to see what else was considered; the arrow keys move on.",
    "In place of {token}", "What comes next", "the first token has none before it", "Attention", "head",
    "layer {layer}, head {head}", "{token} looks at", "Rows read, columns are read. Choose a row.",
    "How the guess forms", "layer", "start", "What made it likely", "nats", "Losses, nats per token", "none yet",
)  # fmt: skip


def look_page(look: Look, name: str, language: str) -> str:
    """The page of one look."""
    held = _held([look], language) | {"moments": [_moment(look)]}
    if look.lens:
        rows = [[[shown(r.alternatives[0].text), _p(r.alternatives[0].probability), round(r.entropy, 3)] for r in row]
                for row in look.lens.readings]  # fmt: skip
        held["lens"] = {"start": look.lens.start, "rows": rows}
        held["words"]["lens"] = (
            say("The likeliest next token after each layer, translated into the last layer's language (tuned lens), at "
                "the last {count} places at most.", language, count=LENS_PLACES)
            if look.lens.tuned else
            say("The likeliest next token after each layer, read with the model's own head (logit lens), at the last "
                "{count} places at most.", language, count=LENS_PLACES)
        )  # fmt: skip
    if found := look.attribution:
        held["attribution"] = {"scores": [round(score, 5) for score in found.scores], "gap": found.gap}
        held["words"]["attribution"] = say(
            "What each token added to the log-probability of {token}, from {low:.2f} to {high:.2f}; the sum misses the "
            "difference by {gap:.2%} (integrated gradients).", language, token=f"“{shown(found.target_text)}”",
            low=found.baseline, high=found.logprob, gap=found.gap,
        )  # fmt: skip
    return _page(say("Inside {name}", language, name=Path(name).name or name), held, language)


def time_page(through: ThroughTime, language: str) -> str:
    """The page of a text through a training, with a slider over its steps."""
    seen = [moment.seen for moment in through.moments]
    moments = [
        _moment(moment.seen) | {"step": moment.step, "training": moment.training_loss, "held_out": moment.held_out_loss}
        for moment in through.moments
    ]
    curves = {"training": thinned(through.training), "held_out": [list(pair) for pair in through.held_out]}
    held = _held(seen, language) | {"moments": moments, "steps": through.steps, "curves": curves}
    return _page(say("{name} through its training", language, name=through.run), held, language)


def thinned(points: Sequence[tuple[int, float]]) -> list[list[float]]:
    """A curve of at most `POINTS` points: each the last step and the mean loss of a group."""
    size = -(-len(points) // POINTS) or 1
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [[group[-1][0], round(sum(loss for _, loss in group) / len(group), 5)] for group in groups]


def _page(title: str, held: dict[str, Any], language: str) -> str:
    folder = files("glassgpt.inside")
    style, script = ((folder / f"look.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    without = element("noscript", element("p", say("This page is drawn by its own script.", language)))
    return page(title, language, element("style", Html(style)), without, element("div", id="look"), data("seen", held),
                script=script)  # fmt: skip


def _held(seen: Sequence[Look], language: str) -> dict[str, Any]:
    """What is the same at every moment."""
    first = seen[0]
    words = {word: say(word, language, **{name: f"{{{name}}}" for name in ("step", "steps", "rank", "token", "layer",
                                                                          "head")}) for word in _WORDS}  # fmt: skip
    return {"words": words, "tokens": [shown(token, 40) for token in first.tokens], "raw": list(first.tokens),
            "heads": [[pattern.layer, pattern.head] for pattern in first.patterns]}  # fmt: skip


def _moment(look: Look) -> dict[str, Any]:
    steps = [{"p": _p(step.probability), "rank": step.rank, "bits": round(step.entropy, 3),
              "others": _others(step.alternatives)} for step in look.steps]  # fmt: skip
    after = {"bits": round(look.next.entropy, 3), "others": _others(look.next.alternatives)}
    return {"loss": look.loss, "steps": steps, "next": after, "patterns": [_shares(p) for p in look.patterns]}


def _others(alternatives: Sequence[Alternative]) -> list[list[Any]]:
    return [[shown(found.text, 40), _p(found.probability)] for found in alternatives]


def _p(probability: float) -> float:
    """Six digits, whatever the size."""
    return float(f"{probability:.6g}")


def _shares(pattern: HeadPattern) -> list[int]:
    """The lower triangle of a pattern, row after row, in thousandths."""
    rows = (pattern.pattern * 1000).round().int().tolist()
    return [share for place, row in enumerate(rows) for share in row[: place + 1]]
