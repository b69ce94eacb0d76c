"""The unigram tokenizer against SentencePiece itself."""

from __future__ import annotations

import io

import pytest

from glassgpt.core.errors import FormatError
from glassgpt.text.unigram import Unigram

TEXTS = [
    "the cat sat on the mat",
    "  the   dog  ran after it ",
    "我想退货，怎么办？",
    "order 4711 北京",
    "x",
    "unknown: ☃ snow",
]


@pytest.fixture(scope="module")
def trained():
    spm = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    lines = ["the cat sat on the mat and the dog ran after it", "我想退货怎么办", "订单什么时候发货？我想知道，北京",
             "order number 4711 was sent to the shop"] * 30  # fmt: skip
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=110, model_type="unigram",
        character_coverage=1.0, minloglevel=2, hard_vocab_limit=False, normalization_rule_name="identity",
    )  # fmt: skip
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


def ours(trained, changes=None) -> Unigram:
    count = trained.get_piece_size()
    return Unigram([trained.id_to_piece(i) for i in range(count)], [trained.get_score(i) for i in range(count)],
                   trained.bos_id(), trained.eos_id(), trained.unk_id(), changes or {})  # fmt: skip


def test_the_pieces_are_those_that_sentencepiece_finds(trained):
    for text in TEXTS:
        assert ours(trained).encode(text) == trained.encode(text), text


def test_characters_are_changed_first_and_white_space_around_does_not_count(trained):
    changed = ours(trained, {0xFF21: "a", 0x200B: "", 0x3000: " "})
    assert changed.encode("c\uff21t\u200b") == changed.encode("cat")
    assert changed.encode("\u3000the\u3000cat ") == changed.encode("the cat")
    assert changed.encode(" \u200b ") == []


def test_pieces_that_cannot_be_are_refused():
    with pytest.raises(FormatError, match="cannot be built"):
        Unigram(["a"], [0.0], 0, 0, 7, {})
