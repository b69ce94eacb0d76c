"""A start brings in what it needs and nothing else: libraries that take a second to import would be felt every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glassgpt.engine import native
from glassgpt.formats.catalog import cache_folder

HEAVY = ("torch", "numba", "pandas", "transformers", "gguf", "huggingface_hub", "matplotlib", "scipy", "safetensors")
# Runs a verb as the command does; what was imported goes to a file, for the reply is what stands on stdout.
VERB = """
import json, sys
from pathlib import Path
from glassgpt.cli.main import main
code = main(sys.argv[2:])
Path(sys.argv[1]).write_text(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
sys.exit(code)
"""
VERBS = {
    "generate": ["generate", "--model", "smollm2", "--prompt", "Once upon a time", "--max-new-tokens", "3"],
    "chat": ["chat", "--model", "smollm2", "--message", "Hello", "--max-new-tokens", "3"],
}


@pytest.fixture(scope="module", autouse=True)
def prepared(smollm2_path: Path) -> None:
    """The model is here and the engine is compiled: what set-up has done."""
    native.load_work()


def imported(verb: str, tmp_path: Path, *more: str, stdin: str = "", **environment: str) -> set[str]:
    """The packages in memory when a verb has ended well and said something."""
    done = subprocess.run(
        [sys.executable, "-c", VERB, str(tmp_path / "modules.json"), *VERBS[verb], *more], input=stdin, text=True,
        capture_output=True, timeout=240, env=os.environ | {"GLASSGPT_LANG": "en"} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    return set(json.loads((tmp_path / "modules.json").read_text()))


@pytest.mark.parametrize("precision", ["auto", "int8"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_reply_imports_no_heavy_library(verb: str, precision: str, tmp_path: Path):
    found = imported(verb, tmp_path, "--precision", precision)
    assert {"glassgpt", "numpy", "llvmlite"} <= found
    assert sorted(found & set(HEAVY)) == []


@pytest.mark.slow
def test_neither_does_the_first_start_which_packs_the_weights(tmp_path: Path):
    for name in ("models", "kernels"):
        (tmp_path / name).symlink_to(cache_folder() / name, target_is_directory=True)
    for _ in range(2):
        found = imported("generate", tmp_path, "--precision", "int8", GLASSGPT_CACHE=str(tmp_path))
        assert sorted(found & set(HEAVY)) == []
        assert len(list((tmp_path / "packed").iterdir())) == 1


@pytest.mark.slow
def test_a_reply_in_wide_weights_imports_no_heavy_library_either(tmp_path: Path):
    assert sorted(imported("generate", tmp_path, "--precision", "bfloat16") & set(HEAVY)) == []
