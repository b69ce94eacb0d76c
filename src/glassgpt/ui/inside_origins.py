"""The view Origins: which words of a reply stand in what its model was taught or in the files it was given."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from glassgpt.assistant.passage import place_text
from glassgpt.core.runs import TRAIN, is_run
from glassgpt.core.words import Sentence, say
from glassgpt.data.shards import MANIFEST
from glassgpt.inside.origins import Origins
from glassgpt.inside.spans import Span, find_quotes, tile
from glassgpt.ui.insight import Reply

KINDS = {
    "memorised": Sentence("word for word in the training data"),
    "retrieved": Sentence("word for word in your files"),
    "composed": Sentence("composed by the model"),
}
_SHOWN = 12  # rows below the text


def origins(reply: Reply, place: int, given: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Where the words of a reply stand."""
    text = reply.message.text
    passages = [
        (f"{one.get('source', '')}, {place_text(str(one.get('place', '')), language)}", str(one["text"]))
        for one in reply.message.extras.get("sources") or []
        if isinstance(one, Mapping) and one.get("text")
    ]
    run = run_of(reply)
    rows: list[dict[str, str]] = []
    notes: list[str] = []
    spans: list[Span]
    if run is None:
        spans = tile(len(text), [], find_quotes(text, passages))
        notes.append(say("What this model was trained on is not on this computer: build one from your own file to see "
                         "which of its rows an answer is from.", language))  # fmt: skip
    else:
        found = opened(run, (run / TRAIN / MANIFEST).stat().st_mtime_ns).explain(text, retrieved=passages)
        text, spans = found.text, list(found.spans)
        notes += [note.text(language) for note in found.notes]
        told = [p for span in spans for match in span.matches for p in match.places]
        rows += [{"place": say("{source}, row {row}", language, source=p.source, row=p.row),
                  "text": f"…{p.before}【{p.text}】{p.after}…"} for p in told[:_SHOWN]]  # fmt: skip
        rows += [{"place": say("near to the rest: {source}, row {row}", language, source=n.source, row=n.row),
                  "text": n.text} for n in found.nearest]  # fmt: skip
    for span in spans:
        if span.quote is not None:
            rows.append({"place": span.quote.source, "text": passages[span.quote.passage][1]})
    shares = dict.fromkeys(KINDS, 0)
    for span in spans:
        shares[span.kind] += span.end - span.start
    parts = {kind: shares[kind] / max(1, len(text)) for kind in KINDS}
    said = say("Of its characters {memorised:.0%} stand word for word in the training data, {retrieved:.0%} in your "
               "files.", language, memorised=parts["memorised"], retrieved=parts["retrieved"])  # fmt: skip
    return {
        "place": place,
        "said": " ".join([said, *notes]),
        "spans": [{"text": text[s.start : s.end], "kind": s.kind, "label": KINDS[s.kind].text(language),
                   "start": s.start, "end": s.end} for s in spans],
        "rows": rows,
        "legend": [{"kind": kind, "label": label.text(language)} for kind, label in KINDS.items()],
    }  # fmt: skip


def run_of(reply: Reply) -> Path | None:
    """The run that made the model, where its training data is still there."""
    path = reply.opened.model.path
    if path is None:
        return None
    for folder in (path, path.parent):
        if is_run(folder) and (folder / TRAIN / MANIFEST).is_file():
            return folder
    return None


@lru_cache(maxsize=2)
def opened(run: Path, changed: int) -> Origins:
    """The training data of a run, sorted; `changed` is when it last was."""
    return Origins.open(run)
