"""Formulas as MathML, code in colours, and colours that can be read."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from html_walk import check_harmless
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.ui import highlight as code
from glassgpt.ui.markdown import markdown_css, to_html
from glassgpt.ui.math import MAX_SOURCE, to_mathml


@pytest.mark.parametrize(
    "text",
    ["$x$", "$x^2$.", "**$x$**", "设$x$为", "($n \\times 2$)", "$$x$$", "\\(x\\)", "\\[x\\]",
     "a\n$$\nx\n+ y\n= z\n$$\nb",
     "- a\n  $$\n  x\n  $$", "$$\\begin{aligned}\na &= b \\\\\n- c\n\\end{aligned}$$", "\\[\n\\frac{a}{b}\n\\]",
     "$3 x$", "| a |\n|-|\n| $x$ |"],
)  # fmt: skip
def test_formulas_are_found(text: str):
    assert to_html(text).count("<math") == 1
    assert "$" not in to_html(text) and "\\" not in to_html(text)


@pytest.mark.parametrize(
    "text",
    ["$5 and $6", "from $5 to $10.", "US$5, A$6", "$5, or 6$ more", "$5 and 6$", "5$ and 6$", "`$x$`",
     "\\$x\\$", "$ x $",
     "$x", "$$", "$$$x$$$", "$", "\\(\\)", "$HOME and $PATH", "a$b$c", "    $x$", "$20k each, $30k all", "\\[ \\]",
     "```\n$x$\n```"],
)  # fmt: skip
def test_money_and_other_dollars_are_text(text: str):
    assert "<math" not in to_html(text)
    dollars = text.count("$")
    assert to_html(text).count("$") == dollars


@pytest.mark.parametrize(
    "text", ["$\\frac{$", "$\\nosuch{x}$", "\\(x^{\\)", "$$\\href{javascript:alert(1)}{x}$$", "$}x{$"]
)
def test_what_cannot_be_read_is_shown_as_it_was(text: str):
    assert check_harmless(to_html(text)).text.strip() == text


def test_lines_that_open_a_formula_without_end_are_a_paragraph():
    assert to_html("$$\na *b*\n\n# c") == "<p>$$\na <em>b</em></p>\n<h1>c</h1>\n"


@pytest.mark.parametrize(
    ("source", "drawn"),
    [("\\mathbf{ab}", "𝐚"), ("\\mathbb{R}", "ℝ"), ("\\mathcal{L}", "ℒ"), ("\\text{a < b}", "&lt;"), ("a < b", "&lt;"),
     ("\\text{&lt;b&gt;}", "&amp;lt;"), ("\\sum_{i}^{n}", "∑"), ("\\begin{cases}1\\\\2\\end{cases}", "<mtable"),
     ("a \\\\ b", "<mtable"), ("a\\!b", "-0.1667em"), ("\\color{red}{x}", 'mathcolor="red"')],
)  # fmt: skip
def test_formulas_are_drawn(source: str, drawn: str):
    assert drawn in str(to_mathml(source, True))


DOUBLING = "\\newcommand{\\a}{xx}" + "".join(
    f"\\newcommand{{\\{new}}}{{\\{old}\\{old}}}" for old, new in pairwise("abcdefghijklmnopqrstuvwxy")
)


@pytest.mark.parametrize(
    "source",
    [DOUBLING + "\\y", "\\sideset{_1}{_2}{" * 30 + "\\sum" + "}" * 30, "{" * 900 + "}" * 900,
     "\\sqrt" * 300,
     "\\frac" * 300, "'" * 1_900, "\\left(" * 150 + "\\right)" * 150, "a" * (MAX_SOURCE + 1), "\\hspace{-40em}",
     "\\raise{30em}{x}", "\\style{color:red}{x}", "\\class{q-page}{x}", "\\hspace{-1em}" * 9, "\\rule{900em}{900em}",
     "\\color{url(x)}{x}", "^^", "\\begin{a}", "&"],
)  # fmt: skip
def test_formulas_that_would_do_harm_are_not_drawn(source: str):
    """Macros that grow, operands that double, deep nesting, parts that lie over the page."""
    began = time.process_time()
    drawn = to_mathml(source, True)
    assert time.process_time() - began < 2
    assert drawn is None or source in ("'" * 1_900, "&")


LATEX = st.lists(
    st.sampled_from(["\\frac", "{", "}", "x", "^", "_", "\\sqrt", "[", "]", "&", "\\\\", "\\begin{matrix}",
                     "\\end{matrix}",
                     "\\left(", "\\right)", "\\text{<b onx=1>}", "<", ">", '"', "'", "\\sum", "\\limits", "\\over", "1",
                     "em",
                     "\\hspace{1em}", "\\color{red}", "\\unicode{x3c}", "\\mathbf", "\\not", "\\genfrac", "\\verb|<b>|",
                     "%"]),
    max_size=40,
).map("".join)  # fmt: skip


@given(st.one_of(LATEX, st.text(max_size=100)), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_formula_is_harmless(source: str, display: bool):
    drawn = to_mathml(source, display)
    if drawn is not None:
        check_harmless(drawn)
        assert drawn.startswith("<math ") and drawn.endswith("</math>")


def test_code_is_coloured_under_the_name_of_its_language():
    markup = to_html("```py\ndef f(): pass\n```")
    assert '<div class="gg-language">Python</div>' in markup
    assert '<span class="hl-k">def</span>' in markup
    assert "style=" not in markup


@pytest.mark.parametrize(
    "text",
    ["```nosuch\nx = 1\n```", "```\nx = 1\n```", "    x = 1", "```python\n" + "x = 1\n" * 5_000 + "```",
     "```python\nx = " + "1" * 2_000 + "\n```"],
)  # fmt: skip
def test_code_in_an_unknown_language_or_too_long_is_plain(text: str):
    assert "hl-" not in to_html(text)
    assert "x = 1" in to_html(text)


def test_the_name_of_an_unknown_language_is_text():
    assert '<div class="gg-language">&lt;b&gt;</div>' in to_html("```<b> more\nx\n```")


@pytest.mark.parametrize("name", sorted({name for _, name in code._LANGUAGES.values()}))
def test_every_language_is_known_to_pygments_and_code_stays_whole(name: str):
    text = "\n\n  x = \"a\" + 1 # c <&>\n\tif (y) { return [1.5, 'b'] } // d\n/* e */ -- f\n\n"
    coloured = code.highlight(text, name)
    assert coloured is not None
    assert check_harmless(f"<pre>{coloured}</pre>").text == text


@pytest.mark.parametrize("name", ["c", "java", "csharp", "octave", "python", "ini", "ocaml", "console"])
@pytest.mark.parametrize("piece", ["\n", "a\n ", "(", '"', "${", "1_", "=", "a" * 998 + "\n", "${" * 450 + "\n"])
def test_odd_code_is_coloured_soon_or_plain(name: str, piece: str):
    began = time.process_time()
    code.highlight(piece * (code.LONGEST // len(piece)), name)
    assert time.process_time() - began < 3


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_the_standard_has_it():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("dark", [False, True])
def test_every_colour_of_code_can_be_read_on_its_ground(dark: bool):
    """By what the style sheet says, not by the tables that it is made from."""
    rules = re.findall(r"^(:is\(\.body--dark, \.dark\) )?\.([\w-]+) \{([^}]*)\}", markdown_css(), re.MULTILINE)
    found = [(name, dict(re.findall(r"(color|background): (#[0-9a-f]{6})", body))) for scope, name, body in rules
             if bool(scope) == dark]  # fmt: skip
    colours = [(name, rule) for name, rule in found if "color" in rule]
    ground = next(rule["background"] for name, rule in colours if name == "gg-code")
    assert {name for name, _ in colours} == {*code.CLASSES, "gg-code", "gg-language"}
    low = {name: contrast(rule["color"], rule.get("background", ground)) for name, rule in colours}
    assert {name: ratio for name, ratio in low.items() if ratio < 4.5} == {}
