"""The sample is what it is said to be: an export as dirty as real ones, from which a model can learn.

What is in the file is told by `csv` and by patterns over its bytes, not by the code that cleans it.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from importlib.resources import files
from itertools import combinations

import pytest

from glassgpt.data.clean import clean, clean_rows
from glassgpt.data.filters import CleanSettings
from glassgpt.data.report import Problem, SourceReport
from glassgpt.data.sources import read_rows
from glassgpt.data.split import leakage, split

SAMPLE = files("glassgpt") / "samples" / "shop.csv"
RAW = SAMPLE.read_bytes()
HAN = re.compile("[\u4e00-\u9fff]")
# Of UTF-8 read as Latin-1, of GBK read as Latin-1, and of UTF-8 read as GBK.
GARBLED = re.compile("â€|Â£|æ‚|Äú|[鍛鎴浣闂璇]")

# What real exports are dirty with, as it stands in the bytes.
DIRT = {
    "byte order mark at the start": (rb"\A\xef\xbb\xbf\xe7", 1),
    "empty last column": (rb",\r\n", 400),
    "padded header": (rb",\xe9\x97\xae\xe9\xa2\x98 ,", 1),
    "questions that begin with spaces": (rb'(?m)^K\d+,[^,]*,[^,]*,"?[ \t]+[^ ,]', 3),
    "answers that end with spaces": (rb'[^\s,][ \t]+"?,\r\n', 4),
    "full-width space": ("\u3000".encode(), 1),
    "line break tags": (rb"<br ?/?>", 10),
    "paragraph tags": (rb"<p>[^<]+</p>", 3),
    "entities": (rb"&(?:nbsp|quot);", 10),
    "English apostrophes decoded wrongly": ("\u00e2\u20ac\u2122".encode(), 6),
    "pounds decoded wrongly": ("\u00c2\u00a3".encode(), 6),
    "Chinese UTF-8 read as Western": ("\u00e6\u201a\u00a8\u00e5\u00a5\u00bd".encode(), 3),
    "Chinese GBK read as Latin-1": ("\u00c4\u00fa\u00ba\u00c3".encode(), 2),
    "full-width digits": (rb"\xef\xbc[\x90-\x99]", 10),
    "zero-width characters": (rb"(?<!\A)(?:\xe2\x80[\x8b\x8e]|\xe2\x81\xa0|(?<=[^\n])\xef\xbb\xbf)", 8),
    "control characters": (rb"[\x02\x08\x1f\x7f]", 6),
    "line breaks inside cells": (rb'"[^"\r]*[^"\r]\n[^"]*"', 5),
    "doubled quotes": (rb'""\w', 2),
    "double spaces inside cells": (rb"[a-z]  +[a-z]", 8),
    "missing answers": (rb"[^,],,\r\n", 5),
    "missing questions": (rb"\d,,[^,\r]", 3),
    "cells that only say that there is nothing": (rb",(?:N/A|#N/A|null|nan|-),", 5),
    "telephone numbers": (rb"\+44 20 7946 0\d{3}|\b020 7946 0\d{3}|\b138-?0013-?8000", 4),
    "e-mail addresses": (rb"@example\.com", 2),
    "order numbers": (rb"WL-?\d{7}", 2),
    "dates in another form": (rb",2024/\d+/\d+,", 20),
}  # fmt: skip


def records() -> list[list[str]]:
    return list(csv.reader(io.StringIO(RAW.decode("utf-8-sig"), newline="")))[1:]


@pytest.fixture(scope="module")
def read():
    problems: list[Problem] = []
    reports: list[SourceReport] = []
    rows = list(read_rows(str(SAMPLE), report=reports, problems=problems.append))
    return rows, problems, reports[0]


@pytest.fixture(scope="module")
def kept(read):
    return clean_rows(read[0])[0]


def shingles(text: str) -> set[str]:
    """Three characters or, without Chinese, five; in small letters."""
    size = 3 if HAN.search(text) else 5
    text = re.sub(r"\W+", " ", text.lower())
    return {text[at : at + size] for at in range(max(len(text) - size + 1, 1))}


@pytest.mark.parametrize("kind", DIRT)
def test_every_kind_of_dirt_is_in_the_file(kind):
    pattern, least = DIRT[kind]
    assert len(re.findall(pattern, RAW)) >= least


def test_the_file_is_small_and_its_lines_end_as_on_windows():
    assert len(RAW) < 150_000
    assert RAW.count(b"\r\n") > 400 and RAW.endswith(b"\r\n")


def test_it_has_over_400_rows_half_chinese_and_half_english():
    rows = records()
    assert len(rows) >= 440
    chinese = sum(bool(HAN.search(row[3] + row[4]) or GARBLED.search(row[4])) for row in rows if len(row) == 6)
    assert 0.45 < chinese / len(rows) < 0.55


def test_telephone_numbers_are_ones_that_belong_to_nobody():
    text = RAW.decode()
    numbers = re.findall(r"\+?(?<![\w-])\d[\d -]{8,}\d", re.sub(r"\d{4}-\d\d-\d\d|WL-?\d+|20481173\d+", " ", text))
    # Ofcom's and the NANP's numbers for fiction, and a carrier's former service number that all examples use.
    fiction = re.compile(r"(?:\+44 |0)20 7946 0\d{3}|202-555-01\d\d|138[- ]?0013[- ]?8000")
    assert numbers and all(fiction.fullmatch(number) for number in numbers), numbers
    assert set(re.findall(r"@[\w.]+\w", text)) == {"@example.com"}


def test_questions_and_answers_are_found_and_the_other_columns_are_ignored(read):
    rows, problems, report = read
    assert report.encoding.lower().startswith("utf-8")
    assert set(report.ignored) >= {"编号", "渠道", "日期"}
    assert all(row.roles == ("user", "assistant") for row in rows)
    ragged = [at for at, row in enumerate(records(), 1) if len(row) != 6]
    assert [problem.number for problem in problems] == ragged and len(ragged) == 2


def test_every_row_is_kept_dropped_or_reported(read, tmp_path):
    rows, problems, _ = read
    total = len(rows) + len(problems)
    report = clean(rows, tmp_path / "out", problems=list(problems))
    with (tmp_path / "out" / "rejects.csv").open(encoding="utf-8-sig", newline="") as file:
        rejects = list(csv.DictReader(file))
    lines = (tmp_path / "out" / "clean.jsonl").read_text(encoding="utf-8").splitlines()
    assert total == len(records()) == report.rows_in
    assert report.kept == len(lines) >= 400
    assert len(lines) + len(rejects) == total
    assert 0.10 < len(rejects) / total < 0.14
    assert 0.20 < report.changed / report.kept < 0.30
    reasons = Counter(re.sub(r"\d+", "#", reject["reason"]) for reject in rejects)
    assert len(reasons) >= 6, reasons
    assert set(report.dropped) == {"missing", "duplicates", "near-duplicates"} and min(report.dropped.values()) >= 15


def test_nothing_of_the_dirt_is_left_in_the_clean_rows(kept):
    texts = [text for row in kept for text in row.texts]
    for text in texts:
        assert text == text.strip() and text
        assert not GARBLED.search(text), text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2060\ufeff\ufffd０-９Ａ-Ｚａ-ｚ]", text), text
        assert not re.search(r"</?(?:br|p)\b|&\w+;", text), text
    assert len({tuple(row.texts) for row in kept}) == len(kept)


def test_the_clean_answers_speak_with_one_voice_in_both_languages(kept):
    voices = {"zh": ("您好，", "雁禾"), "en": ("Thank you for writing", "Wrenlow")}
    voices_sorry = {"zh": "非常抱歉", "en": "We are sorry about that"}
    count = Counter[str]()
    for row in kept:
        language = "zh" if HAN.search(row.texts[1]) else "en"
        count[language] += 1
        opening, shop = voices[language]
        answer = row.texts[1]
        assert (opening in answer and shop in answer) or voices_sorry[language] in answer, answer
        assert 25 <= len(answer) <= 80 if language == "zh" else 15 <= len(answer.split()) <= 50, answer
    assert 0.45 < count["zh"] / len(kept) < 0.55


def test_a_policy_is_said_in_several_answers_so_that_a_held_out_one_can_be_learned(kept):
    answers = [{part for part in re.split(r"(?<=[.!?。！？])\s*", row.texts[1]) if part} for row in kept]
    said = Counter(sentence for answer in answers for sentence in answer)
    assert [sentence for sentence, times in said.items() if times < 2] == []
    train, held_out = split(kept, seed=1)
    known = {s for row in train for s in re.split(r"(?<=[.!?。！？])\s*", row.texts[1])}
    assert all(s in known for row in held_out for s in re.split(r"(?<=[.!?。！？])\s*", row.texts[1]))


def test_few_of_the_clean_rows_are_alike(kept):
    for texts in ([row.texts[0] for row in kept], [" ".join(row.texts) for row in kept]):
        alike = 0
        for chinese in (True, False):
            sets = [shingles(text) for text in texts if bool(HAN.search(text)) == chinese]
            pairs = ((a, b) for a, b in combinations(sets, 2) if 0.7 <= len(a) / len(b) <= 1 / 0.7)
            alike += sum(len(a & b) >= 0.7 * len(a | b) for a, b in pairs)
        assert 3 <= alike <= 12  # a few light rewordings stay, as in real exports, and are for the split to see


@pytest.mark.parametrize("seed", range(5))
def test_no_near_duplicate_stands_on_both_sides_of_the_split(kept, seed):
    train, held_out = split(kept, seed=seed)
    assert 0.08 * len(kept) < len(held_out) < 0.12 * len(kept)
    assert leakage(train, held_out) == []
    chinese = sum(bool(HAN.search(row.texts[1])) for row in held_out)
    assert 0.25 < chinese / len(held_out) < 0.75


def test_no_personal_data_survives_masking(read):
    rows, report = clean_rows(read[0], CleanSettings(mask_personal=True))
    text = "\n".join(text for row in rows for text in row.texts)
    assert not re.search(r"@\w|7946|555-01|138[- ]?0013", text)
    assert text.count("[PHONE]") >= 5 and text.count("[EMAIL]") == 2
    assert re.search(r"WL-?\d{7}", text)  # an order number is nobody's telephone
    assert sum(report.personal.values()) >= 8
