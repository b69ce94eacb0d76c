"""Curves of losses as one drawing, which needs nothing else and follows the page's colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from glassgpt.core.html import Html, element

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34
TICKS = 5
LARGEST = 1e6  # a loss that is drawn: beyond it, a training has long failed
# Told apart without colours too: each has dashes of its own. Contrast with both grounds is at least 3.
_LINES = (("#1a73e8", ""), ("#c5621b", "6 3"), ("#1e8e4e", "2 3"), ("#9a5cc4", "9 3 2 3"), ("#c2407a", "4 4"),
          ("#4a8a96", "1 2"))  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """Points (step, loss in nats per token) under a name; `dots` where there are few."""

    name: str
    points: Sequence[tuple[int, float]]
    dots: bool = False


def plot(curves: Sequence[Curve], label: str, step: str, loss: str) -> Html:
    """A drawing of curves with its legend.

    Args:
        label: what it shows, for those who do not see it; the last value of each curve is added.
        step, loss: what stands at the axes.
    """
    shown = [Curve(c.name, [p for p in c.points if abs(p[1]) < LARGEST], c.dots) for c in curves]  # also no NaN
    shown = [curve for curve in shown if curve.points]
    points = [point for curve in shown for point in curve.points]
    if not points:
        return Html("")
    last = max(1, max(step for step, _ in points))
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    low, high = (low - 0.5, high + 0.5) if high - low < 1e-6 else (low, high)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(loss: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / (high - low)

    parts: list[object] = []
    for value in ticks(low, high):
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=_n(y(value)), y2=_n(y(value)), class_="gg-grid"))
        parts.append(element("text", f"{value:g}", x=LEFT - 6, y=_n(y(value) + 4), text_anchor="end"))
    for value in ticks(0, last):
        if value == int(value):
            parts.append(
                element("text", f"{int(value):,}", x=_n(x(value)), y=HEIGHT - BOTTOM + 16, text_anchor="middle")
            )
    parts.append(element("text", step, x=WIDTH - RIGHT, y=HEIGHT - 4, text_anchor="end"))
    parts.append(element("text", loss, x=LEFT + 4, y=TOP + 10))
    for curve, (colour, dashes) in zip(shown, _styles(len(shown)), strict=True):
        path = " ".join(f"{_n(x(s))},{_n(y(v))}" for s, v in curve.points)
        parts.append(element("polyline", points=path, fill="none", stroke=colour, stroke_width=2,
                             stroke_dasharray=dashes or None))  # fmt: skip
        if curve.dots:
            parts += [element("circle", cx=_n(x(s)), cy=_n(y(v)), r=3.5, fill=colour) for s, v in curve.points]
    ends = "; ".join(f"{curve.name} {curve.points[-1][1]:.3f}" for curve in shown)
    svg = element("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{label}: {ends}")
    legend = []
    for curve, (colour, dashes) in zip(shown, _styles(len(shown)), strict=True):
        line = element("line", x1=0, x2=26, y1=6, y2=6, stroke=colour, stroke_width=2, stroke_dasharray=dashes or None)
        mark = element("svg", line, viewBox="0 0 26 12", aria_hidden="true")
        legend.append(element("span", mark, f" {curve.name} {curve.points[-1][1]:.3f}"))
    return element("div", svg, element("p", *legend, class_="gg-legend"), class_="gg-plot")


def ticks(low: float, high: float, most: int = TICKS) -> list[float]:
    """Round numbers between two others, at most about `most`."""
    raw = (high - low) / most
    if raw <= 0 or not math.isfinite(raw):
        return []
    size = 10.0 ** math.floor(math.log10(raw))
    gap = size * next(factor for factor in (1, 2, 5, 10) if factor * size >= raw)
    first = math.ceil(low / gap)
    return [round(number * gap, 10) for number in range(first, math.floor(high / gap) + 1)]


def _styles(count: int) -> list[tuple[str, str]]:
    return [_LINES[number % len(_LINES)] for number in range(count)]


def _n(value: float) -> str:
    return f"{value:.1f}"
