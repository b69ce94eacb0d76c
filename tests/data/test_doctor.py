"""The doctor finds what is broken, wherever it is broken, and nothing in what is whole."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import InputError
from glassgpt.data.checkup import FAULTS, Examiner, examine
from glassgpt.data.doctor import Report, check, doctor, documents, known_questions
from glassgpt.data.doctor_page import to_html
from glassgpt.data.examples import Example, Refused, make_example
from glassgpt.data.rows import Row
from glassgpt.data.shards import open_shards, write_shards
from glassgpt.text.bpe import train_bpe, train_characters
from glassgpt.text.template import TEMPLATES, get_template
from glassgpt.text.tokenizer import Tokenizer

CONTROL = (
    *("</s>", "<bos>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
    *("<think>", "</think>", "<tool_response>", "</tool_response>"),
)


def make_tokenizer(bos: str | None, eos: str | None, add_bos: bool = False) -> Tokenizer:
    made = train_bpe(["hello there, how are you? User: Assistant: 你好,世界!\n\n" * 9], 360, control=CONTROL)
    made.bos_id, made.eos_id = made.token_id(bos) if bos else None, made.token_id(eos) if eos else None
    made.add_bos = add_bos
    return made


# As Gemma has it, as SmolLM2, as GPT-2.
TOKENIZERS = {
    "own start": make_tokenizer("<bos>", "</s>", add_bos=True),
    "start of a turn": make_tokenizer("<|im_start|>", "<|im_end|>"),
    "one for both": make_tokenizer("</s>", "</s>"),
}
OWN = TOKENIZERS["own start"]


def conversation(*texts: str, system: str | None = None) -> Row:
    roles = ["user", "assistant"] * len(texts)
    start = ([], []) if system is None else (["system"], [system])
    return Row("f.jsonl", 3, (*start[0], *roles[: len(texts)]), [*start[1], *texts])


def made(row: Row, tokenizer: Tokenizer, family: str | None) -> Example:
    example = make_example(row, tokenizer, get_template(family) if family else None, 10_000)
    assert isinstance(example, Example), example
    return example


def kinds(example: Example, tokenizer: Tokenizer, family: str | None, **more: int) -> list[str]:
    template = get_template(family) if family else None
    return [fault.kind for fault in examine(example, tokenizer, template, **more).faults]


def without(example: Example, *places: int) -> Example:
    keep = [i for i in range(len(example.ids)) if i not in places]
    return replace(example, ids=[example.ids[i] for i in keep], loss_mask=[example.loss_mask[i] for i in keep])


TEXTS = st.text("ab你👍 \n<|im_end|>", max_size=12)


@pytest.mark.parametrize("name", list(TOKENIZERS))
@given(texts=st.lists(TEXTS, min_size=2, max_size=7), system=st.none() | TEXTS, data=st.data())
@settings(max_examples=150, deadline=None)
def test_in_any_conversation_of_any_family_nothing_is_wrong_and_every_token_is_counted(name, texts, system, data):
    tokenizer, family = TOKENIZERS[name], data.draw(st.sampled_from(sorted(TEMPLATES)))
    example = made(conversation(*texts, system=None if family == "gemma2" else system), tokenizer, family)
    found = examine(example, tokenizer, TEMPLATES[family])
    assert found.faults == ()
    assert found.trained == sum(example.loss_mask) and found.trained + found.context == len(example.ids)
    assert (found.truncated, found.dropped) == (0, 0)


@pytest.mark.parametrize("name", list(TOKENIZERS))
@given(text=TEXTS)
@settings(max_examples=50, deadline=None)
def test_in_any_text_nothing_is_wrong_with_or_without_a_template(name, text):
    example = made(Row("t.txt", 1, ("text",), [text or "x"]), TOKENIZERS[name], None)
    assert kinds(example, TOKENIZERS[name], None) == kinds(example, TOKENIZERS[name], "chatml") == []


def test_a_tokenizer_without_control_tokens_has_healthy_examples_too():
    tokenizer = train_characters(["User: Assistant: yes\nq"])
    example = made(conversation("q", "yes", "q"), tokenizer, "plain")
    assert kinds(example, tokenizer, "plain") == []
    assert kinds(without(example, len(example.ids) - 9), tokenizer, "plain") == ["no-end"]  # the answer's line break


FAMILIES = [name for name in TEMPLATES if name != "plain"]


@pytest.mark.parametrize("family", list(TEMPLATES))
def test_an_example_in_which_nothing_is_learned_is_found(family):
    example = made(conversation("q", "a"), OWN, family)
    assert kinds(replace(example, loss_mask=[False] * len(example.ids)), OWN, family) == ["nothing-learned"]
    # The first token is never learned: nothing stands before it.
    first = [True] + [False] * (len(example.ids) - 1)
    assert kinds(replace(example, loss_mask=first), OWN, family) == ["nothing-learned"]
    assert kinds(made(conversation("only a question"), OWN, family), OWN, family) == ["nothing-learned"]


@pytest.mark.parametrize("family", list(TEMPLATES))
@pytest.mark.parametrize("which", [0, 1])
def test_an_end_token_that_is_missing_or_not_learned_is_found(family, which):
    example = made(conversation("q", "a b", "r", "c d"), OWN, family)
    ends = [i for i, m in enumerate(example.loss_mask) if m and not (*example.loss_mask, False)[i + 1]]
    assert len(ends) == 2
    mask = [m and i != ends[which] for i, m in enumerate(example.loss_mask)]
    unlearned = examine(replace(example, loss_mask=mask), OWN, get_template(family))
    assert [(f.kind, f.position) for f in unlearned.faults] == [("end-not-learned", ends[which])]
    missing = examine(without(example, ends[which]), OWN, get_template(family))
    assert [(f.kind, f.position) for f in missing.faults] == [("no-end", ends[which] - 1)]


@pytest.mark.parametrize("family", list(TEMPLATES))
def test_an_answer_that_is_cut_off_is_found(family):
    example = made(conversation("q", "one two three four five"), OWN, family)
    end = max(i for i, m in enumerate(example.loss_mask) if m)
    for size in (end, end - 2):
        ids, mask = example.ids[:size], example.loss_mask[:size]
        cut = replace(example, ids=ids, loss_mask=mask, truncated=len(example.ids) - size)
        assert kinds(cut, OWN, family) == ["answer-cut"]
        assert examine(cut, OWN, get_template(family)).truncated == len(example.ids) - size
        # Shards do not say what was cut; there an example as long as the context tells.
        assert kinds(replace(cut, truncated=0), OWN, family, context=size) == ["answer-cut"]
        assert kinds(replace(cut, truncated=0), OWN, family, context=size + 1) == ["no-end"]


def test_a_start_token_that_stands_there_twice_is_found():
    gemma = made(conversation("q", "a"), OWN, "gemma")
    assert gemma.ids[0] == OWN.bos_id
    twice = replace(gemma, ids=[gemma.ids[0], *gemma.ids], loss_mask=[False, *gemma.loss_mask])
    found = examine(twice, OWN, get_template("gemma"))
    assert [(f.kind, f.position) for f in found.faults] == [("double-start", 1)]
    # In the middle, as where two documents were glued to one.
    glued = replace(gemma, ids=gemma.ids * 2, loss_mask=gemma.loss_mask * 2)
    assert kinds(glued, OWN, "gemma") == ["double-start"]
    text = made(Row("t", 1, ("text",), ["hello"]), OWN, None)
    assert kinds(replace(text, ids=[text.ids[0], *text.ids], loss_mask=[False, *text.loss_mask]), OWN, None) == [
        "double-start"
    ]
    for name in ("start of a turn", "one for both"):
        tokenizer = TOKENIZERS[name]
        chat = made(conversation("q", "a"), tokenizer, "chatml")
        twice = replace(
            chat, ids=[tokenizer.bos_id, tokenizer.bos_id, *chat.ids[1:]], loss_mask=[False, *chat.loss_mask]
        )
        assert "double-start" in kinds(twice, tokenizer, "chatml")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_over_the_whole_conversation_is_found(family):
    example = made(conversation("q", "a", "r", "b"), OWN, family)
    assert "frame-learned" in kinds(replace(example, loss_mask=[True] * len(example.ids)), OWN, family)


@pytest.mark.parametrize("family", list(TEMPLATES))
@pytest.mark.parametrize("shift", [-1, 1])
def test_a_mask_that_is_off_by_one_is_found(family, shift):
    example = made(conversation("q", "a b", "r", "c d"), OWN, family)
    mask = example.loss_mask[-shift:] + example.loss_mask[:-shift]
    assert kinds(replace(example, loss_mask=mask), OWN, family)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "qwen3"])
@pytest.mark.parametrize("which", [0, 1])
def test_one_answer_of_several_that_is_not_learned_is_found(family, which):
    example = made(conversation("q", "a b", "r", "c d"), OWN, family)
    first_end = next(i for i, m in enumerate(example.loss_mask) if m and not example.loss_mask[i + 1])
    mask = [m and (i > first_end) == bool(which) for i, m in enumerate(example.loss_mask)]
    assert 0 < sum(mask) < sum(example.loss_mask)
    assert kinds(replace(example, loss_mask=mask), OWN, family) == ["answer-not-learned"]


def test_an_empty_think_block_is_no_answer_that_was_forgotten_but_an_answer_after_it_can_be():
    example = made(conversation("q", "a b"), OWN, "qwen3")
    assert kinds(example, OWN, "qwen3") == []
    two = made(conversation("q", "<think>\nhm\n</think>\n\na", "r", "<think>\nso\n</think>\n\nb"), OWN, "qwen3")
    assert kinds(two, OWN, "qwen3") == []
    last = max(i for i, t in enumerate(two.ids) if t == OWN.token_id("<|im_start|>"))
    assert kinds(replace(two, loss_mask=[m and i < last for i, m in enumerate(two.loss_mask)]), OWN, "qwen3") == [
        "answer-not-learned"
    ]


def test_a_text_without_its_end_is_found_unless_it_was_cut_to_fit():
    text = made(Row("t", 1, ("text",), ["hello there"]), OWN, None)
    assert kinds(without(text, len(text.ids) - 1), OWN, None) == ["no-end"]
    assert kinds(replace(without(text, len(text.ids) - 1), truncated=1), OWN, None) == []
    assert kinds(replace(text, loss_mask=[*text.loss_mask[:-1], False]), OWN, None) == ["end-not-learned"]
    assert not Examiner(OWN, None, whole_texts=False)(without(text, len(text.ids) - 1)).faults


def test_every_fault_that_can_be_told_has_been_seen_here():
    """Each key of `FAULTS` comes from some broken example of one family."""
    example = made(conversation("q", "a b", "r", "c d"), OWN, "gemma")
    ends = [i for i, t in enumerate(example.ids) if t == OWN.token_id("<end_of_turn>") and example.loss_mask[i]]
    broken = [
        replace(example, loss_mask=[False] * len(example.ids)),
        replace(example, loss_mask=[m and i > ends[0] for i, m in enumerate(example.loss_mask)]),
        without(example, ends[0]),
        replace(example, loss_mask=[m and i != ends[0] for i, m in enumerate(example.loss_mask)]),
        replace(example, ids=example.ids[: ends[1]], loss_mask=example.loss_mask[: ends[1]], truncated=2),
        replace(example, ids=[OWN.bos_id, *example.ids], loss_mask=[False, *example.loss_mask]),
        replace(example, loss_mask=[True] * len(example.ids)),
    ]
    assert {kind for b in broken for kind in kinds(b, OWN, "gemma")} == set(FAULTS)


def test_an_example_without_a_token_is_told_and_no_crash():
    assert kinds(Example([], [], "f", 1), OWN, "chatml") == kinds(Example([], [], "f", 1), OWN, None)
    assert kinds(Example([], [], "f", 1), OWN, None) == ["nothing-learned"]


def test_next_to_nothing_learned_is_a_warning_and_no_fault():
    empty = examine(made(conversation("q", ""), OWN, "chatml"), OWN, get_template("chatml"))
    assert empty.few and not empty.faults
    long = examine(made(conversation("q " * 600, "yes it is"), OWN, "chatml"), OWN, get_template("chatml"))
    assert long.few
    assert not examine(made(conversation("q", "yes it is"), OWN, "chatml"), OWN, get_template("chatml")).few


# The report


def report_of(*rows: Row, held_out: tuple[Row, ...] = (), context: int = 60, samples: int = 0) -> Report:
    return doctor(rows, held_out, OWN, get_template("chatml"), context, samples=samples)


def test_the_report_counts_every_row_once():
    rows = [conversation("q", "a"), conversation("q", "a" * 200), conversation("nothing but this")]
    told: list[tuple[str, int]] = []
    report = doctor(rows, [conversation("r", "b")], OWN, get_template("chatml"), 60,
                    watch=lambda side, row, found: told.append((side, found.trained)))  # fmt: skip
    summary = report.summary()
    assert summary["hard_errors"] == 1
    assert summary["faults"] == {
        "nothing-learned": {"count": 1, "first": [{"side": "train", "source": "f.jsonl", "row": 3}]}
    }
    train, held_out = summary["sides"]["train"], summary["sides"]["validation"]
    assert (train["rows"], train["refused"], held_out["rows"]) == (3, 1, 1)
    one = made(rows[0], OWN, "chatml")
    assert train["trained"] == one.trained
    assert train["dropped"] == len(made(rows[1], OWN, "chatml").ids)
    assert train["context"] == len(one.ids) - one.trained + len(made(rows[2], OWN, "chatml").ids)
    assert [side for side, _ in told] == ["train"] * 3 + ["validation"]
    with pytest.raises(InputError, match=r"1 of 3 examples.*f\.jsonl, 3.*no token is learned") as caught:
        report.refuse()
    assert "没有任何词元被学习" in caught.value.line("zh")


def test_a_held_out_row_that_stands_in_training_is_a_warning():
    known = conversation("How do I send back a pair of shoes?", "Within 30 days.")
    report = report_of(conversation("What is the price?", "10"), known, held_out=(known,), context=500)
    assert [(leak.held_out, leak.similarity) for leak in report.leaks] == [(("f.jsonl", 3), 1.0)]
    report.refuse()
    assert any("known from training" in str(warning) for warning in report.warnings())
    assert all(warning.text("zh") != str(warning) for warning in report.warnings())


def test_nothing_to_learn_at_all_is_refused():
    report = report_of(conversation("q", "a" * 500))
    with pytest.raises(InputError, match="no row has anything to learn"):
        report.refuse()


def test_percentiles_are_those_of_the_examples():
    report = report_of(*(conversation("q", "x" * n) for n in range(21)), context=500)
    side = report.sides["train"]
    lengths = sorted(len(made(conversation("q", "x" * n), OWN, "chatml").ids) for n in range(21))
    found = side.percentiles()["length"]
    assert (found[0], found[2], found[-1]) == (lengths[0], lengths[10], lengths[-1])


def test_shards_are_examined_as_they_are_read(tmp_path):
    good = [made(conversation(f"question {i}", f"answer {i}"), OWN, "gemma") for i in range(5)]
    ends = [i for i, m in enumerate(good[3].loss_mask) if m]
    write_shards([*good[:3], without(good[3], ends[-1])], tmp_path / "a", OWN)
    write_shards([good[0], good[4]], tmp_path / "b", OWN)
    train, held_out = open_shards(tmp_path / "a", OWN), open_shards(tmp_path / "b", OWN)
    assert [e.ids for e in documents(held_out)] == [good[0].ids, good[4].ids]
    report = check({"train": documents(train), "validation": documents(held_out)}, OWN, get_template("gemma"))
    assert report.faults == {"no-end": 1} and report.faulty == 1
    assert len(known_questions(train, held_out)) == 1


# The page


class Seen(HTMLParser):
    """A page's tags and the text of each `.tokens` box."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.classes: list[str] = []
        self.boxes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.classes.append(dict(attrs).get("class") or "")
        if tag == "div" and dict(attrs).get("class") == "tokens":
            self.boxes.append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = getattr(self, "inside", False) and tag != "div"

    def handle_data(self, data):
        if getattr(self, "inside", False):
            self.boxes[-1] += data


def test_the_page_shows_every_token_and_obeys_none():
    naughty = '</span><script>alert("1")</script> 👨‍👩‍👧 ok <b>'
    row = Row('<img src="x">.csv', 1, ("user", "assistant"), [naughty, naughty])
    report = report_of(row, context=500, samples=5)
    report.about = {"data": "<h6>x</h6>"}
    seen = Seen(to_html(report, OWN, "en"))
    assert not {"script", "b", "img", "h6"} & seen.tags
    whole = OWN.decode(made(row, OWN, "chatml").ids, show_control=True)
    assert seen.boxes == [whole.replace("\n", "↵\n")]


def test_faulty_rows_are_shown_first_and_no_more_than_asked_for():
    rows = [conversation("q", f"answer {i}") for i in range(9)] + [conversation("the broken one")]
    seen = Seen(to_html(report_of(*rows, context=500, samples=3), OWN, "en"))
    assert len(seen.boxes) == 3 and "the broken one" in seen.boxes[0] and "answer 1" in seen.boxes[2]
    assert "bad" in seen.classes


def test_learned_and_control_tokens_are_told_apart_by_class():
    report = report_of(conversation("q", "a"), context=500, samples=1)
    page = to_html(report, OWN, "en")
    box = page[page.rindex('<div class="tokens">') :]
    end = OWN.token_id("<|im_end|>")
    assert box.count(f'class="s t" title="{end}"') == 1 and box.count(f'class="s" title="{end}"') == 1
    assert '<span class="t"' in box and '<span class="c"' in box


def test_a_long_example_is_shown_with_a_gap_that_is_counted():
    report = report_of(conversation("q", "x y" * 2000), context=10_000, samples=1)
    assert "more …" in to_html(report, OWN, "en") and len(to_html(report, OWN, "en")) < 100_000


def test_the_page_speaks_chinese():
    report = report_of(
        conversation("问", "答"), conversation("只有问题"), Row("x", 9, ("user",), ["长" * 300]), samples=2
    )
    page = to_html(report, OWN, "zh")
    assert 'lang="zh"' in page and "没有任何词元被学习" in page and "放不进 60 的上下文" in page
    assert "token is learned" not in page and "do not fit" not in page


def test_a_row_that_is_refused_is_counted_in_its_tokens():
    assert examine(Refused("f", 1, next(iter(FAULTS.values())), 77), OWN, None).dropped == 77
