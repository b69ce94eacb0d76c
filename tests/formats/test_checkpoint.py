"""Our own checkpoint folder: what is saved comes back, and a failed save costs nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import glassgpt
from glassgpt.core.errors import FormatError, GlassError, NotFoundError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.formats.checkpoint import load_checkpoint, save_checkpoint
from glassgpt.model.config import ModelConfig, RopeScaling
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template
from glassgpt.text.tokenizer import Tokenizer

TEXT = "hello world, 你好,世界 "


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe([TEXT * 10], 290)


def network(tokenizer: Tokenizer, seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    config = ModelConfig.modern(
        vocab_size=tokenizer.vocab_size,
        n_layer=2,
        n_head=2,
        n_embd=16,
        context_length=32,
        sliding_window=8,
        sliding_layers=(0,),
        rope_scaling=RopeScaling("yarn", 2.0, 16),
    )
    return GPT(config).eval()


def test_a_saved_model_loads_the_same_with_its_tokenizer_and_template(tokenizer, tmp_path):
    model = LanguageModel("m", network(tokenizer), tokenizer, "float32", get_template("chatml"))
    model.save(tmp_path / "run")
    again = glassgpt.load(tmp_path / "run", in_torch=True)
    assert again.network.config == model.network.config
    for (name, a), (_, b) in zip(model.network.named_parameters(), again.network.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert again.template.name == "chatml"
    assert again.encode(TEXT) == model.encode(TEXT)
    assert again.generate(TEXT, seed=3, max_new_tokens=9) == model.generate(TEXT, seed=3, max_new_tokens=9)


@pytest.mark.parametrize("in_torch", [True, False])
def test_in_bfloat16_the_weights_are_rounded_and_the_rotary_frequencies_are_not(tokenizer, tmp_path, in_torch):
    model = LanguageModel("m", network(tokenizer), tokenizer, "float32", get_template("chatml"))
    model.save(tmp_path / "run")
    again = glassgpt.load(tmp_path / "run", precision="bfloat16", in_torch=in_torch).network
    assert again.embed.weight.dtype == torch.bfloat16
    assert torch.equal(again.embed.weight, model.network.embed.weight.bfloat16())
    assert again.rope.inv_freq.dtype == torch.float32
    assert torch.equal(again.rope.inv_freq, model.network.rope.inv_freq)


def test_a_newer_save_replaces_the_older_one_whole(tokenizer, tmp_path):
    save_checkpoint(tmp_path / "run", network(tokenizer, 0), tokenizer)
    save_checkpoint(tmp_path / "run", network(tokenizer, 1), tokenizer)
    loaded = load_checkpoint(tmp_path / "run", torch.float32).network
    assert torch.equal(loaded.embed.weight, network(tokenizer, 1).embed.weight)
    assert [p.name for p in tmp_path.iterdir()] == ["run"], "nothing temporary stays behind"


@pytest.mark.parametrize("moment", ["weights", "tokenizer", "move"])
def test_a_save_that_fails_at_any_moment_leaves_the_old_one(tokenizer, tmp_path, monkeypatch, moment):
    save_checkpoint(tmp_path / "run", network(tokenizer, 0), tokenizer)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    if moment == "weights":
        monkeypatch.setattr("glassgpt.formats.checkpoint.save_file", full)
    elif moment == "tokenizer":
        monkeypatch.setattr(tokenizer.__class__, "save", full)
    else:
        original = Path.rename
        monkeypatch.setattr(Path, "rename", lambda p, to: original(p, to) if "old" in p.name + to.name else full())
    with pytest.raises(GlassError, match=r"could not be written.*No space left"):
        save_checkpoint(tmp_path / "run", network(tokenizer, 1), tokenizer)
    monkeypatch.undo()
    loaded = load_checkpoint(tmp_path / "run", torch.float32).network
    assert torch.equal(loaded.embed.weight, network(tokenizer, 0).embed.weight)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_crash_between_the_two_moves_loses_nothing(tokenizer, tmp_path):
    save_checkpoint(tmp_path / "run", network(tokenizer, 0), tokenizer)
    (tmp_path / "run").rename(tmp_path / ".run.old")
    loaded = load_checkpoint(tmp_path / "run", torch.float32).network
    assert torch.equal(loaded.embed.weight, network(tokenizer, 0).embed.weight)
    (tmp_path / "run").rename(tmp_path / ".run.old")
    save_checkpoint(tmp_path / "run", network(tokenizer, 1), tokenizer)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_folder_of_other_files_is_never_replaced(tokenizer, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("x")
    with pytest.raises(GlassError, match="holds other files"):
        save_checkpoint(tmp_path / "photos", network(tokenizer), tokenizer)
    assert (tmp_path / "photos" / "a.jpg").exists()


@pytest.fixture
def saved(tokenizer, tmp_path) -> Path:
    save_checkpoint(tmp_path / "run", network(tokenizer), tokenizer)
    return tmp_path / "run"


def test_damage_to_a_checkpoint_is_named(saved, tmp_path):
    def damaged(name: str) -> Path:
        shutil.copytree(saved, tmp_path / name)
        return tmp_path / name

    folder = damaged("cut")
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match="damaged or cut off"):
        load_checkpoint(folder, torch.float32)

    folder = damaged("newer")
    settings = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(settings | {"version": 99}))
    with pytest.raises(FormatError, match="version 99; this glassgpt reads version 1"):
        load_checkpoint(folder, torch.float32)

    folder = damaged("wrong")
    (folder / "model.json").write_text(json.dumps(settings | {"config": settings["config"] | {"n_layer": 3}}))
    with pytest.raises(FormatError, match="tensors are missing"):
        load_checkpoint(folder, torch.float32)

    folder = damaged("tokenizer")
    train_bpe(["another text altogether " * 9], 280).save(folder)
    with pytest.raises(FormatError, match="not the one that this checkpoint was saved with"):
        load_checkpoint(folder, torch.float32)

    folder = damaged("gone")
    (folder / "weights.safetensors").unlink()
    with pytest.raises((FormatError, NotFoundError), match="weights"):
        load_checkpoint(folder, torch.float32)
