"""How often an assistant finds the right row, and how often it declines what the file does not answer.

    python -m benchmarks.retrieval [--shared ../shared/data] [--tune] [--ways words both]

Words alone (BM25), vectors alone, and both, on the same questions: the shop sample's (tests/assistant/questions: one
part chose the limits, the other is measured), banking77 (3,000 rows indexed, 1,000 others asked; right is a row of the
same category), and Chinese conversations (asked in traditional characters, indexed in simplified ones). A question
that nothing answers should be declined; clinc150's out-of-scope queries are asked of the
shop too. `--tune` prints the sums at which 5 % of the first half's answerable questions are declined.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from glassgpt.assistant.documents import read_document
from glassgpt.assistant.encoders import ENGLISH, Encoders, load_encoders
from glassgpt.assistant.knowledge import MULTILINGUAL, SCALES, Hit, Knowledge
from glassgpt.assistant.passage import Passage
from glassgpt.assistant.search_text import plain

HERE = Path(__file__).parents[1]
QUESTIONS = HERE / "tests" / "assistant" / "questions"
SHOP = HERE / "src" / "glassgpt" / "samples" / "shop.csv"
Right = Callable[[Hit], bool]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval")
    parser.add_argument("--shared", type=Path, default=HERE.parent / "shared" / "data")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--ways", nargs="+", default=["words", "e5-small", "vectors", "both"])
    args = parser.parse_args()
    encoders = load_encoders()
    alone = {kind: replace(scale, words=0.0) for kind, scale in SCALES.items()}
    ways: dict[str, Callable[[], Knowledge]] = {
        "words": Knowledge,
        "e5-small": lambda: Knowledge(None, Encoders(encoders.multilingual), alone),
        "vectors": lambda: Knowledge(None, encoders, alone),
        "both": lambda: Knowledge(None, encoders),
    }
    shop = read_document(SHOP)
    for name, make in ((name, ways[name]) for name in args.ways):
        print(f"== {name}")
        knowledge = make()
        knowledge.add("shop.csv", shop.sha256, shop.passages)
        if args.tune and name == "both":
            tune(knowledge, encoders)
        shop_questions(knowledge, args.shared)
        banking(make(), args.shared)
        chinese(make(), args.shared)


def shop_questions(knowledge: Knowledge, shared: Path) -> None:
    """The shop sample: right first, among three, and declined; then what nothing answers."""
    asked, unanswerable = read_questions("shop"), read_questions("unanswerable")
    for part in ("tune", "test"):
        for language in ("en", "zh"):
            own = [q for q in asked if (q["language"], q["part"]) == (language, part)]
            report(f"shop {part} {language}", [(q["question"], holds(q["fact"])) for q in own], knowledge)
            for kind in ("far", "near"):
                others = [q["question"] for q in unanswerable
                          if (q["language"], q["part"], q["kind"]) == (language, part, kind)]  # fmt: skip
                declined(f"  nothing answers ({kind})", others, knowledge)
    clinc = json.loads(gzip.decompress((shared / "instruct/clinc150_small.json.gz").read_bytes()))
    declined("clinc150, out of scope", [text for text, _ in clinc["oos_test"]], knowledge)


def banking(knowledge: Knowledge, shared: Path) -> None:
    """3,000 questions of customers in the index, 1,000 others asked."""
    with (shared / "instruct/banking77_train.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    order = np.random.default_rng(0).permutation(len(rows))
    known, asked = [rows[i] for i in order[:3000]], [rows[i] for i in order[3000:4000]]
    knowledge.add("bank.csv", "1", [Passage(q, q, "-", category, at) for at, (q, category) in enumerate(known)])
    report("banking77", [(q, lambda hit, c=category: hit.passage.place == c) for q, category in asked], knowledge)


def chinese(knowledge: Knowledge, shared: Path) -> None:
    """Conversations translated twice, into simplified and into traditional characters: those of the categories that
    have as many rows in both are asked in the other's words. Right is the row, or one with the same question or
    answer."""
    simple: dict[str, list[list[str]]] = {}
    traditional: dict[str, list[list[str]]] = {}
    for name, found in (("chinese", simple), ("traditionalchinese", traditional)):
        for line in (shared / f"instruct/chatterbot_{name}.jsonl").open("rb"):
            row = json.loads(line)
            found.setdefault(row["category"], []).append(row["turns"])
    pairs = [(a, b[0]) for category, rows in simple.items() if len(rows) == len(traditional.get(category, ()))
             for a, b in zip(rows, traditional[category], strict=True)]  # fmt: skip
    known = [turns for rows in simple.values() for turns in rows]
    knowledge.add("talk.csv", "1", [Passage("\n".join(a[:2]), a[0], a[1], "", at) for at, a in enumerate(known)])
    report("chatterbot, traditional", [
        (question, lambda hit, a=a: a[1] == hit.passage.answer or a[0] == hit.passage.question)
        for a, question in pairs
    ], knowledge)  # fmt: skip


def report(name: str, asked: Sequence[tuple[str, Right]], knowledge: Knowledge) -> None:
    """How often the right row comes first, is among three, and is declined."""
    found = [(knowledge.search(question, 3), right) for question, right in asked]
    first = sum(bool(hits) and right(hits[0]) for hits, right in found) / len(found)
    three = sum(any(map(right, hits)) for hits, right in found) / len(found)
    refused = sum(not hits or not hits[0].known for hits, _ in found) / len(found)
    print(f"{name:26} {len(found):5}  first {first:6.1%}  in three {three:6.1%}  declined {refused:6.1%}", flush=True)


def declined(name: str, asked: Sequence[str], knowledge: Knowledge) -> None:
    """How often what nothing answers is declined."""
    hits = [knowledge.search(question, 1) for question in asked]
    print(
        f"{name:26} {len(hits):5}  declined {sum(not h or not h[0].known for h in hits) / len(hits):6.1%}", flush=True
    )


def tune(knowledge: Knowledge, encoders: Encoders) -> None:
    """The sum of which 5 % of answerable questions stay below, for rows and for their answers as plain texts."""
    texts = Knowledge(None, encoders)
    texts.add("shop.txt", "1", [Passage(s.passage.answer, None, None, "", at) for at in range(len(knowledge))
                                if (s := knowledge._index.stored(at)) and s.passage.answer])  # fmt: skip
    for name, known in (("rows", knowledge), ("texts", texts)):
        for language, kind in (("en", ENGLISH), ("zh", MULTILINGUAL)):
            sums: dict[str, list[float]] = {}
            for file in ("shop", "unanswerable"):
                for q in read_questions(file):
                    if (q["language"], q["part"]) == (language, "tune"):
                        hit = known.search(q["question"], 1)[0]
                        scale = SCALES[kind]
                        limit = scale.known if hit.passage.question else scale.known_text
                        odds = math.log(hit.score / (1 - hit.score))
                        sums.setdefault(file, []).append(limit + odds * scale.step)
            at, others = float(np.quantile(sums["shop"], 0.05)), np.array(sums["unanswerable"])
            print(f"{name} {language}: 5 % of the answerable below {at:.3f} (median {np.median(sums['shop']):.3f}); of "
                  f"the others {np.mean(others < at):.1%} (median {np.median(others):.3f})")  # fmt: skip


def holds(fact: str) -> Right:
    """Whether a hit's answer says a fact; `|` stands between ways to say it."""
    ways = [squeezed(one) for one in fact.split("|")]
    return lambda hit: any(one in squeezed(hit.passage.answer or hit.passage.text) for one in ways)


def squeezed(text: str) -> str:
    """A text without what the sample's dirt changes."""
    return "".join(plain(text).split())


def read_questions(name: str) -> list[dict[str, str]]:
    """A table of tests/assistant/questions."""
    with (QUESTIONS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
