"""Gradients written by hand against their plain twins and against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glassgpt.model.fused import RMSNormFunction, Rotation, SquaredReLU
from glassgpt.model.layers import Dropout, activate, rms_norm
from glassgpt.model.positions import Rotary, rotate


def angles(length: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return Rotary(width)(torch.arange(length)[None], dtype)


def cases(dtype: torch.dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 8, dtype=dtype, requires_grad=True)
    weight = torch.randn(8, dtype=dtype, requires_grad=True)
    cos, sin = angles(5, 8, dtype)
    return {
        "norm": ((x, weight), lambda x, w: RMSNormFunction.apply(x, w, 1e-5), lambda x, w: rms_norm(x, w, 1e-5)),
        "relu2": ((x,), SquaredReLU.apply, lambda x: activate(x, "relu2")),
        "rotation": ((x,), lambda x: Rotation.apply(x, cos, sin), lambda x: rotate(x, cos, sin)),
    }


@pytest.mark.parametrize("name", ["norm", "relu2", "rotation"])
def test_the_gradient_is_that_of_finite_differences(name):
    inputs, fused, _ = cases(torch.float64)[name]
    assert torch.autograd.gradcheck(fused, inputs)


@pytest.mark.parametrize("name", ["norm", "relu2", "rotation"])
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


def test_dropout_keeps_the_mean_repeats_by_its_generator_and_rests_outside_training():
    layer, x = Dropout(0.25), torch.ones(200, 200)
    layer.generator = torch.Generator().manual_seed(1)
    dropped = layer(x)
    assert abs((dropped == 0).float().mean() - 0.25) < 0.01 and abs(dropped.mean() - 1) < 0.02
    layer.generator.manual_seed(1)
    assert torch.equal(layer(x), dropped)
    assert layer.eval()(x) is x
