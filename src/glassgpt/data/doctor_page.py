"""The doctor's page: every total, what is wrong, and the tokens of sample rows in colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from glassgpt.core.html import Html, bars, element, page, table
from glassgpt.core.words import Sentence, say
from glassgpt.data.checkup import FAULTS
from glassgpt.data.doctor import Found, Report, Side
from glassgpt.text.tokenizer import Tokenizer

SHOWN_TOKENS = 600  # of one example; more stand in the middle of long ones and are counted
LENGTH_BINS = (16, 32, 64, 128, 256, 512, 1024, 2048)  # upper ends, in tokens; the last bin is open
_KINDS = {"t": "learned", "c": "only read", "s": "control token"}
STYLE = """
.doctor .tokens { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.9; padding: .5rem;
  border: 1px solid #8886; }
.doctor .tokens span { border-radius: 3px; padding: 1px 0; box-shadow: inset -1px 0 #8886; }
.doctor .t { background: #2fa35c55; text-decoration: underline 2px #2fa35c; text-underline-offset: 4px; }
.doctor .c { background: #88888822; } .doctor .s { font: 12px monospace; outline: 1px dashed #3b7dd8; }
.doctor .wrong { outline: 3px solid #d33; } .doctor .bad { color: #d33; font-weight: bold; }
"""  # of `coloured`, wherever it stands
COUNTS = {
    "trained": Sentence("tokens learned"),
    "context": Sentence("tokens only read"),
    "truncated": Sentence("tokens cut off"),
    "dropped": Sentence("tokens of rows left out"),
}
SIDES = {"train": Sentence("training"), "validation": Sentence("validation")}


def to_html(report: Report, tokenizer: Tokenizer, language: str) -> str:
    """One page that needs nothing else."""

    def words(template: str, **facts: object) -> str:
        return say(template, language, **facts)

    names = [SIDES[name].text(language) for name in report.sides]
    parts: list[object] = [element("style", Html(STYLE))]
    verdict = element("p", words("Examples that must not be trained on: {count}", count=report.faulty), class_="bad")
    parts.append(element("div", verdict, class_="doctor") if report.faulty
                 else element("p", words("Nothing is broken.")))  # fmt: skip
    parts.append(table(["", *names], totals(report, language)))
    if report.faults:
        parts.append(element("h2", words("What is wrong")))
        rows = [(FAULTS[k].text(language), n, places(report.first[k])) for k, n in report.faults.items()]
        parts.append(table([words("fault"), words("examples"), words("the first of them")], rows))
    for name, side in report.sides.items():
        if side.rows > side.refused:
            parts.append(element("h2", words("Length of an example in tokens: {side}", side=SIDES[name])))
            parts.append(_lengths(side, language))
    refused = [r for side in report.sides.values() for r in side.first_refused]
    if refused:
        parts.append(element("h2", words("Rows that make no example (the first of them)")))
        parts.append(
            table([words("source"), words("row"), words("why")],
                  [(r.source, r.number, r.reason.text(language)) for r in refused])
        )  # fmt: skip
    if report.leaks:
        parts.append(element("h2", words("Held-out rows that are known from training (the first of them)")))
        rows_known = [(*k.held_out, *k.train, f"{k.similarity:.0%}") for k in report.leaks[:20]]
        head = [words("held-out row"), words("row"), words("training"), words("row"), words("alike")]
        parts.append(table(head, rows_known))
    if report.samples:
        parts += [element("h2", words("The tokens of some rows")), coloured(report.samples, tokenizer, language)]
    return page(words("Doctor's report: {data}", data=report.about.get("data", "")), language, *parts)


def coloured(samples: Iterable[Found], tokenizer: Tokenizer, language: str) -> Html:
    """The tokens of examples in their colours, as a part of any page that has `STYLE`."""
    parts = [part for found in samples for part in _sample(found, tokenizer, language)]
    return element("div", _legend(language), *parts, class_="doctor")


def totals(report: Report, language: str) -> list[tuple[object, ...]]:
    """What is counted, and the count on each side, for a table."""
    sides = list(report.sides.values())
    rows: list[tuple[object, ...]] = [
        (say("rows", language), *(side.rows for side in sides)),
        (say("rows that make no example", language), *(side.refused for side in sides)),
        (say("rows of which next to nothing is learned", language), *(side.few for side in sides)),
    ]
    counted = [side.totals() for side in sides]
    return rows + [(what.text(language), *(c[name] for c in counted)) for name, what in COUNTS.items()]


def places(found: list[Found]) -> str:
    """Where examples come from, in a few words."""
    return ", ".join(f"{f.example.source}:{f.example.number}" for f in found)


def _lengths(side: Side, language: str) -> Html:
    counts = side.counts()
    lengths = counts[:, :2].sum(axis=1)
    binned = np.bincount(np.searchsorted(LENGTH_BINS, lengths[lengths > 0]), minlength=len(LENGTH_BINS) + 1)
    labels = [f"≤ {top:,}" for top in LENGTH_BINS] + [f"> {LENGTH_BINS[-1]:,}"]
    return bars(labels, binned.tolist(), [say("tokens", language), say("examples", language)])


def _legend(language: str) -> Html:
    shown = [element("span", say(name, language), class_=kind) for kind, name in _KINDS.items()]
    both = element("span", say("control token, learned", language), class_="s t")
    return element("p", *(part for item in [*shown, both] for part in (item, " ")), class_="tokens")


def _sample(found: Found, tokenizer: Tokenizer, language: str) -> Iterator[Html]:
    example, checkup = found.example, found.checkup
    title = say("{source}, row {row} ({side})", language, source=example.source, row=example.number,
                side=SIDES[found.side])  # fmt: skip
    yield element("h3", title)
    for fault in checkup.faults:
        yield element("p", FAULTS[fault.kind].text(language), class_="bad")
    yield element("p", say("{trained} learned, {context} only read, {truncated} cut off", language,
                           trained=checkup.trained, context=checkup.context, truncated=checkup.truncated))  # fmt: skip
    wrong = {fault.position for fault in checkup.faults}
    spans = _spans(example.ids, example.loss_mask, wrong, tokenizer)
    half = SHOWN_TOKENS // 2
    if len(spans) > SHOWN_TOKENS:
        gap = say("… {count} more …", language, count=len(spans) - 2 * half)
        spans = [*spans[:half], element("em", gap), *spans[-half:]]
    yield element("div", *spans, class_="tokens")


def _spans(ids: list[int], mask: list[bool], wrong: set[int], tokenizer: Tokenizer) -> list[Html]:
    """A span for each token; tokens that share a character, as those of an emoji may, stand in one."""
    spans: list[Html] = []
    raw, held = b"", []
    for i, (token, learned) in enumerate(zip(ids, mask, strict=True)):
        kind = "t" if learned and i else "c"
        mark = " wrong" if i in wrong else ""
        if tokenizer.is_control(token):
            name = tokenizer.decode([token], show_control=True)
            spans.append(element("span", name, class_=f"s{' t' if kind == 't' else ''}{mark}", title=token))
            continue
        raw += tokenizer.token_bytes(token)
        held.append(token)
        last = i + 1 == len(ids) or tokenizer.is_control(ids[i + 1]) or mask[i + 1] != learned or mark
        if not last and len(held) < 8 and _unfinished(raw):
            continue
        text = raw.decode("utf-8", "replace").replace("\n", "↵\n")
        spans.append(element("span", text, class_=f"{kind}{mark}", title=" ".join(map(str, held))))
        raw, held = b"", []
    return spans


def _unfinished(raw: bytes) -> bool:
    """Whether the bytes end inside a character."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False
