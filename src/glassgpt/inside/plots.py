"""Pictures of what is inside, as matplotlib figures: they show themselves in a notebook, and `save` writes SVG or PNG.

    from glassgpt.inside import plots
    logits, trace = glassgpt.run_with_trace(model, "The capital of France is", names=["pattern"])
    plots.save(plots.attention(trace, layer=3, head=1), "attention.svg")

Each takes `language` ("en" or "zh") for its title and axes. Shades of one hue stand for numbers, so that a picture can
be read in grey and by the colour-blind. The numbers themselves: `numbers`. White space in tokens is drawn as ␣ and ⏎.

Shapes: T positions, S positions that are read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say
from glassgpt.inside.ablate import Ablation, Patching
from glassgpt.inside.attribute import Attribution
from glassgpt.inside.carried import Carried
from glassgpt.inside.heads import KINDS, HeadScore
from glassgpt.inside.lens import Lens
from glassgpt.inside.letters import shown
from glassgpt.inside.numbers import HeadPattern, head_pattern, numbers
from glassgpt.inside.picture import BLUE, GREY, ORANGE, SHADES, finished, picture, save
from glassgpt.inside.plots_text import alternatives, arcs, probabilities
from glassgpt.inside.trace import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 40  # tokens that are written along an axis; of more, every second, third and so on
MOST_WRITTEN = 32  # places of a lens whose likeliest tokens are written into its cells
DARK = 0.55  # from this shade on a text is white


def attention(trace: Trace, layer: int, head: int, part: str | None = None, *, language: str = "en") -> Figure:
    """What one head looks at: a row for each token that reads, a column for each that is read.

    Args:
        part: of an encoder and decoder "encoder", "decoder", or "cross", where the target reads the source.

    Raises:
        ConfigError: the trace has no such pattern.
    """
    seen = head_pattern(trace, layer, head, part)
    high, wide = (min(max(3.2, 0.26 * len(tokens) + 1.2), 9.5) for tokens in (seen.tokens, seen.sources))
    figure, axes = picture(wide + 1.0, high, language)
    pattern = seen.pattern.numpy()
    later = np.triu(np.full(pattern.shape, part != "cross"), 1) & (pattern == 0)
    grid = axes.imshow(np.ma.masked_array(pattern, later), cmap=SHADES, vmin=0, interpolation="nearest")
    axes.set_facecolor("#f4f4f4")  # what lies ahead cannot be seen, which is not the same as not looked at
    _labels(axes, "x", seen.sources, rotation=90)
    _labels(axes, "y", seen.tokens)
    axes.set_xlabel(say("token that is read", language))
    axes.set_ylabel(say("token that reads", language))
    axes.set_title(say("Attention of layer {layer}, head {head}", language, layer=layer, head=head))
    figure.colorbar(grid, ax=axes, shrink=0.7, label=say("share of attention", language))
    return finished(figure)


def lens(lens: Lens, *, language: str = "en") -> Figure:
    """What each layer would say at each place: the likeliest token, and its probability as a shade. Over many places
    the tokens are left out, which a line below says."""
    places, rows = len(lens.tokens), len(lens.readings)
    written = places <= MOST_WRITTEN
    best = [[reading.alternatives[0] for reading in row] for row in lens.readings]
    values = np.array([[found.probability for found in row] for row in best])
    cell = 0.6 if written else min(0.25, 12 / places)
    figure, axes = picture(max(5.0, cell * places + 2.0), max(3.0, 0.3 * rows + 1.6), language)
    grid = axes.imshow(values, cmap=SHADES, vmin=0, vmax=1, aspect="auto", origin="lower", interpolation="nearest")
    if written:
        for layer, row in enumerate(best):
            for place, found in enumerate(row):
                axes.text(place, layer, shown(found.text, 9), ha="center", va="center", fontsize=7,
                          color="white" if found.probability > DARK else "black")  # fmt: skip
    else:
        axes.set_xlabel(say("the likeliest tokens are written where there are up to {most} places", language,
                            most=MOST_WRITTEN), color=GREY, fontsize=8)  # fmt: skip
    _labels(axes, "x", lens.tokens, rotation=90 if not written else 45)
    step = -(-rows // 32)
    axes.set_yticks(range(0, rows, step), [str(n) if n else say("start", language) for n in range(0, rows, step)])
    axes.set_ylabel(say("after layer", language))
    kind = say("Tuned lens", language) if lens.tuned else say("Logit lens", language)
    axes.set_title(kind + say(": the next token as each layer would guess it", language))
    figure.colorbar(grid, ax=axes, label=say("probability", language))
    return finished(figure)


def attribution(attribution: Attribution | Carried, *, language: str = "en") -> Figure:
    """What each token did for the next one, or carried to it: bars up speak for it, hatched bars down against it."""
    scores = np.array(attribution.scores)
    figure, axes = picture(min(max(5.0, 0.34 * len(scores) + 1.5), 14.0), 3.8, language)
    for side, colour, hatch in ((scores >= 0, BLUE, None), (scores < 0, ORANGE, "///")):
        places = np.flatnonzero(side)
        axes.bar(places, scores[places], color=colour, edgecolor="black", linewidth=0.4, hatch=hatch)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlim(-0.6, len(scores) - 0.4)
    _labels(axes, "x", attribution.tokens, rotation=90 if len(scores) > 14 else 45)
    axes.set_ylabel(say("nats for the token", language))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    title = say("What made {token} likely", language, token=f"“{shown(attribution.target_text)}”")
    if isinstance(attribution, Carried):
        facts = say("score {total:.2f} above the others; {rest:.2f} of it are no token's", language,
                    total=attribution.total, rest=attribution.rest)  # fmt: skip
    else:
        facts = say("log-probability {low:.2f} → {high:.2f}; the bars miss the difference by {gap:.1%}", language,
                    low=attribution.baseline, high=attribution.logprob, gap=attribution.gap)  # fmt: skip
    axes.set_title(f"{title}\n", fontsize=12)
    axes.text(0.5, 1.02, facts, transform=axes.transAxes, ha="center", fontsize=8.5, color=GREY)
    return finished(figure)


def heads(scores: Sequence[HeadScore], kind: str = "induction", *, language: str = "en") -> Figure:
    """How much each head does of one thing: "previous", "first", "same", "duplicate" or "induction". Raises
    ConfigError: it is none of these, or there is no score."""
    if kind not in KINDS:
        raise ConfigError("{name} is {value!r}; expected one of {choices}", name="kind", value=kind,
                          choices=", ".join(KINDS))  # fmt: skip
    if not scores:
        raise ConfigError("there is nothing to draw", hint="Give at least one of them.")
    layers, count = max(s.layer for s in scores) + 1, max(s.head for s in scores) + 1
    values = np.full((layers, count), np.nan)
    for score in scores:
        values[score.layer, score.head] = getattr(score, kind)
    figure, axes = picture(max(4.6, 0.46 * count + 2.0), max(2.8, 0.3 * layers + 1.4), language)
    grid = axes.imshow(values, cmap=SHADES, vmin=0, vmax=1, aspect="auto", origin="lower", interpolation="nearest")
    if count <= 24:
        for (layer, head), value in np.ndenumerate(values):
            if value >= 0.095:  # what would be written as 0.1 or more
                axes.text(head, layer, f"{value:.1f}", ha="center", va="center", fontsize=8,
                          color="white" if value > DARK else "black")  # fmt: skip
    _whole_ticks(axes, layers, count)
    axes.set_xlabel(say("head", language))
    axes.set_ylabel(say("layer", language))
    axes.set_title(say(_HEADS[kind], language))
    figure.colorbar(grid, ax=axes, label=say("share of attention", language))
    return finished(figure)


_HEADS = {
    "previous": "Heads that look at the token before",
    "first": "Heads that look at the first token",
    "same": "Heads that look at the token itself",
    "duplicate": "Heads that look at the same token earlier",
    "induction": "Induction heads: what came after the same token earlier",
}


def patching(patching: Patching, *, language: str = "en") -> Figure:
    """How much of the answer comes back when one value is taken from the other text: a row for each value, a column for
    each place. Where it moves away from the answer by a twentieth or more, a minus is written."""
    values = np.array(patching.restored)
    rows, places = values.shape
    figure, axes = picture(min(max(5.0, 0.4 * places + 2.6), 14.0), max(2.8, 0.28 * rows + 1.8), language)
    grid = axes.imshow(values, cmap=SHADES, vmin=0, vmax=1, aspect="auto", origin="lower", interpolation="nearest")
    small = places <= 24
    for (row, place), value in np.ndenumerate(values):
        if value <= -0.05 or (small and value >= 0.095):
            text = f"{value:.1f}" if small else "−"
            axes.text(place, row, text.replace("-", "−"), ha="center", va="center", fontsize=8,
                      color="white" if value > DARK else "black")  # fmt: skip
    _labels(axes, "x", patching.tokens, rotation=90 if places > 14 else 45)
    step = -(-rows // 32)
    names = [name.removeprefix("blocks.") for name in patching.names]
    axes.set_yticks(range(0, rows, step), names[::step])
    axes.set_title(say("What brings the answer back", language))
    ends = "both" if values.min() < 0 and values.max() > 1 else "min" if values.min() < 0 else "neither"
    figure.colorbar(grid, ax=axes, extend="max" if ends == "neither" and values.max() > 1 else ends,
                    label=say("share of the difference", language))  # fmt: skip
    return finished(figure)


def ablation(ablation: Ablation, *, language: str = "en") -> Figure:
    """The next token's probabilities with everything on, and hatched with parts off."""
    shifts = ablation.shifts
    figure, axes = picture(6.4, 0.5 * len(shifts) + 1.9, language)
    places = np.arange(len(shifts))
    for offset, values, colour, hatch, name in (
        (-0.2, [s.before for s in shifts], BLUE, None, say("everything on", language)),
        (0.2, [s.after for s in shifts], ORANGE, "///", say("without {parts}", language, parts=_off(ablation))),
    ):
        drawn = axes.barh(places + offset, values, 0.4, color=colour, hatch=hatch, edgecolor="black", linewidth=0.4,
                          label=name)  # fmt: skip
        axes.bar_label(drawn, [f"{value:.1%}" for value in values], padding=3, fontsize=8)
    axes.set_yticks(places, [shown(s.text) for s in shifts])
    axes.invert_yaxis()
    axes.set_xlim(0, min(1.12, 1.18 * max(max(s.before, s.after) for s in shifts)))
    axes.set_xlabel(say("probability", language))
    axes.set_title(say("The next token, {bits:.2f} bits apart", language, bits=ablation.divergence))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return finished(figure)


def _off(ablation: Ablation) -> str:
    """What is switched off, in the short form of the field: L3H1."""
    off = ablation.switches
    names = [f"L{layer}H{head}" for layer, head in off.heads]
    names += [f"L{layer} attn" for layer in off.attention] + [f"L{layer} mlp" for layer in off.mlps]
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:4])} … ({len(names)})"


def _labels(axes: Any, side: str, tokens: Sequence[str], rotation: int = 0) -> None:
    """Tokens along an axis, at most `MOST_LABELS`."""
    step = -(-len(tokens) // MOST_LABELS)
    places = range(0, len(tokens), step)
    texts = [shown(tokens[place]) for place in places]
    size = 9 if len(places) <= 20 else 7.5
    set_ticks = axes.set_xticks if side == "x" else axes.set_yticks
    slanted: dict[str, Any] = {"rotation": rotation}
    if rotation == 45:
        slanted |= {"ha": "right", "rotation_mode": "anchor"}
    set_ticks(list(places), texts, fontsize=size, **slanted)


def _whole_ticks(axes: Any, layers: int, heads: int) -> None:
    """Every layer and head, or every second, third and so on of many."""
    axes.set_yticks(range(0, layers, -(-layers // 24)))
    axes.set_xticks(range(0, heads, -(-heads // 32)))


__all__ = ["HeadPattern", "ablation", "alternatives", "arcs", "attention", "attribution", "head_pattern", "heads",
           "lens", "numbers", "patching", "probabilities", "save"]  # fmt: skip
