"""Knowledge: files are added, changed, removed and found; what is on disk survives."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from glassgpt.assistant.encoders import Encoders, is_english
from glassgpt.assistant.index import Index
from glassgpt.assistant.knowledge import Knowledge, Scale
from glassgpt.assistant.passage import Passage
from glassgpt.assistant.search_text import plain
from glassgpt.core.errors import FormatError, GlassError, InputError, NotFoundError

ROWS = {
    "How do I return a teapot?": "Within 30 days.",
    "Where is my parcel?": "See My orders.",
    "怎么退货？": "三十天内可以退。",
    "你们几点开门？": "九点开门。",
    "Do you sell gift cards?": "Yes, from 10 to 200.",
}


LOOSE = {0: Scale(words=1.0, known=0.3, known_text=0.3, step=0.1)}


class Hashes:
    """Stands for an encoder: words in common are a larger cosine."""

    name, width = "hashes", 64
    salt = b""

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: Sequence[str], role: str = "") -> np.ndarray:
        self.read += texts
        found = np.full((len(texts), 64), 0.01, np.float32)
        for at, text in enumerate(texts):
            for word in text.lower().split():
                found[at, hashlib.sha256(self.salt + word.encode()).digest()[0] % 64] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def rows(pairs: dict[str, str]) -> list[Passage]:
    return [Passage(f"{q}\n{a}", q, a, f"row {at + 2}", at) for at, (q, a) in enumerate(pairs.items())]


@pytest.fixture(params=[False, True], ids=["words", "words and meaning"])
def knowledge(request, tmp_path: Path):
    found = Knowledge(tmp_path / "k.db", Encoders(Hashes()) if request.param else None, LOOSE)
    found.add("faq.csv", "1", rows(ROWS))
    yield found
    found.close()


def test_each_row_is_found_by_its_own_question(knowledge: Knowledge):
    for question, answer in ROWS.items():
        hits = knowledge.search(question)
        assert hits[0].passage.answer == answer and hits[0].source == "faq.csv" and hits[0].known
        assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_two_chinese_characters_find_the_row_and_traditional_finds_simplified(knowledge: Knowledge):
    assert knowledge.search("退货")[0].passage.answer == "三十天内可以退。"
    assert knowledge.search("開門")[0].passage.answer == "九点开门。"


def test_a_question_that_has_nothing_in_common_finds_nothing(tmp_path: Path):
    knowledge = Knowledge()
    knowledge.add("faq.csv", "1", rows(ROWS))
    assert knowledge.search("zebra") == [] and knowledge.search("!?") == []


def test_an_unchanged_file_is_not_indexed_again_and_a_changed_one_replaces_the_old(tmp_path: Path):
    encoder = Hashes()
    knowledge = Knowledge(tmp_path / "k.db", Encoders(encoder))
    assert not knowledge.add("faq.csv", "1", rows(ROWS)).unchanged
    read = len(encoder.read)
    again = knowledge.add("faq.csv", "1", rows(ROWS))
    assert again.unchanged and again.passages == 5 and len(encoder.read) == read
    knowledge.add("faq.csv", "2", rows({"Is there a zebra?": "One."}), ["2 rows had no answer"])
    assert len(knowledge) == 1 and knowledge.search("zebra")[0].passage.answer == "One."
    assert all(hit.passage.question == "Is there a zebra?" for hit in knowledge.search("Where is my parcel?"))
    (source,) = knowledge.sources()
    assert (source.name, source.sha256, source.passages, source.notes) == ("faq.csv", "2", 1, ("2 rows had no answer",))


def test_what_is_removed_is_found_no_more_and_its_text_leaves_the_file(tmp_path: Path):
    knowledge = Knowledge(tmp_path / "k.db")
    knowledge.add("secret.csv", "1", rows({"Who has the xylophone?": "Quetzalcoatl has it."}))
    knowledge.add("faq.csv", "1", rows(ROWS))
    knowledge.remove("secret.csv")
    assert knowledge.search("xylophone") == [] and [s.name for s in knowledge.sources()] == ["faq.csv"]
    with pytest.raises(NotFoundError, match=r"secret\.csv"):
        knowledge.remove("secret.csv")
    knowledge.close()
    assert not any(b"Quetzalcoatl" in file.read_bytes() for file in tmp_path.iterdir())


def test_what_was_added_is_there_after_opening_again(tmp_path: Path):
    first = Knowledge(tmp_path / "k.db", Encoders(Hashes()))
    first.add("faq.csv", "1", rows(ROWS))
    before = [first.search(q) for q in ROWS]
    first.close()
    encoder = Hashes()
    second = Knowledge(tmp_path / "k.db", Encoders(encoder))
    assert encoder.read == [] and len(second) == 5
    for old, new in zip(before, [second.search(q) for q in ROWS], strict=True):
        assert [h.passage for h in old] == [h.passage for h in new]
        np.testing.assert_allclose([h.score for h in old], [h.score for h in new], atol=1e-3)


def test_another_encoder_reads_what_is_in_the_index_anew_and_none_leaves_it_as_it_is(tmp_path: Path):
    Knowledge(tmp_path / "k.db").add("faq.csv", "1", rows(ROWS))
    question = "How do I return a teapot?"
    assert Knowledge(tmp_path / "k.db").search(question)[0].meaning is None
    first = Hashes()
    assert Knowledge(tmp_path / "k.db", Encoders(first)).search(question)[0].meaning > 0.4
    assert len(first.read) > 2 * len(ROWS) - 1
    assert Knowledge(tmp_path / "k.db").search(question)[0].meaning is None  # words alone, and nothing is lost
    again = Hashes()
    knowledge = Knowledge(tmp_path / "k.db", Encoders(again))
    assert again.read == [] and knowledge.add("faq.csv", "1", rows(ROWS)).unchanged
    other = Salted()
    assert Knowledge(tmp_path / "k.db", Encoders(other)).search(question)[0].meaning > 0.4
    assert [(s.name, s.sha256, s.encoder) for s in Knowledge(tmp_path / "k.db").sources()] == [
        ("faq.csv", "1", "salted")
    ]


class Salted(Hashes):
    """Another encoder, whose vectors have nothing to do with the first one's."""

    name, salt = "salted", b"!"


def test_each_row_is_read_by_the_encoder_of_its_language_and_compared_with_a_question_by_the_same():
    main, english = Hashes(), Salted()
    knowledge = Knowledge(None, Encoders(main, english))
    knowledge.add("faq.csv", "1", rows(ROWS))
    assert sorted(main.read) == sorted(plain(text) for pair in ROWS.items() for text in pair if not is_english(text))
    assert sorted(english.read) == sorted(text for pair in ROWS.items() for text in pair if is_english(text))
    for question, answer in ROWS.items():
        (hit, *_) = knowledge.search(question)
        own = main if not is_english(question) else english
        mean = (own.encode([plain(question), plain(answer)]) @ own.encode([plain(question)])[0]).mean()
        assert hit.passage.answer == answer and hit.meaning == pytest.approx(mean, abs=2e-3)


def test_rows_that_an_encoder_has_read_are_found_by_words_alone(tmp_path: Path):
    Knowledge(tmp_path / "k.db", Encoders(Hashes(), Salted())).add("faq.csv", "1", rows(ROWS))
    knowledge = Knowledge(tmp_path / "k.db")
    for question, answer in ROWS.items():  # the English ones were read by another encoder than the Chinese
        assert knowledge.search(question)[0].passage.answer == answer


def test_a_file_that_another_process_adds_or_removes_is_followed(tmp_path: Path):
    one, other = Knowledge(tmp_path / "k.db"), Knowledge(tmp_path / "k.db")
    assert one.search("parcel") == [] and other.search("parcel") == []
    one.add("faq.csv", "1", rows(ROWS))
    assert other.search("parcel")[0].passage.answer == "See My orders."
    one.add("zoo.csv", "1", rows({"Is there a zebra?": "One."}))
    one.remove("faq.csv")
    assert other.search("parcel") == [] and other.search("zebra")[0].passage.answer == "One." and len(other) == 1
    assert [s.name for s in other.sources()] == ["zoo.csv"]


def test_places_of_what_was_removed_are_taken_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("glassgpt.assistant.index._HOLES", 20)
    knowledge = Knowledge(None, Encoders(Hashes()))
    knowledge.add("faq.csv", "1", rows(ROWS))
    for version in range(30):
        knowledge.add("other.csv", str(version), rows({f"question {version} {n}": "x" for n in range(5)}))
    assert len(knowledge._index._ids) <= 40 and len(knowledge) == 10
    assert knowledge.search("parcel")[0].passage.answer == "See My orders."
    assert knowledge.search("question 29 3")[0].passage.question == "question 29 3"


def test_a_greeting_that_every_answer_repeats_is_not_searched_but_stays_in_the_answer():
    pairs = {f"thing {n}?": f"Dear customer, thank you. The thing {n} costs {n} pounds." for n in range(20)}
    knowledge = Knowledge()
    knowledge.add("faq.csv", "1", rows(pairs))
    assert knowledge.search("customer") == []
    assert knowledge.search("What does thing 7 cost?")[0].passage.answer == pairs["thing 7?"]


def test_mark_up_and_wrong_decoding_do_not_hide_a_word():
    knowledge = Knowledge()
    knowledge.add(
        "faq.csv", "1", rows({"Is it caf\u00c3\u00a9?": "It&nbsp;is <b>so</b>.", "\uff34\uff45\uff41?": "No\u200bte"})
    )
    for word, answer in (("caf\u00e9", "It&nbsp;is <b>so</b>."), ("tea", "No\u200bte"), ("note", "No\u200bte")):
        assert knowledge.search(word)[0].passage.answer == answer


@pytest.mark.parametrize(("text", "english"), [
    ("Where is my parcel?", True), ("12345", True), ("It\u2019s \u201cfine\u201d", True),
    ("Coffee at the caf\u00e9", True),
    ("\u6211\u7684\u5305\u88f9", False), ("MacBook \u4fdd\u4fee", False), ("\u041a\u043d\u0438\u0433\u0430", False),
])  # fmt: skip
def test_english_is_told_from_other_languages(text: str, english: bool):
    assert is_english(text) is english


def test_bad_questions_are_refused(knowledge: Knowledge):
    for question in ("", "  ", "x" * 4001):
        with pytest.raises(InputError, match="expected 1 to 4000"):
            knowledge.search(question)


def test_a_score_below_what_is_known_is_told_as_such():
    knowledge = Knowledge(scales={0: Scale(words=1.0, known=0.9, known_text=0.9, step=0.1)})
    knowledge.add("faq.csv", "1", rows(ROWS))
    hit = knowledge.search("Is there a parcel of land on the moon with tigers?")[0]
    assert hit.passage.answer == "See My orders." and not hit.known


@pytest.mark.parametrize("damage", ["text", "middle", "other"])
def test_a_damaged_or_foreign_index_is_told_and_left_as_it_is(tmp_path: Path, damage: str):
    path = tmp_path / "k.db"
    if damage == "text":
        path.write_bytes(b"this is no database" * 100)
    elif damage == "other":
        sqlite3.connect(path).execute("CREATE TABLE mine (x)").connection.close()
    else:
        knowledge = Knowledge(path)
        knowledge.add("faq.csv", "1", [Passage("word " * 400, None, None, f"line {n}", n) for n in range(300)])
        knowledge.close()
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 4 : len(raw) // 2] = os.urandom(len(raw) // 2 - len(raw) // 4)
        path.write_bytes(raw)
    before = path.read_bytes()
    with pytest.raises(FormatError, match=r"damaged|no index") as error:
        Knowledge(path)
    assert "again" in error.value.hint() or "another file" in error.value.hint()
    assert path.read_bytes() == before


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    knowledge = Knowledge(tmp_path / "k.db")
    knowledge.add("faq.csv", "1", rows(ROWS))
    index: Index = knowledge._index
    index._db.execute(f"PRAGMA max_page_count = {index._db.execute('PRAGMA page_count').fetchone()[0] + 2}")
    with pytest.raises(GlassError, match="cannot be used"):
        knowledge.add("big.csv", "1", [Passage("word " * 2000, None, None, f"line {n}", n) for n in range(100)])
    assert [s.name for s in knowledge.sources()] == ["faq.csv"] and len(knowledge) == 5
    assert knowledge.search("parcel")[0].source == "faq.csv"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL of Unix")
def test_a_kill_in_the_middle_leaves_whole_files(tmp_path: Path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom glassgpt.assistant.knowledge import Knowledge\n"
        "from glassgpt.assistant.passage import Passage\nk = Knowledge(Path(sys.argv[1]))\n"
        "for n in range(10000):\n"
        "    k.add(f'{n}.csv', 'x', [Passage(f'text {n} {m}', None, None, str(m), m) for m in range(200)])\n"
        "    print(n, flush=True)\n"
    )
    for attempt in range(3):
        with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / f"{attempt}.db")], stdout=subprocess.PIPE,
                              text=True) as process:  # fmt: skip
            assert process.stdout
            time.sleep(1.5 + 0.37 * attempt)
            os.kill(process.pid, signal.SIGKILL)
            said = [int(line) for line in process.stdout.read().split()]
        sources = Knowledge(tmp_path / f"{attempt}.db").sources()
        assert len(sources) >= len(said) > 0 and all(source.passages == 200 for source in sources)
