"""Precisions beside one another: the figures are torch's, float32 is itself, and fewer bits are further away."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import glassgpt
from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.load import network_tensors
from glassgpt.engine.network import Network
from glassgpt.engine.packing import pack, wide
from glassgpt.engine.quantize import quantize
from glassgpt.evaluation.precisions import Comparison, compare_precisions, surprise
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe
from glassgpt.text.tokenizer import Tokenizer

TEXT = "Where is my parcel? It is on its way, and will be here tomorrow.\n包裹在哪里？在路上，明天到。😀\n" * 16
SMALL = dict(n_layer=2, n_head=4, n_kv_head=2, n_embd=64, mlp_dim=96, context_length=300)
FAMILIES = ["llama", "gpt2", "ours with n-grams"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe([TEXT], 300)


@pytest.fixture(params=[False, True], ids=["plain", "with bos"])
def either(request, tokenizer):
    """The tokenizer of a model that puts nothing before a text, and of one that puts a token there."""
    tokenizer.add_bos = request.param
    yield tokenizer
    tokenizer.add_bos = False


def network_of(name: str, tokenizer: Tokenizer, seed: int = 0) -> GPT:
    sizes = SMALL | {"vocab_size": tokenizer.vocab_size}
    config = {
        "llama": lambda: ModelConfig(**sizes),
        "gpt2": lambda: ModelConfig.gpt2(**sizes | {"n_kv_head": 4}),
        "ours with n-grams": lambda: ModelConfig.modern(ngrams=3, ngram_buckets=50, **sizes),
    }[name]()
    torch.manual_seed(seed)
    network = GPT(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.12 + (1 if parameter.dim() == 1 else 0))
    return network.eval().requires_grad_(False)


def packed(network: GPT, precision: str) -> Network:
    return Network(network.config, pack(network.config, network_tensors(network), precision, "it"), precision)


def rounded(network: GPT, bits: int) -> GPT:
    """The network in torch with the weights that fewer bits stand for."""
    other = GPT(network.config)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        for key, weight in other.named_parameters():
            if weight.dim() == 2 and not key.startswith(("positions", "ngrams")):
                values = weight.numpy()
                less = wide(values, 16) if bits == 16 else quantize(values, 8 if key == "embed.weight" else bits)
                weight.copy_(torch.from_numpy(less.dequantize()[:, : weight.shape[1]]))
    return other.eval().requires_grad_(False)


def expected(first: GPT, other: GPT, tokenizer: Tokenizer, window: int, tokens: int = 0) -> dict[str, float]:
    """The same figures from torch's networks, in float64, position by position."""
    bos = [tokenizer.bos_id] if tokenizer.add_bos else []
    ids, step = tokenizer.encode(TEXT, add_bos=False), window - len(bos)
    nats, divergences, agreed = [], [], []
    for start in range(0, len(ids), step):
        piece = torch.tensor([bos + ids[start : start + step]])
        ours, theirs = (torch.log_softmax(network(piece)[0, :-1].double(), -1) for network in (first, other))
        nats += F.nll_loss(theirs, piece[0, 1:], reduction="none").tolist()
        divergences += F.kl_div(theirs, ours, reduction="none", log_target=True).sum(-1).tolist()
        agreed += (ours.argmax(-1) == theirs.argmax(-1)).tolist()
    count = tokens or len(nats)
    loss = float(np.mean(nats[:count]))
    return {
        "tokens": len(nats[:count]),
        "loss": loss,
        "perplexity": math.exp(loss),
        "divergence": float(np.mean(divergences[:count])),
        "agreement": float(np.mean(agreed[:count])),
    }


def measure(networks: list[Network], tokenizer: Tokenizer, **more) -> Comparison:
    return compare_precisions(networks, tokenizer, TEXT, **{"threads": 2} | more)


def test_surprise_and_divergence_by_hand():
    """Chances of 1/4 and 3/4 beside 1/2 and 1/2: KL = 1/4 log(1/2) + 3/4 log(3/2). A constant added to all scores
    changes nothing."""
    reference = np.log(np.array([[1, 3], [1, 3]], np.float32))
    scores = np.array([[7, 7], [0, np.log(3)]], np.float32)
    nats, divergences = surprise(reference, scores, np.array([0, 1]))
    np.testing.assert_allclose(nats, [math.log(2), math.log(4 / 3)], rtol=1e-6)
    np.testing.assert_allclose(divergences, [math.log(0.5) / 4 + math.log(1.5) * 3 / 4, 0], atol=1e-7)


def test_a_divergence_far_below_what_float32_resolves_is_still_right():
    """For scores that differ by little the divergence is half the variance of the difference."""
    random = np.random.default_rng(0)
    reference = (random.normal(size=(8, 5000)) * 3 + 30).astype(np.float32)
    scores = reference + (random.normal(size=reference.shape) * 1e-3).astype(np.float32)
    exact = torch.log_softmax(torch.from_numpy(reference).double(), -1)
    other = torch.log_softmax(torch.from_numpy(scores).double(), -1)
    wanted = F.kl_div(other, exact, reduction="none", log_target=True).sum(-1)
    assert wanted.max() < 1e-6
    np.testing.assert_allclose(surprise(reference, scores, np.zeros(8, int))[1], wanted, rtol=0.1)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_figures_are_those_of_torch(name: str, either: Tokenizer):
    """Windows of more positions than a step has, and a last one that is shorter."""
    network = network_of(name, either)
    other = rounded(network, 4)
    result = measure([packed(network, "float32"), packed(other, "float32")], either, window=200)
    for one, beside in zip(result.found, (network, other), strict=True):
        wanted = expected(network, beside, either, 200)
        assert result.tokens == wanted["tokens"]
        assert one.loss == pytest.approx(wanted["loss"], rel=1e-5)
        assert one.perplexity == pytest.approx(wanted["perplexity"], rel=1e-4)
        assert one.divergence == pytest.approx(wanted["divergence"], rel=1e-3, abs=1e-6)
        assert one.agreement == pytest.approx(wanted["agreement"], abs=2 / result.tokens)
    first, second = result.found
    assert second.change == pytest.approx(100 * (second.perplexity / first.perplexity - 1))
    assert second.divergence > 1e-3 and second.agreement < 1


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_the_precisions_themselves_are_near_torch_with_their_rounded_weights(bits: int, tokenizer: Tokenizer):
    """What is left is the rounding of keys, values and, in 8 and 4 bits, of activations."""
    network, precision = network_of("llama", tokenizer), {16: "bfloat16", 8: "int8", 4: "int4"}[bits]
    found = measure([packed(network, "float32"), packed(network, precision)], tokenizer, window=64).found[1]
    wanted = expected(network, rounded(network, bits), tokenizer, 64)
    assert found.loss == pytest.approx(wanted["loss"], rel=0.02)
    assert wanted["divergence"] * 0.5 < found.divergence < wanted["divergence"] * (2 if bits == 4 else 20)
    assert found.agreement == pytest.approx(wanted["agreement"], abs=0.1)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("window", [50, 300, 1000])
def test_in_float32_the_perplexity_is_the_one_that_torch_gives(name: str, window: int, either: Tokenizer):
    network = network_of(name, either)
    plain = glassgpt.perplexity(LanguageModel("it", network, either, "float32"), TEXT, window=window)
    result = measure([packed(network, "float32")], either, window=window)
    assert result.found[0].perplexity == pytest.approx(plain.perplexity, rel=1e-4)
    assert (result.tokens, result.window) == (plain.tokens, plain.window)


@pytest.mark.parametrize("name", FAMILIES)
def test_float32_beside_itself_differs_in_nothing(name: str, tokenizer: Tokenizer):
    network = network_of(name, tokenizer)
    for one in measure([packed(network, "float32"), packed(network, "float32")], tokenizer, window=100).found:
        assert abs(one.divergence) < 1e-6
        assert (one.agreement, one.change) == (1, 0)


@pytest.mark.parametrize("name", FAMILIES)
def test_fewer_bits_are_smaller_and_further_away(name: str, tokenizer: Tokenizer):
    network, precisions = network_of(name, tokenizer), ["float32", "bfloat16", "int8", "int4"]
    found = measure([packed(network, one) for one in precisions], tokenizer, window=100).found
    assert [one.precision for one in found] == precisions
    divergences, sizes, agreements = zip(*((one.divergence, one.nbytes, one.agreement) for one in found), strict=True)
    assert list(divergences) == sorted(divergences) and divergences[1] > 0
    assert list(sizes) == sorted(sizes, reverse=True)
    assert agreements[1] >= agreements[3] and agreements[3] < 1


def test_the_numbers_are_the_same_on_any_number_of_threads(tokenizer: Tokenizer):
    network = network_of("llama", tokenizer)
    networks = [packed(network, "float32"), packed(network, "int4")]
    assert measure(networks, tokenizer, threads=1) == measure(networks, tokenizer, threads=3)


@pytest.mark.parametrize("tokens", [1, 37, 64, 65, 200, 10**6])
def test_only_so_many_tokens_are_predicted(tokens: int, either: Tokenizer):
    network = network_of("llama", either)
    result = measure([packed(network, "float32")], either, window=64, tokens=tokens)
    wanted = expected(network, network, either, 64, tokens)
    assert result.tokens == wanted["tokens"]
    assert result.found[0].loss == pytest.approx(wanted["loss"], rel=1e-5)


def test_progress_is_told_up_to_the_end(tokenizer: Tokenizer):
    told: list[tuple[int, int]] = []
    network = packed(network_of("llama", tokenizer), "float32")
    result = measure([network], tokenizer, window=250, progress=lambda *now: told.append(now))
    assert told[-1] == (result.tokens, result.tokens)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_a_text_of_one_token_can_be_predicted_only_after_a_bos_token(either: Tokenizer):
    network = packed(network_of("llama", either), "float32")
    if either.add_bos:
        assert compare_precisions([network], either, "a").tokens == 1
    else:
        with pytest.raises(InputError, match="the text has 1 tokens; at least 2"):
            compare_precisions([network], either, "a")


@pytest.mark.parametrize(
    ("text", "settings", "error", "words"),
    [
        ("", {}, InputError, "the text has 0 tokens"),
        (TEXT, {"window": 1}, ConfigError, "window is 1"),
        (TEXT, {"tokens": -1}, ConfigError, "tokens is -1"),
    ],
)
def test_what_cannot_be_measured_is_refused(text, settings, error, words, tokenizer: Tokenizer):
    with pytest.raises(error, match=words):
        compare_precisions([packed(network_of("llama", tokenizer), "float32")], tokenizer, text, **settings)


def test_a_precision_that_gives_no_numbers_is_named(tokenizer: Tokenizer):
    good, bad = network_of("llama", tokenizer), network_of("llama", tokenizer)
    with torch.no_grad():
        bad.blocks[1].mlp.up.weight.mul_(1e25)
        bad.blocks[1].mlp.gate.weight.mul_(1e25)
    with pytest.raises(FormatError, match="in bfloat16 the model computes NaN"):
        measure([packed(good, "float32"), packed(bad, "bfloat16")], tokenizer)
