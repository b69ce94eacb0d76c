"""`glassgpt eval` as a user meets it; its numbers are those that transformers gives on the same files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from glassgpt.cli.main import main
from glassgpt.core.runs import Run
from glassgpt.data.rows import Row
from glassgpt.formats.huggingface import save_huggingface
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.training.pretrain import prepare, pretrain
from glassgpt.training.settings import DataSettings, LoraSettings, Recipe, TrainSettings
from glassgpt.training.sft import ANSWERS, FineTuneSettings, finetune, prepare_finetune

TEXT = "Where is my parcel? It is on its way.\n\n包裹在哪里？在路上。\n" * 9
PAIRS = [("Where is my parcel?", "It is on its way."), ("包裹在哪里？", "在路上，明天到。"), ("Hello", "Hi! 😀")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small Llama in Hugging Face's own format."""
    place = tmp_path_factory.mktemp("models") / "llama"
    torch.manual_seed(3)
    tokenizer = train_bpe([TEXT], 330)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, n_layer=2, n_head=4, n_kv_head=2, n_embd=32,
                         context_length=64, family="llama")  # fmt: skip
    network = GPT(config)
    with torch.no_grad():
        network.embed.weight.mul_(20)  # so that the losses are not all alike
    save_huggingface(network, place)
    tokenizer.save(place)
    return place


@pytest.fixture(scope="module")
def theirs(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, PreTrainedTokenizerFast.from_pretrained(str(folder))


def evaluate(capsys, *argv: object) -> dict:
    assert main(["eval", "--lang", "en", *map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@torch.no_grad()
def nats(model, ids: list[int], learned: list[bool]) -> float:
    """The summed loss of the learned tokens by transformers and torch."""
    scores = model(torch.tensor([ids])).logits[0, :-1]
    keep = torch.tensor(learned[1:])
    return float(F.cross_entropy(scores[keep], torch.tensor(ids)[1:][keep], reduction="sum"))


def close(value: float):
    return pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_a_text_in_any_encoding_has_the_loss_that_transformers_gives(folder, theirs, tmp_path, capsys, encoding):
    (tmp_path / "t.txt").write_bytes(TEXT.encode(encoding))
    told = evaluate(capsys, folder, "--data", tmp_path / "t.txt", "--window", 50)
    model, tokenizer = theirs
    text = TEXT.removesuffix("\n")
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = [ids[i : i + 50] for i in range(0, len(ids), 50)]
    total = sum(nats(model, piece, [True] * len(piece)) for piece in pieces if len(piece) > 1)
    count = sum(len(piece) - 1 for piece in pieces)
    assert told["loss"] == close(total / count)
    assert told["perplexity"] == close(math.exp(total / count))
    assert told["bits_per_byte"] == close(total / math.log(2) / len(text.encode()))
    assert (told["tokens"], told["rows"], told["window"], told["refused"]) == (count, 1, 50, 0)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "messages.jsonl", "named.csv"])
def test_of_questions_and_answers_the_answers_are_scored(folder, theirs, tmp_path, capsys, name):
    """The template, ChatML, is written out here by hand."""
    path, more = tmp_path / name, []
    if name.endswith("csv"):
        head = "prompt,response" if name == "rows.csv" else "a,b"
        path.write_text("\n".join([head, *(f'"{q}","{a}"' for q, a in PAIRS)]) + "\n", encoding="utf-8")
        more = ["--columns", "prompt=a，response=b"] if name == "named.csv" else []
    else:
        plain = [{"prompt": q, "response": a} for q, a in PAIRS]
        talks = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in PAIRS]
        path.write_text("\n".join(map(json.dumps, talks if name == "messages.jsonl" else plain)), encoding="utf-8")
    told = evaluate(capsys, folder, "--data", path, "--template", "chatml", *more)
    model, tokenizer = theirs
    total = count = size = 0
    for question, answer in PAIRS:
        before = tokenizer.encode(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
        learned = tokenizer.encode(answer + "<|im_end|>")
        total += nats(model, before + learned, [False] * len(before) + [True] * len(learned))
        count, size = count + len(learned), size + len(answer.encode())
    assert told["loss"] == close(total / count)
    assert told["bits_per_byte"] == close(total / math.log(2) / size)
    assert (told["tokens"], told["bytes"], told["rows"]) == (count, size, 3)


def test_rows_that_cannot_be_scored_are_counted_and_told(folder, tmp_path, capsys):
    rows = [
        {"prompt": "Hi", "response": "Hi."},
        {"prompt": "Hi", "response": "too long " * 90},
        {"prompt": "no answer"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n", encoding="utf-8")
    assert main(["eval", "--lang", "en", str(folder), "--data", str(path), "--template", "chatml"]) == 0
    out, err = capsys.readouterr()
    assert "of 1 rows; 1 rows left out" in out
    assert "rows.jsonl, row 2" in err and "do not fit into the context of 64" in err
    assert "could not be read: 2" in err


def test_texts_of_a_table_are_scored_row_by_row(folder, theirs, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("text\nWhere is my parcel?\n在路上，明天到。\nx\n", encoding="utf-8")
    told = evaluate(capsys, folder, "--data", tmp_path / "t.csv")
    model, tokenizer = theirs
    pieces = [tokenizer.encode(t, add_special_tokens=False) for t in ("Where is my parcel?", "在路上，明天到。")]
    total = sum(nats(model, piece, [True] * len(piece)) for piece in pieces)
    assert told["loss"] == close(total / sum(len(piece) - 1 for piece in pieces))
    assert (told["rows"], told["refused"]) == (2, 1), "of a text of one token nothing can be predicted"


def test_the_model_may_come_first_or_by_name_and_not_be_two(folder, tmp_path, capsys):
    (tmp_path / "t.txt").write_text(TEXT, encoding="utf-8")
    data = ["--data", tmp_path / "t.txt"]
    first, named = evaluate(capsys, folder, *data), evaluate(capsys, "--model", folder, *data)
    assert first == named
    assert main(["eval", str(folder), "--model", "smollm2", "--data", str(tmp_path / "t.txt")]) == 1
    assert "two models are named" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{folder}"], "something to measure on is needed"),
        (["{folder}", "--data", "none.txt"], "there is no file none.txt"),
        (["{folder}", "--data", "empty.txt"], "empty"),
        (["{folder}", "--data", "t.txt", "--window", "1"], "window is 1"),
        (["{folder}", "--data", "t.txt", "--encoding", "utf-99"], "utf-99"),
        (["{folder}", "--data", "x.txt"], "none of 1 rows can be scored"),
        (["{folder}", "--data", "q.csv"], "chat template"),
        (["nowhere", "--data", "t.txt"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line(folder, tmp_path, capsys, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    for name, text in {"t.txt": TEXT, "empty.txt": "", "x.txt": "x", "q.csv": "prompt,response\na,b\nc,d\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert main(["eval", "--lang", "en", *(word.format(folder=folder) for word in argv)]) == 1
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == ""


TINY = {"batch": 4, "precision": "float32", "sample_tokens": 0}


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_of_a_pre_training_the_held_out_part_has_the_loss_that_the_run_noted(tmp_path, capsys, kind):
    run = Run.create(tmp_path / "run", {"data": "t.txt"})
    settings = TrainSettings(**(TINY | {"steps": 4, "context": 32}))
    data = DataSettings(tokenizer=kind, vocab_size=280, validation=0.3)
    prepare(run, [Row("t.txt", 1, ("text",), [TEXT * 3])], Recipe(model={"n_layer": 1, "n_head": 2, "n_embd": 16},
                                                                  data=data, train=settings))  # fmt: skip
    noted = pretrain(run).result.progress.last_loss
    told = evaluate(capsys, tmp_path / "run")
    assert told["loss"] == pytest.approx(noted, rel=1e-5)
    held_out = len((TEXT * 3)[round(len(TEXT * 3) * 0.7) :].encode())
    assert (told["data"], told["bytes"], told["rows"], told["window"]) == ("held out", held_out, 1, 32)


def test_of_a_fine_tuning_the_held_out_answers_have_the_loss_that_the_run_noted(tiny, tmp_path, capsys):
    run = Run.create(tmp_path / "run", {"data": "qa.csv"})
    rows = [Row("qa.csv", n, ("user", "assistant"), [f"hello {n}", "there, you 你好" * (1 + n % 3)]) for n in range(12)]
    settings = FineTuneSettings(base=tiny, epochs=1.0, lora=LoraSettings(rank=2), train=TrainSettings(**ANSWERS | TINY))
    prepare_finetune(run, rows[:8], rows[8:], settings)
    done = finetune(run).result.progress
    assert done.last_loss == done.best_loss, "the model that is left is the last"
    told = evaluate(capsys, tmp_path / "run")
    assert told["loss"] == pytest.approx(done.last_loss, rel=1e-5)
    assert told["rows"] == 4
    assert told["bytes"] == sum(len(row.texts[1].encode()) for row in rows[8:])


def test_the_numbers_are_told_in_the_users_language(folder, tmp_path, capsys):
    (tmp_path / "t.txt").write_text(TEXT, encoding="utf-8")
    for language, word in (("en", "bits per byte"), ("zh", "每字节比特数")):
        assert main(["eval", "--lang", language, str(folder), "--data", str(tmp_path / "t.txt")]) == 0
        assert word in capsys.readouterr().out
