"""Where a reply came from: what was planted is found with its file and row, what was changed is not, and the rest of
the text is told too."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from origins_runs import Letters, answers_run, letter_shards

import glassgpt.samples
from glassgpt.core.errors import ConfigError, GlassError, InputError, NotFoundError
from glassgpt.core.runs import TOKENIZER, TRAIN, Run
from glassgpt.data.examples import Example
from glassgpt.data.rows import Row
from glassgpt.data.shards import open_shards, write_shards
from glassgpt.data.sources import read_rows
from glassgpt.inside.asked import Asked
from glassgpt.inside.origins import Explanation, Origins
from glassgpt.inside.origins_index import open_index
from glassgpt.inside.spans import least_span
from glassgpt.text.bpe import train_characters

SHOP = Path(glassgpt.samples.__file__).parent / "shop.csv"
ANSWERED = ("user", "assistant")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The sample in English and Chinese, some invented prose from a second file, and a plain text."""
    chance = random.Random(5)
    stems = ["lo", "ra", "mi", "ten", "sho", "vi", "ka", "pel", "du", "nor"]
    invented = ["".join(chance.choices(stems, k=chance.randint(2, 3))) for _ in range(300)]
    prose = [" ".join(chance.choices(invented, k=60)) for _ in range(60)]
    told = [Row("prose.jsonl", n + 1, ANSWERED, [text[:100], text[101:]]) for n, text in enumerate(prose)]
    kept = [row for row in read_rows(str(SHOP)) if all(len(text) > 4 for text in row.texts)]
    return [
        *kept,
        *told,
        Row("notes.txt", 1, ("text",), ["The kiln is fired twice a week, on days that nobody plans."]),
    ]


@pytest.fixture(scope="module")
def shop(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("origins") / "run"
    tokenizer = answers_run(folder, rows)
    with Origins.open(folder, part=4000) as origins:
        yield origins, tokenizer, folder


def memorised(found: Explanation) -> list[str]:
    return [found.text[span.start : span.end] for span in found.spans if span.kind == "memorised"]


def cut_out(tokenizer, text: str, chance: random.Random, tokens: int) -> str | None:
    """So many tokens of a text, where they are whole characters."""
    ids = tokenizer.encode(text)
    if len(ids) < tokens:
        return None
    begin = chance.randrange(len(ids) - tokens + 1)
    piece = tokenizer.decode(ids[begin : begin + tokens])
    return None if "�" in piece else piece


def test_200_planted_spans_are_all_found_with_the_right_file_and_row(shop, rows):
    origins, tokenizer, _ = shop
    chance, planted, chinese, files = random.Random(1), 0, 0, set()
    while planted < 200:
        row = chance.choice(rows)
        which = chance.randrange(len(row.texts))
        piece = cut_out(tokenizer, row.texts[which], chance, origins.least + 4 + chance.randrange(20))
        if piece is None:
            continue
        begin, end = ("Qx zzyw ", " jjq 0q") if piece.isascii() else ("囧𠮷", "囧𠮷")
        found = origins.explain(begin + piece.strip() + end, places=1000)
        whole = [m for m in found.matches if piece.strip() in found.text[m.start : m.end]]
        assert whole, piece
        places = [p for m in whole for p in m.places if (p.source, p.row) == (row.source, row.number)]
        assert places, piece
        if row.kind == "messages":
            assert ("question", "answer")[which] in {p.part for p in places}
        assert any(piece.strip() in text for text in memorised(found))
        planted, chinese, files = planted + 1, chinese + (not piece.isascii()), files | {row.source}
    assert chinese > 20 and files >= {"shop.csv", "prose.jsonl"}


def test_200_near_misses_are_not_called_memorised(shop, rows):
    """One token in every window is another; plain search tells that nothing of a window's length is in the data."""
    origins, tokenizer, _ = shop
    everything = "\n".join(text for row in rows for text in row.texts)
    chance, missed, drawn = random.Random(2), 0, 0
    while missed < 200:
        row = chance.choice(rows)
        piece = cut_out(tokenizer, row.texts[-1], chance, 3 * origins.least)
        if piece is None:
            continue
        ids = tokenizer.encode(piece)
        for at in range(chance.randrange(3), len(ids), origins.least - 3):
            ids[at] = tokenizer.encode(chance.choice(list("@#~^|")))[0]
        text = tokenizer.decode(ids)
        if "�" in text or text == piece:
            continue
        drawn += 1
        asked = tokenizer.encode(text)
        windows = [tokenizer.decode(asked[i : i + origins.least]) for i in range(len(asked) - origins.least + 1)]
        if any(window in everything for window in windows):
            continue
        assert memorised(origins.explain(text)) == []
        missed += 1
    assert drawn < 300


# ---- against brute force ----------------------------------------------------------------------------------------
def brute(texts: list[str], asked: str, least: int) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Every maximal span, the slow way: where it begins, its length, and its places as (document, offset)."""

    def places(span: str) -> list[tuple[int, int]]:
        return [(n, at) for n, t in enumerate(texts) for at in range(len(t)) if t.startswith(span, at)]

    found = []
    for begin in range(len(asked)):
        for end in range(len(asked), begin + least - 1, -1):
            if any(asked[begin:end] in text for text in texts):
                if not any(b <= begin and end <= b + n for b, n, _ in found):
                    found.append((begin, end - begin, places(asked[begin:end])))
                break
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text("abc", max_size=30), min_size=1, max_size=5).filter(any),
    st.text("abcd", min_size=1, max_size=25),
    st.integers(1, 6),
    st.sampled_from([300, 70_000]),
    st.integers(3, 40),
    st.integers(1, 50),
)
def test_all_spans_counts_and_places_are_those_of_brute_force(
    tmp_path_factory, texts, asked, least, vocab_size, part, shard_tokens
):
    folder, tokenizer = tmp_path_factory.mktemp("brute"), Letters(vocab_size)
    letter_shards(folder / TRAIN, texts, tokenizer, shard_tokens)
    shards = open_shards(folder / TRAIN, tokenizer)
    assert shards.manifest.dtype == ("uint16" if vocab_size == 300 else "uint32")
    told: list[Explanation] = []
    for size in (part, 1 << 20):
        index = open_index(folder, shards, tokenizer, part=size)
        with Origins(shards, index, tokenizer) as origins:
            told.append(replace(origins.explain(asked, least=least, places=1000), seconds=0))
        for file in (folder / "data/origins").iterdir():
            file.unlink()
    assert told[0] == told[1], "made in parts, and in one"
    found = [(m.first, m.tokens, m.count, [(p.document, p.offset) for p in m.places]) for m in told[0].matches]
    assert found == [(begin, n, len(places), places) for begin, n, places in brute(texts, asked, least)]
    named = [(p.source, p.row) for m in told[0].matches for p in m.places]
    assert named == [(f"{'ab'[p.document % 2]}.txt", p.document + 1) for m in told[0].matches for p in m.places]
    inside = {i for m in told[0].matches for i in range(m.start, m.end)}
    for span in told[0].spans:
        assert {i in inside for i in range(span.start, span.end)} == {span.kind == "memorised"}
    assert "".join(asked[span.start : span.end] for span in told[0].spans) == asked


# ---- what counts as the same --------------------------------------------------------------------------------------
def test_spans_do_not_cross_documents_and_names_of_control_tokens_are_text(shop):
    origins, tokenizer, _ = shop
    shards = open_shards(shop[2] / TRAIN, tokenizer)
    first, second = (shards.tokens(*shards.span(d)) for d in (0, 1))
    across = tokenizer.decode([*first[-6:], *second[:6]], show_control=True)
    assert "<|im_start|>" in across
    found = origins.explain(across, least=3)
    assert all("<|" not in found.text[m.start : m.end] for m in found.matches)


def test_a_span_out_of_the_middle_has_its_first_and_last_word(shop, rows):
    """Its first word has no space before it there, its last is followed by something else: other tokens."""
    origins, _, _ = shop
    row = next(row for row in rows if row.source == "prose.jsonl")
    words = row.texts[1].split(" ")[5:20]
    found = origins.explain(f"({' '.join(words)})")
    assert memorised(found) == [" ".join(words)]
    assert memorised(origins.explain(f"x{' '.join(words)}y"))[0] in " ".join(words), "words are not cut"


def test_what_was_retrieved_goes_before_and_both_are_told(shop, rows):
    origins, _, _ = shop
    prose = [row for row in rows if row.source == "prose.jsonl"]
    known, other = prose[3].texts[1][:80].rstrip(), "Our new showroom in Qarth opens on the fourth of Flimmer."
    text = f"{known}! {other} Bye."
    found = origins.explain(text, retrieved=[("a.md", "nothing"), ("faq.md", f"# News\n{other} Come!\n{known}")])
    assert [span.kind for span in found.spans] == ["retrieved", "composed", "retrieved", "composed"]
    first, _, second, _ = found.spans
    assert first.matches and first.matches[0].places[0].row == prose[3].number and not second.matches
    assert (second.quote.source, second.quote.passage, second.quote.offset) == ("faq.md", 1, 7)
    assert found.text[second.start : second.end].startswith(other)
    assert found.shares["memorised"] == 0 and found.shares["retrieved"] > 0.9
    assert [span.kind for span in origins.explain(text).spans] == ["memorised", "composed"]


def test_chinese_passages_are_quoted_too(shop):
    origins, _, _ = shop
    passage = "第七条：凡于满月之夜购买的紫砂壶，均附赠一只会唱歌的铜蟾蜍。"
    found = origins.explain("您好，" + passage[4:26] + "谢谢", retrieved=[("条款.md", passage)])
    (span,) = [span for span in found.spans if span.kind == "retrieved"]
    assert found.text[span.start : span.end] == passage[4:26] and span.quote.offset == 4


def test_the_nearest_rows_for_a_composed_text_share_its_rare_words(shop, rows):
    origins, _, _ = shop
    found = origins.explain("Is the kiln fired by nobody on some days of a week?", nearest=2)
    assert [span.kind for span in found.spans] == ["composed"] and len(found.nearest) == 2
    assert (found.nearest[0].source, found.nearest[0].row) == ("notes.txt", 1)
    assert found.nearest[0].score > found.nearest[1].score and "kiln" in found.nearest[0].text
    shared = "".join(found.text[s.start : s.end] for s in found.nearest[0].shared)
    assert "kiln" in shared and "fired" in shared


def test_only_what_is_composed_is_compared_with_rows(shop, rows):
    origins, _, _ = shop
    row = next(row for row in rows if row.source == "prose.jsonl")
    assert origins.explain(row.texts[1]).nearest == ()


# ---- the run ------------------------------------------------------------------------------------------------------
def test_a_fine_tuned_run_says_that_its_bases_data_is_not_searched(shop):
    (note,) = shop[0].explain("hello").notes
    assert "smollm2" in note.text("en") and "smollm2" in note.text("zh")


def test_rows_can_be_read_whole_with_what_was_learned_of_them(shop, rows):
    origins, _, _ = shop
    question, answer, *_ = origins.read(0)
    assert (question.learned, answer.learned) == (False, True)
    assert rows[0].texts[0] in question.text and answer.text.strip() == rows[0].texts[1].strip()
    with pytest.raises(NotFoundError):
        origins.read(origins.documents)


def test_the_tokenizer_of_an_unfinished_run_is_its_bases(tmp_path, shop, rows):
    _, tokenizer, _ = shop
    tokenizer.save(tmp_path / "base")
    run = Run.create(tmp_path / "run", {"kind": "finetune", "settings": {"base": str(tmp_path / "base")}})
    write_shards([Example(tokenizer.encode(rows[0].texts[1]), [True] * 9, "x", 1)], run.folder / TRAIN, tokenizer)
    with Origins.open(run.folder) as origins:
        assert origins.explain(rows[0].texts[1]).shares["memorised"] == 1


def test_a_character_that_the_tokenizer_lacks_is_composed(tmp_path):
    tokenizer = train_characters(["the sea was calm and a small boat went out to look for fish"])
    run = Run.create(tmp_path / "run", {"kind": "pretrain"})
    tokenizer.save(run.folder / TOKENIZER)
    ids = tokenizer.encode("the sea was calm and a small boat went out to look for fish")
    write_shards([Example(ids, [True] * len(ids), "sea.txt", 1)], run.folder / TRAIN, tokenizer)
    with Origins.open(run.folder) as origins:
        found = origins.explain("海 a small boat went out to look🐟", least=12)
    assert [(s.kind, found.text[s.start : s.end]) for s in found.spans] == [
        ("composed", "海"), ("memorised", " a small boat went out to look"), ("composed", "🐟"),
    ]  # fmt: skip
    assert found.notes == () and found.spans[1].matches[0].places[0].part is None


def test_two_bytes_of_different_characters_are_no_span(tmp_path):
    """Emoji begin with the same bytes."""
    rows = [Row("emoji.txt", 1, ("text",), ["the sea 😀 was calm"])]
    answers_run(tmp_path / "run", rows, 270)
    with Origins.open(tmp_path / "run") as origins:
        found = origins.explain("z🐟q", least=1)
        assert all(match.start < match.end for match in found.matches)
        assert {found.text[s.start : s.end]: s.kind for s in found.spans} == {"z🐟q": "composed"}


def test_excerpts_have_no_halves_of_characters_at_their_edges(tmp_path):
    rows = [Row("fish.txt", 1, ("text",), ["囧" * 40 + "the sea was calm today" + "囧" * 40])]
    answers_run(tmp_path / "run", rows, 275)
    with Origins.open(tmp_path / "run") as origins:
        found = origins.explain("the sea was calm today", least=5)
        (place,) = found.matches[0].places
        assert place.before.endswith("囧囧") and place.after.startswith("囧囧")
        for most in range(1, 12):
            parts = origins.read(0, most)
            assert "�" not in place.before + place.after + "".join(part.text for part in parts)
        with pytest.raises(ConfigError, match="most"):
            origins.read(0, -5)


def test_the_end_of_a_text_is_compared_with_rows_though_its_last_character_is_cut(shop):
    """Of a character that the tokenizer cuts into bytes, the last byte began no character and was left out."""
    origins, tokenizer, _ = shop
    text = "nothing of it 囧"
    assert len(tokenizer.encode_segment("囧")) > 1
    first, last = Asked(text, tokenizer).touched()
    assert first[-1] == last[-1] == len(text) - 1 and origins.explain(text).spans[-1].end == len(text)


def test_what_cannot_be_asked_is_told_in_both_languages(tmp_path, shop):
    origins, _, folder = shop
    Run.create(tmp_path / "bare", {"kind": "pretrain"})
    wrong = [
        (InputError, lambda: origins.explain("  ")),
        (InputError, lambda: origins.explain("x" * 100_001)),
        (InputError, lambda: origins.explain("囧" * 9000)),
        (InputError, lambda: origins.explain("hello", retrieved=[("a", "x" * 100_001)])),
        (ConfigError, lambda: origins.explain("hello", least=0)),
        (NotFoundError, lambda: Origins.open(tmp_path)),
        (NotFoundError, lambda: Origins.open(tmp_path / "bare")),
    ]
    for kind, ask in wrong:
        with pytest.raises(kind) as caught:
            ask()
        assert caught.value.hint() or kind is ConfigError
        assert caught.value.line("zh") != caught.value.line("en")
    with Origins.open(folder) as other:
        pass
    with pytest.raises(GlassError, match="closed"):
        other.explain("hello")


def test_threads_are_answered_as_one_is(shop, rows):
    origins, _, _ = shop
    texts = [row.texts[-1] for row in rows[:40]]
    alone = [replace(origins.explain(text), seconds=0) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda text: replace(origins.explain(text), seconds=0), texts))
    assert told == alone


def test_the_least_span_grows_with_the_data_and_counts_bytes():
    assert least_span(100_000_000, 4.0) == 11
    assert least_span(1_000_000, 1.0) == 34
    assert least_span(10_000, 4.0) < least_span(10**9, 4.0)


def test_asking_needs_no_torch(shop):
    code = f"""
import sys
from glassgpt.inside.origins import Origins
with Origins.open({str(shop[2])!r}) as origins:
    assert origins.explain("hello there").spans
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
