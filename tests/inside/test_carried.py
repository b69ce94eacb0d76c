"""What tokens carried: against torch's gradients through a network held still, and against what is known to be true."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.inside.carried import carried, carried_to
from glassgpt.inside.opened import Opened
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.model.layers import MLP, GatedMLP, LayerNorm, RMSNorm, activate
from glassgpt.text.bpe import train_bpe

TEXT = "The boat went out to sea, and the sea was calm. 小船出海，海很平静。"
SIZES = {"vocab_size": 300, "n_layer": 3, "n_head": 4, "n_embd": 32, "context_length": 96}
BIASES = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
NETWORKS = {
    "modern": ModelConfig.modern(**SIZES),
    "grouped, gated": ModelConfig(**SIZES, n_kv_head=2, mlp="swiglu", mlp_dim=80, tie_embeddings=False),
    "norms after, windows, cap": ModelConfig(**SIZES, n_kv_head=1, mlp="geglu", post_norms=True, qk_norm=True,
        sliding_window=5, sliding_layers=(0, 2), rope_local_theta=100.0, embed_scale=5.6, logit_softcap=4.0),
    "sines": ModelConfig(**SIZES, positions="sinusoidal", norm="layernorm", mlp="gelu"),
    "biases": ModelConfig(**SIZES, positions="learned", norm="layernorm", mlp="gelu_tanh", **BIASES),
}  # fmt: skip


def random_model(config: ModelConfig) -> LanguageModel:
    torch.manual_seed(3)
    network = GPT(config).eval().requires_grad_(False)
    for name, p in network.named_parameters():
        p.copy_(torch.randn_like(p) * 0.2 + (1 if "norm" in name and p.dim() == 1 and "bias" not in name else 0))
    return LanguageModel("tiny", network, train_bpe([TEXT] * 3, 300), "float32")


def held_still(network: GPT) -> GPT:
    """A copy whose norms divide, and whose neurons are open, by shares through which no gradient goes."""
    network = copy.deepcopy(network).double()

    def norm(module: RMSNorm | LayerNorm, x: Tensor) -> Tensor:
        middle = x.mean(-1, keepdim=True) if isinstance(module, LayerNorm) else torch.zeros(())
        size = ((x - middle).square().mean(-1, keepdim=True) + module.eps).sqrt().detach()
        return (x - middle) / size * module.weight + getattr(module, "bias", torch.zeros(()))

    def mlp(module: MLP | GatedMLP, x: Tensor, probe: object = None, place: str = "") -> Tensor:
        up = module.up(x)
        if isinstance(module, GatedMLP):
            return module.down(activate(module.gate(x), module.kind).detach() * up)
        return module.down(up * (activate(up, module.kind) / up).detach())

    for module in network.modules():
        own = {RMSNorm: norm, LayerNorm: norm, MLP: mlp, GatedMLP: mlp}.get(type(module))
        if own is not None:
            module.forward = own.__get__(module)  # type: ignore[union-attr]
    return network


def by_gradients(network: GPT, ids: list[int], target: int | None) -> tuple[list[float], float]:
    """The parts by torch's gradient times the vectors that come into the first block, and their whole."""
    network = held_still(network)
    first: list[Tensor] = []

    def hold(name: str, value: Tensor) -> Tensor:
        if name == "blocks.0.resid_pre":
            first.append(value.detach().requires_grad_())
            return first[0]
        return value.detach() if name.endswith(".pattern") else value

    last = network.hidden(torch.tensor([ids]), probe=hold)[0, -1]
    raw = F.linear(last, network.embed.weight if network.head is None else network.head.weight)
    cap = network.config.logit_softcap
    scores = raw if cap is None else raw * (cap * torch.tanh(raw / cap) / raw).detach()
    target = int(scores.argmax()) if target is None else target
    others = torch.arange(len(scores)) != target
    whole = scores[target] - scores[others].detach().softmax(-1) @ scores[others]
    (gradient,) = torch.autograd.grad(whole, first)
    return (gradient * first[0]).sum(-1)[0].tolist(), whole.item()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("target", [None, 7])
def test_the_parts_are_those_of_gradients_through_the_network_held_still(name, target):
    model = random_model(NETWORKS[name])
    ids = model.encode(TEXT)
    found = carried(model, ids, target)
    expected, whole = by_gradients(model.network, ids, target)
    assert found.scores == pytest.approx(expected, rel=1e-3, abs=1e-4 * max(map(abs, expected)))
    logits = model.network(torch.tensor([ids]))[0, -1].double()
    others = torch.cat((logits[: found.target], logits[found.target + 1 :]))
    expected_whole = float(logits[found.target] - others.softmax(-1) @ others)
    assert found.total == pytest.approx(expected_whole, rel=1e-4, abs=1e-4)
    assert whole == pytest.approx(found.total, rel=1e-4, abs=1e-4)
    assert target is None or (found.target, found.target_text) == (7, model.tokenizer.decode([7]))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("sines", "biases")])
def test_without_biases_the_tokens_carried_everything(name):
    found = carried(random_model(NETWORKS[name]), TEXT)
    assert abs(found.rest) < 1e-3 * max(map(abs, found.scores))


def test_a_token_of_an_open_text_is_taken_apart_as_if_the_text_ended_there():
    model = random_model(NETWORKS["norms after, windows, cap"])
    ids = model.encode(TEXT)
    whole, short = carried_to(Opened(model, ids), 9, ids[9]), carried(model, ids[:9], ids[9])
    assert whole.scores == pytest.approx(short.scores, rel=1e-3, abs=1e-4) and whole.tokens == short.tokens
    assert (whole.total, whole.rest) == pytest.approx((short.total, short.rest), abs=1e-3)


def test_bad_questions_are_refused():
    model = random_model(NETWORKS["modern"])
    with pytest.raises(ConfigError, match="vocabulary"):
        carried(model, TEXT, 300)
    with pytest.raises(InputError, match="empty"):
        carried(model, "")
    alone = carried(model, [5])
    assert alone.tokens == (model.tokenizer.decode([5]),) and alone.scores == pytest.approx([alone.total], rel=1e-3)
