"""Packed weights on disk: the same bits as in memory, or none at all."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_files
import numpy as np
import pytest
import torch
import transformers
from gguf_files import byte_vocabulary

import glassgpt
from glassgpt.engine import load as loading
from glassgpt.engine import packed_file
from glassgpt.engine.network import Network
from glassgpt.engine.packed_file import MAGIC, load_parts, place, save_parts, signature
from glassgpt.engine.packing import Parts, WideMatrix, pack
from glassgpt.engine.quantize import QuantizedMatrix
from glassgpt.formats.stored import Numbers, expected_shapes
from glassgpt.model.config import ModelConfig

CONFIG = ModelConfig.modern(vocab_size=101, n_layer=2, n_head=4, n_kv_head=2, n_embd=96, mlp_dim=160,
                            context_length=64, ngrams=2, ngram_buckets=50, qkv_bias=True)  # fmt: skip
FITS = {"source": "somewhere", "files": [["a", 1, 2]], "precision": "int4", "code": "c"}
HEAD = len(MAGIC) + 8 + 32  # bytes before the header: what the file is, the header's size and its hash
Header = dict[str, Any]


def packed(precision: str, seed: int = 0) -> Parts:
    random = np.random.default_rng(seed)
    tensors = {
        name: Numbers(random.standard_normal(shape).astype(np.float32))
        for name, shape in expected_shapes(CONFIG).items()
    }
    return pack(CONFIG, tensors, precision, "it")


def arrays_of(parts: Parts) -> dict[str, np.ndarray]:
    """Every array of some parts, by the part's name and its place in it."""
    found: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        if isinstance(part, np.ndarray):
            found[name] = part
        else:
            found[name + " values"] = part.values
            if part.scales is not None:
                found[name + " scales"] = part.scales
    return found


def assert_same(got: Parts | None, parts: Parts) -> None:
    assert got is not None and list(got) == list(parts)
    for name, part in parts.items():
        assert type(got[name]) is type(part) or isinstance(part, np.ndarray)
        if isinstance(part, QuantizedMatrix | WideMatrix):
            assert (got[name].bits, got[name].shape, got[name].nbytes) == (part.bits, part.shape, part.nbytes)
    for name, array in arrays_of(got).items():
        other = arrays_of(parts)[name]
        assert array.dtype == other.dtype and array.shape == other.shape and array.tobytes() == other.tobytes()


@pytest.fixture(scope="module")
def parts() -> Parts:
    """Of every kind: matrices in 4, 8, 16 and 32 bits, norms, biases and a table."""
    found = packed("int4")
    for precision in ("int8", "bfloat16", "float32"):
        found |= {f"{name} {precision}": part for name, part in packed(precision, 1).items()}
    kinds = {(part.bits, type(part)) for part in found.values() if not isinstance(part, np.ndarray)}
    assert kinds == {(4, QuantizedMatrix), (8, QuantizedMatrix), (16, WideMatrix), (32, WideMatrix)}
    assert sum(isinstance(part, np.ndarray) for part in found.values()) > 20
    return found


@pytest.fixture(scope="module")
def whole(parts, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("packed") / "it.bin"
    save_parts(path, parts, FITS)
    return path.read_bytes()


@pytest.fixture
def path(whole, tmp_path) -> Path:
    path = tmp_path / "it.bin"
    path.write_bytes(whole)
    return path


def test_all_parts_come_back_bit_for_bit_on_lines_of_64_bytes_and_cannot_be_written(parts, path):
    got = load_parts(path, FITS)
    assert_same(got, parts)
    for array in arrays_of(got).values():
        assert array.ctypes.data % 64 == 0 and not array.flags.writeable


def test_the_numbers_outlive_the_file_that_they_came_from(parts, path):
    got = load_parts(path, FITS)
    save_parts(path, packed("int8", 3), FITS)
    path.unlink()
    assert_same(got, parts)


def test_a_network_of_mapped_weights_gives_the_same_scores(tmp_path):
    from glassgpt.engine.runner import Rows, Runner

    for precision in ("int4", "int8"):
        made = packed(precision)
        save_parts(tmp_path / precision, made, FITS)
        found = []
        for some in (made, load_parts(tmp_path / precision, FITS)):
            runner = Runner(Network(CONFIG, some, precision), threads=1, pages=4)
            found.append(runner.run([Rows([1, 2, 3, 4, 5], 0, [0], 5)]).tobytes())
            runner.close()
        assert found[0] == found[1]


@pytest.mark.parametrize("key", FITS)
def test_what_was_packed_for_something_else_is_not_taken(key, path):
    for other in (None, "", 7, [["a", 1, 3]], [["b", 1, 2]]):
        assert load_parts(path, FITS | {key: other}) is None
    assert load_parts(path, {k: v for k, v in FITS.items() if k != key}) is None
    assert load_parts(path, FITS) is not None


def test_what_a_signature_is_of(tmp_path, monkeypatch):
    model = tmp_path / "m.gguf"
    model.write_bytes(b"12345")
    os.utime(model, ns=(10**18, 10**18))
    first = signature(model, "int4")
    assert signature(model, "int4") == first == json.loads(json.dumps(first))
    assert signature(model, "int8") != first
    os.utime(model, ns=(10**18, 10**18 + 1))
    assert signature(model, "int4") != first
    model.write_bytes(b"123456")
    os.utime(model, ns=(10**18, 10**18))
    assert signature(model, "int4") != first
    model.write_bytes(b"54321")
    os.utime(model, ns=(10**18, 10**18))
    assert signature(model, "int4") == first  # what it cannot see

    code = tmp_path / "code"
    code.mkdir()
    for name in ("packing.py", "quantize.py", "packed_file.py"):
        (code / name).write_bytes((Path(packed_file.__file__).parent / name).read_bytes())
    monkeypatch.setattr(packed_file, "__file__", str(code / "packed_file.py"))
    assert signature(model, "int4") == first
    for name in ("packing.py", "quantize.py", "packed_file.py"):
        old = (code / name).read_text()
        (code / name).write_text(old + "\n")
        assert signature(model, "int4") != first, name
        (code / name).write_text(old)


def test_the_signature_of_a_folder_is_of_each_of_its_files(tmp_path):
    for name in ("config.json", "b.safetensors"):
        (tmp_path / name).write_text(name)
    first = signature(tmp_path, "int8")
    assert [name for name, _, _ in first["files"]] == ["b.safetensors", "config.json"]
    (tmp_path / "config.json").write_text("other")
    second = signature(tmp_path, "int8")
    (tmp_path / "c.safetensors").touch()
    assert len({json.dumps(s) for s in (first, second, signature(tmp_path, "int8"))}) == 3


def test_models_of_one_name_in_two_places_and_in_two_precisions_have_files_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path))
    places = {place(Path(folder) / f"{'长名字' * 40}.gguf", precision) for folder in ("/a", "/b")
              for precision in ("int4", "int8")}  # fmt: skip
    assert len(places) == 4
    for one in places:
        assert one.parent == tmp_path / "packed" and len(one.name.encode()) < 255


@pytest.mark.parametrize("name", ["nothing", "a folder", "empty"])
def test_where_there_is_no_such_file_there_are_no_parts(name, tmp_path):
    (tmp_path / "a folder").mkdir()
    (tmp_path / "empty").touch()
    assert load_parts(tmp_path / name, FITS) is None
    assert load_parts(tmp_path / "empty" / "below a file", FITS) is None


def test_a_file_cut_off_or_longer_is_not_taken(whole, path):
    places = {0, 1, len(MAGIC), len(MAGIC) + 4, HEAD, HEAD + 100, len(whole) - 1}
    places |= set(np.random.default_rng(0).integers(0, len(whole), 60).tolist())
    for cut in places:
        path.write_bytes(whole[:cut])
        assert load_parts(path, FITS) is None, cut
    for more in (b"\0", bytes(64), whole):
        path.write_bytes(whole + more)
        assert load_parts(path, FITS) is None


def test_one_changed_byte_before_the_arrays_is_found(whole, path):
    size = int.from_bytes(whole[len(MAGIC) : len(MAGIC) + 8], "little")
    random = np.random.default_rng(0)
    for at in [*range(HEAD + 40), *random.integers(HEAD, HEAD + size, 200).tolist(), HEAD + size - 1]:
        changed = bytearray(whole)
        changed[at] ^= int(random.integers(1, 256))
        path.write_bytes(changed)
        assert load_parts(path, FITS) is None, at


@pytest.mark.parametrize(
    "header",
    [b"", b"{}", b"[]", b"7", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"fits": 1}', bytes(1000), b'"text"'],
    ids=lambda header: repr(header[:12]),
)
def test_a_header_that_is_none_is_not_taken(header, path):
    path.write_bytes(MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest() + header + bytes(4096))
    assert load_parts(path, FITS) is None


@pytest.mark.parametrize("size", [0, 1, (16 << 20) + 1, 1 << 40, (1 << 64) - 1])
def test_a_header_of_another_size_than_it_is_is_not_taken(size, whole, path):
    path.write_bytes(MAGIC + size.to_bytes(8, "little") + whole[len(MAGIC) + 8 :])
    assert load_parts(path, FITS) is None


def with_header(whole: bytes, change: Callable[[Header], Any]) -> bytes:
    """The file with another header, as somebody would write it who wants it to be taken."""
    size = int.from_bytes(whole[len(MAGIC) : len(MAGIC) + 8], "little")
    header, arrays = json.loads(whole[HEAD : HEAD + size]), whole[-(-(HEAD + size) // 64) * 64 :]
    header = copy.deepcopy(header)
    change(header)
    raw = json.dumps(header).encode()
    head = MAGIC + len(raw).to_bytes(8, "little") + hashlib.sha256(raw).digest() + raw
    return head + bytes(-len(head) % 64) + arrays


def test_a_header_written_again_unchanged_is_taken(parts, whole, path):
    path.write_bytes(with_header(whole, lambda header: None))
    assert_same(load_parts(path, FITS), parts)


ODD = [-1, -64, 1, 63, 1 << 31, 1 << 62, 1 << 63, 1 << 64, 1 << 200, 1.5, float("inf"), float("nan"), None, "0", [], {}]
MATRIX, VECTOR = "blocks.0.qkv", "norm.weight"


def _everywhere() -> dict[str, Callable[[Header], Any]]:
    found: dict[str, Callable[[Header], Any]] = {}
    for odd in ODD:
        told = repr(odd)[:12]
        found[f"size {told}"] = lambda h, odd=odd: h.update(size=odd)
        if odd != 1:
            found[f"bits {told}"] = lambda h, odd=odd: h["parts"][MATRIX].update(bits=odd)
        for name in (MATRIX, "embed float32", "embed bfloat16"):
            found[f"rows of {name} {told}"] = lambda h, odd=odd, name=name: _set(h["parts"][name]["shape"], 0, odd)
            found[f"columns of {name} {told}"] = lambda h, odd=odd, name=name: _set(h["parts"][name]["shape"], 1, odd)
        found[f"a place {told}"] = lambda h, odd=odd: _set(h["places"], 3, odd)
        found[f"the last place {told}"] = lambda h, odd=odd: _set(h["places"], -1, odd)
        found[f"a kind {told}"] = lambda h, odd=odd: h["parts"][MATRIX]["values"].update(kind=odd)
        for axis in range(4):
            found[f"values {axis} {told}"] = lambda h, odd=odd, axis=axis: _set(
                h["parts"][MATRIX]["values"]["shape"], axis, odd
            )
            found[f"scales {axis} {told}"] = lambda h, odd=odd, axis=axis: _set(
                h["parts"][MATRIX]["scales"]["shape"], axis, odd
            )
        if odd not in (1, 63):
            found[f"a vector's length {told}"] = lambda h, odd=odd: _set(h["parts"][VECTOR]["array"]["shape"], 0, odd)
            found[f"which array {told}"] = lambda h, odd=odd: h["parts"][VECTOR]["array"].update(at=odd)
    return found | {
        "an array of the wrong kind": lambda h: h["parts"][MATRIX]["values"].update(kind="float16"),
        "a vector of bytes": lambda h: h["parts"][VECTOR]["array"].update(kind="uint8"),
        "a kind that runs code": lambda h: h["parts"][VECTOR]["array"].update(kind="object"),
        "a matrix that is wider than its values": lambda h: _set(h["parts"][MATRIX]["shape"], 1, 9600),
        "a matrix that is taller than its values": lambda h: _set(h["parts"][MATRIX]["shape"], 0, 9600),
        "values without scales": lambda h: h["parts"][MATRIX].pop("scales"),
        "scales of their own size": lambda h: _set(h["parts"][MATRIX]["scales"]["shape"], 1, 1),
        "a part that is empty": lambda h: h["parts"].update({MATRIX: {}}),
        "a part that is a list": lambda h: h["parts"].update({MATRIX: []}),
        "parts that are a list": lambda h: h.update(parts=[]),
        "no places": lambda h: h.update(places=[]),
        "places that are text": lambda h: h.update(places="000"),
        "no parts": lambda h: h.pop("parts"),
        "no size": lambda h: h.pop("size"),
        "the last array beyond the end": lambda h: _set(h["places"], -1, h["size"]),
        "the last array over the end": lambda h: _set(h["places"], -1, h["places"][-1] + 64 * 1000),
    }


def _set(items: list[Any], at: int, value: Any) -> None:
    items[at] = value


ABSURD = _everywhere()


def test_absurd_headers_are_not_taken_and_raise_nothing(whole, path):
    for name, change in ABSURD.items():
        path.write_bytes(with_header(whole, change))
        assert load_parts(path, FITS) is None, name


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such modes")
def test_what_is_kept_is_the_users_own(parts, tmp_path):
    save_parts(tmp_path / "packed" / "it.bin", parts, FITS)
    assert stat.S_IMODE((tmp_path / "packed").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "packed" / "it.bin").stat().st_mode) == 0o600
    assert [file.name for file in (tmp_path / "packed").iterdir()] == ["it.bin"]


class _FullDisk:
    """A file that takes so many bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> _FullDisk:
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: Any) -> int:
        self.room -= memoryview(data).nbytes
        if self.room < 0:
            raise OSError(28, "no space left")
        return self.file.write(data)


@pytest.mark.parametrize("room", [0, 12_000, 60_000])
@pytest.mark.parametrize("before", [True, False])
def test_a_full_disk_leaves_nothing_behind_and_what_was_there(room, before, parts, whole, tmp_path, monkeypatch):
    path, original = tmp_path / "it.bin", os.fdopen
    if before:
        path.write_bytes(whole)
    monkeypatch.setattr(os, "fdopen", lambda handle, mode: _FullDisk(original(handle, mode), room))
    with pytest.raises(OSError, match="no space left"):
        save_parts(path, packed("int8", 5), FITS | {"precision": "int8"})
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == ([path] if before else [])
    if before:
        assert_same(load_parts(path, FITS), parts)


def test_a_place_that_cannot_be_written_is_an_oserror(parts, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        save_parts(tmp_path / "file" / "it.bin", parts, FITS)


# ----------------------------------------------------------------------------------------------------- glassgpt.load


def model_file(path: Path, seed: int, kind: str = "Q4_1") -> Path:
    """A small Llama with random weights, written elsewhere and moved into place, as one would replace a model."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:  # a vocabulary with what the one merge makes, so that it can be read
        patch.setattr(gguf_files, "byte_vocabulary", lambda size: [*byte_vocabulary(size - 1), "\u0100\u0101"])
        written = gguf_files.write_gguf(path.with_suffix(".new"), transformers.LlamaForCausalLM(config), kind)
    written.replace(path)
    return path


def tokens_of(path: Path, precision: str = "auto") -> list[int]:
    model = glassgpt.load(path, precision=precision)
    try:
        return model.generate([5, 6, 7, 8], max_new_tokens=20, temperature=0)[0].tokens
    finally:
        model.loop.close()


@pytest.fixture
def packings(tmp_path, monkeypatch) -> list[str]:
    """The precisions in which weights were packed, in a cache of our own."""
    done: list[str] = []
    original = loading.pack

    def counting(config: ModelConfig, tensors: Any, precision: str, *rest: Any) -> Parts:
        done.append(precision)
        return original(config, tensors, precision, *rest)

    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "pack", counting)
    monkeypatch.setattr(loading, "_WORTH_KEEPING", 0)
    return done


@pytest.fixture(scope="module", autouse=True)
def engine_here() -> None:
    """The compiled step comes from the machine's own cache, whatever a test says of where models lie."""
    from glassgpt.engine.native import load_work

    load_work()


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "packed").glob("*"))


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_the_second_load_maps_what_the_first_packed_and_writes_the_same_text(precision, packings, tmp_path):
    path = model_file(tmp_path / "m.gguf", 0)
    first = tokens_of(path, precision)
    assert packings == [precision] and kept(tmp_path) == [place(path, precision)]
    before = place(path, precision).stat()
    assert tokens_of(path, precision) == first and len(set(first)) > 1
    after = place(path, precision).stat()
    assert packings == [precision] and (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_each_precision_is_packed_once(packings, tmp_path):
    path = model_file(tmp_path / "m.gguf", 0)
    for _ in range(2):
        for precision in ("int4", "int8", "auto"):
            tokens_of(path, precision)
    assert packings == ["int4", "int8"] and len(kept(tmp_path)) == 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_wide_weights_are_their_own_source_and_not_kept(precision, packings, tmp_path):
    path = model_file(tmp_path / "m.gguf", 0)
    assert tokens_of(path, precision) == tokens_of(path, precision)
    assert kept(tmp_path) == []


def test_a_small_model_is_not_kept(packings, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_WORTH_KEEPING", 8 << 20)
    tokens_of(model_file(tmp_path / "m.gguf", 0))
    assert kept(tmp_path) == []


def test_a_replaced_model_is_packed_anew(packings, tmp_path, monkeypatch):
    path = model_file(tmp_path / "m.gguf", 0)
    first = tokens_of(path)
    model_file(path, 1)
    second = tokens_of(path)
    assert packings == ["int4", "int4"] and len(kept(tmp_path)) == 1
    assert tokens_of(path) == second != first and len(packings) == 2
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "another"))
    assert tokens_of(path) == second and len(packings) == 3


def test_a_damaged_file_is_packed_anew(packings, tmp_path):
    path = model_file(tmp_path / "m.gguf", 0)
    first = tokens_of(path)
    file = place(path, "int4")
    good = file.read_bytes()
    for number, bad in enumerate((good[:-1], good[:100], b"", b"{}" * 1000, good[:HEAD] + b"x" + good[HEAD + 1 :])):
        file.write_bytes(bad)
        assert tokens_of(path) == first
        assert len(packings) == number + 2 and file.read_bytes() == good


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(packings, tmp_path):
    path = model_file(tmp_path / "m.gguf", 0)
    (tmp_path / "cache").write_text("in the way")
    assert tokens_of(path) == tokens_of(path)
    assert packings == ["int4", "int4"]


def test_two_models_of_one_name_do_not_take_each_others_weights(packings, tmp_path):
    paths = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        paths.append(model_file(tmp_path / str(number) / "m.gguf", number))
    found = [tokens_of(path) for path in paths]
    assert [tokens_of(path) for path in paths] == found and found[0] != found[1]
    assert len(packings) == 2 and len(kept(tmp_path)) == 2
