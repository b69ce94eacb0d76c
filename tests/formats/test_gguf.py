"""GGUF: the networks against transformers, the blocks against the gguf library, the header against damage."""

from __future__ import annotations

import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf_files import write_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_families import SMALL, ids

from glassgpt.core.errors import FormatError, GlassError, NotFoundError
from glassgpt.formats.gguf import read_gguf
from glassgpt.formats.gguf_model import gguf_network

ROUND = SMALL | {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 3}
SIX_LAYERS = ROUND | {"num_hidden_layers": 7}
GEMMA = {"head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 6}
# Head widths and GPT-2's context are the families' usual ones: transformers assumes them when it reads GGUF.
MODELS = {
    "llama": lambda: transformers.LlamaConfig(**ROUND),
    "llama, tied": lambda: transformers.LlamaConfig(**ROUND, tie_word_embeddings=True),
    "qwen2": lambda: transformers.Qwen2Config(**ROUND),
    "qwen3": lambda: transformers.Qwen3Config(**ROUND, head_dim=128),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SIX_LAYERS, **GEMMA),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=97, n_embd=64, n_layer=2, n_head=4, n_positions=1024),
}


def reference(name: str) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = MODELS[name]()
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model


@pytest.fixture(scope="module")
def small_file(tmp_path_factory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf", reference("llama, tied"))


@pytest.mark.parametrize("name", MODELS)
def test_every_family_gives_the_logits_of_the_model_it_was_written_from(name, tmp_path):
    model = reference(name)
    with read_gguf(write_gguf(tmp_path / "m.gguf", model)) as file, torch.no_grad():
        ours = gguf_network(file, torch.float32, 1)
        assert (ours(ids()) - model(ids()).logits).abs().max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_transformers_reads_the_same_file_the_same_way(name, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", reference(name), "Q8_0")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32)
    with read_gguf(path) as file, torch.no_grad():
        ours = gguf_network(file, torch.float32, 1)
        assert (ours(ids()) - theirs.eval()(ids()).logits).abs().max() <= 1e-4


def types_that_dequantise() -> list[gguf.GGMLQuantizationType]:
    found = []
    for kind in gguf.GGMLQuantizationType:
        try:
            gguf.quants.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
            found.append(kind)
        except (NotImplementedError, KeyError):
            continue
    return found


@pytest.mark.parametrize("kind", types_that_dequantise(), ids=lambda kind: kind.name)
def test_every_type_that_the_library_dequantises_is_read_in_chunks_the_same(kind, tmp_path, monkeypatch):
    values, size = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(0)
    raw = random.integers(0, 60, (6, 5 * size), dtype=np.uint8)  # small bytes: no half float becomes NaN
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_tensor("t", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    monkeypatch.setattr("glassgpt.formats.gguf_blocks._CHUNK_VALUES", 2 * values)
    with read_gguf(tmp_path / "t.gguf") as file, ThreadPoolExecutor(2) as pool:
        array = file.dequantize(file.tensors["t"], pool)
    assert array.shape == (6, 5 * values) and array.dtype == np.float32 and array.ctypes.data % 64 == 0
    assert np.array_equal(array.view(np.uint32), gguf.quants.dequantize(raw, kind).view(np.uint32))


def test_llama_3s_table_of_divisors_is_recognised_and_any_other_refused(tmp_path):
    from glassgpt.formats.gguf_tensors import gguf_config
    from glassgpt.model.config import RopeScaling
    from glassgpt.model.positions import rotary_frequencies

    theirs = {"rope_type": "llama3", "factor": 32.0, "rope_theta": 5e5, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 8192}  # fmt: skip
    scaling = RopeScaling("llama3", 32.0, 8192)
    divisors = (rotary_frequencies(16, 5e5, None)[0] / rotary_frequencies(16, 5e5, scaling)[0]).numpy()
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**ROUND, rope_parameters=theirs))
    for table, fits in ((divisors, True), (divisors * 1.5, False)):
        model.register_buffer("odd", torch.zeros(1), persistent=False)
        original = gguf.GGUFWriter.write_header_to_file

        def with_table(writer, table=table, original=original):
            writer.add_tensor("rope_freqs.weight", table.astype(np.float32))
            original(writer)

        gguf.GGUFWriter.write_header_to_file = with_table
        try:
            path = write_gguf(tmp_path / f"{fits}.gguf", model)
        finally:
            gguf.GGUFWriter.write_header_to_file = original
        with read_gguf(path) as file:
            if fits:
                assert gguf_config(file).rope_scaling == scaling
            else:
                with pytest.raises(FormatError, match="not Llama 3's"):
                    gguf_config(file)


def test_a_file_that_turns_only_part_of_each_head_is_refused(small_file):
    with read_gguf(small_file) as file:
        file.metadata["llama.rope.dimension_count"] = 8
        with pytest.raises(FormatError, match="turns 8 of the 16 numbers"):
            gguf_network(file, torch.float32, 1)


def test_a_file_cut_off_anywhere_is_an_error_and_never_a_crash(small_file, tmp_path):
    data = small_file.read_bytes()
    for size in [*range(0, 200, 7), *range(200, len(data), len(data) // 60)]:
        path = tmp_path / "cut.gguf"
        path.write_bytes(data[:size])
        with pytest.raises(FormatError):
            read_gguf(path)


def open_and_load(path: Path) -> None:
    """Everything that a load does; damage may go unnoticed only where it lies in names or weights."""
    with read_gguf(path) as file:
        file.tokenizer_lists()
        gguf_network(file, torch.float32, 1)


def check_fuzzed(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    begin, memory = time.process_time(), peak_memory()  # processor time: other work on the machine does not count
    try:
        open_and_load(path)
    except GlassError as error:
        assert error.message() and "\n" not in error.message()
    assert time.process_time() - begin < 5, "a damaged header must not cost time"
    assert peak_memory() - memory < 500 << 20, "a damaged header must not cost memory"


def peak_memory() -> int:
    """The most memory this process has used, in bytes; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def header_bytes(small_file: Path) -> int:
    with read_gguf(small_file) as file:
        return min(t.start for t in file.tensors.values())


quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
long = settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def fuzz_one(small_file: Path, tmp_path: Path, data: st.DataObject) -> None:
    raw, size = bytearray(small_file.read_bytes()), header_bytes(small_file)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, size - 9))
        change = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.sampled_from([struct.pack("<Q", n) for n in (0, 1, 1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)]),
            )
        )
        raw[at : at + len(change)] = change
    check_fuzzed(bytes(raw), tmp_path / "fuzzed.gguf")


@quick
@given(data=st.data())
def test_a_damaged_header_is_an_error_or_harmless(small_file, tmp_path, data):
    fuzz_one(small_file, tmp_path, data)


@pytest.mark.full
@long
@given(data=st.data())
def test_thousands_of_damaged_headers_are_errors_or_harmless(small_file, tmp_path, data):
    fuzz_one(small_file, tmp_path, data)


@pytest.mark.full
def test_every_byte_of_the_header_may_be_flipped(small_file, tmp_path):
    raw = small_file.read_bytes()
    for at in range(header_bytes(small_file)):
        check_fuzzed(raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :], tmp_path / "flipped.gguf")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"GGML" + bytes(40), "not a GGUF file: it starts with b'GGML'"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(40), "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(40), "little endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0) + bytes(40), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60) + bytes(40), "keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62) + bytes(40), "bytes in a string"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 8, 1 << 61) + bytes(40), "strings in a list"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 4, 1 << 61) + bytes(40), "items in a list"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 2) + bytes(40), "unknown kind 9"),
        (b"GGUF", "shorter than a header"),
    ],
)
def test_claims_larger_than_the_file_are_refused_before_anything_is_allocated(head, words, tmp_path):
    (tmp_path / "f.gguf").write_bytes(head)
    with pytest.raises(FormatError, match=words):
        read_gguf(tmp_path / "f.gguf")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"nothing\.gguf"):
        read_gguf(tmp_path / "nothing.gguf")


def test_an_architecture_that_is_not_ours_is_named_beside_those_that_are(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with read_gguf(tmp_path / "m.gguf") as file, pytest.raises(FormatError, match=r"'mamba'.*gemma3, gpt2, llama"):
        gguf_network(file, torch.float32, 1)
