"""What glassgpt's engine is compared with: llama.cpp, compiled for this processor, and transformers, in an environment
of their own outside the repository; and the weights of a catalog model in the formats that they read.

    python -m benchmarks.peers [--models smollm2 gemma3-270m] [--folder FOLDER] [--again]

What is there already stays. llama-cpp-python is built from source, which takes a compiler and minutes (about ten on two
cores); it is built again when the processor is another one, because the code fits only that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from glassgpt.core.files import write_whole
from glassgpt.core.threads import thread_budget
from glassgpt.formats.fetch import locate

HERE = Path(__file__).parent
FOLDER = user_cache_path("glassgpt") / "peers"
LLAMA = "llama-cpp-python==0.3.36"
OTHERS = ["torch", "transformers", "accelerate", "gguf"]  # of the versions in constraints.txt
# Every instruction that this processor has; without the part for images.
CMAKE = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"
FORMATS = ["Q4_0", "Q4_1", "Q4_K_M", "Q8_0", "F16"]
READY = "ready.json"
LOOK = """
import json, llama_cpp
from importlib.metadata import version
names = ("llama-cpp-python", "torch", "transformers", "accelerate", "gguf", "numpy")
print(json.dumps({"versions": {name: version(name) for name in names},
                  "llama.cpp": llama_cpp.llama_print_system_info().decode()}))
"""


def python_of(folder: Path) -> Path:
    """The environment's interpreter."""
    return folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def processor() -> str:
    """A name of this processor and its instructions: what was compiled for another may not run here."""
    found = Path("/proc/cpuinfo")
    said = {line for line in found.read_text().splitlines() if line.startswith(("model name", "flags", "Features"))} \
        if found.is_file() else {platform.processor()}  # fmt: skip
    return hashlib.sha256(json.dumps([platform.machine(), sorted(said)]).encode()).hexdigest()[:16]


def state(folder: Path) -> dict[str, Any] | None:
    """The versions in the environment and the instructions llama.cpp uses, or None where it is not ready."""
    try:
        found = json.loads((folder / READY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fits = found.get("processor") == processor() and found.get("wanted") == LLAMA and python_of(folder).is_file()
    return found if fits else None


def build(folder: Path, again: bool = False) -> dict[str, Any]:
    """Make the environment, unless it is ready; gives its state. Exits with the end of the log where that fails.

    What was compiled before it was stopped is not compiled again.
    """
    found = None if again else state(folder)
    if found:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    (folder / READY).unlink(missing_ok=True)
    log, python, began = folder / "build.log", python_of(folder), time.perf_counter()
    print(f"Building in {folder} (log: {log.name}); this takes minutes", flush=True)
    if again or not python.is_file():
        venv.EnvBuilder(with_pip=True, clear=True).create(folder / "venv")
    pip, constraints = [str(python), "-m", "pip"], ["-c", str(HERE.parent / "constraints.txt")]
    compiled = folder / f"build-{processor()}"
    if again:
        shutil.rmtree(compiled, ignore_errors=True)
    flags = {"CMAKE_ARGS": CMAKE, "CMAKE_BUILD_PARALLEL_LEVEL": str(thread_budget())}
    with log.open("w", encoding="utf-8") as file:

        def run(*words: str) -> None:
            done = subprocess.run([*pip, *words], stdout=file, stderr=subprocess.STDOUT, env=os.environ | flags)
            if done.returncode:
                sys.exit(log.read_text(encoding="utf-8", errors="replace")[-3000:])

        run("install", *constraints, *OTHERS)
        source = folder / LLAMA
        if not source.is_dir():
            with tempfile.TemporaryDirectory(dir=folder) as name:
                run("download", "--no-deps", "--no-binary", "llama-cpp-python", "--dest", name, LLAMA)
                with tarfile.open(next(Path(name).glob("*.tar.gz"))) as packed:
                    packed.extractall(name, filter="data")
                next(path for path in Path(name).iterdir() if path.is_dir()).rename(source)
        # Without what the programs share, as upstream builds it for browsers: it takes as long again.
        rules = source / "CMakeLists.txt"
        rules.write_text(rules.read_text().replace("LLAMA_BUILD_COMMON ON", "LLAMA_BUILD_COMMON OFF"))
        given = ["--config-settings", f"build-dir={compiled}", str(source)]
        run("install", "--verbose", "--force-reinstall", "--no-deps", *given)
        run("install", *constraints, LLAMA)  # what it needs itself
    return note(folder, time.perf_counter() - began)


def note(folder: Path, seconds: float) -> dict[str, Any]:
    """Ask the environment what it is, and keep that: its being there says that all of it is."""
    looked = subprocess.run([str(python_of(folder)), "-c", LOOK], capture_output=True, text=True)
    if looked.returncode:
        sys.exit(looked.stderr[-3000:])
    found = json.loads(looked.stdout.splitlines()[-1])
    found |= {"processor": processor(), "wanted": LLAMA, "flags": CMAKE, "seconds": round(seconds)}
    write_whole(folder / READY, json.dumps(found, indent=1))
    return found


def prepare(folder: Path, model: str, formats: list[str] | None = None) -> dict[str, Path]:
    """A catalog model in the formats of llama.cpp, all from the same numbers: its packaged file at full length.

    The packaged file itself stands for the format that it is in. `huggingface` is a folder for transformers.
    """
    packaged, place = locate(model, pull_missing=True), folder / "files" / model
    place.mkdir(parents=True, exist_ok=True)
    words = [str(python_of(folder)), "-P", str(HERE / "_files.py"), str(packaged), str(place), *(formats or FORMATS)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return {name: Path(path) for name, path in json.loads(done.stdout.splitlines()[-1]).items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--models", nargs="+", default=["smollm2", "gemma3-270m"])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--again", action="store_true", help="build although it is ready")
    args = parser.parse_args()
    found = build(args.folder, args.again)
    print(f"{args.folder}: " + ", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    print(f"llama.cpp: {found['llama.cpp']}")
    for model in args.models:
        for name, path in prepare(args.folder, model).items():
            size = sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size
            print(f"{model:<14}{name:<12}{size / 1e6:>8.1f} MB  {path.name}")


if __name__ == "__main__":
    main()
