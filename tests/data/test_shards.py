"""Shards: what was written is what is read, every token knows its row, and damage is told."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import FormatError, InputError
from glassgpt.data.examples import Example
from glassgpt.data.shards import Origin, open_shards, write_shards
from glassgpt.text.bpe import train_bpe, train_characters

TOKENIZER = train_characters(["abcdefghijklmnopqrstuvwxyz ."])
SIZE = TOKENIZER.vocab_size


def documents(seed: int, count: int, learned: float = 0.6) -> list[Example]:
    """Documents of 1 to 40 tokens from three sources whose rows are not in order."""
    chance = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(chance.integers(1, 41))
        ids, mask = chance.integers(0, SIZE, length).tolist(), (chance.random(length) < learned).tolist()
        made.append(Example(ids, mask, f"{'cab'[number % 3]}.csv", int(chance.integers(1, 1000))))
    return made


def flat(made: list[Example]) -> list[tuple[int, bool, Origin]]:
    """Every token with what must be known of it, the slow way."""
    return [
        (token, learned, Origin(d.source, d.number, offset))
        for d in made
        for offset, (token, learned) in enumerate(zip(d.ids, d.loss_mask, strict=True))
    ]


@pytest.mark.parametrize("shard_tokens", [1, 7, 64, 1 << 20])
def test_every_token_comes_back_with_its_mask_and_its_origin(tmp_path, shard_tokens):
    made = documents(1, 30)
    write_shards(made, tmp_path / "s", TOKENIZER, shard_tokens=shard_tokens)
    shards, truth = open_shards(tmp_path / "s", TOKENIZER), flat(made)
    assert len(shards) == len(truth) and shards.documents == 30
    assert shards.tokens(0, len(shards)).tolist() == [t for t, _, _ in truth]
    assert shards.mask(0, len(shards)).tolist() == [m for _, m, _ in truth]
    assert [shards.origin(i) for i in range(len(shards))] == [o for _, _, o in truth]
    ends = np.cumsum([0, *(len(d.ids) for d in made)]).tolist()
    assert [shards.span(i) for i in range(30)] == list(pairwise(ends))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_part_of_any_cutting_reads_as_from_a_list(tmp_path_factory, data):
    made = documents(data.draw(st.integers(0, 99)), data.draw(st.integers(1, 6)))
    folder = tmp_path_factory.mktemp("part") / "s"
    write_shards(made, folder, TOKENIZER, shard_tokens=data.draw(st.integers(1, 50)))
    shards, truth = open_shards(folder), flat(made)
    start = data.draw(st.integers(0, len(truth)))
    stop = data.draw(st.integers(start, len(truth)))
    assert shards.tokens(start, stop).tolist() == [t for t, _, _ in truth[start:stop]]
    assert shards.mask(start, stop).tolist() == [m for _, m, _ in truth[start:stop]]
    assert shards.tokens(len(truth), len(truth)).tolist() == shards.mask(len(truth), len(truth)).tolist() == []


def test_the_manifest_counts_what_is_there(tmp_path):
    made = documents(3, 20)
    manifest = write_shards(made, tmp_path / "s", TOKENIZER, shard_tokens=50)
    assert manifest.tokens == sum(len(d.ids) for d in made) and manifest.documents == 20
    assert manifest.trained == sum(sum(d.loss_mask[1:]) for d in made)
    assert manifest.sources == {"c.csv": 7, "a.csv": 7, "b.csv": 6}
    assert sorted(manifest.files) == sorted(p.name for p in (tmp_path / "s").glob("*.npy"))
    assert open_shards(tmp_path / "s").manifest == manifest
    open_shards(tmp_path / "s").verify()


def test_a_mask_that_says_nothing_is_not_stored(tmp_path):
    write_shards(documents(3, 5, learned=2.0), tmp_path / "s", TOKENIZER)
    assert not list((tmp_path / "s").glob("mask-*"))
    shards = open_shards(tmp_path / "s")
    assert shards.mask(3, 9).tolist() == [True] * 6


@pytest.mark.parametrize("size", [40, 70_000])
def test_large_vocabularies_have_room_for_every_id(tmp_path, size):
    tokenizer = train_characters([chr(0x20000 + i) for i in range(size)])
    last = tokenizer.vocab_size - 1
    write_shards([Example([0, last], [True, True], "x", 1)], tmp_path / "s", tokenizer)
    assert open_shards(tmp_path / "s").tokens(0, 2).tolist() == [0, last]


@pytest.fixture
def folder(tmp_path):
    write_shards(documents(5, 20), tmp_path / "s", TOKENIZER, shard_tokens=100)
    return tmp_path / "s"


@pytest.mark.parametrize("name", ["tokens-00001.npy", "mask-00000.npy", "starts.npy", "sources.npy", "rows.npy"])
def test_a_flipped_bit_is_found_by_its_hash(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 8 if name != "starts.npy" else 0
    data[-12 if name == "starts.npy" else -1] ^= 1
    (folder / name).write_bytes(data)
    shards = open_shards(folder, TOKENIZER)
    with pytest.raises(FormatError, match=name.replace(".", r"\.")) as told:
        shards.verify()
    assert "anew" in told.value.hint()


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def swap_kind(path):
    np.save(path, np.zeros(4))


DAMAGES = {"cut": cut, "gone": lambda p: p.unlink(), "empty": lambda p: p.write_bytes(b""), "kind": swap_kind}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["tokens-00000.npy", "mask-00001.npy", "starts.npy", "rows.npy"])
def test_a_file_that_is_cut_missing_or_another_is_refused_when_opened(folder, name, damage):
    damage(folder / name)
    with pytest.raises(FormatError, match="is damaged"):
        open_shards(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"tokens": 3}', '{"version": 1, "a": 2}'], ids=["empty", "list", "short", "unknown"]
)
def test_a_manifest_that_is_none_is_refused(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(FormatError, match="manifest"):
        open_shards(folder)


def test_a_newer_version_is_refused_by_its_number(folder):
    about = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(about | {"version": 7}))
    with pytest.raises(FormatError, match="version 7"):
        open_shards(folder)


def test_shards_of_another_tokenizer_are_refused(folder):
    with pytest.raises(FormatError, match="another tokenizer"):
        open_shards(folder, train_bpe(["some text of another kind"] * 5, 300))


def test_nothing_is_written_of_what_is_wrong(tmp_path):
    for wrong in ([], [Example([], [], "x", 1)], [Example([SIZE], [True], "x", 1)], [Example([-1], [True], "x", 1)]):
        with pytest.raises(InputError):
            write_shards(wrong, tmp_path / "s", TOKENIZER)
    assert list(tmp_path.iterdir()) == []


def test_shards_may_be_moved(folder, tmp_path):
    before = open_shards(folder).origin(17)
    shutil.move(folder, tmp_path / "elsewhere")
    assert open_shards(tmp_path / "elsewhere").origin(17) == before
