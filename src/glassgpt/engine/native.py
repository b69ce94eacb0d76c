"""The compiled step, kept on disk: numba compiles it once for a processor, and later starts load what it made.

Loading takes llvmlite alone and some milliseconds; numba is imported only to compile. A file of this cache is machine
code: it lies in a folder of the user's own, carries a hash of itself and of its name, and is made anew when that does
not fit. Where the folder cannot be written, every start compiles.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from glassgpt.core.errors import GlassError
from glassgpt.core.files import write_whole
from glassgpt.core.words import Sentence

SOURCES = ("fields", "vectors", "dots", "kernels", "parts", "step")  # what the compiled code depends on, in this folder
MAGIC = b"glassgpt kernels 1\n"
Work = Callable[[int, int, int, int], int]
COMPILING = Sentence("Compiling the engine for this processor, once; this takes up to a minute ...").template
UNWRITABLE = Sentence("The compiled engine could not be kept on disk; the next start compiles again.").template

_engines: list[Any] = []  # whoever drops one unloads its code
_made: dict[Path | None, Work] = {}
_making = threading.Lock()


def load_work(folder: Path | None = None, tell: Callable[[str], None] | None = None) -> Work:
    """`step.work` as a function of four whole numbers, which holds no lock of Python's while it runs.

    Args:
        folder: where compiled code is kept; unless given, beside the models.
        tell: called with a sentence before what takes a while, and with another if it will be made again next time;
            unless given, they go to stderr.
    """
    with _making:  # a second thread waits, and compiles nothing itself
        if folder not in _made:
            _made[folder] = make_work(folder, tell or _note)
        return _made[folder]


def make_work(folder: Path | None, tell: Callable[[str], None]) -> Work:
    """As `load_work`, whether it has been done before or not."""
    path = cache_folder(folder) / f"{key()}.bin"
    code = read(path)
    if code is None:
        tell(COMPILING)
        code = compile_work()
        try:
            write(path, *code)
        except (GlassError, OSError):
            tell(UNWRITABLE)
    return link(*code)


def warm_up() -> None:
    """Begin to load what is compiled already, in a thread, while the model's file is read."""

    def load() -> None:
        with contextlib.suppress(Exception):  # whoever needs it gets the error
            if is_compiled():
                load_work()

    # Python waits for it before it exits: LLVM would not bear to be left in the middle.
    threading.Thread(target=load, name="glassgpt-warm-up").start()


def is_compiled(folder: Path | None = None) -> bool:
    """Whether `load_work` finds what it needs on disk."""
    return read(cache_folder(folder) / f"{key()}.bin") is not None


def cache_folder(folder: Path | None = None) -> Path:
    """Where compiled code is kept."""
    if folder is not None:
        return folder
    from glassgpt.formats.catalog import cache_folder as models

    return models() / "kernels"


@cache
def key() -> str:
    """What compiled code fits: this processor, these sources, this numba."""
    from llvmlite import binding

    asked = [os.environ.get(name, "") for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT")]
    parts = [version("numba"), version("llvmlite"), sys.platform, binding.get_process_triple(), *asked,
             binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]  # fmt: skip
    digest = hashlib.sha256("\n".join(parts).encode())
    for name in SOURCES:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()[:32]


def read(path: Path) -> tuple[str, bytes] | None:
    """The symbol and the machine code of a file of the cache; None where there is none that is whole."""
    try:
        raw = path.read_bytes()
        if not raw.startswith(MAGIC):
            return None
        head, _, code = raw[len(MAGIC) :].partition(b"\n")
        facts = json.loads(head)
        symbol = facts["symbol"]
        return (symbol, code) if facts["sha256"] == _hash(path, symbol, code) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write(path: Path, symbol: str, code: bytes) -> None:
    """Keeps machine code; raises GlassError or OSError where the disk refuses it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    head = json.dumps({"symbol": symbol, "sha256": _hash(path, symbol, code)})
    write_whole(path, MAGIC + head.encode() + b"\n" + code)


def _hash(path: Path, symbol: str, code: bytes) -> str:
    """Of all that is run: a symbol that is not there would be jumped to as address 0."""
    return hashlib.sha256(f"{path.stem}\n{symbol}\n".encode() + code).hexdigest()


def compile_work() -> tuple[str, bytes]:
    """The symbol and the machine code that numba makes of `step.work`."""
    from numba.core import compiler, registry
    from numba.core import types as nb

    from glassgpt.engine import step

    _find_half_floats()
    target, flags = registry.cpu_target, cast(Any, compiler.Flags())
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True  # it is called with plain numbers
    flags.error_model = "numpy"  # nothing raises
    done = compiler.compile_extra(
        target.typing_context, target.target_context, step.work.py_func, (nb.intp,) * 4, nb.intp, flags, {}
    )
    return done.fndesc.mangled_name, bytes(done.library._get_compiled_object())


def link(symbol: str, code: bytes) -> Work:
    """Loads machine code into this process."""
    from llvmlite import binding

    _find_half_floats()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(jit=True)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    # numba's own way of calling: a place for the result and one for an exception, then the arguments.
    pointers, numbers = [ctypes.c_void_p] * 2, [ctypes.c_int64] * 4
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *pointers, *numbers)(engine.get_function_address(symbol))

    def work(program: int, index: int, seen: int, spins: int) -> int:
        result, problem = ctypes.c_int64(0), ctypes.c_void_p(0)
        function(ctypes.addressof(result), ctypes.addressof(problem), program, index, seen, spins)
        return result.value

    return work


def _find_half_floats() -> None:
    """A processor without instructions for float16 (x86 before 2012, some virtual ones) calls the compiler's own
    library for it; where that is not found, LLVM ends the process."""
    from llvmlite import binding

    if sys.platform == "linux":
        with contextlib.suppress(RuntimeError):
            binding.load_library_permanently("libgcc_s.so.1")


def _note(sentence: str) -> None:
    from glassgpt.core.words import choose_language, translate

    print(translate(sentence, choose_language()), file=sys.stderr, flush=True)


def main() -> None:
    """`python -m glassgpt.engine.native`: compiles, if it has not been done; what set-up runs."""
    begin = time.monotonic()
    load_work()
    print(f"the engine is compiled for this processor ({time.monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
