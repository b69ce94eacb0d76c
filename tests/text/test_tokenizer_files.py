"""tokenizer.json files: kinds, settings beside them, and damage."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Library

from glassgpt.core.errors import FormatError, GlassError, NotFoundError
from glassgpt.text.bpe import train_bpe
from glassgpt.text.tokenizer import Tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved byte-level tokenizer."""
    train_bpe(["the quick brown fox 你好 " * 20], 300).save(tmp_path)
    return tmp_path


def llama2(prefix: str = "normalizer") -> Library:
    """The shape of Llama 2's tokenizer.json: byte fallback, "▁" for spaces, <s> before every text."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *"▁helo<>s/|", "he", "lo", "▁he"]
    library = Library(
        models.BPE(
            {w: i for i, w in enumerate(words)},
            [("h", "e"), ("l", "o"), ("▁", "he")],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    if prefix == "normalizer":
        library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix, split=False)
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    library.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", library.token_to_id("<s>"))]
    )
    return library


def write(folder: Path, library: Library) -> Path:
    library.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.mark.parametrize("prefix", ["normalizer", "first", "always", "never"])
def test_llama2_files_encode_as_the_tokenizers_library_does(prefix: str, tmp_path: Path) -> None:
    library = llama2(prefix)
    ours = Tokenizer.from_file(write(tmp_path, library))
    assert (ours.kind, ours.add_bos, ours.bos_id) == ("sentencepiece", True, 1)
    for text in ("hello", " hello  hello", "h你e", "", "hello\nhe"):
        assert ours.encode(text) == library.encode(text).ids
    for text in ("<s>hello</s>he<s>", "hello <s> hello", "</s>\nhe"):
        assert ours.encode_with_control(text) == library.encode(text, add_special_tokens=False).ids
    plain = ours.encode("<s></s><unk>", add_bos=False)
    assert not any(ours.is_control(i) for i in plain) and ours.decode(plain).strip() == "<s></s><unk>"


def test_a_piece_after_text_gets_no_space_of_its_own(tmp_path: Path) -> None:
    ours = Tokenizer.from_file(write(tmp_path, llama2()))
    assert ours.decode(ours.encode_segment("hello", after="start")) == " hello"
    assert ours.decode(ours.encode_segment("hello", after="control")) == " hello"
    assert ours.decode(ours.encode_segment("hello", after="text")) == "hello"


def test_control_tokens_that_strip_white_space_do_so_only_as_control(tmp_path: Path) -> None:
    """Phi 3's <|end|> swallows the newline that follows it."""
    library = llama2()
    library.add_special_tokens([AddedToken("<|end|>", rstrip=True, normalized=False)])
    ours = Tokenizer.from_file(write(tmp_path, library))
    text = "hello<|end|>\n hello"
    assert ours.encode_with_control(text) == library.encode(text, add_special_tokens=False).ids
    assert ours.strips_after(ours.token_id("<|end|>") or -1)
    assert ours.decode(ours.encode("a<|end|>\n b", add_bos=False)) == " a<|end|>\n b"


def test_special_tokens_inside_the_vocabulary_never_come_from_merges(tmp_path: Path) -> None:
    library = Library(models.BPE({"<": 0, "s": 1, ">": 2, "<s": 3, "<s>": 4}, [("<", "s"), ("<s", ">")]))
    library.add_special_tokens(["<s>"])
    ours = Tokenizer.from_file(write(tmp_path, library))
    assert ours.encode("<s>") == [3, 2] and ours.encode_with_control("<s>") == [4]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"), "WordPiece"),
        (models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0), "Unigram"),
        (models.WordLevel({"a": 0}, unk_token="a"), "WordLevel"),
        (models.BPE({"a</w>": 0}, [], end_of_word_suffix="</w>"), "BPE"),
    ],
)
def test_kinds_that_cannot_be_streamed_are_named(model: Any, kind: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=f"this is a {kind}") as caught:
        Tokenizer.from_file(write(tmp_path, Library(model)))
    assert "Byte-level BPE" in caught.value.hint()


def test_bos_and_eos_come_from_the_files_beside_it(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    bare = Tokenizer.from_file(folder)
    assert (bare.bos_id, bare.eos_id, bare.add_bos) == (None, None, False)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 0], "bos_token_id": 1}')
    generation = Tokenizer.from_file(folder)
    assert (generation.bos_id, generation.eos_id) == (1, 2)
    (folder / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|endoftext|>"}}')
    assert Tokenizer.from_file(folder).eos_id == 0
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>", "add_bos_token": true}')
    config = Tokenizer.from_file(folder / "tokenizer.json")
    assert (config.eos_id, config.bos_id, config.add_bos) == (2, 1, True)
    assert config.fingerprint() != bare.fingerprint()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(NotFoundError, match=r"tokenizer\.json"):
            Tokenizer.from_file(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        '{"model": {"type": "BPE", "vocab": {"a": 99999999999}, "merges": []}}',
        '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
        '{"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}}',
        '{"model": {"type": "BPE", "vocab": ["a"], "merges": []}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [7]}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": 7}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": 5}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [{"id": 1}]}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "normalizer": {"type": "Nonsense"}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "post_processor": [1]}',
    ],
)
def test_damaged_files_are_one_clear_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(FormatError) as caught:
        Tokenizer.from_file(tmp_path)
    assert caught.value.hint() and "\n" not in str(caught.value)


def test_files_with_parts_missing_or_changed_never_crash_otherwise(folder: Path) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    random_ = random.Random(1)
    for _ in range(150):
        copy = json.loads(json.dumps(spec))
        node: Any = copy
        while isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = random_.choice(keys)
            if random_.random() < 0.4 or not isinstance(node[key], dict | list):
                node[key] = random_.choice([None, 5, "x", [], {}, [1], {"a": 1}, -1, True])
                break
            node = node[key]
        (folder / "tokenizer.json").write_text(json.dumps(copy), encoding="utf-8")
        with suppress(GlassError):
            Tokenizer.from_file(folder).encode("the fox 你好 <|im_end|>")
