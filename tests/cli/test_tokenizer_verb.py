"""`glassgpt tokenizer` as a user meets it, its result held against transformers."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import regex

from glassgpt.cli.main import main
from glassgpt.cli.tokenizer import readable
from glassgpt.text import bpe
from glassgpt.text.tokenizer import Tokenizer

ENGLISH = "The parcel has not come yet, where is it? It was sent on Monday, and we look for it.\n"
CHINESE = "包裹还没有到，请问现在在哪里？周一已经发货，我们正在查找。\n"
SAMPLES = [ENGLISH, CHINESE, "naïve café 42 😀👩‍👩‍👧\r\n\t x  y", "  ", "\n\n", "def f(x):\n    return x\n"]


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text((ENGLISH + CHINESE + "\n") * 20, encoding="utf-8")
    return path


def train(data: Path | str, out: Path, *more: str) -> int:
    return main(["tokenizer", "train", "--lang", "en", "--data", str(data), "--out", str(out), *more])


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_what_was_trained_is_read_back_by_us_and_by_transformers_with_the_same_ids(text, tmp_path, capsys, kind):
    from transformers import PreTrainedTokenizerFast

    assert train(text, tmp_path / "out", "--kind", kind, *(["--vocab", "400"] if kind == "bpe" else [])) == 0
    ours = Tokenizer.from_file(tmp_path / "out")
    theirs = PreTrainedTokenizerFast.from_pretrained(str(tmp_path / "out"))
    assert len(theirs) == ours.vocab_size
    for sample in SAMPLES if kind == "bpe" else SAMPLES[:2]:
        ids = ours.encode(sample)
        assert theirs.encode(sample, add_special_tokens=False) == ids
        assert theirs.decode(ids) == ours.decode(ids) == sample


def test_the_report_agrees_with_a_count_by_hand(text, tmp_path, capsys):
    assert train(text, tmp_path / "out", "--vocab", "400", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    tokenizer = Tokenizer.from_file(tmp_path / "out")
    whole = text.read_text("utf-8").removesuffix("\n")  # a row does not have the last line's end
    ids = tokenizer.encode(whole)
    assert told["parts"]["all"]["tokens"] == len(ids)
    assert told["parts"]["all"]["characters_per_token"] == round(len(whole) / len(ids), 4)
    assert told["parts"]["all"]["bytes_per_token"] == round(len(whole.encode()) / len(ids), 4)
    assert told["parts"]["chinese"]["characters"] == len(regex.findall(r"\p{Han}", whole))
    assert told["vocab_size"] == tokenizer.vocab_size and told["used"] == len(set(ids)) and told["rows"] == 1
    plain = Counter(ids)
    assert {t["id"]: t["count"] for t in told["most_frequent"]}.items() <= plain.items()
    assert told["most_frequent"][0]["count"] == max(plain.values())


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.txt.gz", "folder"])
def test_every_source_that_can_be_read_can_be_learned_from(tmp_path, capsys, name):
    path = tmp_path / name
    table = "问题,答案\n" + '"你好吗","我很好，谢谢"\n"再见","明天再见，明天再见"\n' * 5
    lines = [json.dumps({"prompt": "你好吗", "response": "我很好，谢谢，明天再见，明天再见"}, ensure_ascii=False)] * 5
    if name == "folder":
        path.mkdir()
        (path / "a.csv").write_text(table, encoding="gb18030")
        (path / "b.jsonl").write_text("\n".join(lines), encoding="utf-8")
    elif name.endswith("csv"):
        path.write_text(table, encoding="utf-16")
    elif name.endswith("jsonl"):
        path.write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    else:
        path.write_bytes(gzip.compress((CHINESE * 9).encode("gb18030")))
    more = ["--encoding", "gb18030"] if name == "rows.txt.gz" else []
    assert train(path, tmp_path / "out", "--vocab", "300", *more) == 0
    out, err = capsys.readouterr()
    assert re.search(r"Chinese +[1-9]", out)
    assert ("could not be read: 1" in err) == (name == "rows.jsonl")
    tokenizer = Tokenizer.from_file(tmp_path / "out")
    assert len(tokenizer.encode("你好" if "txt" not in name else "我们")) < 6, "it has learned a Chinese character"


def test_a_text_too_small_for_the_vocabulary_is_told(text, tmp_path, capsys):
    assert train(text, tmp_path / "out", "--vocab", "9000") == 0
    assert re.search(r"gives no more than \d+ of 9000 tokens", capsys.readouterr().err)


def test_what_is_not_measured_is_told(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("glassgpt.cli.tokenizer.MEASURED", 100)
    assert train(text, tmp_path / "out", "--vocab", "300") == 0
    assert "on the first 100 characters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--vocab", "100"], "it must be from 259"),
        (["--vocab", "99999999"], "it must be from 259"),
        (["--data", "no such.txt"], "there is no file"),
        (["--kind", "characters", "--vocab", "300"], "--vocab has no meaning"),
        (["--columns", "prompt"], "--columns"),
        (["--data", "empty.txt"], "empty"),
        (["--out", "."], "not an empty folder"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(text, tmp_path, capsys, monkeypatch, more, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("")
    assert train(text, tmp_path / "out", *more) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


# show


def show(model: object, *more: str) -> int:
    return main(["tokenizer", "show", "--lang", "en", str(model), *more])


def test_show_prints_every_token_with_its_id(tiny, capsys):
    assert show(tiny, "--text", "hello 你好 <|im_end|>\n") == 0
    out, err = capsys.readouterr()
    tokenizer = Tokenizer.from_file(tiny)
    ids = tokenizer.encode("hello 你好 <|im_end|>\n")
    lines = out.splitlines()
    assert [int(line.split()[0]) for line in lines[:-1]] == ids
    assert "\x1b" not in out, "no colours outside a terminal"
    assert f"{len(ids)} tokens, 20 characters, 24 bytes" in lines[-1]
    assert not any(tokenizer.is_control(i) for i in ids), "a control token that was typed is text"
    assert err == ""


def test_bytes_that_are_part_of_a_character_are_shown_as_hex(tiny, capsys):
    assert show(tiny, "--text", "龘", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert "".join(t.strip("<>") for t in told["texts"]).replace(" ", "") == "龘".encode().hex().upper()
    assert (told["tokens"], told["bytes"]) == (3, 3)
    whole = Tokenizer.from_file(tiny)
    assert readable(whole, whole.encode("\n")[0]) == r"'\n'"


def test_a_file_is_shown_in_its_own_encoding(tiny, tmp_path, capsys):
    (tmp_path / "t.txt").write_bytes("你好，世界\r\n".encode("utf-16"))
    assert show(tiny, "--file", str(tmp_path / "t.txt"), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert Tokenizer.from_file(tiny).decode(told["ids"]) == "你好，世界\r\n"


def test_a_model_is_shown_without_its_weights_and_without_torch(tiny, text, tmp_path):
    shutil.copytree(tiny, tmp_path / "run" / "model")
    (tmp_path / "run" / "model" / "weights.safetensors").unlink()
    (tmp_path / "run" / "run.json").write_text('{"format": "glassgpt-run", "version": 1}')
    code = "import sys; from glassgpt.cli.main import main\nassert main(sys.argv[1:]) == 0"
    code += "\nassert 'torch' not in sys.modules"
    for place in (tmp_path / "run" / "model", tmp_path / "run", tmp_path / "run" / "model" / "tokenizer.json"):
        argv = [sys.executable, "-c", code, "tokenizer", "show", str(place), "--text", "hello", "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["ids"] == Tokenizer.from_file(tiny).encode("hello")


def test_a_run_that_has_no_model_yet_shows_the_tokenizer_that_it_trains_with(tmp_path, capsys):
    bpe.train_bpe([ENGLISH * 9], 300).save(tmp_path / "data" / "tokenizer")
    (tmp_path / "run.json").write_text('{"format": "glassgpt-run", "version": 1}')
    assert show(tmp_path, "--text", "parcel", "--json") == 0
    assert json.loads(capsys.readouterr().out)["vocab_size"] == 300


@pytest.mark.slow
def test_a_packaged_model_is_shown_with_what_it_puts_before_a_text(gemma_path, capsys):
    assert show("gemma3-270m", "--text", "hello") == 0
    assert "puts <bos> (2)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["{tiny}", "--text", ""], "the text is empty"),
        (["{tiny}"], "--text or --file"),
        (["{tiny}", "--text", "a", "--file", "b"], "--text or --file"),
        (["{tiny}", "--file", "{tmp}/none.txt"], "there is no file"),
        (["{tmp}", "--text", "a"], "holds no tokenizer"),
        (["{tmp}/x.json", "--text", "a"], "x.json"),
        (["smolm2", "--text", "a"], "Did you mean smollm2?"),
        (["{tiny}", "--file", "{tmp}/large.txt"], "is larger than"),
    ],
)
def test_what_cannot_be_shown_is_one_line(tiny, tmp_path, capsys, more, words):
    (tmp_path / "x.json").write_text("[1]")
    (tmp_path / "large.txt").write_bytes(b"a" * (1 << 20) + b"a")
    model, *rest = (word.format(tiny=tiny, tmp=tmp_path) for word in more)
    assert show(model, *rest) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals of this kind")
def test_in_a_terminal_the_boundaries_are_coloured_and_nothing_in_the_text_commands_it(tiny):
    import pty

    master, slave = pty.openpty()
    argv = [sys.executable, "-m", "glassgpt", "tokenizer", "show", tiny, "--text", "hello\x1b]0;title\x07 there"]
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm-256color"}
    process = subprocess.Popen(argv, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    seen = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:  # how Linux tells of the end
            break
        if not block:
            break
        seen += block
    assert process.wait(60) == 0
    os.close(master)
    assert len(set(re.findall(rb"\x1b\[30;(4\d|48;5;\d+)m", seen))) > 1, "neighbours differ in colour"
    assert b"\x1b]" not in seen and b"\x07" not in seen
