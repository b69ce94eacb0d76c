"""Steps, heads, lens, attribution, ablation and neurons: against brute force, and against what is known to be true."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from repeated_halves import HALF, copying, repeated

import glassgpt
from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.settings import SamplingSettings
from glassgpt.inside.ablate import Switches, ablate, answer_with, patch
from glassgpt.inside.attribute import attribute
from glassgpt.inside.carried import carried
from glassgpt.inside.heads import head_scores, pattern_scores, summarise
from glassgpt.inside.lens import logit_lens
from glassgpt.inside.neurons import top_tokens
from glassgpt.inside.opened import Opened
from glassgpt.inside.steps import Step, decide, read_steps
from glassgpt.inside.subject import network_of, token_text
from glassgpt.inside.trace import run_with_trace
from glassgpt.inside.tuned import TunedLens
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.text.template import get_template

TEXT = "The boat went out to sea, and the sea was calm. 小船出海，海很平静。"


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    """A model of three layers with large random weights, in torch."""
    tokenizer = train_bpe([TEXT] * 3, 320)
    torch.manual_seed(3)
    config = ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=3, n_head=4, n_embd=32, context_length=96)
    network = GPT(config).eval().requires_grad_(False)
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(torch.randn_like(p) * 0.25 + ("norm" in name))
    return LanguageModel("tiny", network, tokenizer, "float32", get_template("chatml"))


def probabilities(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return network_of(model)(torch.tensor([ids]))[0].double().softmax(-1)


def assert_alike(steps: list[Step], others: list[Step]) -> None:
    """The same but for the rounding of sums, whose order depends on where in memory they lie."""
    for one, other in zip(steps, others, strict=True):
        assert (one.position, one.id, one.text, one.rank) == (other.position, other.id, other.text, other.rank)
        assert (one.logprob, one.entropy) == pytest.approx((other.logprob, other.entropy), abs=1e-6)
        assert [a.id for a in one.alternatives] == [a.id for a in other.alternatives]
        pairs = zip(one.alternatives, other.alternatives, strict=True)
        assert all(a.probability == pytest.approx(b.probability, abs=1e-6) for a, b in pairs)


def test_steps_are_the_models_probabilities(tiny):
    ids, steps = tiny.encode(TEXT), read_steps(tiny, TEXT, top=3)
    expected = probabilities(tiny, ids)
    assert [step.position for step in steps] == list(range(1, len(ids))) and "".join(s.text for s in steps[:3]) in TEXT
    for step in steps:
        row = expected[step.position - 1]
        assert step.id == ids[step.position] and step.probability == pytest.approx(float(row[step.id]), abs=1e-5)
        assert step.logprob == pytest.approx(math.log(float(row[step.id])), abs=1e-4)
        assert step.rank == int((row > row[step.id]).sum()) + 1
        assert step.entropy == pytest.approx(float(-(row * row.log2()).sum()), abs=1e-3)
        assert [a.id for a in step.alternatives] == row.topk(3).indices.tolist()
        assert [a.probability for a in step.alternatives] == pytest.approx(row.topk(3).values.tolist(), abs=1e-5)
    assert_alike(read_steps(tiny, TEXT, top=3, start=len(ids) - 2), steps[-2:])


@pytest.mark.slow
def test_steps_of_the_engine_are_those_of_its_replies(smollm2_path):
    model = glassgpt.load("smollm2")
    prompt = model.encode("The capital of France is")
    written = model.generate(prompt, max_new_tokens=12, temperature=0)[0]
    steps = read_steps(model, [*prompt, *written.tokens], start=len(prompt))
    assert [s.id for s in steps] == list(written.tokens)
    assert [s.logprob for s in steps] == pytest.approx(written.logprobs, abs=1e-4)
    assert all(s.rank == 1 for s in steps)


def test_a_decision_is_what_sampling_would_draw(tiny):
    prompt = tiny.encode("The boat")
    settings = SamplingSettings(temperature=1.3, top_p=0.8, top_k=20, seed=5)
    written = tiny.generate(prompt, max_new_tokens=10, temperature=1.3, top_p=0.8, top_k=20, seed=5)[0].tokens
    for at, token in enumerate(written):
        found = decide(tiny, [*prompt, *written[:at]], settings, prompt_tokens=len(prompt))
        assert found.drawn.id == token
        assert found.kept <= 20 and sum(c.after for c in found.considered) <= 1 + 1e-9
    greedy = decide(tiny, prompt, SamplingSettings(temperature=0.0))
    likeliest = int(probabilities(tiny, prompt)[-1].argmax())
    assert greedy.drawn.id == likeliest and greedy.kept == 1 and greedy.entropy == 0
    warm, hot = (decide(tiny, prompt, SamplingSettings(temperature=t)) for t in (0.5, 2.0))
    assert warm.entropy < hot.entropy and warm.considered[0].after > warm.considered[0].before


def test_parts_of_a_character_are_shown_by_their_bytes(tiny):
    ids = [int(i) for i in range(tiny.tokenizer.vocab_size) if len(tiny.tokenizer.token_bytes(i)) == 1]
    shown = {token_text(tiny.tokenizer, i) for i in ids}
    assert "<E6>" in shown and "a" in shown


def test_pattern_scores_are_the_attention_on_those_places():
    random = torch.Generator().manual_seed(0)
    pattern = torch.rand((2, 3, 12, 12), generator=random).tril()
    for head, scores in enumerate(pattern_scores(pattern, 6)):
        rows = pattern[:, head].numpy()
        assert scores["previous"] == pytest.approx(np.mean([rows[:, i, i - 1] for i in range(1, 12)]))
        assert scores["first"] == pytest.approx(np.mean([rows[:, i, 0] for i in range(1, 12)]))
        assert scores["same"] == pytest.approx(np.mean([rows[:, i, i] for i in range(1, 12)]))
        assert scores["duplicate"] == pytest.approx(np.mean([rows[:, i, i - 6] for i in range(6, 12)]))
        assert scores["induction"] == pytest.approx(np.mean([rows[:, i, i - 5] for i in range(6, 12)]))


@pytest.mark.slow
def test_an_induction_head_is_named_and_without_it_nothing_is_copied(copier):
    """A network that was trained to copy does so by heads that look behind the same token earlier, fed by one that
    looks at the token before (Olsson et al. 2022); without the others it copies as before."""
    scores = head_scores(copier, half=HALF)
    found = [(s.layer, s.head) for s in scores if "induction" in s.names]
    feeds = max((s for s in scores if s.layer == 0), key=lambda s: s.previous)
    assert found and all(layer == 1 for layer, _ in found) and "previous" in feeds.names
    assert copying(copier) > 0.85
    assert copying(copier, Switches(heads=tuple(found)).probe(copier)) < 0.15
    assert copying(copier, Switches(heads=((0, feeds.head),)).probe(copier)) < 0.5
    for head in {0, 1, 2, 3} - {feeds.head}:
        assert copying(copier, Switches(heads=((0, head),)).probe(copier)) > 0.8


@pytest.mark.slow
def test_what_is_copied_was_carried_by_what_it_was_copied_from(copier):
    model = LanguageModel("copier", copier, train_bpe([TEXT] * 3, 300), "float32")
    right = places = 0
    for row in repeated(torch.Generator().manual_seed(7), 8).tolist():
        for place in range(HALF + 4, 2 * HALF, 5):
            found = carried(model, row[:place], row[place])
            right += max(range(place), key=lambda p: found.scores[p]) == place - HALF
            places += 1
    assert right / places > 0.9, f"{right} of {places}"


def test_nothing_switched_off_changes_nothing(tiny):
    assert Switches().probe(network_of(tiny)) is None
    found = ablate(tiny, TEXT, Switches())
    assert found.divergence == 0 and all(shift.before == shift.after for shift in found.shifts)
    plain = tiny.generate("The boat", max_new_tokens=8, temperature=0.9, seed=4)[0].text
    same = "".join(piece.text for piece in answer_with(tiny, "The boat", Switches(), 8, temperature=0.9, seed=4))
    assert same == plain


def test_a_head_that_is_off_is_a_head_whose_output_weights_are_zero(tiny):
    network, ids = network_of(tiny), tiny.encode(TEXT)
    changed = GPT(network.config).eval()
    changed.load_state_dict(network.state_dict())
    with torch.no_grad():
        width = network.config.head_dim
        changed.blocks[1].attention.out_proj.weight[:, 2 * width : 3 * width] = 0
        changed.blocks[0].mlp.down.weight.zero_()
        changed.blocks[2].attention.out_proj.weight.zero_()
        expected = changed(torch.tensor([ids]))[0, -1].double().softmax(-1)
    found = ablate(tiny, TEXT, Switches(heads=((1, 2),), mlps=(0,), attention=(2,)), top=4)
    for shift in found.shifts:
        assert shift.after == pytest.approx(float(expected[shift.id]), abs=1e-6)
    assert found.after.id == int(expected.argmax()) and found.divergence > 0.01
    own = LanguageModel("changed", changed, tiny.tokenizer, "float32")
    written = "".join(p.text for p in answer_with(tiny, "The", Switches(heads=((1, 2),), mlps=(0,), attention=(2,)),
                                                  8, temperature=0.9, seed=4))  # fmt: skip
    assert written == own.generate("The", max_new_tokens=8, temperature=0.9, seed=4)[0].text


@pytest.mark.parametrize("switches", [Switches(heads=((3, 0),)), Switches(heads=((0, 4),)), Switches(mlps=(-1,))])
def test_parts_that_are_not_there_are_refused(tiny, switches):
    with pytest.raises(ConfigError, match="there is no"):
        ablate(tiny, TEXT, switches)


def test_patching_everything_brings_the_answer_back_and_nothing_brings_nothing(tiny):
    clean, corrupted = tiny.encode("The boat went out"), tiny.encode("The boat went out")
    corrupted[1] = tiny.encode(" sea")[0]
    answer = int(probabilities(tiny, clean)[-1].argmax())
    other = int((probabilities(tiny, corrupted) - probabilities(tiny, clean))[-1].argmax())
    found = patch(tiny, clean, corrupted, answer, other)
    network = network_of(tiny)
    assert found.names == tuple(f"blocks.{i}.resid_pre" for i in range(3))
    assert found.restored[0][0] == pytest.approx(0, abs=1e-4), "before the changed place nothing differs"
    assert found.restored[0][1] == pytest.approx(1, abs=1e-4), "at the bottom the changed place is all"
    last = len(clean) - 1

    def by_hand(layer: int, place: int) -> float:
        _, trace = run_with_trace(network, clean)

        def swap(name, value):
            if name == f"blocks.{layer}.resid_pre":
                value = value.clone()
                value[:, place] = trace[name][:, place]
            return value

        scores, _ = run_with_trace(network, corrupted, [], probe=swap)
        return (float(scores[0, -1, answer] - scores[0, -1, other]) - found.corrupted) / (found.clean - found.corrupted)

    assert found.restored[2][last] == pytest.approx(by_hand(2, last), abs=1e-4)
    assert found.restored[1][1] == pytest.approx(by_hand(1, 1), abs=1e-4)
    with pytest.raises(InputError, match="tokens"):
        patch(tiny, clean, corrupted[:-1], answer, other)
    with pytest.raises(InputError, match="alike"):
        patch(tiny, clean, clean, answer, other)
    for name in ("z", "logits"):
        with pytest.raises(ConfigError, match="cannot be carried over"):
            patch(tiny, clean, corrupted, answer, other, [name])
    for wrong in (-1, tiny.config.vocab_size):
        with pytest.raises(ConfigError, match="answer"):
            patch(tiny, clean, corrupted, wrong, other)


def test_the_lens_of_the_last_layer_is_the_network(tiny):
    lens, expected = logit_lens(tiny, TEXT, top=4), probabilities(tiny, tiny.encode(TEXT))
    assert len(lens.readings) == 4 and lens.start == 0 and not lens.tuned
    for place, reading in enumerate(lens.readings[-1]):
        assert [a.id for a in reading.alternatives] == expected[place].topk(4).indices.tolist()
        assert reading.divergence == pytest.approx(0, abs=1e-6)
        assert reading.of_the_last == pytest.approx(float(expected[place].max()), abs=1e-5)
    _, trace = run_with_trace(network_of(tiny), tiny.encode(TEXT))
    network = network_of(tiny)
    with torch.no_grad():
        middle = network.logits(network.norm(trace["blocks.0.resid_post"]))[0].double().softmax(-1)
    divergence = (expected * (expected.log2() - middle.log2())).sum(-1)
    for place, reading in enumerate(lens.readings[1]):
        assert reading.alternatives[0].id == int(middle[place].argmax())
        assert reading.divergence == pytest.approx(float(divergence[place]), rel=1e-3)
        assert reading.entropy == pytest.approx(float(-(middle[place] * middle[place].log2()).sum()), rel=1e-3)
    part = logit_lens(tiny, TEXT, top=4, start=3, stop=5)
    assert part.tokens == lens.tokens[3:5]
    for own, whole in zip(part.readings[1], lens.readings[1][3:5], strict=True):
        assert own.divergence == pytest.approx(whole.divergence, rel=1e-4)
    with pytest.raises(InputError):
        logit_lens(tiny, TEXT, start=500)


def test_a_tuned_lens_is_nearer_to_the_network_and_is_kept(tiny, tmp_path):
    words = TEXT.split()
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(words, 60)) for _ in range(30)]
    tuned = TunedLens.train(tiny, texts, minutes=0.05)
    plain, better = tuned.losses
    assert better < 0.9 * plain
    tuned.save(tmp_path / "lens.safetensors")
    again = TunedLens.load(tmp_path / "lens.safetensors")
    assert again.losses == tuned.losses
    lens = logit_lens(tiny, TEXT, tuned=again)
    assert lens.tuned and lens.readings[-1] == logit_lens(tiny, TEXT).readings[-1]
    assert lens.readings[1] == logit_lens(tiny, TEXT, tuned=tuned).readings[1] != logit_lens(tiny, TEXT).readings[1]
    other = ModelConfig.modern(vocab_size=tiny.tokenizer.vocab_size, n_layer=2, n_head=4, n_embd=32, context_length=96)
    with pytest.raises(ConfigError, match="another"):
        logit_lens(LanguageModel("o", GPT(other).eval(), tiny.tokenizer, "float32"), TEXT, tuned=again)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(FormatError, match="no tuned lens"):
        TunedLens.load(tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="512"):
        TunedLens.train(tiny, ["short"])


def test_attributions_add_up_to_the_difference(tiny):
    found = attribute(tiny, TEXT)
    assert found.gap < 0.02
    assert sum(found.scores) == pytest.approx(found.logprob - found.baseline, rel=0.02)
    expected = probabilities(tiny, tiny.encode(TEXT))[-1]
    assert found.target == int(expected.argmax()) and found.logprob == pytest.approx(math.log(expected.max()), abs=1e-4)
    assert found.scores[0] == 0 and len(found.scores) == len(found.tokens)


def test_a_linear_network_is_attributed_exactly(tiny):
    """Without blocks and with a norm that does nothing the score is linear, so that the parts are known."""
    config = ModelConfig(vocab_size=tiny.tokenizer.vocab_size, n_layer=1, n_head=1, n_embd=8, context_length=96,
                         positions="none", norm="layernorm", mlp="gelu", tie_embeddings=False)  # fmt: skip
    torch.manual_seed(1)
    network = GPT(config).eval().requires_grad_(False)
    with torch.no_grad():
        network.blocks[0].mlp.down.weight.zero_()
        network.blocks[0].attention.q_proj.weight.zero_()  # every place is read alike
        network.norm = torch.nn.Identity()
        network.blocks[0].attention_norm = torch.nn.Identity()
    model = LanguageModel("linear", network, tiny.tokenizer, "float32")
    ids = tiny.encode("The boat went out")
    target = 7
    found = attribute(model, ids, target)
    with torch.no_grad():
        block, vectors = network.blocks[0], network.embed(torch.tensor(ids))
        moved = vectors - network.embed.weight.mean(0)
        moved[0] = 0
        # Scores are small, so that the log of their sum is nearly linear.
        direction = network.head.weight[target] - network.head.weight.mean(0)
        through = block.attention.out_proj(block.attention.v_proj(moved)) / len(ids)
        parts = through @ direction
        parts[-1] += moved[-1] @ direction
    assert np.abs(np.array(found.scores) - parts.numpy()).max() < 0.02 * float(parts.abs().max())


def test_a_neurons_tokens_are_those_at_which_it_is_most_active(tiny):
    texts = [TEXT, "The sea was calm. " * 12, ""]
    found = top_tokens(tiny, 1, 9, texts, top=4)
    everything = []
    for number, text in enumerate(texts):
        ids = tiny.encode(text) if text else []
        for at in range(0, len(ids), 96):
            _, trace = run_with_trace(network_of(tiny), ids[at : at + 96], ["blocks.1.mlp.hidden"])
            everything += [(float(v), number, at + i) for i, v in enumerate(trace["blocks.1.mlp.hidden"][0, :, 9])]
    best = sorted(everything, key=lambda item: -item[0])[:4]
    assert [a.value for a in found.top] == pytest.approx([value for value, _, _ in best], abs=1e-5)
    assert {(a.text, a.position) for a in found.top} <= {(n, p) for v, n, p in everything if v >= best[-1][0] - 1e-5}
    assert found.tokens == len(everything) and found.mean == pytest.approx(np.mean([v for v, _, _ in everything]), 1e-3)
    for activation in found.top:
        ids = tiny.encode(texts[activation.text])
        assert activation.token == token_text(tiny.tokenizer, ids[activation.position])
    with pytest.raises(ConfigError, match="neuron"):
        top_tokens(tiny, 1, 10_000, texts)


def test_a_summary_is_of_the_pattern(tiny):
    _, trace = run_with_trace(tiny, TEXT, ["pattern"])
    pattern = trace["blocks.1.attn.pattern"][0, 2]
    found, rows = summarise(pattern), pattern.numpy()
    assert found.previous == pytest.approx(np.mean([rows[i, i - 1] for i in range(1, len(rows))]), abs=1e-5)
    bits = [-(r[r > 0] * np.log2(r[r > 0])).sum() for r in rows[1:]]
    assert found.entropy == pytest.approx(np.mean(bits), abs=1e-3)


def test_a_text_that_is_open_shows_what_a_trace_holds(tiny):
    opened = Opened(tiny, tiny.encode(TEXT))
    _, trace = run_with_trace(tiny, TEXT)
    assert opened.tokens == trace.tokens
    for layer, head in ((0, 0), (1, 3), (2, 1)):
        assert (opened.pattern(layer, head) - trace[f"blocks.{layer}.attn.pattern"][0, head]).abs().max() < 1e-6
    assert_alike(opened.steps(3, 2), read_steps(tiny, TEXT, 2, 3))
    own, whole = opened.lens(2, 5, 3), logit_lens(tiny, TEXT, 3)
    for layer in range(4):
        for a, b in zip(own.readings[layer], whole.readings[layer][2:5], strict=True):
            assert a.divergence == pytest.approx(b.divergence, rel=1e-4, abs=1e-6)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for layer in range(3):
        for head in range(4):
            row = trace[f"blocks.{layer}.attn.pattern"][0, head, 8]
            best[layer, head] = max((float(row[place]), place) for place in range(1, 8))
    found = opened.readers(9, 12)
    assert {(r.layer, r.head): (pytest.approx(r.weight, abs=1e-5), r.place) for r in found} == best
    assert [r.weight for r in found] == sorted((r.weight for r in found), reverse=True)
    assert opened.readers(1) == []
    with pytest.raises(ConfigError, match="head"):
        opened.pattern(0, 4)
