"""Optimizers against torch's own, schedules against their shapes."""

from __future__ import annotations

import math

import pytest
import torch

from glassgpt.core.errors import FormatError
from glassgpt.training.optim import AdamW, Muon, clip_gradients, orthogonalize, rate_factor, restore


def parameters(*shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {f"p{i}": torch.randn(s, requires_grad=True) for i, s in enumerate(shapes)}


def step(optimizer: AdamW | Muon, factor: float = 1.0) -> None:
    for task in optimizer.tasks(factor):
        task()


def give_gradients(named: dict[str, torch.Tensor], step: int) -> None:
    torch.manual_seed(100 + step)
    for p in named.values():
        p.grad = torch.randn_like(p)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_follows_torchs(decay):
    ours, theirs = parameters((7, 5), (3,)), parameters((7, 5), (3,))
    mine = AdamW(ours, 0.01, (0.9, 0.95), weight_decay=decay)
    reference = torch.optim.AdamW(theirs.values(), lr=0.01, betas=(0.9, 0.95), weight_decay=decay)
    for number in range(20):
        give_gradients(ours, number)
        give_gradients(theirs, number)
        factor = 1 - number / 30
        reference.param_groups[0]["lr"] = 0.01 * factor
        step(mine, factor)
        reference.step()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_muon_follows_torchs_one_matrix_at_a_time(decay):
    shapes = ((8, 8), (16, 4), (8, 8), (4, 16))
    ours, theirs = parameters(*shapes), parameters(*shapes)
    mine = Muon(ours, 0.02, momentum=0.95, weight_decay=decay)
    reference = torch.optim.Muon(theirs.values(), lr=0.02, momentum=0.95, weight_decay=decay)
    for number in range(10):
        give_gradients(ours, number)
        give_gradients(theirs, number)
        step(mine)
        reference.step()
    for name in ours:  # torch's iterates in bfloat16
        torch.testing.assert_close(ours[name], theirs[name], atol=0.02, rtol=0.05)


def plainly_evened(matrix, sums, beta):
    """NorMuon's second half by the paper's words, row by row in Python's own numbers."""
    rows = matrix.double() if matrix.shape[0] >= matrix.shape[1] else matrix.double().T
    lines = []
    for i, row in enumerate(rows.tolist()):
        sums[i] = beta * sums.get(i, 0.0) + (1 - beta) * sum(x * x for x in row) / len(row)
        lines.append([x / math.sqrt(sums[i] + 1e-10) for x in row])
    size = math.sqrt(sum(x * x for line in lines for x in line))
    evened = torch.tensor(lines, dtype=torch.float64) * (float(rows.norm()) / size)
    return evened if matrix.shape[0] >= matrix.shape[1] else evened.T


@pytest.mark.parametrize("shape", [(8, 8), (16, 4), (4, 16)])
def test_muon_evens_the_rows_of_its_updates(shape):
    """Beside the same steps without: what those add to the weights, evened."""
    evened, plain = parameters(shape, shape), parameters(shape, shape)
    mine, without = Muon(evened, 0.02, row_beta=0.9), Muon(plain, 0.02)
    sums = {name: {} for name in plain}
    for number in range(4):
        give_gradients(evened, number)
        give_gradients(plain, number)
        before = [{name: p.detach().clone() for name, p in named.items()} for named in (evened, plain)]
        step(mine)
        step(without)
        for name in plain:
            wanted = plainly_evened(plain[name].detach() - before[1][name], sums[name], 0.9)
            # The rate, common to all rows, cancels out.
            torch.testing.assert_close((evened[name] - before[0][name]).double(), wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shape", [(3, 12, 12), (2, 6, 20), (2, 20, 6)])
def test_orthogonalized_matrices_keep_their_directions_and_lose_their_sizes(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    u, s, v = torch.linalg.svd(orthogonalize(matrices), full_matrices=False)
    assert s.min() > 0.5 and s.max() < 1.3
    exact = torch.linalg.svd(matrices, full_matrices=False)
    aligned = (u @ v).flatten(1) @ (exact.U @ exact.Vh).flatten(1).T / min(shape[1:])
    assert (aligned.diagonal() > 0.99).all()


def test_the_norm_over_all_gradients_is_bounded():
    named = parameters((4, 4), (9,))
    give_gradients(named, 0)
    everything = torch.cat([p.grad.flatten() for p in named.values()])
    assert clip_gradients(list(named.values()), 0.5) == pytest.approx(everything.norm().item(), rel=1e-6)
    clipped = torch.cat([p.grad.flatten() for p in named.values()])
    torch.testing.assert_close(clipped, everything * 0.5 / everything.norm(), atol=1e-5, rtol=1e-4)
    assert clip_gradients(list(named.values()), 0.0) == pytest.approx(0.5, rel=1e-3)


def test_schedules_have_their_shapes():
    def factors(**settings):
        return [rate_factor(s, 100, **settings) for s in range(100)]

    assert factors(schedule="constant") == [1.0] * 100
    stable = factors(schedule="wsd", warmup=10, decay=0.5, floor=0.1)
    assert stable[:10] == sorted(stable[:10]) and stable[0] < 0.1 and stable[10:55] == [1.0] * 45
    assert stable[60:] == sorted(stable[60:], reverse=True) and 0.1 < stable[-1] < 0.13
    cosine = factors(schedule="cosine")
    assert (
        cosine[0] == 1.0 and cosine[50] == pytest.approx(0.5) and cosine[25] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    )
    linear = factors(schedule="linear")
    assert linear[25] == pytest.approx(0.75) and linear[99] == pytest.approx(0.01)


def test_state_put_back_goes_on_as_before_and_foreign_state_is_refused():
    def run(split: bool) -> torch.Tensor:
        named = parameters((6, 6), (6,))
        makers = [Muon({"p0": named["p0"]}, 0.02), AdamW({"p1": named["p1"]}, 0.01)]
        for number in range(6):
            if split and number == 3:
                saved = {k: t.clone() for o in makers for k, t in o.state.items()}
                makers = [Muon({"p0": named["p0"]}, 0.02), AdamW({"p1": named["p1"]}, 0.01)]
                restore(makers, saved, "x")
            give_gradients(named, number)
            for optimizer in makers:
                step(optimizer)
        return torch.cat([p.detach().flatten() for p in named.values()])

    assert torch.equal(run(split=False), run(split=True))
    with pytest.raises(FormatError, match="does not fit"):
        restore([AdamW(parameters((3,)), 0.1)], {}, "x")
