"""Searching what was said: English by words, Chinese by what is contained, on both databases."""

from __future__ import annotations

import opencc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassgpt.assistant import store_search
from glassgpt.assistant.store import Store
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


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.text("退货换鞋ab ,，𠮷\u0130é", max_size=12), min_size=1, max_size=8),
    st.text("退货换鞋𠮷", min_size=1, max_size=4),
)
def test_a_chinese_word_is_found_where_it_stands_and_nowhere_else(tmp_path_factory, texts, query):
    with Store(tmp_path_factory.mktemp("s") / "x.db") as store:
        id = store.create().id
        ids = [store.add(id, "user", t).id for t in texts]
        assert [h.message.id for h in store.search(query)] == [
            i for i, t in zip(ids, texts, strict=True) if query in t
        ][::-1]


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


