"""From use back to training: what users thought of replies becomes rows, and `glassgpt build` reads them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassgpt.assistant.store import Store
from glassgpt.assistant.store_training import export_lessons, lessons
from glassgpt.data.clean import clean
from glassgpt.data.examples import Example, make_example
from glassgpt.data.report import Problem
from glassgpt.data.rows import Row
from glassgpt.data.sources import read_rows
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import TEMPLATES

BYTES = train_bpe(["x"], 256 + 3, control=("<|endoftext|>", "<|im_start|>", "<|im_end|>"))  # one token a byte


def turns(*said: str) -> list[dict[str, str]]:
    """A system message "s:...", else user and assistant in turns."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[text[0]], "content": text[2:]} for text in said]


def talk(store: Store, *said: str) -> list[str]:
    """A conversation; gives the ids of its messages."""
    id = store.create().id
    return [store.add(id, m["role"], m["content"]).id for m in turns(*said)]


def read(path: Any) -> list[Row]:
    problems: list[Problem] = []
    rows = list(read_rows(path, problems=problems.append))
    assert problems == []
    return rows


def test_thumbs_up_and_right_answers_become_conversations_that_build_reads(store, tmp_path):
    first = talk(store, "s:Be kind.", "u:能退货吗？", "a:可以。", "u:多久？", "a:一周")
    store.give_feedback(first[2], thumb=1)
    store.give_feedback(first[4], thumb=-1, correction="三十天内。", note="wrong")
    found = export_lessons(store, tmp_path / "lessons")
    assert found.conversations == [
        {"messages": turns("s:Be kind.", "u:能退货吗？", "a:可以。")},
        {"messages": turns("s:Be kind.", "u:能退货吗？", "a:可以。", "u:多久？", "a:三十天内。")},
    ]
    assert found.preferences == [
        {
            "prompt": turns("s:Be kind.", "u:能退货吗？", "a:可以。", "u:多久？"),
            "chosen": "三十天内。",
            "rejected": "一周",
        }
    ]
    assert not found.left_out
    rows = read(tmp_path / "lessons" / "conversations.jsonl")
    assert [row.messages() for row in rows] == [c["messages"] for c in found.conversations]
    (preference,) = read(tmp_path / "lessons" / "preferences.jsonl")
    assert preference.kind == "preference"
    assert [preference.messages(last)[-1]["content"] for last in ("chosen", "rejected")] == ["三十天内。", "一周"]
    for row in (*rows, preference):
        assert isinstance(make_example(row, BYTES, TEMPLATES["chatml"], 500), Example)
    report = clean(read_rows(tmp_path / "lessons"), tmp_path / "clean")  # both files, as `build` takes a folder
    assert report.summary()["kept"] >= 2


def test_an_answer_that_was_corrected_stands_right_in_what_comes_after_it(kept):
    ids = talk(kept, "u:q1", "a:wrong", "u:q2", "a:good")
    kept.give_feedback(ids[1], correction="right")
    kept.give_feedback(ids[3], thumb=1)
    assert lessons(kept).conversations == [
        {"messages": turns("u:q1", "a:right")},
        {"messages": turns("u:q1", "a:right", "u:q2", "a:good")},
    ]


def test_an_answer_below_a_wrong_one_is_left_out_since_both_would_be_learned(kept):
    ids = talk(kept, "u:q1", "a:wrong", "u:q2", "a:good")
    kept.give_feedback(ids[1], thumb=-1)
    kept.give_feedback(ids[3], thumb=1)
    found = lessons(kept)
    assert found.conversations == [] == found.preferences
    assert found.left_out == Counter(
        {"a thumb down without the right answer": 1, "an earlier reply has a thumb down": 1}
    )


def test_a_good_reply_beside_a_bad_one_is_a_preference_and_each_bad_one_counts_once(kept):
    id = kept.create().id
    question = kept.add(id, "user", "q").id
    replies = [kept.add(id, "assistant", text, parent=question).id for text in ("bad", "good", "better", "bad too")]
    for reply, thumb in zip(replies, (-1, 1, 1, -1), strict=True):
        kept.give_feedback(reply, thumb=thumb)
    lone = talk(kept, "u:x", "a:y")
    kept.give_feedback(lone[1], thumb=-1)
    found = lessons(kept)
    assert sorted((p["chosen"], p["rejected"]) for p in found.preferences) == [
        ("better", "bad"), ("better", "bad too"), ("good", "bad"), ("good", "bad too"),
    ]  # fmt: skip
    assert found.left_out == Counter({"a thumb down without the right answer": 1})


def test_what_teaches_nothing_is_left_out_and_counted(kept):
    ids = talk(kept, "u:q", "a:a")
    kept.give_feedback(ids[1], note="hm")
    unasked = talk(kept, "a:Welcome!")
    kept.give_feedback(unasked[0], thumb=1)
    half = kept.begin_reply(kept.message(ids[0]).conversation)
    half.append("ha")
    half.interrupt()
    kept.give_feedback(half.id, thumb=1)
    assert lessons(kept).left_out == Counter(
        {"a note alone": 1, "nobody asked before it": 1, "the reply is not whole": 1}
    )
    assert lessons(kept).conversations == []


WORDS = st.text("ab 好。<>\n", max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_row_is_accounted_for_and_build_takes_each(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("t")
    with Store(folder / "x.db") as store:
        id = store.create().id
        ids: list[str | None] = [None]
        opinions = []
        for _ in range(data.draw(st.integers(1, 8))):
            role = data.draw(st.sampled_from(("user", "assistant", "assistant", "system")))
            ids.append(store.add(id, role, data.draw(WORDS), parent=data.draw(st.sampled_from(ids))).id)
            if role == "assistant":
                thumb, correction = data.draw(st.sampled_from((-1, 0, 1))), data.draw(st.none() | WORDS)
                opinions.append(store.give_feedback(ids[-1], thumb=thumb, correction=correction, note="n"))
        found = export_lessons(store, folder)
        rejected = {p["rejected"] for p in found.preferences}
        down = [o for o in opinions if o.thumb < 0 and o.correction is None]
        used = len(found.conversations) + sum(found.left_out.values())
        assert len(opinions) - len(down) <= used <= len(opinions)
        assert len(opinions) - used <= len([o for o in down if store.message(o.message).text in rejected])
        for name, rows in (("conversations", found.conversations), ("preferences", found.preferences)):
            path = folder / f"{name}.jsonl"
            assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == rows
            if rows:
                assert len(read(path)) == len(rows)
