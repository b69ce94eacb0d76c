"""`glassgpt verify-resume` as a user meets it."""

from __future__ import annotations

import json

import pytest

from glassgpt.cli import verify as verb
from glassgpt.cli.main import main
from glassgpt.training import verify
from glassgpt.training.verify import Verdict


@pytest.fixture
def built(tiny, tmp_path) -> str:
    """A finished build: the kind of run that most people have."""
    data, out = tmp_path / "qa.csv", tmp_path / "run"
    rows = [f"what does part {n * 7919} cost?,{n * 104729} yuan" for n in range(20)]
    data.write_text("\n".join(["question,answer", *rows]), encoding="utf-8")
    quick = ["--epochs", "1", "--threads", "2", "--set", "answers=0", "--set", "finetune.train.sample_tokens=0"]
    assert main(["build", str(data), "--from", tiny, "--out", str(out), *quick]) == 0
    return str(out)


@pytest.mark.slow
def test_the_proof_on_a_build_in_either_language(built, capsys):
    capsys.readouterr()
    assert main(["verify-resume", built, "--steps", "12", "--kills", "1", "--json"]) == 0
    told = capsys.readouterr()
    line = json.loads(told.out)
    assert line["identical"] is True and line["differing"] == [] and line["kind"] == "build"
    assert (line["steps"], len(line["kills"]), line["losses"], line["run"]) == (12, 1, 12, built)
    assert line["tensors"] > 10 and "kill 1 of 1" in told.err
    assert main(["verify-resume", built, "--steps", "8", "--kills", "1", "--lang", "zh"]) == 0
    told = capsys.readouterr()
    assert "逐位相同" in told.out and "第 1 次强行终止" in told.err


def test_a_difference_fails_with_its_name(monkeypatch, capsys):
    verdict = Verdict("pretrain", 20, 2, (4, 9), 30, 999, 20, ("step-00000020/trainer.safetensors: x",), 1.0)
    monkeypatch.setattr(verify, "verify_resume", lambda *args, **options: verdict)
    for options in ([], ["--json"]):
        assert main(["verify-resume", "somewhere", *options]) == 1
        told = capsys.readouterr()
        assert "1 of 50 tensors and losses differ" in told.err and "trainer.safetensors: x" in told.err
        assert "bit for bit" not in told.out
    assert json.loads(told.out)["identical"] is False


@pytest.mark.parametrize(
    ("more", "told"), [(["--kills", "0"], "kills is 0"), (["--steps", "1"], "steps is 1"), ([], "is not a run")]
)
def test_a_mistake_is_one_line(tmp_path, capsys, more, told):
    if more:
        (tmp_path / "run.json").write_text(
            '{"format": "glassgpt-run", "version": 1, "threads": 1, "recipe": {"train": {"steps": 9}}}'
        )
    for language in ("en", "zh"):
        assert main(["verify-resume", str(tmp_path), *more, "--lang", language]) == 1
        line = capsys.readouterr().err.strip()
        assert "\n" not in line and (told in line or language == "zh")


def test_wrong_usage_exits_with_2(capsys):
    for wrong in ([], ["a", "b"], ["a", "--kills", "x"]):
        with pytest.raises(SystemExit) as end:
            main(["verify-resume", *wrong])
        assert end.value.code == 2
    assert verb.__doc__
