"""A run that was stopped, in whatever way, and resumed is the run that was not.

The processes here are those that a user starts: the command line with --resume, killed by the system.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from glassgpt.cli.main import main
from glassgpt.core.errors import ConfigError, FormatError, GlassError, NotFoundError
from glassgpt.core.runs import Run
from glassgpt.training import verify
from glassgpt.training.loop import Event
from glassgpt.training.pretrain import pretrain
from glassgpt.training.sft import finetune
from glassgpt.training.state import checkpoints
from glassgpt.training.verify import ResumeError, verify_resume

STAGES = {"pretrain": pretrain, "finetune": finetune}


def go_on(verb: str, run: Run) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "glassgpt", verb, "--resume", str(run.folder)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=os.environ | {"GLASSGPT_LANG": "en"}, **pipes)


def lines(run: Run) -> int:
    path = run.folder / "metrics.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def wait_for_steps(run: Run, process: subprocess.Popen[str], count: int) -> None:
    """Until this process has written `count` lines: it replaces the file of the one before when it begins."""
    path = run.folder / "metrics.jsonl"
    old = path.stat().st_ino if path.exists() else 0
    first = None
    while process.poll() is None:
        if path.exists() and path.stat().st_ino != old:
            first = lines(run) if first is None else first
            if lines(run) >= first + count:
                return
        time.sleep(0.001)


def kill_at_random(verb: str, run: Run, chance: random.Random) -> str:
    """One process that goes on for a while and is killed; tells when: "starting", "training" or "over"."""
    process = go_on(verb, run)
    if chance.random() < 0.25:
        time.sleep(chance.uniform(0, 4))
        when = "starting or training"
    else:
        wait_for_steps(run, process, chance.randint(0, 6))
        time.sleep(chance.uniform(0, 0.05))
        when = "training"
    alive = process.poll() is None
    process.kill()
    _, said = process.communicate()
    assert alive or process.returncode == 0, said
    return when if alive else "over"


def bits(run: Run) -> dict[str, str]:
    """A hash of every file with weights or state: the newest checkpoint's and the finished model's."""
    files = [*checkpoints(run.folder)[0].glob("*.safetensors"), *(run.folder / "model").glob("*.safetensors")]
    return {f"{p.parent.name}/{p.name}": hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def killed_and_unbroken(verb: str, make, kills: int, **settings) -> list[str]:
    whole, broken = make("whole", **settings), make("broken", **settings)
    STAGES[verb](whole)
    chance = random.Random()
    moments = [kill_at_random(verb, broken, chance) for _ in range(kills)]
    process = go_on(verb, broken)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert bits(broken) == bits(whole) and len(bits(whole)) == 3
    steps = [[(m["step"], m["loss"]) for m in run.metrics() if "loss" in m] for run in (whole, broken)]
    assert steps[0] == steps[1] and len(steps[0]) == whole.about[settings_name(verb)]["train"]["steps"]
    assert moments.count("over") < kills
    return moments


def settings_name(verb: str) -> str:
    return "recipe" if verb == "pretrain" else "settings"


@pytest.mark.slow
def test_pretraining_killed_at_random_moments_ends_with_the_same_bits(text_run):
    killed_and_unbroken("pretrain", text_run, 3, steps=60, checkpoint_every=3, evaluate_every=20)


@pytest.mark.slow
def test_lora_killed_at_random_moments_ends_with_the_same_bits(answer_run):
    killed_and_unbroken("finetune", answer_run, 3, epochs=5.0, checkpoint_every=3, evaluate_every=20)


@pytest.mark.full
def test_twenty_five_kills_across_both_kinds_of_training(text_run, answer_run, tmp_path, capsys):
    told = []
    for verb, make, rounds in (("pretrain", text_run, (7, 6)), ("finetune", answer_run, (6, 6))):
        for number, kills in enumerate(rounds):

            def named(name, make=make, number=number, verb=verb, **settings):
                return make(f"{verb}-{number}-{name}", **settings)

            length = {"steps": 150} if verb == "pretrain" else {"epochs": 12.0}
            told += killed_and_unbroken(verb, named, kills, checkpoint_every=4, evaluate_every=25, **length)
    with capsys.disabled():
        counts = {when: told.count(when) for when in sorted(set(told))}
        print(f"\n{len(told)} kills ({counts}), 4 runs: all weights, optimizer states and losses identical")
    assert len(told) == 25


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_after_a_checkpoint_and_says_how_to_go_on(text_run, number, code):
    run = text_run(steps=100_000, checkpoint_every=50_000, evaluate_every=50_000)
    process = go_on("pretrain", run)
    wait_for_steps(run, process, 3)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    step = int(checkpoints(run.folder)[0].name[5:])
    assert 3 <= step < 50_000
    assert f"stopped after step {step}; go on with: glassgpt pretrain --resume {run.folder}" in said
    assert "Traceback" not in said
    again = go_on("pretrain", run)
    wait_for_steps(run, again, 2)
    again.send_signal(number)
    again.communicate(timeout=60)
    assert again.returncode == code and int(checkpoints(run.folder)[0].name[5:]) > step
    assert [m["step"] for m in run.metrics()] == list(range(1, len(run.metrics()) + 1))


@pytest.mark.parametrize("kind", ["pretrain", "finetune", "finetune all weights"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_stopped_by_a_signal_and_resumed_ends_with_the_same_bits(text_run, answer_run, kind, number):
    verb = kind.split()[0]
    make = text_run if verb == "pretrain" else answer_run
    settings = {} if verb == "pretrain" else {"rank": 0 if "all" in kind else 4}
    whole, broken = make("whole", **settings), make("broken", **settings)
    STAGES[verb](whole)

    def send(event: Event) -> None:
        if event.kind == "step" and event.progress.step == 5:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    stopped = STAGES[verb](broken, watch=send)
    assert (stopped.result.signal, stopped.result.progress.step) == (number, 5)
    assert signal.getsignal(number) is handler
    assert Run.open(broken.folder).about["status"] == "stopped"
    done = STAGES[verb](Run.open(broken.folder), resume=True)
    assert done.result.signal == 0 and Run.open(broken.folder).about["status"] == "finished"
    assert bits(broken) == bits(whole)


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_resuming_a_finished_run_changes_nothing(text_run, answer_run, verb):
    run = text_run() if verb == "pretrain" else answer_run()
    first = STAGES[verb](run)
    before, metrics = bits(run), (run.folder / "metrics.jsonl").read_bytes()
    seen: list[Event] = []
    again = STAGES[verb](Run.open(run.folder), resume=True, watch=seen.append)
    assert (bits(run), (run.folder / "metrics.jsonl").read_bytes(), seen) == (before, metrics, [])
    assert again.result == first.result


def test_a_recipe_changed_after_the_start_has_no_effect_on_a_resume(tmp_path, capsys):
    recipe, data = tmp_path / "small.toml", tmp_path / "text.txt"
    sizes = '[model]\nn_layer = 1\nn_head = 2\nn_embd = 16\n[data]\ntokenizer = "characters"\n[train]\ncontext = 16\n'
    recipe.write_text(sizes + "steps = 6\nbatch = 2\nsample_tokens = 0\n")
    data.write_text("to be or not to be, that is the question " * 40)
    run = tmp_path / "run"
    assert main(["pretrain", str(recipe), "--data", str(data), "--out", str(run), "--threads", "1"]) == 0
    before = bits(Run.open(run))
    recipe.write_text("this is no recipe")
    data.unlink()
    capsys.readouterr()
    assert main(["pretrain", str(recipe), "--resume", str(run), "--set", "train.steps=9", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[-1])["steps"] == 6
    assert "without effect: RECIPE, --set" in told.err
    assert bits(Run.open(run)) == before


@pytest.mark.parametrize("kind", ["pretrain", "lora", "all weights"])
@pytest.mark.slow
def test_verify_resume_proves_it_and_leaves_the_run_alone(text_run, answer_run, tmp_path, kind):
    run = text_run(steps=12) if kind == "pretrain" else answer_run(rank=4 if kind == "lora" else 0)
    before = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    verdict = verify_resume(run.folder, steps=14, kills=2)
    verdict.demand()
    assert verdict.identical and len(verdict.kills) == 2 and verdict.losses == verdict.steps == 14
    assert verdict.kills[0] < 14 and 1 <= verdict.checkpoint_every <= 5
    assert verdict.tensors > 20 and verdict.numbers > 1000
    after = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert after == before and {p.name for p in tmp_path.iterdir()} == {run.folder.name}


def test_a_difference_of_one_bit_is_found(text_run):
    """What the proof compares with: two runs, in one of which a bit of one number of the state is another."""
    one, other = text_run("one"), text_run("other")
    for run in (one, other):
        pretrain(run)
    same = verify._compare(one.folder, other.folder, "pretrain", 12, 2, (3,), 0.0)
    assert same.identical and same.losses == 12
    path = checkpoints(other.folder)[0] / "trainer.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    found = verify._compare(one.folder, other.folder, "pretrain", 12, 2, (3,), 0.0)
    assert len(found.differing) == 1 and found.differing[0].startswith("step-00000012/trainer.safetensors: ")
    with pytest.raises(ResumeError, match="1 of"):
        found.demand()


def test_bits_are_compared_and_not_values():
    zero, nan = torch.zeros(3), torch.full((3,), torch.nan)
    assert not verify._same_bits(zero, -zero) and verify._same_bits(nan, nan.clone())
    assert not verify._same_bits(zero, zero.double()) and not verify._same_bits(zero, torch.zeros(2))
    assert verify._same_bits(torch.tensor(3), torch.tensor(3))


def test_what_cannot_be_verified_is_refused(text_run, tmp_path):
    run = text_run()
    for wrong in ({"steps": 1}, {"kills": 0}, {"steps": 10**9}):
        with pytest.raises(ConfigError, match="expected a whole number"):
            verify_resume(run.folder, **wrong)
    with pytest.raises(NotFoundError, match="is not a run"):
        verify_resume(tmp_path)
    unready = Run.create(tmp_path / "unready", {"data": "x"})
    with pytest.raises(ConfigError, match="before its data was ready"):
        verify_resume(unready.folder)
    tokens = run.folder / "data" / "train" / "tokens-00000.npy"
    data = bytearray(tokens.read_bytes())
    data[-1] ^= 1
    tokens.write_bytes(data)
    with pytest.raises(FormatError, match="tokens-00000"):
        verify_resume(run.folder)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_a_copy_that_cannot_be_trained_says_why(text_run, tmp_path):
    run = text_run()
    path = run.folder / "data" / "tokenizer" / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(GlassError, match="could not be trained") as told:
        verify_resume(run.folder)
    assert "Traceback" not in str(told.value) and not list(tmp_path.glob(".*"))


def test_metrics_that_a_kill_cut_short_are_mended(text_run):
    run = text_run()
    pretrain(run)
    path: Path = run.folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 13, "lo')
    whole = run.metrics()
    pretrain(Run.open(run.folder), resume=True)
    assert Run.open(run.folder).metrics() == whole and path.read_bytes().endswith(b"}\n")
