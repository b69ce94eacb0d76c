"""SentencePiece tokenizers, against the sentencepiece library, transformers, and properties."""

from __future__ import annotations

import dataclasses
import io
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import FormatError, InputError
from glassgpt.text.tokenizer import Tokenizer, TokenizerLists

NAMES = ["<end_of_turn>", "<start_of_turn>", "<bos>", "<eos>", "<unused7>", "<0x0A>", "<table>", "\n\n", "  "]
TEXTS = st.lists(st.one_of(st.sampled_from(NAMES), st.text(max_size=12)), max_size=6).map("".join)
WORDS = st.lists(
    st.sampled_from(
        ["the", "quick", "foxes", "的人", "是", "aaa", "ab", "ba", "abab", "<tag>", "\n", "▁x", "👍", " ", "  "]
    ),
    max_size=30,
).map("".join)


@pytest.fixture(scope="module", params=[False, True], ids=["no prefix", "prefix"])
def pair(request: pytest.FixtureRequest, shared_data: Path):
    """The library's model and ours from its pieces and scores."""
    import sentencepiece

    english = (shared_data / "pretrain_en" / "alice_pg11.txt").read_text(encoding="utf-8").splitlines()
    chinese = (shared_data / "instruct" / "crosswoz_val_chat_zh.jsonl").read_text(encoding="utf-8")[:60_000]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*english[:1500], *chinese.splitlines(), "ab ba abab aaa " * 200]),
        model_writer=out,
        model_type="bpe",
        vocab_size=3000,
        byte_fallback=True,
        add_dummy_prefix=request.param,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["\n", "\n\n", "<tag>", "▁▁", "▁▁▁"],
        minloglevel=2,
    )
    library = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    kinds = [
        (library.IsUnknown, 2), (library.IsControl, 3), (library.IsUnused, 5), (library.IsByte, 6),
    ]  # fmt: skip
    own = {"\n", "\n\n", "<tag>", "▁▁", "▁▁▁"}
    tokens, scores, types = [], [], []
    for i in range(library.GetPieceSize()):
        piece = library.IdToPiece(i)
        tokens.append(piece)
        scores.append(library.GetScore(i))
        types.append(next((number for test, number in kinds if test(i)), 4 if piece in own else 1))
    lists = TokenizerLists("llama", "default", tokens, scores, types, None, 1, 2, 0, None, True, request.param)
    return library, Tokenizer.from_lists(lists), lists


@given(text=WORDS)
@settings(max_examples=400, deadline=None)
def test_ids_equal_sentencepiece_on_words_of_its_training_text(pair, text: str) -> None:
    library, ours, _ = pair
    assert ours.encode(text, add_bos=False) == library.EncodeAsIds(text)


@given(text=st.text(st.characters(blacklist_characters="\x00", blacklist_categories=["Cs"]), max_size=40))
@settings(max_examples=300, deadline=None)
def test_ids_equal_sentencepiece_on_any_text(pair, text: str) -> None:
    library, ours, _ = pair
    assert ours.encode(text, add_bos=False) == library.EncodeAsIds(text)


def test_ids_equal_sentencepiece_on_a_long_text(pair, shared_data: Path) -> None:
    library, ours, _ = pair
    text = (shared_data / "pretrain_en" / "alice_pg11.txt").read_text(encoding="utf-8")[:50_000]
    assert ours.encode(text, add_bos=False) == library.EncodeAsIds(text)
    run = text.replace(" ", "").replace("\n", "")  # one word of many thousand characters
    assert ours.encode(run, add_bos=False) == library.EncodeAsIds(run)


def test_bos_comes_first_where_the_model_wants_it(pair) -> None:
    library, ours, _ = pair
    assert ours.encode("the") == [library.bos_id(), *library.EncodeAsIds("the")]


def test_the_same_tokenizer_comes_back_from_its_files(pair, tmp_path: Path) -> None:
    _, ours, _ = pair
    ours.save(tmp_path)
    again = Tokenizer.from_file(tmp_path)
    text = "the quick 的人\n\n   <tag> abababa aaaaa"
    assert again.fingerprint() == ours.fingerprint()
    assert again.encode(text) == ours.encode(text)
    assert (again.bos_id, again.eos_id, again.add_bos) == (ours.bos_id, ours.eos_id, ours.add_bos)


def test_the_saved_tokenizer_json_gives_other_libraries_the_same_ids(pair, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Library

    _, ours, _ = pair
    ours.save(tmp_path)
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("Alice was beginning to get very tired", "我想去故宫的人很多。", "x👍é"):
        assert library.encode(text, add_special_tokens=False).ids == ours.encode(text, add_bos=False)


def test_a_character_without_byte_tokens_is_named_with_its_place(pair) -> None:
    _, _, lists = pair
    types = [5 if t == 6 else t for t in lists.types]
    tokenizer = Tokenizer.from_lists(dataclasses.replace(lists, types=types))
    with pytest.raises(InputError, match="'👍' at position 4"):
        tokenizer.encode("the 👍")


def test_scores_that_do_not_fit_are_refused(pair) -> None:
    _, _, lists = pair
    with pytest.raises(FormatError, match="2 scores"):
        Tokenizer.from_lists(dataclasses.replace(lists, scores=[0.0, 1.0]))
    with pytest.raises(FormatError, match="0 scores"):
        Tokenizer.from_lists(dataclasses.replace(lists, scores=None))


@given(text=TEXTS)
@settings(max_examples=300, deadline=None)
def test_no_text_ever_becomes_one_of_gemmas_control_tokens(gemma: Tokenizer, text: str) -> None:
    ids = gemma.encode(text, add_bos=False)
    assert not any(gemma.is_control(i) for i in ids)
    assert gemma.decode(ids) == text.replace("▁", " ")  # SentencePiece cannot tell "▁" from a space


def test_gemmas_runs_of_newlines_and_spaces_and_html_tags_are_single_tokens(gemma: Tokenizer) -> None:
    for text in ("\n", "\n" * 31, "  ", " " * 31, "\t\t", "<table>", "</h1>"):
        ids = gemma.encode(text, add_bos=False)
        assert ids == [gemma.token_id(text)] and not gemma.is_control(ids[0])
    assert gemma.encode_with_control("<start_of_turn>") == [105]
    assert gemma.encode("<start_of_turn>", add_bos=False) != [105]


def test_gemmas_tokenizer_is_built_within_two_seconds(gemma_lists: TokenizerLists) -> None:
    start = time.perf_counter()
    Tokenizer.from_lists(gemma_lists)
    assert time.perf_counter() - start < 2


def test_gemma_encodes_at_least_200_kilobytes_a_second(gemma: Tokenizer, shared_data: Path) -> None:
    text = (shared_data / "pretrain_en" / "alice_pg11.txt").read_text(encoding="utf-8")
    start = time.perf_counter()
    gemma.encode(text)
    assert len(text.encode()) / (time.perf_counter() - start) > 200_000


@pytest.mark.slow
def test_gemma_ids_equal_transformers(gemma: Tokenizer, gemma_path: Path, samples: list[str]) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(gemma_path.resolve().parent, gguf_file=gemma_path.resolve().name)
    for text in samples:
        assert gemma.encode(text, add_bos=False) == theirs.encode(text, add_special_tokens=False), text
