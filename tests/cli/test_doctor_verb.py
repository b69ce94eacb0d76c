"""`glassgpt doctor` as a user meets it: on files, on runs, on broken ones."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from glassgpt.cli.main import main
from glassgpt.core.errors import InputError
from glassgpt.core.runs import HELD_OUT, TRAIN, Run
from glassgpt.data.examples import Example, make_example
from glassgpt.data.rows import Row
from glassgpt.data.shards import write_shards
from glassgpt.engine.load import load
from glassgpt.training.sft import FineTuneSettings, prepare_finetune


def talks(*answers: str) -> list[Row]:
    return [
        Row("f.jsonl", i + 1, ("user", "assistant"), [f"question number {i}: {answer * 2}?", answer])
        for i, answer in enumerate(answers)
    ]


ROWS = talks("hello", "how are you", "世界!", "there", "你好", "😀", "yes", "no, thank you", "maybe later", "of course")


def write(path: Path, rows: list[Row]) -> str:
    lines = [json.dumps({"messages": row.messages()}, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def data(tmp_path) -> str:
    return write(tmp_path / "f.jsonl", ROWS)


def test_a_healthy_file_is_told_in_numbers_with_a_page_and_a_line_for_every_row(data, tiny, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["doctor", data, "--model", tiny, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["hard_errors"], told["faults"], told["template"], told["context"]) == (0, {}, "chatml", 1024)
    assert told["sides"]["train"]["rows"] + told["sides"]["validation"]["rows"] == len(ROWS)
    with (out / "doctor.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    assert sorted(int(line["row"]) for line in lines) == list(range(1, len(ROWS) + 1))
    model = load(tiny)
    for line in lines:
        example = make_example(ROWS[int(line["row"]) - 1], model.tokenizer, model.template, 1024)
        assert isinstance(example, Example)
        assert (int(line["trained"]), int(line["trained"]) + int(line["context"])) == (
            example.trained,
            len(example.ids),
        )
    assert "<html" in (out / "doctor.html").read_text(encoding="utf-8")


def test_the_split_is_that_of_finetune(data, tiny, tmp_path, capsys):
    assert main(["doctor", data, "--model", tiny, "--out", str(tmp_path / "out")]) == 0
    from glassgpt.data.split import split

    _, held_out = split(ROWS, seed=FineTuneSettings().train.seed)
    with (tmp_path / "out" / "doctor.csv").open(encoding="utf-8-sig", newline="") as file:
        told = [int(line["row"]) for line in csv.DictReader(file) if line["side"] == "validation"]
    assert told == [row.number for row in held_out]


def test_leaks_refusals_and_unreadable_records_are_told_and_stop_nothing(data, tiny, tmp_path, capsys):
    path = Path(data)
    path.write_text(path.read_text(encoding="utf-8") + "{broken\n", encoding="utf-8")
    same = write(tmp_path / "v.jsonl", ROWS[:2])
    command = ["doctor", data, "--model", tiny, "--validation", same, "--out", str(tmp_path / "out")]
    assert main([*command, "--context", "60"]) == 0
    err = capsys.readouterr().err
    assert "held-out rows known from training, which measure memory: 2;" in err
    assert "records that cannot be read: 1;" in err
    assert "rows that make no example: " in err
    assert main([*command, "--context", "2"]) == 1
    assert "no row has anything to learn" in capsys.readouterr().err


def test_one_row_alone_is_examined_and_it_is_told_that_nothing_is_held_out(tiny, tmp_path, capsys):
    command = ["doctor", write(tmp_path / "f.jsonl", ROWS[:1]), "--model", tiny, "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert "nothing is held out" in capsys.readouterr().err


def test_a_context_above_the_models_is_told(data, tiny, tmp_path, capsys):
    assert main(["doctor", data, "--model", tiny, "--context", "9000", "--out", str(tmp_path / "out")]) == 0
    assert "the model's context is 4000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--examples", "-1"], "--examples is -1"),
        (["--examples", "100000"], "--examples is 100000"),
        (["--context", "0"], "context is 0"),
        (["--template", "chatm"], "chatm"),
        (["--validation", "nowhere.csv"], "nowhere.csv"),
        (["--columns", "prompt"], "--columns"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(more, word, data, tiny, tmp_path, capsys):
    assert main(["doctor", data, "--model", tiny, "--out", str(tmp_path / "out"), *more]) == 1
    err = capsys.readouterr().err
    assert word in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# Runs


def prepared(tmp_path: Path, tiny: str) -> Run:
    settings = FineTuneSettings(base=tiny)
    settings = replace(settings, train=replace(settings.train, precision="float32"))
    run = Run.create(tmp_path / "run", {})
    prepare_finetune(run, ROWS[:8], ROWS[8:], settings)
    return run


def test_a_run_is_examined_from_its_shards(tiny, tmp_path, capsys):
    run = prepared(tmp_path, tiny)
    assert run.about["doctor"]["hard_errors"] == 0
    assert main(["doctor", str(run.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sides"] == run.about["doctor"]["sides"]
    assert (run.folder / "doctor.html").exists()
    assert main(["doctor", str(run.folder), "--context", "9"]) == 1
    assert "--context goes with a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("language", "word", "begin"),
    [("en", "the end token of an answer is not learned", "error: "), ("zh", "回答的结束词元没有被学习", "错误：")],
)
def test_a_run_whose_shards_lost_their_end_tokens_is_an_error_after_the_table(
    language, word, begin, tiny, tmp_path, capsys
):
    run, model = prepared(tmp_path, tiny), load(tiny)
    examples = [make_example(row, model.tokenizer, model.template, 1024) for row in ROWS]
    end = model.tokenizer.token_id("<|im_end|>")
    broken = [
        replace(e, loss_mask=[m and i != end for i, m in zip(e.ids, e.loss_mask, strict=True)])
        for e in examples
        if isinstance(e, Example)
    ]
    for place in (TRAIN, HELD_OUT):
        (run.folder / place).rename(run.folder / f"{place}-old")
        write_shards(broken, run.folder / place, model.tokenizer)
    assert main(["doctor", str(run.folder), "--lang", language]) == 1
    out, err = capsys.readouterr()
    assert word in out and "f.jsonl:1" in out and "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith(begin) and word in last and "20" in last
    assert word in (run.folder / "doctor.html").read_text(encoding="utf-8")
    assert main(["doctor", str(run.folder), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["hard_errors"], told["faults"]["end-not-learned"]["count"], told["leaks"]) == (20, 20, 10)


def test_finetuning_refuses_what_the_doctor_refuses(tiny, tmp_path):
    rows = [*ROWS[:8], Row("f.jsonl", 77, ("user",), ["only a question"])]
    run = Run.create(tmp_path / "run", {})
    with pytest.raises(InputError, match=r"f\.jsonl, 77.*no token is learned"):
        prepare_finetune(run, rows, ROWS[8:], FineTuneSettings(base=tiny))
    assert not (run.folder / TRAIN).exists()


def test_the_halves_of_texts_that_pretraining_makes_are_healthy(tmp_path, capsys):
    from glassgpt.training.pretrain import prepare
    from glassgpt.training.settings import Recipe

    recipe = Recipe(model={"n_layer": 1, "n_head": 2, "n_embd": 16})
    recipe = replace(recipe, train=replace(recipe.train, context=8, precision="float32"))
    run = Run.create(tmp_path / "run", {})
    prepare(run, [Row("t.txt", 1, ("text",), ["All happy families are alike. 你好。" * 20])], recipe)
    assert main(["doctor", str(run.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["hard_errors"], told["leaks"], told["sides"]["train"]["rows"]) == (0, 0, 1)


# Real files, the packaged model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows", "refused"),
    [
        ("llms_from_scratch_instruction_1100.json", 1100, False),
        ("chatterbot_chinese.jsonl", 467, False),
        ("crosswoz_val_chat_zh.jsonl", 400, True),
    ],
)
def test_real_files_are_healthy_for_the_packaged_model(
    name, rows, refused, shared_data, smollm2_path, tmp_path, capsys
):
    assert main(["doctor", str(shared_data / "instruct" / name), "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    sides = told["sides"].values()
    assert (told["model"], told["template"], told["hard_errors"], told["leaks"]) == ("smollm2", "smollm2", 0, 0)
    assert sum(side["rows"] for side in sides) == rows
    assert any(side["refused"] for side in sides) == any(side["dropped"] for side in sides) == refused
