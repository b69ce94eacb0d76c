"""Gradients written by hand against their plain twins and against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glassgpt.model.attention import attend_explicit, causal_mask
from glassgpt.model.fused import (
    Attention,
    Gated,
    HeadLoss,
    RMSNormFunction,
    Rotation,
    SquaredReLU,
    causal_bias,
    mask_bias,
)
from glassgpt.model.layers import Dropout, activate, rms_norm
from glassgpt.model.positions import Rotary, rotate

NAMES = ["norm", "relu2", "swiglu", "geglu", "rotation"]


def angles(length: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return Rotary(width)(torch.arange(length)[None], dtype)


def cases(dtype: torch.dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 8, dtype=dtype, requires_grad=True)
    other = torch.randn(2, 3, 5, 8, dtype=dtype, requires_grad=True)
    weight = torch.randn(8, dtype=dtype, requires_grad=True)
    cos, sin = angles(5, 8, dtype)
    return {
        "norm": ((x, weight), lambda x, w: RMSNormFunction.apply(x, w, 1e-5), lambda x, w: rms_norm(x, w, 1e-5)),
        "relu2": ((x,), SquaredReLU.apply, lambda x: activate(x, "relu2")),
        "swiglu": ((x, other), lambda x, y: Gated.apply(x, y, "swiglu"), lambda x, y: activate(x, "swiglu") * y),
        "geglu": ((x, other), lambda x, y: Gated.apply(x, y, "geglu"), lambda x, y: activate(x, "geglu") * y),
        "rotation": ((x,), lambda x: Rotation.apply(x, cos, sin), lambda x: rotate(x, cos, sin)),
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_finite_differences(name):
    inputs, fused, _ = cases(torch.float64)[name]
    assert torch.autograd.gradcheck(fused, inputs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("transposed", [False, True])
def test_values_and_gradients_are_those_of_the_plain_twin(name, transposed):
    inputs, fused, plain = cases(torch.float32)[name]
    if transposed:  # as heads are: not contiguous
        inputs = (inputs[0].detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_(), *inputs[1:])
    upstream = torch.randn(2, 3, 5, 8)
    results = []
    for run in (fused, plain):
        out = run(*inputs)
        results.append((out, *torch.autograd.grad(out, inputs, upstream)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def attention_inputs(dtype: torch.dtype, requires_grad: bool = True) -> list[Tensor]:
    """q [2, 6, 5, 4], k and v [2, 3, 5, 4] laid out as heads are."""
    torch.manual_seed(1)
    return [
        torch.randn(2, 5, heads, 4, dtype=torch.float64).to(dtype).transpose(1, 2).requires_grad_(requires_grad)
        for heads in (6, 3, 3)
    ]


def segments_mask() -> Tensor:
    places = torch.arange(5)[None]
    return causal_mask(places, places, segments=torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 2]]))


@pytest.mark.parametrize("packed", [False, True])
def test_attention_and_its_gradients_are_those_of_the_explicit_one(packed):
    inputs = attention_inputs(torch.float64)
    mask = segments_mask() if packed else torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    bias = mask_bias(mask, torch.float64) if packed else causal_bias(5, torch.float64)
    upstream = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    ours = Attention.apply(*inputs, bias, 0.37)
    theirs, _ = attend_explicit(*inputs, mask=mask, scale=0.37)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_attention_in_bfloat16_is_no_further_from_the_truth_than_torchs():
    exact = attention_inputs(torch.float64)
    upstream = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    truth = torch.autograd.grad(Attention.apply(*exact, causal_bias(5, torch.float64), 0.5), exact, upstream)
    rough = [t.detach().bfloat16().requires_grad_() for t in exact]
    ours = torch.autograd.grad(Attention.apply(*rough, causal_bias(5, torch.bfloat16), 0.5), rough, upstream.bfloat16())
    out = torch.nn.functional.scaled_dot_product_attention(*rough, is_causal=True, scale=0.5, enable_gqa=True)
    theirs = torch.autograd.grad(out, rough, upstream.bfloat16())
    for a, b, c in zip(ours, theirs, truth, strict=True):
        assert (a.double() - c).norm() < 1.5 * (b.double() - c).norm() + 0.01 * c.norm()


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
def test_the_loss_of_a_head_in_parts_is_that_of_torch_at_once(rows):
    torch.manual_seed(0)
    hidden = torch.randn(rows, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 11, (rows,))
    ours = HeadLoss.apply(hidden, weight, targets)
    theirs = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    torch.testing.assert_close(ours, theirs)
    results = [torch.autograd.grad(loss * 0.3, (hidden, weight)) for loss in (ours, theirs)]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_the_heads_gradient_in_bfloat16_does_not_grow_worse_with_the_rows():
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(2048, 32), torch.randn(50, 32) * 0.1, torch.randint(0, 50, (2048,))
    wrong = []
    for precision in (torch.float64, torch.bfloat16):
        h, w = hidden.to(precision), weight.to(precision).requires_grad_()
        (gradient,) = torch.autograd.grad(HeadLoss.apply(h, w, targets) / 777, w)
        wrong.append(gradient.double())
    assert (wrong[1] - wrong[0]).norm() < 0.004 * wrong[0].norm()


def test_a_frozen_head_gets_no_gradient():
    hidden, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    HeadLoss.apply(hidden, weight, torch.tensor([0, 4, 2])).backward()
    assert hidden.grad is not None and weight.grad is None


def test_dropout_keeps_the_mean_repeats_by_its_generator_and_rests_outside_training():
    layer, x = Dropout(0.25), torch.ones(200, 200)
    layer.generator = torch.Generator().manual_seed(1)
    dropped = layer(x)
    assert abs((dropped == 0).float().mean() - 0.25) < 0.01 and abs(dropped.mean() - 1) < 0.02
    layer.generator.manual_seed(1)
    assert torch.equal(layer(x), dropped)
    assert layer.eval()(x) is x
