"""A network of GPT-2's architecture beside TransformerLens, whose values `make_transformer_lens.py` recorded."""

from __future__ import annotations

import pytest
import torch
from make_transformer_lens import (
    CONTEXT,
    FILE,
    HEAD,
    HEAD_OFF,
    HEADS,
    IDS,
    INSIDE,
    LAYERS,
    MLP_OFF,
    VOCABULARY,
    WIDTH,
    weights,
)  # fmt: skip
from safetensors import safe_open

from glassgpt.engine.language_model import LanguageModel
from glassgpt.inside.ablate import Switches, ablate
from glassgpt.inside.lens import logit_lens
from glassgpt.inside.trace import run_with_trace, trace_names
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe

BOUND = 1e-4
SWITCHES = {"head_off": Switches(heads=(HEAD_OFF,)), "mlp_off": Switches(mlps=(MLP_OFF,))}


@pytest.fixture(scope="module")
def theirs() -> dict[str, torch.Tensor]:
    with safe_open(FILE, "pt") as file:
        assert file.metadata()["made by"].startswith("transformer-lens 4.")
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


@pytest.fixture(scope="module")
def ours() -> GPT:
    config = ModelConfig(vocab_size=VOCABULARY, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH, head_dim=HEAD,
                         mlp_dim=INSIDE, context_length=CONTEXT, positions="learned", norm="layernorm", norm_eps=1e-5,
                         mlp="gelu_tanh", qkv_bias=True, out_bias=True, mlp_bias=True)  # fmt: skip
    network = GPT(config)
    network.load_state_dict(weights())
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model(ours) -> LanguageModel:
    tokenizer = train_bpe(["The boat went out to sea, and the sea was calm. 小船出海，海很平静。"] * 3, VOCABULARY)
    assert tokenizer.vocab_size == VOCABULARY
    return LanguageModel("as in TransformerLens", ours, tokenizer, "float32")


def test_every_value_of_a_trace_is_transformer_lenss(ours, theirs):
    logits, trace = run_with_trace(ours, IDS)
    assert set(trace) == set(trace_names(ours.config)) == {n for n in theirs if "lens" not in n and "_off" not in n}
    for name, value in theirs.items():
        if name in trace:
            assert trace[name].shape == value.shape, name
            assert (trace[name] - value).abs().max() <= BOUND, name
            assert value.std() > 0.02, f"{name} must say something, or nothing is compared"
    assert torch.equal(logits, trace["logits"])


@pytest.mark.parametrize("what", SWITCHES)
def test_what_is_switched_off_changes_what_its_hooks_change(model, ours, theirs, what):
    logits, _ = run_with_trace(ours, IDS, [], probe=SWITCHES[what].probe(ours))
    assert (logits - theirs[what]).abs().max() <= BOUND
    assert (theirs[what] - theirs["logits"]).abs().max() > 0.1, "something changes"
    expected = theirs[what][0, -1].double().softmax(-1)
    found = ablate(model, IDS, SWITCHES[what], top=4)
    assert found.after.id == int(expected.argmax())
    for shift in found.shifts:
        assert shift.after == pytest.approx(float(expected[shift.id]), abs=BOUND)


def test_the_lens_reads_the_stream_as_its_last_norm_and_head_do(model, theirs):
    lens = logit_lens(model, IDS, top=4)
    assert len(lens.readings) == LAYERS + 1
    end = theirs["logits"][0].double().softmax(-1)
    for layer, readings in enumerate(lens.readings):
        expected = theirs[f"lens.{layer}"][0].double().softmax(-1)  # [T, V]
        for place, reading in enumerate(readings):
            row = expected[place]
            assert [a.id for a in reading.alternatives] == row.topk(4).indices.tolist()
            assert [a.probability for a in reading.alternatives] == pytest.approx(
                row.topk(4).values.tolist(), abs=BOUND
            )
            assert reading.entropy == pytest.approx(float(-(row * row.log2()).sum()), abs=1e-3)
            away = float((end[place] * (end[place].log2() - row.log2())).sum())
            assert reading.divergence == pytest.approx(away, abs=1e-3)
            assert reading.of_the_last == pytest.approx(float(row[int(end[place].argmax())]), abs=BOUND)
