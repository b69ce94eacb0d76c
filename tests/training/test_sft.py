"""Fine-tuning: only answers are learned, only what should be is changed, and the losses are those of plain torch."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from glassgpt.core.errors import InputError
from glassgpt.core.runs import Run
from glassgpt.data.rows import Row
from glassgpt.data.shards import Shards, open_shards
from glassgpt.engine.load import load
from glassgpt.formats.huggingface import save_huggingface
from glassgpt.model.lora import LoRALinear, add_lora, load_adapter
from glassgpt.training import sft
from glassgpt.training.loop import Event
from glassgpt.training.settings import LoraSettings, TrainSettings
from glassgpt.training.sft import ANSWERS, SAMPLES, FineTuneSettings, finetune, prepare_finetune
from glassgpt.training.state import checkpoints, load_tensors


def events_of(run: Run, **options):
    seen: list[Event] = []
    done = finetune(run, watch=seen.append, **options)
    return done, [e.values["loss"] for e in seen if e.kind == "step"]


def losses_by_transformers(network, shards: Shards, folder) -> tuple[float, int]:
    """The summed loss of the learned tokens of some documents, each read alone, and how many they are."""
    save_huggingface(network, folder)
    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    total, count = 0.0, 0
    for document in range(shards.documents):
        ids = torch.from_numpy(shards.tokens(*shards.span(document)))
        learned = torch.from_numpy(shards.mask(*shards.span(document)))[1:]
        with torch.no_grad():
            scores = theirs(ids[None]).logits[0, :-1]
        total += F.cross_entropy(scores[learned], ids[1:][learned], reduction="sum").item()
        count += int(learned.sum())
    return total, count


@pytest.mark.parametrize(("rank", "share"), [(4, 0.95), (0, 0.7)])
def test_the_loss_falls(answer_run, rank, share):
    """By a correction less: the frozen embeddings of this model are chance."""
    _, losses = events_of(answer_run(rank=rank, epochs=6.0, lr=0.02 if rank else 0.005))
    assert losses[0] == pytest.approx(math.log(318), abs=0.2)  # its vocabulary: it begins by knowing nothing
    assert np.mean(losses[-5:]) < share * losses[0]


def test_exactly_the_answers_and_their_end_tokens_are_learned(answer_run, answer_rows, tiny_model):
    run, tokenizer = answer_run(), load(tiny_model).tokenizer
    for place, rows in (("train", answer_rows[:50]), ("validation", answer_rows[50:])):
        shards = open_shards(run.folder / "data" / place, tokenizer)
        assert shards.documents == len(rows)
        for document, row in enumerate(rows):
            ids, mask = shards.tokens(*shards.span(document)), shards.mask(*shards.span(document))
            assert tokenizer.decode(ids[mask].tolist(), show_control=True) == row.texts[1] + "<|im_end|>"
            assert shards.origin(shards.span(document)[0]).row == row.number


def test_the_first_loss_is_that_of_transformers(answer_rows, tiny_model, tmp_path):
    """All examples in one step, before anything was learned: packed and in two workers against one by one."""
    run = Run.create(tmp_path / "run", {})
    train = TrainSettings(**(ANSWERS | {"batch": 30, "precision": "float32", "sample_tokens": 0}))
    settings = FineTuneSettings(base=tiny_model, epochs=1.0, lora=LoraSettings(rank=4, dropout=0.1), train=train)
    prepare_finetune(run, answer_rows[:30], answer_rows[50:], settings)
    shards = open_shards(run.folder / "data" / "train")
    _, losses = events_of(run)
    total, count = losses_by_transformers(load(tiny_model).network, shards, tmp_path / "hf")
    assert len(losses) == 1 and count == shards.manifest.trained
    assert losses[0] == pytest.approx(total / count, abs=1e-4)


@pytest.mark.parametrize("rank", [4, 0])
def test_the_best_model_is_left_and_its_held_out_loss_is_that_of_transformers(forgetting_run, tmp_path, rank):
    run = forgetting_run(rank)
    done, _ = events_of(run)
    told = {m["step"]: m["val_loss"] for m in run.metrics() if "val_loss" in m}
    best = min(told, key=lambda step: told[step])
    assert done.result.progress.best_step == best < done.result.progress.step
    saved = load(run.folder)
    total, count = losses_by_transformers(saved.network, open_shards(run.folder / "data/validation"), tmp_path / "hf")
    assert total / count == pytest.approx(told[best], abs=1e-4)


def test_merged_is_the_adapter_and_the_frozen_weights_are_untouched(answer_run, tiny_model):
    run = answer_run(evaluate_every=100)
    done, _ = events_of(run)
    state = load_tensors(checkpoints(run.folder)[0] / "adapter.safetensors")
    network = add_lora(load(tiny_model).network, 4, 8.0)
    load_adapter(network, state, "x")
    network.eval()
    ids = torch.randint(0, network.config.vocab_size, (3, 50))
    with torch.no_grad():
        torch.testing.assert_close(done.model.network(ids), network(ids), atol=1e-5, rtol=0)
        saved = dict(load(run.folder).network.named_parameters())
        before = dict(load(tiny_model).network.named_parameters())
        corrected = {n: m for n, m in network.named_modules() if isinstance(m, LoRALinear)}
        assert len(corrected) == 14 and set(saved) == set(before)
        for name, value in before.items():
            layer = corrected.get(name.removesuffix(".weight"))
            expected = value if layer is None else value + (layer.scale * (layer.b @ layer.a)).to(value.dtype)
            assert torch.equal(saved[name], expected), name
    assert set(state) == {f"{name}.{part}" for name in corrected for part in "ab"}


def test_a_correction_learned_beside_bfloat16_weights_is_merged_whole(answer_run, tiny_model):
    """Into the weights of the base, of which none is rounded."""
    run = answer_run(precision="bfloat16", epochs=2.0)
    done, _ = events_of(run)
    state = load_tensors(checkpoints(run.folder)[0] / "adapter.safetensors")
    saved = dict(load(run.folder).network.named_parameters())
    for name, value in load(tiny_model).network.named_parameters():
        layer = name.removesuffix(".weight")
        if f"{layer}.a" in state:
            expected = value.double() + 8.0 / 4 * state[f"{layer}.b"].double() @ state[f"{layer}.a"].double()
            assert saved[name].dtype == torch.float32 and not torch.equal(saved[name], value)
            torch.testing.assert_close(saved[name].double(), expected, atol=1e-6, rtol=0)
        else:
            assert torch.equal(saved[name], value), name
    assert done.model.precision == "float32" and done.result.progress.best_step == done.result.progress.step


def test_the_network_that_was_trained_is_gone_before_the_base_is_read_again(answer_run, monkeypatch):
    """Of a large model two networks at a time would not fit into memory."""
    networks, alive = [], []

    def counting(*args, **options):
        alive.append(sum(network() is not None for network in networks))
        model = load(*args, **options)
        networks.append(weakref.ref(model.network))
        return model

    run = answer_run()
    monkeypatch.setattr(sft, "load", counting)
    done, _ = events_of(run)
    assert alive == [0, 0] and networks[1]() is done.model.network


@pytest.mark.parametrize("rank", [4, 0])
def test_where_the_best_checkpoint_is_damaged_the_last_weights_are_left_and_that_is_told(forgetting_run, rank):
    run = forgetting_run(rank)
    seen: list[Event] = []

    def watch(event: Event) -> None:
        seen.append(event)
        if event.kind == "checkpoint" and event.progress.step == event.steps:
            place = run.folder / f"checkpoints/step-{event.progress.best_step:08d}"
            weights = next(path for path in place.glob("*.safetensors") if path.stem != "trainer")
            data = bytearray(weights.read_bytes())
            data[-2] ^= 64
            weights.write_bytes(data)

    done = finetune(run, watch=watch)
    progress = done.result.progress
    assert 0 < progress.best_step < progress.step
    faults = [str(event.values["error"]) for event in seen if event.kind == "fault"]
    assert len(faults) == 1 and f"step-{progress.best_step:08d}" in faults[0]
    last = run.metrics()[-1]["val_loss"]
    model = load(run.folder)
    shards = open_shards(run.folder / "data/validation", model.tokenizer)
    measured = sft.measure_model(model, shards, [], TrainSettings(precision="float32"))[0]
    assert measured == pytest.approx(last, abs=1e-4) and last > progress.best_loss + 0.01


def test_all_weights_are_trained_where_that_is_asked_for(answer_run, tiny_model):
    run = answer_run(rank=0)
    finetune(run)
    before = dict(load(tiny_model).network.named_parameters())
    after = load(run.folder)
    assert after.template.name == "chatml"
    assert all(not torch.equal(before[name], p) for name, p in after.network.named_parameters())


def test_more_rows_a_step_than_fit_into_the_context_of_the_model(answer_run):
    """Packed rows are as long as the model can read, however many examples a step has."""
    run = answer_run(batch=25)
    assert open_shards(run.folder / "data/train").manifest.tokens > 5 * 128
    done, losses = events_of(run)
    assert len(losses) == 2 and done.result.progress.tokens == open_shards(run.folder / "data/train").manifest.tokens


def test_plain_texts_are_learned_whole(tiny_model, tmp_path):
    rows = [Row("t.txt", n, ("text",), [f"the sea was calm and so were all {n} boats"]) for n in range(12)]
    run = Run.create(tmp_path / "run", {})
    train = TrainSettings(**(ANSWERS | {"precision": "float32", "sample_tokens": 0}))
    prepare_finetune(run, rows[:9], rows[9:], FineTuneSettings(base=tiny_model, epochs=2.0, train=train))
    manifest = open_shards(run.folder / "data/train").manifest
    assert manifest.trained == manifest.tokens - manifest.documents  # the first of each follows from nothing
    assert events_of(run)[0].result.progress.tokens >= 2 * manifest.tokens


def test_a_row_too_long_is_told_and_the_rest_is_trained_on(tiny_model, answer_rows, tmp_path):
    long = Row("qa.csv", 77, ("user", "assistant"), ["tell me all", "it is the sea " * 200])
    run = Run.create(tmp_path / "run", {})
    settings = FineTuneSettings(base=tiny_model, train=TrainSettings(**(ANSWERS | {"precision": "float32"})))
    _, refused = prepare_finetune(run, [*answer_rows[:9], long], answer_rows[9:12], settings)
    assert [(r.number, "128" in r.reason.text("zh")) for r in refused] == [(77, True)]
    assert open_shards(run.folder / "data/train").documents == 9
    for side, purpose in (([long], "train on"), (answer_rows[:3], "hold out")):
        with pytest.raises(InputError, match=f"no example is left to {purpose}"):
            prepare_finetune(Run.create(tmp_path / purpose, {}), side, [long], settings)


def test_samples_are_the_same_questions_at_each_evaluation(answer_run):
    run = answer_run(sample_tokens=5)
    finetune(run)
    told = [m["samples"] for m in run.metrics() if "samples" in m]
    assert len(told) > 1 and {len(texts) for texts in told} == {SAMPLES}
    assert len({tuple(text.partition("→")[0] for text in texts) for texts in told}) == 1
