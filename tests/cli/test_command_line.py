"""The command line as a user meets it: output, exit codes, one-line errors, languages, consoles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glassgpt.cli.main import main


def run(*argv: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[bytes]:
    """The real program in a process of its own."""
    env = {k: v for k, v in os.environ.items() if k not in ("LANG", "LC_ALL", "LC_MESSAGES", "PYTHONIOENCODING")}
    return subprocess.run(
        [sys.executable, "-m", "glassgpt", *argv],
        input=stdin.encode(),
        capture_output=True,
        env=env | {"PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-8"} | environ,
        timeout=120,
    )


@pytest.fixture
def broken(tiny, tmp_path):
    """A copy of the tiny model with one tensor replaced."""

    def make(name: str, tensor: torch.Tensor) -> str:
        folder = tmp_path / "broken"
        folder.mkdir()
        for path in Path(tiny).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        tensors = load_file(folder / "weights.safetensors")
        save_file(tensors | {name: tensor}, folder / "weights.safetensors")
        return str(folder)

    return make


def test_help_and_version_import_no_torch_and_exit_0():
    code = (
        "import sys; from glassgpt.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as e: assert not e.code\nassert 'torch' not in sys.modules"
    )
    for argv in (
        ["--help"],
        ["--version"],
        ["clean", "--help"],
        ["generate", "--help"],
        ["chat", "--help", "--lang", "zh"],
    ):
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("argv", [[], ["sing"], ["generate"], ["generate", "--prompt", "x", "--top-k", "many"]])
def test_wrong_usage_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_help_speaks_the_users_language(monkeypatch, capsys):
    for argv, lang in ((["--help", "--lang=zh"], "en_US.UTF-8"), (["--help"], "zh_CN.UTF-8")):
        monkeypatch.setenv("LC_ALL", lang)
        with pytest.raises(SystemExit):
            main(argv)
        assert "对话" in capsys.readouterr().out


def test_generate_prints_the_same_text_streamed_and_as_json(tiny, capsys):
    argv = ["generate", "--model", tiny, "--prompt", "hello 你好", "--seed", "3", "--max-new-tokens", "12"]
    assert main(argv) == 0
    streamed = capsys.readouterr().out
    assert main([*argv, "--json", "--precision", "float32"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert streamed == result["completions"][0]["text"] + "\n"
    assert {"model", "precision", "prompt_tokens", "completions", "timings"} <= set(result)
    assert {"text", "tokens", "finish_reason"} <= set(result["completions"][0])
    assert set(result["timings"]) == {"load_s", "first_token_s", "prefill_tokens_per_s", "decode_tokens_per_s"}
    assert 0 < result["timings"]["load_s"] < result["timings"]["first_token_s"]
    assert len(result["completions"][0]["tokens"]) <= 12


def test_several_sequences_are_told_apart(tiny, capsys):
    argv = ["generate", "--model", tiny, "--prompt", "hi", "--seed", "1", "--max-new-tokens", "6"]
    assert main([*argv, "--num-return-sequences", "3"]) == 0
    assert "2 of 3" in capsys.readouterr().out
    assert main([*argv, "--num-return-sequences", "3", "--json"]) == 0
    assert len({tuple(c["tokens"]) for c in json.loads(capsys.readouterr().out)["completions"]}) == 3


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "x", "--temperature", "-1"], "temperature is -1"),
        (["--prompt", "x", "--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["--prompt", "x", "--precision", "float3"], "precision is 'float3'"),
        (["--prompt", "x", "--device", "tpu9"], "device 'tpu9'"),
        (["--prompt", "x", "--template", "chatm"], "chatm"),
        (["--prompt", "x", "--threads", "0"], "threads is 0"),
        (["--prompt", "x", "--model", "smolm2"], "Did you mean smollm2?"),
        (["--prompt", "x", "--model", "no/such/file.gguf"], "no/such/file.gguf"),
        (["--prompt", "x", "--model", ""], ""),
        (["--prompt", "hello " * 5000], "the model's context is 4000"),
    ],
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_bad_input_is_one_line_with_a_hint_and_exit_code_1(more, words, language, tiny, capsys):
    assert main(["generate", "--lang", language, "--model", tiny, *more]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and "Traceback" not in err
    assert err.startswith("error: " if language == "en" else "错误：")
    if language == "en":
        assert words in err
    assert err.rstrip()[-1] in ".?。？)`"


def test_broken_model_files_are_one_line_errors(tiny, broken, tmp_path, capsys):
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(10))
    (tmp_path / "empty").mkdir()
    cases = {
        str(tmp_path / "cut.gguf"): "cut.gguf is damaged",
        str(tmp_path / "empty"): "is not a model folder",
        broken("norm.weight", torch.zeros(7)): "norm.weight has shape [7]",
    }
    for model, words in cases.items():
        assert main(["generate", "--model", model, "--prompt", "x"]) == 1
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1


def test_nan_weights_are_a_one_line_error_and_debug_shows_the_traceback(broken, capsys):
    folder = broken("norm.weight", torch.full((16,), float("nan")))
    assert main(["generate", "--model", folder, "--prompt", "x"]) == 1
    assert "NaN" in capsys.readouterr().err
    assert main(["generate", "--debug", "--model", folder, "--prompt", "x"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "gbk", pytest.param("cp1252", marks=pytest.mark.full)])
def test_a_console_that_is_not_utf_8_gets_escapes_and_valid_json(encoding, tiny):
    argv = ["generate", "--model", tiny, "--prompt", "你好 😀", "--seed", "1", "--max-new-tokens", "40"]
    plain = run(*argv, PYTHONIOENCODING=encoding)
    assert plain.returncode == 0, plain.stderr
    plain.stdout.decode(encoding)
    text = json.loads(run(*argv, "--json").stdout.decode())["completions"][0]["text"]
    done = run(*argv, "--json", PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout.decode(encoding))["completions"][0]["text"] == text
    assert run("--help", "--lang", "zh", PYTHONIOENCODING=encoding).returncode == 0


def test_models_and_eval_print_json(tiny, tmp_path, capsys):
    assert main(["models", "--json"]) == 0
    listed = {model["name"] for model in json.loads(capsys.readouterr().out)}
    assert listed == {"smollm2", "gemma3-270m", "e5-small", "minilm", "gpt2", "qwen3-0.6b"}
    (tmp_path / "t.txt").write_text("hello there, 你好\n" * 30, encoding="utf-8")
    assert main(["eval", "--model", tiny, "--data", str(tmp_path / "t.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["perplexity"] > 1
    assert main(["eval", "--model", tiny, "--data", str(tmp_path / "none.txt")]) == 1
    assert "there is no file" in capsys.readouterr().err


def test_every_file_beside_the_code_goes_into_the_package():
    import tomllib
    from pathlib import Path

    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "package-data"
    ]
    home = root / "src" / "glassgpt"
    taken = {path for pattern in patterns["glassgpt"] for path in home.glob(pattern)}
    there = {
        p for p in home.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc") and "__pycache__" not in p.parts
    }
    assert sorted(there - taken) == []
