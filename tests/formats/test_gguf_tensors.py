"""GGUF without torch: stored tensors against the network that is built of them, plain numpy against the library."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf_files import write_gguf
from test_gguf import MODELS, reference, types_that_dequantise

from glassgpt.core.errors import FormatError
from glassgpt.formats.gguf import GGUF, TensorInfo, read_gguf
from glassgpt.formats.gguf_blocks import KINDS, Kind, dequantize
from glassgpt.formats.gguf_model import gguf_network
from glassgpt.formats.gguf_tensors import gguf_config, stored_tensors
from glassgpt.model.config import ModelConfig

BY_NAME = {kind.name: kind for kind in KINDS.values()}


def test_reading_a_model_and_its_tokenizer_imports_neither_torch_nor_the_gguf_library(smollm2_path):
    code = """
import sys
from glassgpt.formats.gguf import read_gguf
from glassgpt.formats.gguf_tensors import gguf_config, stored_tensors
from glassgpt.formats.place import find_model
from glassgpt.text.tokenizer import Tokenizer
with read_gguf(find_model(sys.argv[1])) as file:
    config = gguf_config(file)
    kinds = {t.kind for _, t in stored_tensors(file, config) if t.blocks().size and t.float32().size}
    assert Tokenizer.from_lists(file.tokenizer_lists()).encode("Hello")
print(sorted(kinds), sorted({"torch", "gguf", "huggingface_hub", "filelock"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, smollm2_path], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "['F32', 'Q4_1', 'Q8_0'] []", done.stderr


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
@pytest.mark.parametrize("name", MODELS)
def test_stored_tensors_are_the_networks_parameters_by_name_shape_and_number(name, kind, tmp_path):
    with read_gguf(write_gguf(tmp_path / "m.gguf", reference(name), kind)) as file, ThreadPoolExecutor(2) as pool:
        network = dict(gguf_network(file, torch.float32, 1).named_parameters())
        stored = dict(stored_tensors(file, gguf_config(file)))
        assert stored.keys() == network.keys()
        for ours, tensor in stored.items():
            values = tensor.float32(pool)
            assert tensor.shape == values.shape == network[ours].shape and values.ctypes.data % 64 == 0
            assert np.array_equal(values, network[ours].numpy())
            assert tensor.kind == (kind if len(tensor.shape) == 2 else "F32")


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2"])
def test_the_blocks_of_each_row_are_that_rows_numbers(name, tmp_path):
    with read_gguf(write_gguf(tmp_path / "m.gguf", reference(name), "Q4_1")) as file:
        for _, tensor in stored_tensors(file, gguf_config(file)):
            raw, values = tensor.blocks(), tensor.float32()
            assert raw.dtype == np.uint8 and len(raw) == len(values)
            row = gguf.quants.dequantize(raw[-1:].copy(), gguf.GGMLQuantizationType[tensor.kind])
            assert np.array_equal(row.ravel(), values[-1].ravel())


def test_llamas_queries_keys_and_their_biases_are_put_from_pairs_into_halves(tmp_path):
    """Two heads of four rows: the file has a head's rows as 0 2 1 3 of ours."""
    file = file_with(tmp_path, "llama", {"blk.0.attn_k.weight": np.arange(16, dtype=np.float32).reshape(8, 2),
                                         "blk.0.attn_k.bias": np.arange(8, dtype=np.float32)})  # fmt: skip
    with file:
        weight, bias = (t for _, t in stored_tensors(file, small_config("llama")))
        assert bias.float32().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
        assert weight.float32()[:, 0].tolist() == [0, 4, 2, 6, 8, 12, 10, 14]
        assert bias.blocks().shape == (8, 4) and weight.blocks().shape == (8, 8)


def test_one_tensor_of_queries_keys_and_values_is_divided_between_its_rows(tmp_path):
    both = {"blk.0.attn_qkv.weight": np.arange(48, dtype=np.float32).reshape(24, 2),
            "blk.0.attn_qkv.bias": np.arange(24, dtype=np.float32)}  # fmt: skip
    with file_with(tmp_path, "gpt2", both) as file:
        found = {name: t.float32() for name, t in stored_tensors(file, small_config("gpt2"))}
    for i, letter in enumerate("qkv"):
        rows = slice(8 * i, 8 * i + 8)
        assert np.array_equal(found[f"blocks.0.attention.{letter}_proj.weight"], both["blk.0.attn_qkv.weight"][rows])
        assert np.array_equal(found[f"blocks.0.attention.{letter}_proj.bias"], both["blk.0.attn_qkv.bias"][rows])


def test_tensors_that_cannot_be_divided_or_are_none_of_the_familys_are_refused(tmp_path):
    for name, words in {
        "blk.0.attn_qkv.weight": "has 23 rows; expected 24",
        "blk.0.ssm_in.weight": r"blk\.0\.ssm_in\.weight is not part of a gpt2 model",
    }.items():
        file = file_with(tmp_path, "gpt2", {name: np.zeros((23, 2), np.float32)})
        with file, pytest.raises(FormatError, match=words):
            list(stored_tensors(file, small_config("gpt2")))
    with file_with(tmp_path, "gpt2", {"blk.0.attn_qkv.bias": np.zeros(24, np.float32)}) as file:
        info = file.tensors["blk.0.attn_qkv.bias"]
        file.tensors["blk.0.attn_qkv.bias"] = TensorInfo(info.name, info.shape, Kind("Q0", 8, 9), info.start, 27)
        with pytest.raises(FormatError, match="blocks of Q0 where single numbers are needed"):
            list(stored_tensors(file, small_config("gpt2")))


def test_blocks_that_are_still_held_outlive_the_closing_of_the_file(tmp_path):
    with file_with(tmp_path, "gpt2", {"token_embd.weight": np.ones((4, 2), np.float32)}) as file:
        ((_, tensor),) = stored_tensors(file, small_config("gpt2"))
        raw = tensor.blocks()
    assert raw.view(np.float32).sum() == 8


def test_the_table_of_kinds_is_the_librarys():
    named = {kind.name: gguf.GGML_QUANT_SIZES[kind] for kind in gguf.GGMLQuantizationType}
    numbers = {kind.name: int(kind) for kind in gguf.GGMLQuantizationType}
    known = {number: kind for number, kind in KINDS.items() if kind.name in named}  # an older library knows fewer
    assert known == {numbers[kind.name]: Kind(kind.name, *named[kind.name]) for kind in known.values()}
    assert {kind.name for kind in types_that_dequantise()} | {"F32", "F16"} <= set(BY_NAME)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"])
def test_plain_arithmetic_has_the_librarys_bits_for_any_bytes(name):
    kind = BY_NAME[name]
    raw = np.random.default_rng(1).integers(0, 256, (3000, kind.bytes), dtype=np.uint8)
    ours = dequantize(raw, kind)
    with np.errstate(all="ignore"):
        theirs = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[name])
    number = ~np.isnan(theirs)  # which of its many forms a "not a number" takes says nothing
    assert number.mean() > 0.5 and np.array_equal(number, ~np.isnan(ours))
    assert np.array_equal(ours.view(np.uint32)[number], theirs.reshape(ours.shape).view(np.uint32)[number])


def test_a_kind_that_the_installed_library_does_not_know_is_named():
    with pytest.raises(FormatError, match="does not know the type Q9_9"):
        dequantize(np.zeros((1, 9), np.uint8), Kind("Q9_9", 8, 9))


def file_with(folder: Path, family: str, tensors: dict[str, np.ndarray]) -> GGUF:
    """An open file with these tensors and nothing else."""
    writer = gguf.GGUFWriter(folder / "m.gguf", family)
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_gguf(folder / "m.gguf")


def small_config(family: str) -> ModelConfig:
    """Two heads of four."""
    return ModelConfig(vocab_size=4, n_layer=1, n_head=2, n_embd=8, context_length=8, family=family)
