"""A look at a text, once and through a training: against the networks themselves, read anew from what the run kept."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch

from glassgpt.cli.main import main
from glassgpt.core.errors import ConfigError, InputError, NotFoundError
from glassgpt.core.html import data
from glassgpt.core.runs import CHECKPOINTS, SNAPSHOTS, Run
from glassgpt.data.rows import Row
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.load import load
from glassgpt.engine.receipt import files_hash
from glassgpt.formats.checkpoint import load_checkpoint
from glassgpt.inside.attribute import attribute
from glassgpt.inside.lens import logit_lens
from glassgpt.inside.look import MOST_SHARES, MOST_TOKENS, heads_held, look
from glassgpt.inside.look_page import POINTS, thinned
from glassgpt.inside.through_time import through_time
from glassgpt.inside.trace import run_with_trace
from glassgpt.inside.tuned import own_lens
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.model.lora import add_lora, load_adapter, merge_lora
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template
from glassgpt.training.pretrain import prepare, pretrain
from glassgpt.training.settings import DataSettings, LoraSettings, Recipe, TrainSettings
from glassgpt.training.sft import FineTuneSettings, finetune, prepare_finetune
from glassgpt.training.snapshots import series
from glassgpt.training.state import load_tensors

TEXT = "the boat went </script><b>out</b> to sea"
TINY = {"batch": 4, "precision": "float32", "sample_tokens": 0, "evaluate_every": 4, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def text_run(tmp_path_factory) -> Run:
    """A finished pre-training of 10 steps."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "sea", {"data": "sea.txt"})
    settings = TrainSettings(**TINY, steps=10, context=48, snapshots=5)
    rows = [Row("sea.txt", 1, ("text",), [f"{TEXT}. 小船出海。\n" * 60])]
    model = {"n_layer": 2, "n_head": 2, "n_embd": 32}
    prepare(run, rows, Recipe(model=model, data=DataSettings(tokenizer="characters"), train=settings))
    pretrain(run)
    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    tokenizer = train_bpe([f"user: {TEXT} 你好 assistant"] * 3, 320)
    torch.manual_seed(11)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, n_layer=2, n_head=4, n_kv_head=2, n_embd=32,
                         context_length=128, family="llama")  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    LanguageModel("tiny", GPT(config).eval(), tokenizer, "float32", get_template("chatml")).save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def answer_run(tmp_path_factory, base) -> Run:
    """A finished fine-tuning by a low-rank correction."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "answers", {"data": "qa.csv"})
    rows = [Row("qa.csv", n, ("user", "assistant"), [f"where {n}?", f"out to sea {n}"]) for n in range(24)]
    settings = FineTuneSettings(base=base, epochs=1.0, lora=LoraSettings(rank=4, alpha=8.0, dropout=0.1),
                                train=TrainSettings(**TINY, lr=0.02, snapshots=3))  # fmt: skip
    prepare_finetune(run, rows[:20], rows[20:], settings)
    finetune(run)
    return run


def page_data(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="seen">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1])


def place_of(run: Run, step: int) -> Path:
    places = [run.folder / part / f"step-{step:08d}" for part in (CHECKPOINTS, SNAPSHOTS)]
    return next(place for place in places if place.is_dir())


def test_the_page_of_a_training_holds_what_each_checkpoint_computes_itself(text_run, tmp_path, capsys):
    out = tmp_path / "a.html"
    words = ["look", str(text_run.folder), "--checkpoints", "--prompt", TEXT, "--out", str(out)]
    assert main([*words, "--layer", "1", "--head", "1"]) == 0
    assert "Written" in capsys.readouterr().out
    held = page_data(out)
    steps = [moment["step"] for moment in held["moments"]]
    assert steps[0] == 0 and steps[-1] == held["steps"] == 10 and len(steps) >= 5
    assert held["heads"][0] == [1, 1] and sorted(held["heads"]) == [[0, 0], [0, 1], [1, 0], [1, 1]]
    measured = {m["step"]: m for m in text_run.metrics() if "loss" in m}
    for moment in held["moments"]:
        found = load_checkpoint(place_of(text_run, moment["step"]), torch.float32)
        ids = found.tokenizer.encode(TEXT)
        logits, trace = run_with_trace(found.network, torch.tensor([ids]), ["pattern"])
        chances = logits[0].double().softmax(-1)
        own = chances[range(len(ids) - 1), ids[1:]]
        assert [s["p"] for s in moment["steps"]] == pytest.approx(own.tolist(), rel=1e-4)
        assert moment["loss"] == pytest.approx(float(-own.log().mean()), abs=1e-5)
        best = chances[-1].topk(5)
        assert [p for _, p in moment["next"]["others"]] == pytest.approx(best.values.tolist(), rel=1e-4)
        assert moment["next"]["bits"] == pytest.approx(float(-(chances[-1] * chances[-1].log2()).sum()), abs=2e-3)
        for (layer, head), shares in zip(held["heads"], moment["patterns"], strict=True):
            pattern = trace[f"blocks.{layer}.attn.pattern"][0, head]
            expected = pattern[tuple(torch.tril_indices(len(ids), len(ids)))]
            assert torch.tensor(shares) / 1000 == pytest.approx(expected.numpy(), abs=6e-4)
        assert moment["training"] == (measured[moment["step"]]["loss"] if moment["step"] else None)
    assert held["curves"]["training"] == [[s, pytest.approx(m["loss"], abs=1e-5)] for s, m in measured.items()]
    losses = [[m["step"], m["val_loss"]] for m in text_run.metrics() if "val_loss" in m]
    assert held["curves"]["held_out"] == losses and held["moments"][-1]["held_out"] == losses[-1][1]


def test_a_correction_through_time_is_the_base_with_each_adapter_merged(answer_run, base):
    prompt = [{"role": "user", "content": "where 3?"}]
    through = through_time(answer_run.folder, prompt, layer=0, head=2, top=4)
    assert len(through.moments) >= 3 and through.moments[0].step == 0
    for moment in through.moments:
        model = load(base, in_torch=True)
        network = add_lora(model.network, 4, 8.0)
        load_adapter(network, load_tensors(place_of(answer_run, moment.step) / "adapter.safetensors"), "")
        merge_lora(network)
        ids = model.template.encode(model.tokenizer, prompt, add_generation_prompt=True).ids
        logits, trace = run_with_trace(network.eval(), torch.tensor([ids]), ["blocks.0.attn.pattern"])
        expected = logits[0].double().softmax(-1)
        assert list(moment.seen.ids) == ids
        assert [a.probability for a in moment.seen.next.alternatives] == pytest.approx(
            expected[-1].topk(4).values.tolist(), rel=1e-3)  # fmt: skip
        assert torch.allclose(moment.seen.patterns[0].pattern, trace["blocks.0.attn.pattern"][0, 2], atol=1e-5)
    first, last = through.moments[0].seen, through.moments[-1].seen
    assert first.loss is not None and last.loss is not None and abs(first.loss - last.loss) > 1e-3


def test_unless_one_is_chosen_the_head_that_changed_the_most_is_shown(text_run):
    through = through_time(text_run.folder, TEXT)
    changes = {}
    ends = [load_checkpoint(place_of(text_run, step), torch.float32) for step in (0, 10)]
    ids = torch.tensor([ends[0].tokenizer.encode(TEXT)])
    traces = [run_with_trace(end.network, ids, ["pattern"])[1] for end in ends]
    for layer in range(2):
        before, after = (trace[f"blocks.{layer}.attn.pattern"][0] for trace in traces)
        changes |= {(layer, head): float((after - before)[head].abs().mean()) for head in range(2)}
    chosen = through.moments[0].seen.patterns[0]
    assert (chosen.layer, chosen.head) == max(changes, key=changes.__getitem__)


def test_what_a_text_holds_never_becomes_part_of_the_page(text_run, tmp_path):
    out = tmp_path / "a.html"
    assert main(["look", str(text_run.folder), TEXT, "--out", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert page.count("</script>") == 2 and "<b>" not in page
    assert "".join(page_data(out)["raw"]) == TEXT
    value = {"x": "</script><!-- <script>\u2028", "n": [1.5, None]}
    held = str(data("seen", value))
    assert held.count("<") == 2 and json.loads(held[held.index(">") + 1 : -len("</script>")]) == value


def test_the_numbers_of_one_look_are_those_of_the_network(base, capsys):
    assert main(["look", base, TEXT, "--precision", "float32", "--json", "--top", "3", "--layer", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    model = load(base, in_torch=True)
    ids = model.encode(TEXT)
    logits, trace = run_with_trace(model.network, torch.tensor([ids]), ["pattern"])
    chances = logits[0].double().softmax(-1)
    assert told["ids"] == ids and "".join(told["tokens"]) == TEXT
    assert [s["probability"] for s in told["steps"]] == pytest.approx(
        chances[range(len(ids) - 1), ids[1:]].tolist(), rel=1e-3)  # fmt: skip
    assert [a["id"] for a in told["next"]["alternatives"]] == chances[-1].topk(3).indices.tolist()
    (attention,) = told["attention"]
    patterns = trace["blocks.1.attn.pattern"][0]
    assert attention["layer"] == 1
    assert torch.allclose(torch.tensor(attention["pattern"]), patterns[attention["head"]], atol=1e-4)
    clear = patterns[:, -1, 1:-2].amax(-1)
    assert attention["head"] == int(clear.argmax())
    last = told["lens"]["readings"][-1][-1]["alternatives"][0]
    assert last["probability"] == pytest.approx(float(chances[-1].max()), rel=1e-3)
    assert told["attribution"]["target"] == attribute(model, TEXT).target and told["attribution"]["gap"] < 0.02
    assert sum(told["attribution"]["scores"]) == pytest.approx(
        told["attribution"]["logprob"] - told["attribution"]["baseline"], rel=0.02)  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_terminal_tells_each_token_and_three_others(base, language, capsys):
    assert main(["look", base, "the boat", "--lang", language, "--precision", "float32"]) == 0
    told = capsys.readouterr().out
    model = load(base, in_torch=True)
    ids = model.encode("the boat")
    chances = model.network(torch.tensor([ids]))[0].softmax(-1)
    assert len([line for line in told.splitlines() if re.match(r" *\d+ ", line)]) == len(ids) + 1
    loss = -sum(math.log(float(chances[n, i])) for n, i in enumerate(ids[1:])) / (len(ids) - 1)
    assert f"{loss:.3f}"[:4] in told and ("词元" in told) == (language == "zh")


def test_a_message_is_laid_out_by_the_template(base, capsys):
    assert main(["look", base, "hi", "--chat", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"][0] == "<|im_start|>"


def test_the_table_of_a_training_and_its_page_beside_the_run(text_run, capsys):
    assert main(["look", str(text_run.folder), "the boat", "--checkpoints", "--lang", "zh"]) == 0
    told = capsys.readouterr().out
    assert "这段文本的损失" in told and (text_run.folder / "look.html").is_file()
    assert main(["look", str(text_run.folder), "the boat", "--checkpoints", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert [m["step"] for m in numbers["moments"]][-1] == 10 and len(numbers["moments"][0]["attention"]) == 1


@pytest.fixture
def kept(base, tmp_path) -> str:
    """A copy of the model's folder, in which something may be written."""
    return str(shutil.copytree(base, tmp_path / "kept"))


def test_a_lens_that_is_trained_lies_beside_the_model_and_reads_its_layers(kept, tmp_path, capsys):
    """Of texts and of conversations; the model stays what receipts say it is."""
    rows = tmp_path / "rows.jsonl"
    lines = [{"text": f"{TEXT} {n}"} if n % 2 else {"prompt": f"where {n}?", "response": TEXT} for n in range(60)]
    rows.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    hash_before = files_hash(Path(kept))
    assert main(["look", kept, "--tune", str(rows), "--minutes", "0.02", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["bits_after"] < told["bits_before"] and Path(told["path"]).parent == Path(kept)
    assert files_hash(Path(kept)) == hash_before
    model = load(kept, in_torch=True)
    lens = own_lens(model)
    assert lens is not None and lens.losses == (told["bits_before"], told["bits_after"])
    seen = []
    for words in ([], ["--tuned"]):
        assert main(["look", kept, TEXT, "--json", *words]) == 0
        seen.append(json.loads(capsys.readouterr().out)["lens"])
    expected = logit_lens(model, TEXT, 3, tuned=lens)
    assert [one["tuned"] for one in seen] == [False, True]
    for layer, row in enumerate(expected.readings):
        assert seen[1]["readings"][layer][0]["entropy"] == pytest.approx(row[0].entropy, rel=1e-3)
    assert main(["look", kept, TEXT, "--out", str(tmp_path / "page.html"), "--tuned"]) == 0
    assert "tuned lens" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_lens_of_other_weights_is_refused_by_name(kept, base, tmp_path, capsys):
    assert main(["look", kept, "x", "--tuned", "--json"]) == 1
    assert "no tuned lens lies beside" in capsys.readouterr().err
    model = load(base, in_torch=True)
    text = tmp_path / "sea.txt"
    text.write_text(f"{TEXT}.\n\n" * 60, encoding="utf-8")
    assert main(["look", kept, "--tune", str(text), "--minutes", "0.001"]) == 0
    capsys.readouterr()
    with torch.no_grad():
        model.network.embed.weight.mul_(1.5)
    shutil.copy(Path(kept) / "tuned.lens", tmp_path)
    again = tmp_path / "again"
    model.save(again)
    shutil.copy(tmp_path / "tuned.lens", again)
    assert main(["look", str(again), "x", "--tuned", "--json"]) == 1
    told = capsys.readouterr().err
    assert "other weights" in told and "Train it again." in told


@pytest.mark.parametrize(("words", "said"), [
    (["x", "--minutes", "1"], "--minutes goes with --tune alone"),
    (["x", "--tune", "a.txt"], "looks at no text"),
    (["--checkpoints", "--tune", "a.txt"], "looks at no text"),
    (["--tune", "a.txt"], "a.txt"),
    (["x", "--checkpoints", "--tuned"], "--tuned does not go"),
    (["x", "--tuned"], "the table does not show"),
])  # fmt: skip
def test_what_does_not_go_with_a_lens_is_refused(base, capsys, words, said):
    assert main(["look", base, *words]) == 1
    told = capsys.readouterr().err
    assert said in told and told.count("\n") <= 2


def test_a_lens_is_trained_on_no_more_than_it_can_read_and_the_rest_is_told(kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("glassgpt.cli.look.MOST_CHARACTERS", 3_000)
    text = tmp_path / "sea.txt"
    text.write_text(f"{TEXT}.\n\n" * 100, encoding="utf-8")
    assert main(["look", kept, "--tune", str(text), "--minutes", "0.001"]) == 0
    left = 100 - 3_000 // len(f"{TEXT}.")
    assert f"{left} rows are left out" in capsys.readouterr().err


def test_a_curve_is_thinned_by_groups_whose_means_keep_the_whole():
    points = [(n, float(n % 7)) for n in range(1, 2401)]
    thin = thinned(points)
    assert len(thin) == POINTS and thin[-1][0] == 2400
    assert sum(loss for _, loss in thin) / POINTS == pytest.approx(sum(loss for _, loss in points) / 2400, abs=1e-4)
    assert thinned([(1, 2.0), (2, 3.0)]) == [[1, 2.0], [2, 3.0]] and thinned([]) == []


def test_a_page_holds_the_chosen_head_first_and_no_more_than_fit():
    assert heads_held(2, 2, (1, 0), 4) == [(1, 0), (1, 1), (0, 0), (0, 1)]
    many = heads_held(30, 9, (3, 4), 512, 12)
    assert many == [(3, 4)]
    some = heads_held(30, 9, (3, 4), 100, 2)
    assert some[0] == (3, 4) and {layer for layer, _ in some[:9]} == {3} and len(some) * 100 * 101 <= MOST_SHARES


def test_what_cannot_be_looked_at_is_refused_by_name(text_run, base, tmp_path, capsys):
    model = load(base, in_torch=True)
    with pytest.raises(ConfigError, match="no layer 2"):
        look(model, TEXT, layer=2)
    with pytest.raises(ConfigError, match="no head 4"):
        look(model, TEXT, head=4)
    wide = GPT(ModelConfig(vocab_size=300, n_layer=1, n_head=1, n_embd=8, context_length=1024)).eval()
    long = LanguageModel("wide", wide, model.tokenizer, "float32")
    with pytest.raises(InputError, match=f"600 tokens; up to {MOST_TOKENS}"):
        look(long, [5] * 600)
    empty = Run.create(tmp_path / "empty", {"recipe": {}, "threads": 1})
    with pytest.raises(NotFoundError, match="no checkpoint yet"):
        through_time(empty.folder, TEXT)
    for words, said in (
        (["x", "--checkpoints", "--precision", "int8"], "--precision does not go"),
        (["x", "--prompt", "y"], "two texts"),
        ([], "a text to look at"),
    ):
        assert main(["look", str(text_run.folder), *words]) == 1
        assert said in capsys.readouterr().err


def test_a_checkpoint_that_is_pruned_meanwhile_is_not_missed(text_run, monkeypatch):
    """While a run is trained, what was there when the look began may be gone when its turn comes."""
    gone, asked = text_run.folder / CHECKPOINTS / "step-00000009", []

    def listed(folder):
        asked.append(folder)
        return [*series(folder)[:-1], (9, gone)] if len(asked) == 1 else series(folder)

    monkeypatch.setattr("glassgpt.inside.through_time.series", listed)
    through = through_time(text_run.folder, "the boat")
    assert len(asked) == 2 and [m.step for m in through.moments] == [step for step, _ in series(text_run.folder)]


def test_a_damaged_snapshot_is_named_in_one_line(text_run, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(text_run.folder, broken)
    weights = broken / SNAPSHOTS / "step-00000000" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert main(["look", str(broken), "the boat", "--checkpoints"]) == 1
    told = capsys.readouterr().err
    assert "step-00000000" in told and told.count("\n") == 1


def test_a_text_of_one_token_has_no_loss_and_still_a_next(base):
    seen = look(load(base, in_torch=True), [7])
    assert seen.loss is None and seen.steps == () and len(seen.next.alternatives) == 5
    assert seen.attribution is not None and len(seen.patterns) == 1
