"""`glassgpt chat`: one message, piped lines, commands, and a real terminal with Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from glassgpt.cli.main import main
from glassgpt.engine.load import load


def talk(lines: str, tiny: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return main(["chat", "--lang", "en", "--model", tiny, "--max-new-tokens", "8", "--seed", "1", *more])


def test_one_message_as_text_and_as_json(tiny, capsys):
    argv = ["chat", "--model", tiny, "--message", "你好", "--max-new-tokens", "8", "--seed", "1"]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert main([*argv, "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert reply["reply"] + "\n" == text
    assert reply["finish_reason"] in ("stop", "length") and reply["left_out"] == []


def test_the_model_may_come_first(tiny, capsys):
    more = ["--message", "hello", "--max-new-tokens", "4", "--seed", "1"]
    assert main(["chat", tiny, *more]) == main(["chat", "--model", tiny, *more]) == 0
    first, named = capsys.readouterr().out.splitlines()
    assert first == named


def test_json_without_a_message_is_an_error(tiny, capsys):
    assert main(["chat", "--model", tiny, "--json"]) == 1
    assert "--message" in capsys.readouterr().err


def test_no_input_greets_and_exits_0(tiny, monkeypatch, capsys):
    assert talk("", tiny, monkeypatch) == 0
    assert "Hello!" in capsys.readouterr().out


def test_commands_do_what_help_says(tiny, monkeypatch, capsys, tmp_path):
    file = tmp_path / "对话.json"
    lines = ["/help", "/system 请用中文。", "/system", "你好", f"/save {file}", f"/save {file}", "/reset"]
    lines += [f"/save {tmp_path}/b.json", "/rest", "/exit", "never read"]
    assert talk("\n".join(lines), tiny, monkeypatch) == 0
    out, err = capsys.readouterr()
    for words in ("/reset forgets", "请用中文。", "Saved:", "is forgotten"):
        assert words in out
    saved = json.loads(file.read_text(encoding="utf-8"))["messages"]
    assert [m["role"] for m in saved] == ["system", "user", "assistant"]
    assert "你好" in file.read_text(encoding="utf-8"), "Chinese stays readable"
    assert [m["role"] for m in json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))["messages"]] == ["system"]
    assert "exists already" in err and "Did you mean /reset?" in err


def test_build_makes_a_model_and_goes_on_with_it(tiny, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"what is number {n * 7919}?,你好 {n * 104729}\n" for n in range(24))
    (tmp_path / "茶.csv").write_text("question,answer\n" + rows, encoding="utf-8")
    assert talk("/build nowhere.csv\n/build 茶.csv\nhello\n/system\n/exit", tiny, monkeypatch) == 0
    out, err = capsys.readouterr()
    assert "nowhere.csv" in err and "You are talking to your own model now" in out and "(the model's own)" in out
    assert (tmp_path / "runs" / "茶-1" / "report.html").is_file()


def test_build_takes_an_option_for_a_file_and_whatever_ends_it_the_chat_goes_on(tiny, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    lines = "/build --help\n/build -x\n/build ~/nowhere.csv\n/system\n/exit"
    assert talk(lines, tiny, monkeypatch) == 0
    out, err = capsys.readouterr()
    for name in ("--help", "-x", f"{tmp_path}{os.sep}nowhere.csv"):
        assert f"there is no file {name}" in err
    assert "(the model's own)" in out and not (tmp_path / "runs").exists()
    for end in (SystemExit(2), KeyboardInterrupt()):
        monkeypatch.setattr("glassgpt.cli.build.next_folder_for", lambda data: tmp_path / "run")
        monkeypatch.setattr("glassgpt.training.build.check_base", lambda settings, end=end: (_ for _ in ()).throw(end))
        assert talk("/build\n/system\n/exit", tiny, monkeypatch) == 0
        out, err = capsys.readouterr()
        assert "(the model's own)" in out and "the conversation goes on" in err


def test_build_works_as_the_conversation_does(tiny, monkeypatch, capsys, tmp_path):
    """The model that was built is loaded in the precision that was given, and its template is the one it learned."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"what is number {n * 7919}?,你好 {n * 104729}\n" for n in range(8))
    (tmp_path / "-茶.csv").write_text("question,answer\n" + rows, encoding="utf-8")
    seen = []
    monkeypatch.setattr("glassgpt.engine.load.load", lambda *a, load=load, **given: seen.append((a, given)) or
                        load(*a, **given))  # fmt: skip
    assert talk("/build -茶.csv\n/exit", tiny, monkeypatch, "--precision", "bfloat16", "--template", "plain") == 0
    assert "You are talking to your own model now" in capsys.readouterr().out
    (place,), given = seen[-1]
    assert place.name == "茶-1"
    assert (given["precision"], given["device"], given["template"]) == ("bfloat16", "cpu", "plain")
    about = json.loads((tmp_path / "runs" / "茶-1" / "run.json").read_text(encoding="utf-8"))
    assert about["settings"]["template"] == "plain"


def test_a_message_too_long_is_told_and_the_chat_goes_on(tiny, monkeypatch, capsys):
    assert talk("hello " * 5000 + "\n/system\n", tiny, monkeypatch) == 0
    out, err = capsys.readouterr()
    assert "the message has" in err
    assert "(the model's own)" in out


def test_a_reply_that_is_cut_off_is_told(tiny, monkeypatch, capsys):
    assert talk("hello\n", tiny, monkeypatch, "--temperature", "1") == 0
    assert "cut off after 8 tokens" in capsys.readouterr().err


class Terminal:
    """The program in a pseudo-terminal."""

    def __init__(self, *argv: str) -> None:
        import pty

        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "glassgpt", *argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | {"GLASSGPT_LANG": "en", "TERM": "dumb"},
            start_new_session=True,
            # A shell starts background jobs with Ctrl-C ignored, and children inherit that; a terminal does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(slave)
        self.seen = ""

    def wait_for(self, words: str, seconds: float = 60) -> None:
        """Read until `words` came after what was waited for before."""
        end = time.monotonic() + seconds
        while words not in self.seen:
            assert time.monotonic() < end, f"no {words!r} in {self.seen[-500:]!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 65536).decode("utf-8", "replace")
        self.seen = self.seen.partition(words)[2]

    def type(self, text: str) -> None:
        time.sleep(0.5)
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        time.sleep(0.5)  # as a person would: a signal in the very moment that the prompt is drawn waits for a key
        os.kill(self.process.pid, signal.SIGINT)

    def close(self) -> int:
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            os.close(self.master)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals of this kind")
def test_in_a_terminal_ctrl_c_stops_a_reply_and_keeps_the_chat(tiny, tmp_path):
    # An endless loop, in torch: the engine would be through with all 3,000 tokens before anyone could stop it.
    words = ["--max-new-tokens", "3000", "--temperature", "0", "--device", "auto"]
    terminal = Terminal("chat", "--model", tiny, *words)
    terminal.wait_for("> ")
    terminal.interrupt()
    terminal.wait_for("To leave, type /exit.")
    terminal.wait_for("> ")
    terminal.type("hello\n")
    terminal.wait_for("hello")
    time.sleep(1.0)
    terminal.interrupt()
    terminal.wait_for("Stopped.")
    terminal.wait_for("> ")
    terminal.type(f"/save {tmp_path / 'c.json'}\n")
    terminal.wait_for("Saved:")
    terminal.wait_for("> ")
    terminal.type("\x04")  # Ctrl-D
    assert terminal.close() == 0
    saved = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["messages"]
    assert [m["role"] for m in saved] == ["user", "assistant"]
    assert saved[1]["content"]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_during_generate_exits_with_130_and_no_traceback(tiny):
    terminal = Terminal(
        "generate", "--model", tiny, "--prompt", "hello", "--max-new-tokens", "3900", "--temperature", "0"
    )
    time.sleep(0.1)
    end = time.monotonic() + 60
    while not terminal.seen and time.monotonic() < end:
        if select.select([terminal.master], [], [], 0.2)[0]:
            terminal.seen += os.read(terminal.master, 65536).decode("utf-8", "replace")
    terminal.interrupt()
    assert terminal.close() == 130
    assert "Traceback" not in terminal.seen


@pytest.mark.slow
def test_a_chinese_message_to_a_model_of_english_alone_is_answered_with_a_word_about_it(smollm2_path, capsys):
    for message, told in (("你好", 1), ("Hello", 0)):
        assert main(["chat", "smollm2", "--lang", "en", "--message", message, "--max-new-tokens", "4"]) == 0
        assert capsys.readouterr().err.count("has learned English alone") == told
