"""What the scripts of this folder share: a picture is drawn once for each language, and saved beside the chapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

IMAGES = Path(__file__).resolve().parents[1] / "images"
BLUE, GREEN, RED, GREY, YELLOW = "#4a6fa5", "#3f8f63", "#c0504d", "#b8c0cc", "#d9a441"
Words = Callable[[str, str], str]  # the English and the Chinese text to the one that is wanted


def _english(en: str, zh: str) -> str:
    return en


def _chinese(en: str, zh: str) -> str:
    return zh


def both(name: str, draw: Callable[[Words], Figure], kind: str = "svg") -> Iterator[Path]:
    """Draw in English and Chinese; letters are kept as shapes, so that a reader needs no Chinese font."""
    for language, ending in (("en", ""), ("zh", ".zh")):
        fonts = ["Noto Sans CJK SC", "Noto Sans CJK JP", "DejaVu Sans"]
        settings: Any = {
            "font.family": fonts if language == "zh" else ["DejaVu Sans", *fonts[:2]], "svg.fonttype": "path",
            "svg.hashsalt": "glassgpt", "axes.spines.top": False, "axes.spines.right": False, "font.size": 10,
            "axes.unicode_minus": False,
        }  # fmt: skip
        with matplotlib.rc_context(settings):
            figure = draw(_chinese if language == "zh" else _english)
            path = IMAGES / f"{name}{ending}.{kind}"
            path.parent.mkdir(exist_ok=True)
            figure.savefig(path, metadata={"Date": None} if kind == "svg" else None, dpi=110, bbox_inches="tight")
            plt.close(figure)
        yield path


def save(name: str, draw: Callable[[Words], Figure], kind: str = "svg") -> None:
    """`both`, telling what was written."""
    for path in both(name, draw, kind):
        print(f"{path.name}: {path.stat().st_size:,} bytes")
