"""Receipts: a reply can be computed again, and what no longer fits is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import glassgpt
from glassgpt.core.errors import FormatError, InputError
from glassgpt.engine.constrain import OutputFormat
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.receipt import Receipt, ReceiptError, check, read_receipt, same_tokens
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template

WAYS = {
    "plain": {},
    "with chance and stops": {"temperature": 1.3, "top_p": 0.9, "stop": ["zz", "。"], "seed": 5},
    "with penalties": {"repetition_penalty": 1.2, "frequency_penalty": 0.5, "logit_bias": ((5, 1.0),)},
    "with a format": {"format": OutputFormat(choices=("yes", "no"))},
    "with a schema": {"format": OutputFormat(json_schema={"type": "object", "properties": {"a": {"type": "boolean"}}})},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    tokenizer = train_bpe(['the cat sat on the mat. yes no {"a": true} 你好,世界! ' * 20], 330)
    config = ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=32, context_length=64)
    place = tmp_path_factory.mktemp("models") / "small"
    LanguageModel("small", GPT(config).eval(), tokenizer, "float32", get_template("chatml")).save(place)
    return place


def receipt_file(folder: Path, tmp_path: Path, precision: str = "int8", in_torch: bool = False, **way) -> Path:
    model = glassgpt.load(folder, precision=precision, in_torch=in_torch)
    found = model.receipt(model.generate("the cat", max_new_tokens=20, **way)[0])
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(found.to_dict()))
    return path


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_a_receipt_gives_the_same_text_again(folder, tmp_path, precision, way):
    found = read_receipt(receipt_file(folder, tmp_path, precision, **WAYS[way]))
    model = glassgpt.load(found.model, precision=found.precision)
    same_tokens(found, model.repeat(check(found, model)).tokens)


def test_a_reply_in_torch_has_a_receipt_too(folder, tmp_path):
    found = read_receipt(receipt_file(folder, tmp_path, "float32", in_torch=True, seed=3))
    model = glassgpt.load(found.model, in_torch=True)
    same_tokens(found, model.repeat(check(found, model)).tokens)
    with pytest.raises(ReceiptError, match="path was torch and is engine"):
        check(found, glassgpt.load(found.model, precision="float32"))


def test_a_conversations_reply_has_one(folder):
    chat = glassgpt.Chat(glassgpt.load(folder), max_new_tokens=10, seed=1)
    reply = chat.say("你好")
    found = chat.model.receipt(reply.completion)
    assert found.tokens == reply.completion.tokens and len(found.tokens) == reply.tokens
    same_tokens(found, chat.model.repeat(check(found, chat.model)).tokens)


def test_what_no_longer_fits_is_named(folder, tmp_path):
    found = read_receipt(receipt_file(folder, tmp_path))
    model = glassgpt.load(folder, precision="int8")
    with pytest.raises(ReceiptError, match=r"glassgpt was 0\.0\.1 and is"):
        check(replace(found, glassgpt="0.0.1"), model)
    with pytest.raises(ReceiptError, match="arithmetic was x and is"):
        check(replace(found, arithmetic="x"), model)
    with pytest.raises(ReceiptError, match="precision was int8 and is int4"):
        check(found, glassgpt.load(folder, precision="int4"))
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    settings = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps(settings | {"template": ""}))
    with pytest.raises(ReceiptError, match="model_sha256 was"):
        check(found, glassgpt.load(other, precision="int8"))
    with pytest.raises(ReceiptError, match="differs from the receipt from token 2 on"):
        same_tokens(replace(found, tokens=[found.tokens[0], -1]), found.tokens)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"completions": []}', "nonsense", "[" * 5000])
def test_what_is_no_receipt_is_named(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(FormatError, match="is not a receipt"):
        read_receipt(tmp_path / "r.json")
    with pytest.raises(FormatError, match="cannot be read"):
        read_receipt(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ["x"]),
        ("ends", [1.5]),
        ("limit", "5"),
        ("settings", {"a": 1}),
        ("stops", [3]),
        ("format", {"regex": 5}),
    ],
)
def test_a_receipt_with_wrong_values_is_refused(folder, tmp_path, field, value):
    path = receipt_file(folder, tmp_path)
    told = json.loads(path.read_text())
    told["request"][field] = value
    path.write_text(json.dumps(told))
    with pytest.raises((FormatError, glassgpt.GlassError)):
        read_receipt(path)


def test_a_model_without_files_gives_no_receipt(folder):
    loaded = glassgpt.load(folder, in_torch=True)
    model = LanguageModel("free", loaded.network, loaded.tokenizer, "float32")
    with pytest.raises(InputError, match="no receipt"):
        model.receipt(model.generate("the cat", max_new_tokens=2)[0])
    assert isinstance(loaded.receipt(loaded.generate("the cat", max_new_tokens=2)[0]), Receipt)
