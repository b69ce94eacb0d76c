"""`glassgpt bench quality` as a user meets it."""

from __future__ import annotations

import json

import pytest

from glassgpt.cli.main import main
from glassgpt.core.errors import ConfigError
from glassgpt.engine.load import load_networks

TEXT = "hello there, how are you?\nfine, and you? 你好，世界！😀\n" * 20


@pytest.fixture
def data(tmp_path) -> str:
    path = tmp_path / "t.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def measured(capsys, *argv: object) -> dict:
    assert main(["bench", "quality", "--lang", "en", *map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_figure_is_told_as_json(tiny, data, capsys):
    told = measured(capsys, tiny, "--data", data, "--tokens", 100, "--window", 30, "--threads", 1)
    assert {key: value for key, value in told.items() if key != "precisions"} == {
        "model": tiny, "data": data, "reference": "float32", "tokens": 100, "window": 30,
    }  # fmt: skip
    found = {one["precision"]: one for one in told["precisions"]}
    assert list(found) == ["float32", "int4", "int8", "bfloat16"]
    keys = {"precision", "bytes_per_token", "loss", "perplexity", "change_percent", "divergence", "agreement"}
    assert all(set(one) == keys for one in found.values())
    first = found["float32"]
    assert (first["change_percent"], first["divergence"], first["agreement"]) == (0, 0, 1)
    assert found["int4"]["divergence"] > found["int8"]["divergence"] > 0
    assert found["int4"]["bytes_per_token"] < found["int8"]["bytes_per_token"] < first["bytes_per_token"]


@pytest.mark.parametrize("window", [20, 512])
def test_in_float32_the_perplexity_is_that_of_eval(tiny, data, capsys, window):
    told = measured(capsys, tiny, "--data", data, "--tokens", 0, "--window", window, "--precisions", "float32")
    (only,) = told["precisions"]
    assert main(["eval", tiny, "--data", data, "--window", str(window), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert only["perplexity"] == pytest.approx(plain["perplexity"], rel=1e-4)
    assert (told["tokens"], told["window"]) == (plain["tokens"], plain["window"])


def test_float32_comes_first_and_each_precision_once(tiny, data, capsys):
    told = measured(capsys, tiny, "--data", data, "--precisions", "int8", "float32", "int8", "--tokens", 20)
    assert [one["precision"] for one in told["precisions"]] == ["float32", "int8"]


@pytest.mark.parametrize(("language", "words"), [("en", ["change", "100 tokens"]), ("zh", ["变化", "100 个词元"])])
def test_the_table_is_told_in_the_users_language(tiny, data, capsys, language, words):
    assert main(["bench", "quality", "--lang", language, tiny, "--data", data, "--tokens", "100"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in [*words, "float32", "int4", "int8", "bfloat16"])


def test_the_texts_of_a_table_are_one_text(tiny, data, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("text\nhello there\nhow are you?\n", encoding="utf-8")
    (tmp_path / "joined.txt").write_text("hello there\n\nhow are you?\n", encoding="utf-8")
    tables, text = (measured(capsys, tiny, "--data", tmp_path / name) for name in ("t.csv", "joined.txt"))
    assert tables["precisions"] == text["precisions"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--data", "none.txt"], "there is no file none.txt"),
        (["--data", "empty.txt"], "empty"),
        (["--data", "x.txt"], "the text has 1 tokens; at least 2 are needed"),
        (["--data", "q.csv"], "q.csv holds conversations"),
        (["--data", "t.txt", "--window", "1"], "window is 1"),
        (["--data", "t.txt", "--tokens", "-5"], "tokens is -5"),
        (["--data", "t.txt", "--threads", "0"], "threads is 0"),
        (["nowhere", "--data", "t.txt"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line(tiny, tmp_path, capsys, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    for name, text in {"t.txt": TEXT, "empty.txt": "", "x.txt": "x", "q.csv": "prompt,response\na,b\nc,d\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    model = [] if argv[0] == "nowhere" else [tiny]
    assert main(["bench", "quality", "--lang", "en", *model, *argv]) == 1
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == ""


@pytest.mark.parametrize("argv", [["bench"], ["bench", "quality"], ["bench", "quality", "--data", "x", "--precisions",
                                                                    "int2"]])  # fmt: skip
def test_wrong_usage_ends_with_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2


def test_networks_are_loaded_in_the_precisions_that_are_asked_for(tiny):
    tokenizer, networks = load_networks(tiny, ["int8", "float32"])
    assert {name: one.precision for name, one in networks.items()} == {"int8": "int8", "float32": "float32"}
    assert tokenizer.vocab_size <= networks["int8"].config.vocab_size
    with pytest.raises(ConfigError, match="int2"):
        load_networks(tiny, ["int2"])
