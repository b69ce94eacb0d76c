"""Names of models: the catalog itself, `locate`, and the `models` verb."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from glassgpt.cli.main import main
from glassgpt.core.errors import NotFoundError
from glassgpt.formats import verified
from glassgpt.formats.catalog import CATALOG, cache_folder, entry, is_here, local_path, model_folder, unlearned
from glassgpt.formats.fetch import locate
from glassgpt.formats.hub import choose


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; nothing in this file may fetch."""
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GLASSGPT_LANG", "en")
    return tmp_path / "cache"


@pytest.mark.parametrize("one", CATALOG.values(), ids=CATALOG)
def test_every_entry_is_complete_and_consistent(one):
    assert one.kind in ("chat", "base", "vectors") and (one.template is None) == (one.kind != "chat")
    assert one.licence and one.languages and one.size > 1_000_000 and (one.packages or one.hub)
    assert one.hub is None or one.hub.repo.count("/") == 1
    assert bool(one.sha256) == bool(one.filename)
    parts = [file for file in one.packages if not file.keep_as]
    assert not parts or sum(file.size for file in parts) == one.size
    for file in one.packages:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", file.requirement)
        assert re.fullmatch("[0-9a-f]{64}", file.wheel_sha256)
        assert file.member.split("/")[0] == file.requirement.split("==")[0].replace("-", "_")


def test_a_name_that_is_nearly_right_gets_the_right_one_as_a_hint():
    with pytest.raises(NotFoundError, match="smolm2") as error:
        entry("smolm2")
    assert "smollm2" in error.value.hint()
    with pytest.raises(NotFoundError) as error:
        entry("something-else-entirely")
    assert "glassgpt models" in error.value.hint()


def test_the_cache_is_where_the_user_says_or_where_the_system_keeps_caches(cache, monkeypatch):
    assert cache_folder() == cache
    assert local_path(CATALOG["smollm2"]).parent == cache / "models" / "smollm2"
    monkeypatch.delenv("GLASSGPT_CACHE")
    assert cache_folder().is_absolute() and "glassgpt" in str(cache_folder())


@pytest.mark.parametrize(
    "name", ["", "~nosuchuser/x", "x" * 5000, "a\0b", "./missing", "missing.gguf", "me/missing.gguf", "a/b/c"]
)
def test_a_name_that_is_nothing_is_an_error_and_not_a_download(name):
    with pytest.raises(NotFoundError):
        locate(name, pull_missing=True)


def test_paths_are_found_and_a_catalog_name_is_not_hidden_by_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("smollm2").mkdir()
    assert locate("./smollm2", pull_missing=False) == Path("smollm2")
    assert locate(str(tmp_path), pull_missing=False) == tmp_path
    with pytest.raises(NotFoundError, match="not here yet"):
        locate("smollm2", pull_missing=False)


def test_a_hub_model_that_was_fetched_before_is_found_without_asking_anyone():
    with pytest.raises(NotFoundError, match="hub"):
        locate("me/tiny", pull_missing=False)
    folder = model_folder("me/tiny")
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(b"{}")
    verified.remember(folder, dict.fromkeys(("config.json", "model.safetensors"), "0" * 64))
    assert locate("me/tiny", pull_missing=False) == folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(NotFoundError):
        locate("me/tiny", pull_missing=False)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", '{"files": 3}', '{"files": {"a": 1}}', '{"files": {"../x": {}}}', "[" * 9999]
)
def test_a_marker_that_makes_no_sense_means_not_here(text):
    folder = model_folder("smollm2")
    folder.mkdir(parents=True)
    (folder / verified.MARKER).write_text(text)
    assert not is_here(CATALOG["smollm2"])


def test_of_a_hub_repository_only_what_cannot_run_code_is_chosen():
    files = ["model.safetensors", "config.json", "tokenizer.model", "merges.txt", "chat_template.jinja", "LICENSE"]
    others = ["pytorch_model.bin", "model.pt", "run.py", "onnx/model.onnx", "../x.json", "/etc/x.json", ".hidden.json"]
    assert list(choose(dict.fromkeys([*others, *files], 1), "me/tiny")) == files
    assert list(choose({"a.gguf": 1, "README.md": 1}, "me/tiny")) == ["a.gguf"]


def test_the_table_lists_every_model_and_its_columns_align_in_chinese(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for language in ("en", "zh"):
        assert main(["models", "--lang", language]) == 0
        lines = capsys.readouterr().out.splitlines()
        rows = [line for line in lines if line.split() and line.split()[0] in CATALOG]
        assert [row.split()[0] for row in rows] == list(CATALOG)
        # Every row ends in the same column as the rule under the heading, counted in screen cells.
        rule = next(line for line in lines if "──" in line)
        assert {cell_len(row) for row in rows} == {cell_len(rule)}
        heading = lines[lines.index(rule) - 1]
        assert cell_len(heading) == cell_len(rule)


def test_the_json_list_says_what_is_here(capsys):
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed] == list(CATALOG)
    assert not any(one["here"] for one in listed) and listed[0]["size"] == 98_362_432


def test_pulling_an_unknown_name_is_one_line_with_a_hint(capsys):
    assert main(["models", "pull", "smolm2"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "smollm2" in told


def test_the_packaged_model_is_the_one_the_catalog_names(smollm2_path):
    assert verified.sha256_of(smollm2_path) == CATALOG["smollm2"].sha256


def test_chinese_is_unlearned_where_only_english_was_learned():
    assert unlearned("smollm2", "你是谁？") and unlearned("smollm2", "What does 退货 mean?")
    assert not unlearned("smollm2", "Who are you? Où ?") and not unlearned("gemma3-270m", "你是谁？")
    assert not unlearned("runs/mine", "你是谁？"), "nothing is known of models of one's own"
