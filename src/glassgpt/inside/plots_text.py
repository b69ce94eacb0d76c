"""Pictures that are a text: coloured by probability, what one step considered, and what one token looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glassgpt.core.errors import ConfigError
from glassgpt.core.words import say
from glassgpt.engine.settings import check_int
from glassgpt.inside.letters import shown, width
from glassgpt.inside.numbers import head_pattern
from glassgpt.inside.picture import BLUE, GREY, ORANGE, SHADES, finished, picture
from glassgpt.inside.steps import Alternative, Step
from glassgpt.inside.trace import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE = 76  # narrow letters on a line of text
MOST_TOKENS = 3000  # of one picture
FAINTEST = 0.01  # the share of attention from which on an arc is drawn
FLAT = 90  # letters up to which the tokens under arcs are written side by side


def probabilities(steps: Sequence[Step], *, language: str = "en") -> Figure:
    """A text whose tokens are shaded by the probability that the model gave them: the darker, the likelier.

    Raises:
        ConfigError: there is no step, or there are more than `MOST_TOKENS`.
    """
    _check_count(steps)
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Rectangle

    rows, texts = 0, []
    at = 0.0
    for step in steps:
        text = shown(step.text, LINE)
        wide = width(text) + 0.6
        if at and at + wide > LINE:
            rows, at = rows + 1, 0.0
        texts.append((at, rows, wide, text, step.probability))
        at += wide + 0.15
        if step.text.endswith("\n"):
            rows, at = rows + 1, 0.0
    rows = max(row for _, row, *_ in texts) + 1
    across = max(at + wide for at, _, wide, *_ in texts)
    figure, axes = picture(max(4.2, 0.098 * across + 0.4), 0.32 * rows + 1.35, language)
    colours = ScalarMappable(cmap=SHADES)
    colours.set_clim(0, 1)
    for at, row, wide, text, probability in texts:
        shade: Any = colours.to_rgba(np.array([probability]))[0]
        axes.add_patch(Rectangle((at, row), wide, 0.82, facecolor=shade, edgecolor="#bbbbbb", linewidth=0.4))
        axes.text(at + wide / 2, row + 0.43, text, ha="center", va="center", fontsize=10, family="monospace",
                  color="white" if probability > 0.55 else "black")  # fmt: skip
    axes.set_xlim(-0.3, max(across, 0.0) + 0.3)
    axes.set_ylim(rows + 0.1, -0.2)
    axes.set_axis_off()
    axes.set_title(say("How likely each token was", language))
    bar = figure.colorbar(colours, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, pad=0.02)
    bar.set_label(say("probability", language))
    return finished(figure)


def alternatives(step: Step, *, language: str = "en") -> Figure:
    """What one step considered, the likeliest first. The token that came is hatched, and stands last with its rank
    where it is not among them."""
    rows = [*step.alternatives]
    if all(found.id != step.id for found in rows):
        rows.append(Alternative(step.id, step.text, step.probability))
    figure, axes = picture(6.0, 0.34 * len(rows) + 1.5, language)
    came = [found.id == step.id for found in rows]
    looks: Any = {"color": [ORANGE if own else BLUE for own in came], "hatch": ["///" if own else "" for own in came]}
    amounts = [found.probability for found in rows]
    drawn = axes.barh(range(len(rows)), amounts, 0.7, edgecolor="black", linewidth=0.4, **looks)
    axes.bar_label(drawn, [f"{found.probability:.1%}" if found.probability >= 0.001 else f"{found.probability:.1e}"
                           for found in rows], padding=3, fontsize=9)  # fmt: skip
    names = [shown(found.text) for found in rows]
    if step.rank > len(step.alternatives):
        names[-1] += f" ({say('rank {rank}', language, rank=step.rank)})"
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, min(1.12, 1.18 * max(found.probability for found in rows) or 1.0))
    axes.set_xlabel(say("probability", language))
    axes.set_title(say("Instead of {token}: the choice was {bits:.1f} bits open", language,
                       token=f"“{shown(step.text)}”", bits=step.entropy), fontsize=11)  # fmt: skip
    return finished(figure)


def arcs(trace: Trace, layer: int, head: int, position: int, part: str | None = None, *,
         language: str = "en") -> Figure:  # fmt: skip
    """What the token at one position looks at, by one head: the thicker an arc, the larger the share. Arcs of less than
    1 % are left out.

    Args:
        part: of an encoder and decoder "encoder" or "decoder".

    Raises:
        ConfigError: the trace has no such pattern, it is between two texts, or there is no such position.
    """
    if part == "cross":
        raise ConfigError("arcs are drawn within one text; cross-attention has two", hint="Use plots.attention.")
    seen = head_pattern(trace, layer, head, part)
    _check_count(seen.tokens)
    check_int("position", position, 0, len(seen.tokens) - 1)
    from matplotlib.patches import Arc, Circle

    shares = seen.pattern[position].numpy()
    labels = [shown(token) for token in seen.tokens]
    flat = sum(map(width, labels)) + len(labels) <= FLAT
    wide = np.array([width(label) + 1.2 for label in labels]) if flat else np.full(len(labels), 1.8)
    centres = wide.cumsum() - wide / 2
    inches = min(max(4.5, 0.1 * wide.sum() + 0.6), 14.0)
    farthest = max((abs(centres[position] - centres[i]) for i in np.flatnonzero(shares >= FAINTEST)), default=1.0)
    high = max(farthest / 2, wide.sum() / 12)  # an arc is half as high as it is wide
    unit = (inches - 0.4) / wide.sum()
    names = 0.5 if flat else 0.07 * max(map(width, labels)) + 0.2
    figure, axes = picture(inches, min(high * unit, 3.4) + names + 0.7, language)
    for place in np.flatnonzero(shares >= FAINTEST).tolist():
        share, far = float(shares[place]), abs(centres[position] - centres[place])
        middle = (centres[position] + centres[place]) / 2
        if place == position:
            axes.add_patch(Circle((middle, high * 0.06), high * 0.055, fill=False, edgecolor=ORANGE,
                                  linewidth=0.5 + 6 * share))  # fmt: skip
        else:
            axes.add_patch(Arc((middle, 0), far, far, theta1=0, theta2=180, edgecolor=BLUE, linewidth=0.5 + 6 * share,
                               alpha=0.35 + 0.6 * share))  # fmt: skip
    told = set(np.argsort(-shares, kind="stable")[:6].tolist()) if flat else set()
    step = 1 if flat else -(-len(labels) // 70)
    down = names / max(unit, 1e-9)
    for place, label in enumerate(labels):
        own = place == position
        if place % step and not own:
            continue
        frame = {"boxstyle": "round,pad=0.15", "facecolor": "#ffe9b8", "edgecolor": ORANGE}
        axes.text(centres[place], -0.05 * high, label, ha="center", va="top", rotation=0 if flat else 90,
                  fontsize=10 if flat else 8, color="black" if own or shares[place] >= FAINTEST else GREY,
                  fontweight="bold" if own else "normal", bbox=frame if own else None)  # fmt: skip
        if place in told and shares[place] >= 0.05:
            axes.text(centres[place], -0.05 * high - 0.26 / unit, f"{shares[place]:.0%}", ha="center", va="top",
                      fontsize=7.5, color=GREY)  # fmt: skip
    axes.set_xlim(-0.5, wide.sum() + 0.5)
    axes.set_ylim(-down, high * 1.05)
    axes.set_axis_off()
    axes.set_title(say("What {token} looks at: layer {layer}, head {head}", language,
                       token=f"“{labels[position]}”", layer=layer, head=head), fontsize=11)  # fmt: skip
    return finished(figure)


def _check_count(tokens: Sequence[Any]) -> None:
    if not tokens:
        raise ConfigError("there is nothing to draw", hint="Give at least one of them.")
    if len(tokens) > MOST_TOKENS:
        raise ConfigError("a picture holds up to {most} tokens; {count} were given", hint="Give a part of them.",
                          most=MOST_TOKENS, count=len(tokens))  # fmt: skip
