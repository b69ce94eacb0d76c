"""Searching what was said: English by words, Chinese by what is contained, on both databases."""

from __future__ import annotations

import opencc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassgpt.assistant import store_search
from glassgpt.assistant.terms import fold, terms

TEXTS = [
    ("user", "我想退货，请问怎么办理？"),
    ("assistant", "您可以在三十天內辦理退貨。"),
    ("user", "貨已經退了嗎"),
    ("user", "Do you ship to Zürich? I'm returning the ＳＨＯＥＳ"),
    ("assistant", "Returns are free; shipping takes two days. 𠮷野家 北京大学 学生"),
    ("system", "secret 退货 instructions"),
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("退货", [1, 0]),
        ("退貨", [1, 0]),
        ("货", [2, 1, 0]),
        ("return", [4, 3]),
        ("SHOES", [3]),
        ("zürich", [3]),
        ("zurich", []),
        ("办理退货", [1]),
        ("大学生", []),  # its pairs are there, it is not
        ("北京大学", [4]),
        ("𠮷野", [4]),
        ("ship 退货", []),
        ("free days", [4]),
        ("三十天 退货", [1]),
        ('free" OR "退货', []),
        ("secret", []),
    ],
)
def test_search_finds_english_by_words_and_chinese_by_what_is_contained(store, query, found):
    id = store.create("title").id
    ids = [store.add(id, role, said).id for role, said in TEXTS]
    hits = store.search(query)
    assert [ids.index(h.message.id) for h in hits if h.message] == found
    assert all(h.excerpt and h.conversation.id == id for h in hits)


def test_search_finds_titles_and_replies_that_were_streamed_and_shows_the_place(store):
    id = store.create("鞋子的尺碼 100%").id
    store.add(id, "user", "q")
    with store.begin_reply(id) as reply:
        reply.append("A long beginning. " * 20 + "然后是顺丰快")
        reply.append("递送达。" + " and a long end" * 20)
    assert [h.message for h in store.search("尺码")] == [None]
    assert [h.message for h in store.search("0%")] == [None] and store.search("1_0") == []
    (hit,) = store.search("順豐快遞")
    assert "顺丰快递" in hit.excerpt and hit.excerpt.startswith("…") and hit.excerpt.endswith("…")
    store.rename(id, "other")
    assert store.search("尺码") == []


# By hand: which characters of the tests below count as one.
ONE = str.maketrans("貨換乾計畫画瞭𫝀", "货换干计划划了𫝀")


def test_a_chinese_word_is_found_where_it_stands_and_nowhere_else(store):
    """The oracle looks into every message, with a table made by hand."""

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.text("退货貨换換鞋乾干隆計计畫划画瞭了解ab ,，𠮷\u0130é", max_size=12), min_size=1, max_size=8),
        st.text("退货貨换換鞋乾隆計畫划了解𠮷", min_size=1, max_size=4),
    )
    def holds(texts: list[str], query: str) -> None:
        id = store.create().id
        ids = [store.add(id, "user", t).id for t in texts]
        expected = [
            i for i, t in zip(ids, texts, strict=True) if query.translate(ONE) in t.translate(ONE)
        ]  # fmt: skip
        found = [h.message.id for h in store.search(query, 200) if h.message]
        store.delete(id)
        assert found == expected[::-1]

    holds()


@pytest.mark.parametrize(
    "said",
    [
        "乾隆年間的計畫",
        "瞭解一下家俱",
        "沈浸於二噁英",
        "反覆思量藉端生事",
        "鍾馗甦醒",
        "上逕海哩",
        "鍊鎖彷彿",
        "著作權",
        "宮商角徵羽",
    ],
)
def test_every_part_of_a_traditional_text_is_found_in_either_way_of_writing(kept, said):
    """Some characters are simplified in some words only, so what stands around them must not matter."""
    simple = opencc.OpenCC("t2s").convert(said)
    id = kept.create().id
    ids = [kept.add(id, "user", s).id for s in (said, simple)]
    for text in (said, simple):
        for start in range(len(text)):
            for end in range(start + 1, len(text) + 1):
                assert [h.message.id for h in kept.search(text[start:end])] == ids[::-1], text[start:end]


def test_search_goes_on_past_messages_that_have_the_pairs_and_not_the_word(store, monkeypatch):
    monkeypatch.setattr(store_search, "_CHUNK", 3)
    id = store.create().id
    first = store.add(id, "user", "大学生").id
    for _ in range(7):
        store.add(id, "user", "大学 学生")
    assert [h.message.id for h in store.search("大学生")] == [first]
    assert len(store.search("大学", 5)) == 5 and len(store.search("大学")) == 8


def test_chinese_characters_beside_latin_letters_are_words_of_their_own():
    assert terms("a𠮷b退货") == ["a", "𠮷", "b", "退", "货", "退货"]


@given(st.text("a退貨計畫乾ﬁＡ　é\U0001f97f\ud800"), st.text("貨計畫\ud83d"))
def test_a_part_of_a_text_is_the_same_part_when_both_are_folded(before, after):
    assert fold(before + after) == fold(before) + fold(after)


def test_a_database_of_another_kind_is_searched_with_the_same_result(store, monkeypatch):
    id = store.create().id
    ids = [store.add(id, role, said).id for role, said in TEXTS]
    whole = store_search._page
    monkeypatch.setattr(store_search, "_page", lambda kind, query, before: whole("other", query, before))
    with store.database.read() as connection:
        monkeypatch.setattr(connection.dialect, "name", "other")
        found = [row.id for row in store_search.matches(connection, store_search.Query("退货"))]
        monkeypatch.undo()
    assert found == [ids[1], ids[0]]
