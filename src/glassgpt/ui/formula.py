"""Formulas in LaTeX as MathML, which browsers draw by themselves."""

from __future__ import annotations

from html import escape

LONGEST, DEEPEST = 2000, 40  # characters of a formula, and braces in each other
# Each reads its argument twice, so that they double in each other; or moves what is drawn, over the page too.
REFUSED = ("\\sideset", "\\hspace", "\\href", "\\style", "\\class", "\\def", "\\newcommand")
MATHML = {
    "math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "msup", "msub", "msubsup", "mfrac", "msqrt", "mroot",
    "mtable", "mtr", "mtd", "munder", "mover", "munderover", "mstyle", "mpadded", "mphantom", "menclose",
    "mmultiscripts", "mprescripts",
}  # fmt: skip
MATHML_ATTRIBUTES = {
    "display", "mathvariant", "stretchy", "fence", "separator", "columnalign", "columnspacing", "rowspacing",
    "columnlines", "rowlines", "linethickness", "width", "height", "depth", "lspace", "rspace", "movablelimits",
    "accent", "form", "minsize", "maxsize", "displaystyle", "scriptlevel", "notation", "frame",
}  # fmt: skip


def formula(latex: str, *, block: bool, around: tuple[str, str]) -> str:
    """A formula as MathML; what cannot be read is shown as it was written, between the signs `around` it."""
    written = escape(around[0] + latex + around[1])
    if len(latex) > LONGEST or _depth(latex) > DEEPEST or any(name in latex for name in REFUSED):
        return f"<code>{written}</code>"
    from latex2mathml.converter import convert

    try:
        return convert(latex, display="block" if block else "inline")
    except Exception:  # the library raises many kinds, and RecursionError
        return f"<code>{written}</code>"


def _depth(latex: str) -> int:
    depth = most = 0
    for character in latex:
        depth += {"{": 1, "}": -1}.get(character, 0)
        most = max(most, depth)
    return max(most, latex.count("\\left"))
