"""Pictures: that they hold the numbers, that nothing in a token spoils them, and what becomes of their files."""

from __future__ import annotations

import json
import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import glassgpt
from glassgpt.core.errors import ConfigError, GlassError
from glassgpt.inside import letters, plots
from glassgpt.inside.ablate import Ablation, Patching, Shift, Switches
from glassgpt.inside.attribute import Attribution
from glassgpt.inside.carried import Carried
from glassgpt.inside.heads import HeadScore
from glassgpt.inside.lens import Lens, Reading
from glassgpt.inside.picture import SHADES
from glassgpt.inside.steps import Alternative, Step
from glassgpt.inside.trace import Trace
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.model.transformer import Transformer, TransformerConfig

TOKENS = ["It", " costs", " $5_{x}$", "\n", "<|end|>", "海", "$\\frac", "\x00"]


@pytest.fixture
def trace() -> Trace:
    """A made-up pattern of two heads over tokens that spoil what they can."""
    size = len(TOKENS)
    pattern = torch.rand(1, 2, size, size, generator=torch.Generator().manual_seed(1)).tril()
    pattern /= pattern.sum(-1, keepdim=True)
    network = GPT(ModelConfig(vocab_size=8, n_layer=1, n_head=2, n_embd=8, context_length=16))
    return Trace({"blocks.0.attn.pattern": pattern}, torch.zeros(1, size, 8), list(range(size)), TOKENS, network)


def alternatives(first: float, *rest: float) -> tuple[Alternative, ...]:
    return tuple(Alternative(n, TOKENS[n], p) for n, p in enumerate((first, *rest)))


STEPS = [Step(n, n, TOKENS[n], 0.1 * n, -1.0 if n else -np.inf, 1 + n, 2.5, alternatives(0.6, 0.3)) for n in range(8)]
READINGS = [
    [Reading(alternatives(0.1 + 0.1 * layer + 0.05 * n), 1.5, 0.5, 0.25) for n in range(3)] for layer in range(4)
]
LENS = Lens(tuple(TOKENS[:3]), 0, tuple(map(tuple, READINGS)), False)
ATTRIBUTION = Attribution(tuple(TOKENS[:4]), (0.0, 1.5, -0.75, 0.25), 5, "海", -0.5, -1.5, 0.004, 24)
HEADS = [HeadScore(0, 0, 0.9, 0.1, 0.0, 0.0, 0.02), HeadScore(0, 1, 0.1, 0.2, 0.3, 0.4, 0.5)]
ABLATION = Ablation(Switches(heads=((3, 1),)), (Shift(1, TOKENS[2], 0.7, 0.2), Shift(2, "海", 0.1, 0.6)), 1.25)
CARRIED = Carried(tuple(TOKENS[:3]), (1.5, -0.25, 0.5), 2, "海", 2.0, 0.25)
PATCHING = Patching(
    ("blocks.0.resid_pre", "blocks.1.resid_pre"), tuple(TOKENS[:3]), ((0.0, 1.0, -0.3), (0.5, 1.1, 0.0)), 2, -1
)


def pictures(trace, language="en"):
    return {
        "attention": plots.attention(trace, 0, 1, language=language),
        "arcs": plots.arcs(trace, 0, 1, 5, language=language),
        "probabilities": plots.probabilities(STEPS, language=language),
        "alternatives": plots.alternatives(STEPS[3], language=language),
        "lens": plots.lens(LENS, language=language),
        "attribution": plots.attribution(ATTRIBUTION, language=language),
        "carried": plots.attribution(CARRIED, language=language),
        "heads": plots.heads(HEADS, language=language),
        "patching": plots.patching(PATCHING, language=language),
        "ablation": plots.ablation(ABLATION, language=language),
    }


def grid(figure) -> np.ndarray:
    """The numbers of a heat map, as it was drawn."""
    return np.asarray(figure.axes[0].images[0].get_array())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_picture_is_written_without_a_warning_and_its_texts_stay_texts(trace, language, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "no installed font")
        warnings.filterwarnings("ignore", "已安装的字体缺少")
        for name, figure in pictures(trace, language).items():
            if language == "en" or name == "attribution":
                plots.save(figure, tmp_path / f"{name}.png")
                assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
            plots.save(figure, tmp_path / f"{name}.svg")
            svg = ElementTree.parse(tmp_path / f"{name}.svg")
            texts = {"".join(node.itertext()) for node in svg.iter("{http://www.w3.org/2000/svg}text")}
            title = figure.axes[0].get_title().strip()
            assert title in texts and bool(re.search("[\u4e00-\u9fff]", title.replace("海", ""))) == (language == "zh")


def test_a_dollar_in_a_token_is_no_mathematics_and_white_space_is_seen(trace, tmp_path):
    plots.save(plots.attention(trace, 0, 0), tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(f">{label}</text>" in svg for label in ("␣$5_{x}$", "⏎", "$\\frac", "&lt;00&gt;", "␣costs"))


def test_a_picture_written_again_is_the_same_to_the_byte(trace, tmp_path):
    for name in ("one.svg", "two.svg"):
        plots.save(plots.lens(LENS), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_picture_is_replaced_whole_or_not_at_all(trace, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    plots.save(plots.lens(LENS), path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(GlassError):
        plots.save(plots.attention(trace, 0, 0), path)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["a.png"]


def test_the_numbers_are_json_and_those_of_the_pictures(trace):
    drawn = pictures(trace)
    pattern = json.loads(json.dumps(plots.numbers(plots.head_pattern(trace, 0, 1)), allow_nan=False))
    assert pattern["tokens"] == TOKENS and np.allclose(pattern["pattern"], trace["blocks.0.attn.pattern"][0, 1])
    shown = np.tril(grid(drawn["attention"]))
    assert np.allclose(shown, np.tril(pattern["pattern"]))

    told = {name: json.loads(json.dumps(plots.numbers(thing), allow_nan=False)) for name, thing in
            {"lens": LENS, "attribution": ATTRIBUTION, "carried": CARRIED, "ablation": ABLATION, "patching": PATCHING,
             "heads": HEADS, "steps": STEPS, "step": STEPS[3]}.items()}  # fmt: skip
    assert all(told[name]["kind"] == name for name in told)
    best = [[reading["alternatives"][0]["probability"] for reading in row] for row in told["lens"]["readings"]]
    assert np.allclose(grid(drawn["lens"]), best)
    assert np.allclose(grid(drawn["patching"]), told["patching"]["restored"])
    assert np.allclose(grid(drawn["heads"]), [[0.02, 0.5]]) and told["heads"]["heads"][1]["induction"] == 0.5
    assert sorted(p.get_height() for p in drawn["attribution"].axes[0].patches) == sorted(told["attribution"]["scores"])
    assert sorted(p.get_height() for p in drawn["carried"].axes[0].patches) == sorted(told["carried"]["scores"])
    shifts = told["ablation"]["shifts"]
    widths = [p.get_width() for p in drawn["ablation"].axes[0].patches]
    assert widths == [s["before"] for s in shifts] + [s["after"] for s in shifts]
    assert told["steps"]["steps"][0]["logprob"] is None, "JSON knows no infinity"
    assert [p.get_width() for p in drawn["alternatives"].axes[0].patches] == [0.6, 0.3, STEPS[3].probability]
    assert [a["probability"] for a in told["step"]["alternatives"]] == [0.6, 0.3]


def test_the_shade_of_a_token_is_its_probability(trace):
    import matplotlib

    figure = plots.probabilities(STEPS)
    colours = matplotlib.colormaps[SHADES]([step.probability for step in STEPS])
    boxes = list(figure.axes[0].patches)
    assert np.allclose([box.get_facecolor() for box in boxes], colours)
    assert [text.get_text() for text in figure.axes[0].texts] == [letters.shown(token) for token in TOKENS]


def test_an_arc_leads_to_every_token_that_gets_a_hundredth_or_more(trace):
    shares = trace["blocks.0.attn.pattern"][0, 1, 5]
    arcs = plots.arcs(trace, 0, 1, 5).axes[0].patches
    assert len(arcs) == int((shares >= 0.01).sum())
    assert max(arc.get_linewidth() for arc in arcs) == pytest.approx(0.5 + 6 * float(shares.max()))


def test_a_long_text_has_fewer_labels(trace):
    size = 200
    pattern = torch.eye(size)[None, None]
    long = Trace({"blocks.0.attn.pattern": pattern}, torch.zeros(1, size, 8), [0] * size, ["word"] * size, trace._model)
    axes = plots.attention(long, 0, 0).axes[0]
    assert 20 <= len(axes.get_xticks()) <= plots.MOST_LABELS and grid(axes.figure).shape == (size, size)


def test_an_encoder_and_decoder_have_three_kinds_of_patterns(trace):
    torch.manual_seed(0)
    config = TransformerConfig(13, 13, embed_size=16, heads=2, encoder_layers=2, decoder_layers=2, mlp_dim=32,
                               max_len=16, dropout=0.0)  # fmt: skip
    source, target = torch.tensor([[3, 4, 5, 6, 7]]), torch.tensor([[1, 7, 6]])
    _, seen = glassgpt.run_with_trace(Transformer(config), (source, target), names=["pattern", "cross.pattern"])
    for part, name, size in (("encoder", "encoder.blocks.1.attn", (5, 5)), ("decoder", "decoder.blocks.1.attn", (3, 3)),
                             ("cross", "decoder.blocks.1.cross", (3, 5))):  # fmt: skip
        axes = plots.attention(seen, 1, 1, part).axes[0]
        assert grid(axes.figure).shape == size
        pattern = seen[f"{name}.pattern"][0, 1].numpy()
        assert np.allclose(np.tril(grid(axes.figure)), np.tril(pattern))
        assert part == "decoder" or np.allclose(grid(axes.figure), pattern), "nothing lies ahead there"
        texts = [[label.get_text() for label in labels] for labels in (axes.get_yticklabels(), axes.get_xticklabels())]
        assert texts == [list(map(str, (target if part != "encoder" else source)[0].tolist())),
                         list(map(str, (target if part == "decoder" else source)[0].tolist()))]  # fmt: skip
    numbers = plots.numbers(plots.head_pattern(seen, 1, 0, "cross"))
    assert numbers["tokens"] == ["1", "7", "6"] and numbers["sources"] == ["3", "4", "5", "6", "7"]
    assert plots.arcs(seen, 0, 0, 2, "decoder").axes[0].patches
    for draw, said in ((lambda: plots.attention(seen, 0, 0), "encoder, decoder, cross"),
                       (lambda: plots.attention(trace, 0, 0, "cross"), "part is 'cross'; expected one of None"),
                       (lambda: plots.arcs(seen, 0, 0, 0, "cross"), "within one text")):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            draw()


def test_a_notebook_shows_a_picture(trace):
    assert plots.heads(HEADS)._repr_png_().startswith(b"\x89PNG")


def test_without_a_font_for_a_character_one_line_warns_in_a_png_and_svg_leaves_it_to_the_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(letters, "CHINESE_FONTS", ())
    letters.families.cache_clear()
    try:
        figure = plots.attribution(ATTRIBUTION, language="zh")
        with pytest.warns(UserWarning) as told:
            plots.save(figure, tmp_path / "a.png")
        assert len(told) == 1 and "Noto Sans CJK" in str(told[0].message) and "\n" not in str(told[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plots.save(figure, tmp_path / "a.svg")
        assert "海" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    finally:
        letters.families.cache_clear()


def test_what_cannot_be_drawn_is_refused_by_name(trace, tmp_path):
    with pytest.raises(ConfigError, match=r"holds no blocks\.3"):
        plots.attention(trace, 3, 0)
    with pytest.raises(ConfigError, match="no head 2"):
        plots.attention(trace, 0, 2)
    with pytest.raises(ConfigError, match="position"):
        plots.arcs(trace, 0, 0, 99)
    with pytest.raises(ConfigError, match="kind is 'copying'"):
        plots.heads(HEADS, "copying")
    with pytest.raises(ConfigError, match="nothing to draw"):
        plots.probabilities([])
    with pytest.raises(ConfigError, match="language is 'de'"):
        plots.lens(LENS, language="de")
    with pytest.raises(ConfigError, match=r"neither in \.svg"):
        plots.save(plots.lens(LENS), tmp_path / "a.bmp")
    (tmp_path / "file").write_text("kept")
    with pytest.raises(GlassError, match="could not be written"):
        plots.save(plots.lens(LENS), tmp_path / "file" / "a.svg")
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(ConfigError, match="dict has no numbers"):
        plots.numbers({})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("token", "expected"), [(" a b", "␣a␣b"), ("\r\n\t", "←⏎⇥"), ("\u200b", "<200B>"), ("x" * 20, "x" * 13 + "…")]
)
def test_a_token_is_shown_with_its_white_space(token, expected):
    assert letters.shown(token) == expected
