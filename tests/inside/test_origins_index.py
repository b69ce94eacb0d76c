"""The index on disk: whole or not there, of these data or made anew, in memory that does not grow."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from origins_runs import Letters, letter_shards

from glassgpt.core.errors import FormatError, GlassError
from glassgpt.core.runs import TRAIN
from glassgpt.data.examples import Example
from glassgpt.data.shards import open_shards, write_shards
from glassgpt.inside.origins_index import FOLDER, build_index, open_index, read_index
from glassgpt.text.tokenizer import Tokenizer

LETTERS = Letters(300)
TEXTS = ["abcabcabd" * 5, "", "bcd" * 20, "a"]


@pytest.fixture
def run(tmp_path):
    letter_shards(tmp_path / TRAIN, TEXTS, LETTERS, 16)
    return tmp_path


def opened(run, told, **options):
    return open_index(run, open_shards(run / TRAIN, LETTERS), LETTERS, tell=lambda s: told.append(str(s)), **options)


def test_it_is_made_once_and_told(run):
    told: list[str] = []
    opened(run, told)
    assert len(told) == 1 and "indexing" in told[0]
    opened(run, told)
    assert len(told) == 1


def test_the_sorted_text_has_every_token_and_an_end_after_each_document(run):
    index = opened(run, [], part=10)
    symbols = index.array.text[: index.about.symbols].tolist()
    assert symbols == [s for text in TEXTS for s in [*(i + 1 for i in LETTERS.encode_segment(text)), 0]]
    assert index.begins.tolist() == np.cumsum([0, *(len(text) + 1 for text in TEXTS)]).tolist()
    assert index.about.bytes == sum(map(len, TEXTS))


@pytest.mark.parametrize("name", ["order.npy", "text.npy", "index.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_index_is_made_anew_and_that_is_told(run, name, damage):
    whole = opened(run, []).array.order.tolist()
    path = run / FOLDER / name
    data = bytearray(path.read_bytes())
    data[-9] ^= 0xFF
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    told: list[str] = []
    assert opened(run, told).array.order.tolist() == whole
    assert "indexing" in told[-1] and (len(told) == 2 or (name, damage) == ("index.json", "remove"))


def test_an_index_of_other_data_is_made_anew(run):
    opened(run, [])
    for file in (run / TRAIN).iterdir():
        file.unlink()
    (run / TRAIN).rmdir()
    letter_shards(run / TRAIN, ["zzzz"], LETTERS, 16)
    told: list[str] = []
    assert opened(run, told).about.symbols == 5
    assert "other data" in told[0]


def test_damaged_shards_are_never_indexed(run):
    path = run / TRAIN / "tokens-00001.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(FormatError, match="tokens-00001"):
        opened(run, [])
    assert not (run / FOLDER).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not there")
@pytest.mark.parametrize("when", ["sort_suffixes", "sha256"])
def test_a_kill_in_the_middle_of_writing_leaves_no_index(run, when):
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(__file__).rpartition("/")[0]!r})
from pathlib import Path
from origins_runs import Letters
from glassgpt.data.shards import open_shards
from glassgpt.inside import origins_index
plain, calls = getattr(origins_index, {when!r}), []
def killed(*args):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*args)
setattr(origins_index, {when!r}, killed)
run, letters = Path({str(run)!r}), Letters(300)
origins_index.open_index(run, open_shards(run / {TRAIN!r}, letters), letters, part=20)
"""
    done = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == -signal.SIGKILL
    left = list((run / FOLDER).parent.glob(".origins.*"))
    assert left and not (run / FOLDER).exists()
    with pytest.raises(FormatError):
        read_index(run / FOLDER, open_shards(run / TRAIN, LETTERS))
    told: list[str] = []
    opened(run, told)
    assert "indexing" in told[0] and not [path for path in left if path.exists()]


def test_a_disk_that_refuses_is_told_and_leaves_nothing(run, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glassgpt.inside.origins_index.sort_suffixes", full)
    with pytest.raises(GlassError, match="No space left"):
        opened(run, [])
    assert not (run / FOLDER).exists() and not list((run / FOLDER).parent.glob(".origins.*"))


@pytest.mark.parametrize("change", [{"more": 1}, {"part": 7}, {"reach": 1}, {"files": 3}, {"symbols": None}])
def test_index_json_with_other_values_is_damaged(run, change):
    opened(run, [])
    path = run / FOLDER / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FormatError, match="damaged"):
        read_index(run / FOLDER, open_shards(run / TRAIN, LETTERS))


def test_memory_depends_on_the_part_and_not_on_the_data(tmp_path, monkeypatch):
    """As numpy reports what it takes: at most 80 bytes for each token of a part, whatever the text says."""
    monkeypatch.setattr("glassgpt.inside.origins_index._WRITTEN_AT_ONCE", 50_000)
    part, peaks = 100_000, {}
    for name, tokens in {"small": 200_000, "large": 800_000, "one token": 200_000}.items():
        chance = np.random.default_rng(1)
        ids = np.zeros(tokens, int) if name == "one token" else chance.zipf(1.3, tokens).clip(max=300) - 1
        write_shards([Example(ids.tolist(), [True] * tokens, "x", 1)], tmp_path / name, LETTERS)
        shards = open_shards(tmp_path / name, LETTERS)
        tracemalloc.start()
        build_index(tmp_path / "indices" / name, shards, LETTERS, part=part)
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks["large"] < 1.25 * peaks["small"]
    assert max(peaks.values()) < 80 * (part + 8192)


def test_letters_stand_for_a_tokenizer():
    """The tests' own tokenizer has what is used of the real one."""
    assert {"encode_segment", "token_bytes", "decode", "fingerprint"} <= set(dir(Tokenizer))
