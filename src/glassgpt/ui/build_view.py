"""What the tab Build shows, as markup: everything from a file in it is escaped."""

from __future__ import annotations

import time
from collections.abc import Sequence

from glassgpt.core.html import Html, element, table
from glassgpt.core.words import say
from glassgpt.ui.build_info import WORDS, BuildInfo, Pair
from glassgpt.ui.plot import Curve, plot
from glassgpt.ui.preview import Preview
from glassgpt.ui.run_facts import Losses


def preview_html(found: Preview, language: str) -> Html:
    """The cleaning report and the coloured rows of a file that is not trained on yet."""

    def words(template: str, **facts: object) -> str:
        return say(template, language, **facts)

    parts: list[object] = [element("h3", words("What would come of it"))]
    parts += [element("p", line) for line in found.lines]
    for source in found.sources:
        columns = ", ".join(f"{role} = {column}" for role, column in source.columns.items())
        told = f"{source.name}: {source.format}, {source.encoding}"
        parts.append(element("p", f"{told}; {columns}" if columns else told, class_="gg-faint"))
        parts += [element("p", note, class_="gg-faint") for note in source.notes]
    counts = [(one.words, one.changed, one.dropped) for one in found.counts if one.changed or one.dropped]
    if counts:
        parts.append(table([words("what cleaning does"), words("changed"), words("left out")], counts))
    if found.dropped_rows:
        rows = [(f"{one.source}:{one.row}", one.reason, one.text) for one in found.dropped_rows]
        parts.append(_more(words("Rows left out (the first of them)"),
                           table([words("row"), words("why"), words("text")], rows)))  # fmt: skip
    if found.changed_rows:
        repairs = [(f"{one.source}:{one.row}", one.words, one.before, one.after) for one in found.changed_rows]
        head = [words("row"), words("repair"), words("before"), words("after")]
        parts.append(_more(words("Rows repaired (the first of them)"), table(head, repairs)))
    if found.model_note:
        parts.append(element("p", found.model_note, class_="gg-faint"))
    if found.tokens:
        numbers = "; ".join(f"{what}: {count:,}" for what, count in found.tokens)
        parts.append(element("p", words("In {count:,} rows: {numbers}", count=found.examined, numbers=numbers)))
    if found.faults:
        parts.append(
            element("p", words("Rows that must not be trained on: {count}", count=found.faults), class_="gg-error")
        )
    if found.html:
        parts.append(element("h3", words("How the model will read it")))
        parts.append(element("style", Html(found.style)))
        parts.append(Html(found.html))
    return element("section", *parts, aria_label=words("What would come of it"))


def facts_html(info: BuildInfo, language: str) -> Html:
    """One training in a line or two."""

    def words(template: str, **facts: object) -> str:
        return say(template, language, **facts)

    parts: list[object] = [
        element("p", element("strong", WORDS[info.status].text(language)), _progress(info, language))
    ]
    if info.reason:
        parts.append(element("p", info.reason, class_="gg-error"))
    if info.loss_before is not None and info.loss_after is not None:
        parts.append(element("p", words("Held-out loss: {before:.3f} before, {after:.3f} after; lower is better.",
                                        before=info.loss_before, after=info.loss_after), class_="gg-good"))  # fmt: skip
    return element("div", *parts)


def _progress(info: BuildInfo, language: str) -> str:
    found = ""
    if info.steps:
        found += say("; step {step} of {steps}", language, step=info.step, steps=info.steps)
    if info.minutes_left is not None and info.running:
        found += say("; about {minutes:.1f} minutes left", language, minutes=info.minutes_left)
    return found


def losses_html(name: str, losses: Losses, language: str) -> Html:
    """The curves of one training."""
    before = [(0, losses.before)] if losses.before is not None else []
    curves = [Curve(say("training", language), losses.train),
              Curve(say("held out", language), [*before, *losses.held_out], dots=True)]  # fmt: skip
    return _plot(curves, say("Losses of {name}", language, name=name), language)


def compared_html(runs: Sequence[tuple[str, Losses]], language: str) -> Html:
    """Several trainings in one drawing: what was held out of each."""
    curves = [Curve(name, [*([(0, one.before)] if one.before is not None else []), *one.held_out], dots=True)
              for name, one in runs]  # fmt: skip
    return _plot(curves, say("Held-out losses of the chosen trainings", language), language)


def _plot(curves: Sequence[Curve], label: str, language: str) -> Html:
    return plot(curves, label, say("step", language), say("loss (nats per token)", language))


def answers_html(pairs: Sequence[Pair], language: str) -> Html:
    """The same held-out questions before and after."""
    head = [say("question", language), say("right answer", language), say("before", language), say("after", language)]
    rows = [(pair.question, pair.wanted, pair.before, "" if pair.after is None else pair.after) for pair in pairs]
    return table(head, rows)


def list_html(infos: Sequence[BuildInfo], chosen: set[str], shown: str | None, language: str) -> Html:
    """All trainings as a table with their buttons; whoever shows it listens to clicks."""

    def words(template: str, **facts: object) -> str:
        return say(template, language, **facts)

    head = [words("compare"), words("training"), words("state"), words("begun"), words("held-out loss"), ""]
    rows = [element("tr", *(element("th", one, scope="col") for one in head))]
    for info in infos:
        box = element("input", type="checkbox", data_do="compare", checked="" if info.name in chosen else None,
                      aria_label=words("Compare {name}", name=info.name))  # fmt: skip
        buttons = [_button("show", words("Show {name}", name=info.name), words("Show"))]
        if info.has_model:
            buttons.append(_button("talk", words("Talk to {name}", name=info.name), words("Talk")))
        if info.resumable:
            buttons.append(_button("resume", words("Go on with {name}", name=info.name), words("Go on")))
        if not info.running:
            buttons.append(_button("delete", words("Delete {name}", name=info.name), words("Delete"), "gg-danger"))
        loss = info.loss_after if info.loss_after is not None else info.held_out_loss
        both = (
            ""
            if loss is None
            else f"{loss:.3f}"
            if info.loss_before is None
            else f"{info.loss_before:.3f} → {loss:.3f}"
        )
        begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.began)) if info.began else ""
        name = element(
            "td", element("strong", info.name), element("br"), element("small", f"{info.data} · {_base(info)}")
        )
        cells = [element("td", box), name, element("td", WORDS[info.status].text(language) + _progress(info, language)),
                 element("td", begun), element("td", both, class_="gg-number"),
                 element("td", element("div", *buttons, class_="gg-row"))]  # fmt: skip
        now = "gg-now" if info.name == shown else None
        rows.append(element("tr", *cells, data_id=info.name, class_=now))
    return element("div", element("table", *rows, class_="gg-table"), class_="gg-wide")


def _base(info: BuildInfo) -> str:
    return info.base.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def _button(does: str, label: str, text: str, kind: str = "") -> Html:
    return element("button", text, type="button", class_=f"gg-button {kind}".strip(), data_do=does, aria_label=label)


def _more(summary: str, inside: Html) -> Html:
    return element("details", element("summary", summary), inside)
