"""Compiled code on disk: what is not whole or not ours is never run, and what is costs no compiler."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glassgpt.core.errors import GlassError
from glassgpt.engine import native
from glassgpt.engine.network import Network
from glassgpt.engine.packing import pack
from glassgpt.engine.runner import Rows, Runner
from glassgpt.formats.stored import Numbers, expected_shapes
from glassgpt.model.config import ModelConfig

Code = tuple[str, bytes]
SMALL = dict(vocab_size=101, n_layer=2, n_head=4, n_embd=96, context_length=64, n_kv_head=2, mlp_dim=160)
CONFIGS = {
    "llama": ModelConfig(**SMALL),
    "gemma3": ModelConfig(qk_norm=True, post_norms=True, mlp="geglu", embed_scale=3.5, sliding_window=5,
                          sliding_layers=(0,), rope_local_theta=100.0, **SMALL),
    "gpt2": ModelConfig.gpt2(**SMALL | {"n_kv_head": 4, "mlp": "gelu"}),
}  # fmt: skip


def scores(config: ModelConfig, precision: str, work: native.Work | None = None, cache_bits: int = 0) -> bytes:
    """Those of 20 positions of a network with random weights, made without torch."""
    random = np.random.default_rng(0)
    tensors = {
        name: Numbers((random.standard_normal(shape) * 0.15 + (len(shape) == 1)).astype(np.float32))
        for name, shape in expected_shapes(config).items()
    }
    network = Network(config, pack(config, tensors, precision, "it"), precision)
    runner = Runner(network, threads=1, pages=4, work=work, cache_bits=cache_bits)
    ids = random.integers(0, config.vocab_size, 20).tolist()
    found = [runner.run([Rows(ids[:17], 0, [1, 3], 17)]).tobytes()]
    found += [runner.run([Rows([ids[at]], at, [1, 3], 1)]).tobytes() for at in range(17, 20)]
    runner.close()
    return b"".join(found)


def print_hashes() -> None:
    """Of the scores of every kind of network and precision, as this process computes them."""
    found = {
        f"{name} {precision} {bits}": hashlib.sha256(scores(config, precision, cache_bits=bits)).hexdigest()
        for name, config in CONFIGS.items()
        for precision in ("int4", "int8", "bfloat16", "float32")
        for bits in (32, 16, 8)
    }
    print(json.dumps({"features": sorted(_features()), "hashes": found}))


def _features() -> frozenset[str]:
    from glassgpt.engine import dots

    return dots.features()


@pytest.fixture(scope="module")
def known() -> Code:
    """The symbol and code that this machine's own cache holds; compiled where there is none."""
    folder = native.cache_folder()
    native.load_work()
    return native.read(folder / f"{native.key()}.bin") or native.compile_work()


@pytest.fixture(scope="module")
def expected(known: Code) -> bytes:
    return scores(CONFIGS["llama"], "int8", native.link(*known))


@pytest.fixture
def compiled(known: Code, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often something was compiled, and takes no time."""
    times: list[int] = []

    def compile_work() -> Code:
        times.append(1)
        return known

    monkeypatch.setattr(native, "compile_work", compile_work)
    return times


@pytest.fixture
def linked(monkeypatch: pytest.MonkeyPatch) -> list[Code]:
    """Notes all machine code that is about to be run."""
    seen: list[Code] = []
    original = native.link

    def link(symbol: str, code: bytes) -> native.Work:
        seen.append((symbol, code))
        return original(symbol, code)

    monkeypatch.setattr(native, "link", link)
    return seen


def load(folder: Path) -> tuple[native.Work, list[str]]:
    """As a new process would, with what was told meanwhile."""
    told: list[str] = []
    return native.make_work(folder, told.append), told


def run(code: str, *words: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    where = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1", "GLASSGPT_LANG": "en"}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=timeout,
                          env=os.environ | where | environment)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def test_what_was_compiled_once_is_only_read_later(compiled: list[int], expected: bytes, tmp_path: Path):
    work, told = load(tmp_path / "a" / "b")
    assert scores(CONFIGS["llama"], "int8", work) == expected
    assert (len(compiled), told) == (1, [native.COMPILING])
    assert native.is_compiled(tmp_path / "a" / "b") and not native.is_compiled(tmp_path)
    work, told = load(tmp_path / "a" / "b")
    assert scores(CONFIGS["llama"], "int8", work) == expected
    assert (len(compiled), told) == (1, [])


def test_in_a_process_it_is_loaded_once(compiled: list[int], linked: list[Code], tmp_path: Path):
    told: list[str] = []
    tell = told.append
    assert native.load_work(tmp_path, tell) is native.load_work(tmp_path, tell)
    assert len(compiled) == len(linked) == len(told) == 1


def test_a_folder_that_cannot_be_made_gives_a_working_function_and_is_told(
    compiled: list[int], expected: bytes, tmp_path: Path
):
    (tmp_path / "file").write_text("in the way")
    for _ in range(2):
        work, told = load(tmp_path / "file" / "kernels")
        assert told == [native.COMPILING, native.UNWRITABLE]
        assert scores(CONFIGS["llama"], "int8", work) == expected
    assert len(compiled) == 2 and (tmp_path / "file").read_text() == "in the way"
    assert not native.is_compiled(tmp_path / "file" / "kernels")


@pytest.mark.parametrize("error", [OSError(28, "no space left"), PermissionError(13, "no"), GlassError("no")])
def test_a_disk_that_refuses_gives_a_working_function_and_is_told(
    error: Exception, compiled: list[int], expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(path: Path, symbol: str, code: bytes) -> None:
        raise error

    monkeypatch.setattr(native, "write", refuse)
    work, told = load(tmp_path)
    assert told == [native.COMPILING, native.UNWRITABLE]
    assert scores(CONFIGS["llama"], "int8", work) == expected


def test_a_full_disk_leaves_nothing_half_written(
    compiled: list[int], expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(handle: int) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    work, told = load(tmp_path)
    assert told == [native.COMPILING, native.UNWRITABLE] and list(tmp_path.iterdir()) == []
    assert scores(CONFIGS["llama"], "int8", work) == expected


def _cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def _changed(at: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        place = at(raw) % len(raw)
        return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]

    return change


def _head(head: bytes) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        return native.MAGIC + head + b"\n" + raw[len(native.MAGIC) :].partition(b"\n")[2]

    return change


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "the first line alone": lambda raw: native.MAGIC,
    "cut off in its head": lambda raw: raw[: len(native.MAGIC) + 20],
    "cut off in its code": _cut,
    "cut off by a byte": lambda raw: raw[:-1],
    "a byte more": lambda raw: raw + b"\0",
    "another format": lambda raw: b"\x7fELF" + raw,
    "code alone": lambda raw: raw[len(native.MAGIC) :].partition(b"\n")[2],
    "text": lambda raw: "什么都不是\n".encode() * 50,
    "zeros": lambda raw: bytes(len(raw)),
    "zeros behind the first line": lambda raw: native.MAGIC + bytes(len(raw)),
    "a changed byte at the beginning of the code": _changed(lambda raw: raw.index(b"\n", len(native.MAGIC)) + 1),
    "a changed byte within the code": _changed(lambda raw: len(raw) * 2 // 3),
    "a changed byte at the end": _changed(lambda raw: -1),
    "a changed symbol": _changed(lambda raw: raw.index(b'"symbol": "') + 15),
    "a changed hash": _changed(lambda raw: raw.index(b'"sha256": "') + 15),
    "a head that is no JSON": _head(b"{"),
    "a head that is no UTF-8": _head(b'{"symbol": "\xff\xfe"}'),
    "a head with nothing in it": _head(b"{}"),
    "a head that is a list": _head(b"[1, 2]"),
    "a head that is a number": _head(b"7"),
    "a head without end": _head(b"[" * 100_000),
    "a symbol that is a number": lambda raw: raw.replace(b'"symbol": "', b'"symbol": 7, "old": "', 1),
    "no symbol": lambda raw: raw.replace(b'"symbol"', b'"sombol"', 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_not_whole_is_made_anew_and_never_run(
    damage: str, compiled: list[int], linked: list[Code], known: Code, tmp_path: Path
):
    path = tmp_path / f"{native.key()}.bin"
    native.write(path, *known)
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    assert native.read(path) is None and not native.is_compiled(tmp_path)
    _, told = load(tmp_path)
    assert told == [native.COMPILING] and len(compiled) == 1 and linked == [known]
    assert path.read_bytes() == whole and native.read(path) == known


def test_one_changed_byte_anywhere_is_found(known: Code, tmp_path: Path):
    path = tmp_path / f"{native.key()}.bin"
    native.write(path, *known)
    whole = path.read_bytes()
    head = whole.index(b"\n", len(native.MAGIC)) + 1
    code = np.random.default_rng(0).integers(head, len(whole), 100).tolist()
    for place in [*range(head), *code]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert native.read(path) is None, place


def test_the_code_of_another_processor_under_this_ones_name_is_not_taken(known: Code, tmp_path: Path):
    other, mine = tmp_path / f"{'0' * 32}.bin", tmp_path / f"{native.key()}.bin"
    native.write(other, *known)
    assert native.read(other) == known
    shutil.copy(other, mine)
    assert native.read(mine) is None


def test_a_folder_where_the_file_should_be_is_no_file(compiled: list[int], expected: bytes, tmp_path: Path):
    (tmp_path / f"{native.key()}.bin").mkdir()
    work, told = load(tmp_path)
    assert told == [native.COMPILING, native.UNWRITABLE]
    assert scores(CONFIGS["llama"], "int8", work) == expected


def test_the_key_changes_with_the_processor_that_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    keys = [native.key.__wrapped__()]
    assert keys[0] == native.key.__wrapped__()
    for name, value in (("NUMBA_CPU_NAME", "haswell"), ("NUMBA_CPU_NAME", "x86-64"),
                        ("NUMBA_CPU_FEATURES", "+avx2"), ("NUMBA_OPT", "2")):  # fmt: skip
        monkeypatch.setenv(name, value)
        keys.append(native.key.__wrapped__())
    assert len(set(keys)) == len(keys) and all(len(key) == 32 for key in keys)


def test_the_key_changes_with_the_processor_that_is_there(monkeypatch: pytest.MonkeyPatch):
    from llvmlite import binding

    keys = {native.key.__wrapped__()}
    for name, value in (("get_host_cpu_name", "other"), ("get_process_triple", "aarch64-unknown-linux-gnu")):
        monkeypatch.setattr(binding, name, lambda value=value: value)
        keys.add(native.key.__wrapped__())
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: binding.FeatureMap({"avx2": False}))
    assert len(keys | {native.key.__wrapped__()}) == 4


def test_the_key_changes_with_each_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = Path(native.__file__).parent
    for name in native.SOURCES:
        shutil.copy(here / f"{name}.py", tmp_path)
    before = native.key.__wrapped__()
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native.py"))
    assert native.key.__wrapped__() == before
    for name in native.SOURCES:
        source = tmp_path / f"{name}.py"
        old = source.read_text()
        source.write_text(old + "\n")
        assert native.key.__wrapped__() != before, name
        source.write_text(old)


def test_the_sources_are_all_that_the_compiled_step_imports_of_the_engine():
    imports = "import sys; import glassgpt.engine.step; print(*(m for m in sys.modules if m.startswith('glassgpt.')))"
    found = {name.removeprefix("glassgpt.engine.") for name in run(imports).stdout.split() if ".engine." in name}
    assert found <= set(native.SOURCES)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such modes")
def test_the_folder_is_the_users_own_even_where_others_may_read_new_ones(known: Code, tmp_path: Path):
    old = os.umask(0)
    try:
        native.write(tmp_path / "cache" / "kernels" / "x.bin", *known)
    finally:
        os.umask(old)
    folder = tmp_path / "cache" / "kernels"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["x.bin"]


def test_loading_what_is_kept_imports_neither_the_compiler_nor_torch(known: Code, tmp_path: Path):
    native.write(tmp_path / f"{native.key()}.bin", *known)
    code = """
import sys
from pathlib import Path
from glassgpt.engine import native
told = []
assert callable(native.load_work(Path(sys.argv[1]), told.append))
print(told, sorted({"numba", "torch", "pandas", "scipy", "rich"} & set(sys.modules)))
"""
    assert run(code, str(tmp_path)).stdout.strip() == "[] []"


def test_processes_that_write_at_once_leave_a_whole_file(known: Code, tmp_path: Path):
    path = tmp_path / "kernels" / "x.bin"
    code = """
import sys
from pathlib import Path
from glassgpt.engine import native
for number in range(40):
    native.write(Path(sys.argv[1]), sys.argv[2], sys.argv[2].encode() * (1000 + 500 * number))
"""
    threads = [threading.Thread(target=run, args=(code, str(path), name)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        there = path.exists()
        found = native.read(path)
        assert found is not None or not there
        if found:
            assert found[1].startswith(found[0].encode()) and len(found[1]) % 500 == 0
            seen.add(found[0])
    assert seen and native.read(path) is not None
    assert [file.name for file in path.parent.iterdir()] == ["x.bin"]


def test_the_command_that_set_up_runs_says_that_it_is_done(known: Code, tmp_path: Path):
    native.write(tmp_path / "kernels" / f"{native.key()}.bin", *known)
    done = subprocess.run([sys.executable, "-m", "glassgpt.engine.native"], capture_output=True, text=True,
                          timeout=120, env=os.environ | {"GLASSGPT_CACHE": str(tmp_path)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the engine is compiled for this processor (") and done.stderr == ""


def test_the_user_is_told_in_the_users_language(capsys, monkeypatch: pytest.MonkeyPatch):
    for language, words in (("en", "Compiling the engine"), ("zh", "编译")):
        monkeypatch.setenv("GLASSGPT_LANG", language)
        native._note(native.COMPILING)
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "features", "kinds"),
    [("haswell", "+avx2,+fma,+f16c,+bmi,+bmi2", {"avx2"}), ("haswell", "", {"avx2"}), ("haswell", None, {"avx2"}),
     ("x86-64", "", set()), ("generic", "", set()), ("x86-64", "+avx,+f16c", set()), ("x86-64", "+avx2,+fma", {"avx2"}),
     (None, "-avx2,+sse2", set())],
)  # fmt: skip
def test_the_instructions_that_are_built_are_those_of_the_processor_that_is_asked_for(
    name: str | None, features: str | None, kinds: set[str], monkeypatch: pytest.MonkeyPatch
):
    from numba.core import config

    monkeypatch.setattr(config, "CPU_NAME", name)
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    assert _features() == kinds


HASHES = "from test_native import print_hashes; print_hashes()"
PROCESSORS = [
    pytest.param("haswell", "+avx2,+fma,+f16c,+bmi,+bmi2", ["avx2"], id="AVX2", marks=pytest.mark.slow),
    # Calls libm for products that are rounded once, and the compiler's library for float16.
    pytest.param("x86-64", "", [], id="no AVX", marks=pytest.mark.full),
]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="another kind of processor")
@pytest.mark.parametrize(("name", "features", "kinds"), PROCESSORS)
def test_code_for_an_older_processor_gives_the_bits_of_this_ones(
    name: str, features: str, kinds: list[str], known: Code, tmp_path: Path
):
    older = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "GLASSGPT_CACHE": str(tmp_path)}
    theirs = json.loads(run(HASHES, timeout=600, **older).stdout)
    assert theirs["features"] == kinds
    (file,) = (tmp_path / "kernels").iterdir()
    code = native.read(file)
    assert code is not None and file.stem != native.key() and code != known
    mine = json.loads(run(HASHES).stdout)
    assert theirs["hashes"] == mine["hashes"]
