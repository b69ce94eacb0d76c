"""A view of the tab Inside as a file: SVG or PNG."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from glassgpt.core.errors import ConfigError, nearest
from glassgpt.inside import plots
from glassgpt.inside.ablate import ablate
from glassgpt.inside.carried import carried_to
from glassgpt.inside.trace import run_with_trace
from glassgpt.ui.inside_views import WINDOW, check_place, switches_of
from glassgpt.ui.insight import Reply

TYPES = {"svg": "image/svg+xml", "png": "image/png"}
VIEWS = ("choices", "attention", "layers", "influence", "switches")


def picture(reply: Reply, view: str, kind: str, place: object, layer: int, head: int, off: Sequence[str],
            language: str, tuned: bool = False) -> bytes:  # fmt: skip
    """The picture of a view at a place.

    Raises:
        ConfigError: the view, the kind of file, the place, or the layer or head is unknown.
        InputError: what is off names no part.
    """
    for name, given, known in (("view", view, VIEWS), ("kind", kind, tuple(TYPES))):
        if given not in known:
            raise ConfigError("{name} is {given}; expected one of {known}", name=name, given=repr(given)[:40],
                              known=", ".join(known), hint="The nearest is {nearest}.",
                              nearest=nearest(given, list(known)) or known[0])  # fmt: skip
    at, opened = check_place(reply, place), reply.opened
    if view == "choices":
        figure = plots.alternatives(reply.steps[at - reply.start], language=language)
    elif view == "layers":
        start, stop = max(0, at - WINDOW[0]), min(len(opened.ids), at + WINDOW[1])
        figure = plots.lens(opened.lens(start, stop, 1, opened.tuned if tuned else None), language=language)
    elif view == "influence":
        found = reply.computed.get(at) or carried_to(opened, at, opened.ids[at])
        figure = plots.attribution(found, language=language)
    elif view == "switches":
        figure = plots.ablation(ablate(opened.model, opened.ids[:at], switches_of(list(off))), language=language)
    else:
        opened.pattern(layer, head)  # refuses what is not there
        _, trace = run_with_trace(opened.model, opened.ids, [f"blocks.{layer}.attn.pattern"])
        figure = plots.attention(trace, layer, head, language=language)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"picture.{kind}"
        plots.save(figure, path)
        return path.read_bytes()
