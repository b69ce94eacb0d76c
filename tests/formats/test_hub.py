"""The hub's own library against a small server on the loopback address, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_sources import REVISION, hub_pages, serve

FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": os.urandom(100_000),
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"a pickle",
    "modeling_tiny.py": b"raise SystemExit",
}


def locate_in_process(name: str, endpoint: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """HF_ENDPOINT is read when the library is imported, hence a new process."""
    code = "import sys; from glassgpt.formats.fetch import locate; print(locate(sys.argv[1], pull_missing=True))"
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "GLASSGPT_CACHE": str(tmp_path / "cache")}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_"))}
    return subprocess.run(
        [sys.executable, "-c", code, name],
        env=kept | settings | {"GLASSGPT_LANG": "en", "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_mirror_is_asked_and_only_files_without_code_come(tmp_path):
    with serve(hub_pages("me/tiny", FILES)) as hub:
        done = locate_in_process("me/tiny", hub.url, tmp_path)
        assert done.returncode == 0, done.stderr
        asked = len(hub.asked)
        again = locate_in_process("me/tiny", hub.url, tmp_path)
    folder = Path(done.stdout.strip())
    assert {p.name for p in folder.iterdir() if not p.name.startswith(".")} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert f"GET /me/tiny/resolve/{REVISION}/model.safetensors" in hub.asked
    assert again.stdout == done.stdout and len(hub.asked) == asked  # the second time nobody is asked


def test_a_repository_with_one_gguf_file_stands_for_that_file(tmp_path):
    with serve(hub_pages("me/tiny", {"tiny.gguf": b"GGUF", "README.md": b""})) as hub:
        done = locate_in_process("me/tiny", hub.url, tmp_path)
    assert Path(done.stdout.strip()).name == "tiny.gguf", done.stderr


@pytest.mark.parametrize("files", [{"a.gguf": b"1", "b.gguf": b"2"}, {"pytorch_model.bin": b"a pickle"}, None])
def test_a_repository_without_a_readable_model_or_that_is_not_there_is_a_named_error(tmp_path, files):
    with serve(hub_pages("me/tiny", files) if files else {}) as hub:
        done = locate_in_process("me/tiny", hub.url, tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith(
        "glassgpt.core.errors.FetchError: me/tiny is no file or folder here"
    )
    assert not any("resolve" in line for line in hub.asked)
