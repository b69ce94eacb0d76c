"""Repairs of one text: what is broken is put right, what could be meant stays."""

from __future__ import annotations

import gzip
import json
import unicodedata

import pytest
from ftfy.badness import is_bad
from hypothesis import assume, given
from hypothesis import strategies as st

from glassgpt.data.filters import _PLAIN, REPAIRS
from glassgpt.data.mojibake import _WESTERN, repair_mojibake
from glassgpt.data.repair import normalize, strip_control, strip_html, tidy_whitespace

# Each must come out of every repair as it went in.
UNTOUCHED = [
    "if a < b and c > d: print(a<b, c>d)",
    "I <3 you, a <- b, x << 2, <= and >=, <>",
    "List<int> xs = new ArrayList<Map<String, List<T>>>();",
    "#include <stdio.h>\nint main(void) {\n    return 0;\n}",
    "std::vector<a> v; template <typename T> T f(T x);",
    "What does the <b> tag do?",
    "Use `<b>bold</b>` and `&amp;` here",
    "```html\n<p>Hello &amp; goodbye</p>\n```",
    "AT&T and R&D, a && b, ?x=1&copy=2&y=3, p = &sum;",
    "for i in range(3):\n    if x < y:\n        print('x < y')\n\n    return x",
    "    Shall I compare thee\n      to a summer's day?\n    Thou art more lovely",
    "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。",
    "　　第一段缩进。\n　　第二段缩进。",
    "彼得·帕克（Peter Parker）说：“你好！”……《红楼梦》——他问：对吗？",
    "👨‍👩‍👧‍👦 🏳️‍🌈 👩🏽‍💻 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f ❤️",
    "می‌خواهم",  # Persian is written with the zero-width non-joiner
    "क्‍ष और श्‍",  # Hindi with the joiner
    "Zażółć gęślą jaźń, façade, naïve, Ærøskøbing, CONDIÇÃO, ÀÉÎÕÜ, créée",
    "Größe: 5×£35, 2012—∞, Ôôô, 「日本語」 한국어 Русский Ελληνικά",
    "E = mc², ∑ xᵢ ≤ ∞, ∀x ∈ ℝ, 5!, √2, a ≠ b",
    "1\tone\n2\ttwo",
    "line one\r\nline two",
    "They said 'no'.  Two spaces stay.",
    "繁體中文：長江後浪推前浪，銀行、電門、鐘錶。",
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_is_right_stays(text):
    text = unicodedata.normalize("NFC", text)
    for name, repair in REPAIRS.items():
        assert repair(text) == text, name


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("<p>Hello&nbsp;world.<br/></p>", "Hello world."),
        ("<div class=\"x\">你好</div><div id='y'>世界</div>", "你好\n世界"),
        ("Tom &amp; Jerry &lt;3 &#20013;&#x6587; &copy; caf&eacute;", "Tom & Jerry <3 中文 © café"),
        ('<a href="https://x.org/?a=1&amp;b=2">link</a> text', "link text"),
        ("<ul>\n<li>one</li>\n<li>two</li>\n</ul>", "one\ntwo"),
        ("a<!-- hidden <b> -->b<script>alert('x < y')</script>c<style>p { }</style>d", "abcd"),
        ("<B>Bold</B> and <I>italic</I>", "Bold and italic"),
        ("x<sup>2</sup> + H<sub>2</sub>O", "x^2 + H2O"),
        ("first<p>second<p>third", "first\nsecond\nthird"),
        ("cut off</span></div>", "cut off"),
        ("&amp;amp;lt;b", "<b"),
        ("if (a &lt; b) return;", "if (a < b) return;"),
        ("<!DOCTYPE html><html><body>Hi</body></html>", "Hi"),
        ("<p>use <code>List&lt;int&gt;</code></p>", "use List<int>"),
        ("价格<br>一百<br />元", "价格\n一百\n元"),
    ],
)
def test_html_becomes_text(dirty, clean):
    assert strip_html(dirty).strip() == clean


HOSTILE = {
    "<": 50_000,
    "<!--": 30_000,
    "--><!--": 30_000,
    "<script>": 10_000,
    "<a href=": 20_000,
    "<a b=1 ": 20_000,
    "&amp;": 50_000,
    "`": 50_001,
    " ": 99_999,
    " \n": 50_000,
    "&#": 50_000,
    "<b>": 20_000,
    "<b></b>": 20_000,
    "\r": 50_000,
    "Ã": 20_000,
    "浣": 20_000,
}


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_takes_quadratic_time(piece):
    """At a microsecond for each pair of characters these would take hours."""
    for repair in REPAIRS.values():
        repair(piece * HOSTILE[piece] + "x")
        repair("<b" + piece * HOSTILE[piece] + "x")


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("a\x00b\x07c\x7f", "abc"),
        ("zero\u200bwidth\ufeff and soft\u00adhyphen \u2060", "zerowidth and softhyphen "),
        ("one\x0btwo\x0cthree\u2028four\rfive", "one\ntwo\nthree\nfour\nfive"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("no\u200djoin no\u200cjoin", "nojoin nojoin"),
        ("left \u200eto\u202e right", "left to right"),
        ("שלום \u200f(abc)", "שלום \u200f(abc)"),
        ("half\ud83d", "half"),
        ("tag\U000e0041", "tag"),
        ("中\u200b文\ufeff", "中文"),
    ],
)
def test_control_characters_go(dirty, clean):
    assert strip_control(dirty) == clean


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("ｗｅ ｔａｌｋ， ｏｋ．", "we talk, ok."),
        ("Ｓｏｌａｒｉｓ是ＳＵＮ开发的ＵＮＩＸ版本。", "Solaris是SUN开发的UNIX版本。"),
        ("你好，世界！（测试）：对吗？", "你好，世界！（测试）：对吗？"),
        ("它是２４３．０１天，约５０％。", "它是243.01天，约50%。"),
        ("史蒂夫．乔布斯", "史蒂夫．乔布斯"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u212b", "\u00c5"),
        ("ｘ　ｙ", "x y"),
    ],
)
def test_characters_get_one_form(dirty, clean):
    assert normalize(dirty) == clean


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("  \tWhat's up?\u3000 ", "What's up?"),
        ("a  \nb\t\n\n\n\n\n\nc\n", "a\nb\n\n\nc"),
        ("10\xa0000\u2009km", "10 000 km"),
        ("\n\n    def f():\n        return 1\n", "    def f():\n        return 1"),
        ("   title\ntext", "title\ntext"),
        ("你好　 \r\n再见 ", "你好\r\n再见"),
        ("  \u3000 ", ""),
    ],
)
def test_white_space_is_tidied(dirty, clean):
    assert tidy_whitespace(dirty) == clean


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("æœ‰äº›äººå–œæ¬¢æžªã€‚", "有些人喜欢枪。"),
        ("cafÃ© et dÃ©jÃ\xa0 vu", "café et déjà vu"),
        ("crÃ©Ã©e", "créée"),
        ("ÎÒÏ²»¶ËÕÖÝ¡£", "我喜欢苏州。"),
        ("浣犲ソ", "你好"),
        ("The Mona Lisa doesnâ€™t have eyebrows.", "The Mona Lisa doesn’t have eyebrows."),
    ],
)
def test_mojibake_is_decoded(dirty, clean):
    assert repair_mojibake(dirty) == clean


@given(st.text("你好世界我们是中国人学习机器今天气很", min_size=6, max_size=40))
def test_chinese_mojibake_is_undone_whatever_the_words(text):
    """Python's codecs make the accident; the text must come back."""
    assume(set(text) != {"习"})  # its two bytes are a letter in UTF-8 too
    assert repair_mojibake(text.encode("gb18030").decode("latin-1")) == text
    try:
        misread = text.encode("utf-8").decode("gbk")
    except UnicodeDecodeError:  # not every accident leaves all bytes
        return
    assert repair_mojibake(misread) == text


def test_ftfys_own_negatives_stay_and_its_synthetic_cases_are_repaired(shared_data):
    """Its suite, without the typographic changes that we do not make (`fixed-encoding`)."""
    for file in ("negative", "synthetic"):
        cases = json.loads((shared_data / "dirty_csv" / "ftfy" / f"{file}.json").read_text(encoding="utf-8"))
        assert len(cases) > 20
        for case in cases:
            assert repair_mojibake(case["original"]) == case.get("fixed-encoding", case["fixed"]), case["label"]


MOJIBAKE_LETTERS = "".join(
    chr(c) for c in range(0x80, 0x2600) if any(is_bad(f"{a}{chr(c)}{b}") for a in "aÃ¤ " for b in "aÃ¤€² ")
)


@given(st.text(MOJIBAKE_LETTERS + "abcÃÂ 中文“”’—…·", max_size=12))
def test_the_shortcut_never_hides_text_from_the_detector(text):
    assert not is_bad(text) or _WESTERN.search(text)


PARTS = [
    *(
        "<p>",
        "</p>",
        "<b>",
        "&amp;",
        "&lt;",
        "&nbsp;",
        "b<c",
        "<!--",
        "-->",
        "`",
        "```",
        "\u200b",
        "\x07",
        "\r",
        "\n",
        " ",
    ),
    *("\u3000", "\x0b", "e\u0301", "\u200d", "Ａ", "．", "。", "你好", "👩", "Ã©", "æœ‰", "浣犲ソ", "a", "1", "="),
]


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PARTS), max_size=25).map("".join)))
def test_a_plain_text_needs_no_repair(text):
    """The shortcut past all repairs is right."""
    if _PLAIN.match(text):
        assert [name for name, repair in REPAIRS.items() if repair(text) != text] == []


def test_real_programs_and_sums_stay(shared_data):
    with gzip.open(shared_data / "eval" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        programs = [json.loads(line) for line in file]
    for program in programs:
        text = program["prompt"] + program["canonical_solution"]
        for name in ("mojibake", "html", "control", "normalize"):
            assert REPAIRS[name](text) == text, (name, program["task_id"])
    for line in (shared_data / "eval" / "gsm8k_train_first500.jsonl").read_text(encoding="utf-8").splitlines():
        for text in json.loads(line).values():
            assert strip_html(text) == text
