"""What layers count while they train."""

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.nn.counts import COUNT_EVERY
from lowbit_sim.ops.counts import OperandCounts
from tests.ops.cases import reals

NARROW = lb.MacUnit(accumulator_bits=10, overflow="saturate")


def converted(spec: lb.OpSpec) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    return lb.convert(model, [lb.Rule("*", spec)])


def train(model: nn.Module, steps: int, scale: float = 1.0) -> None:
    for step in range(steps):
        model(scale * reals(step, 4, 6)).square().sum().backward()


def test_every_gemm_of_every_layer_is_counted() -> None:
    model = converted(lb.OpSpec.uniform(lb.INT8, mac=NARROW))
    with lb.record() as trace:
        train(model, 1)
    counts = {(c.layer, c.gemm): c for c in lb.gemm_counts(model)}
    events = {(e.layer, e.role): e for e in trace.gemms}
    assert counts.keys() == events.keys()
    assert len(counts) == 5  # the images need no gradient
    for place, found in counts.items():
        assert (found.calls, found.additions, found.overflows) == (
            1,
            events[place].additions,
            events[place].overflows,
        )
    assert sum(c.overflows for c in counts.values()) > 0


def test_operands_are_counted_where_they_are_quantised() -> None:
    model = converted(lb.OpSpec.uniform(lb.INT4, scale=lb.FixedScale(0.25)))
    x = torch.tensor([[0.1, -0.1, 0.0, 1.0, 2.0, -9.0]])  # in units of 0.25: 0.4, -0.4, 0, 4, 8, -36
    model(x).sum().backward()
    counts = {(c.layer, c.gemm): c for c in lb.gemm_counts(model)}
    assert counts["0", "output"].lhs == OperandCounts(elements=6, clipped=2, underflowed=2)
    assert counts["0", "grad_weight"].rhs is None  # the forward codes are read again
    assert counts["0", "grad_weight"].lhs is not None


def test_one_step_in_some_counts_and_no_evaluation_does() -> None:
    model = converted(lb.OpSpec.uniform(lb.INT8, mac=NARROW))
    train(model, 1)
    first = [c.additions for c in lb.gemm_counts(model)]
    train(model, COUNT_EVERY - 1)
    model.eval()
    model(reals(0, 4, 6))
    with torch.no_grad():
        model.train()(reals(0, 4, 6))
    assert [c.additions for c in lb.gemm_counts(model)] == first
    train(model, 1)
    assert [c.additions for c in lb.gemm_counts(model)] == [2 * n for n in first]
    lb.reset_counts(model)
    assert lb.gemm_counts(model) == []


def test_a_recorded_step_always_counts() -> None:
    model = converted(lb.OpSpec.uniform(lb.INT8))
    train(model, 3)
    lb.reset_counts(model)
    with lb.record():
        train(model, 1)
    assert all(c.calls == 1 for c in lb.gemm_counts(model))


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_counting_changes_no_bit(overflow, monkeypatch) -> None:
    from lowbit_sim.nn import emulation

    spec = lb.OpSpec.uniform(
        lb.INT4,
        mac=lb.MacUnit(accumulator_bits=8, overflow=overflow),
        gradient_rounding=lb.Rounding("stochastic", random_bits=8),
    )
    gradients = []
    for every in (1, 1 << 30):
        monkeypatch.setattr(emulation, "COUNT_EVERY", every)
        model = converted(spec)
        train(model, 1)  # the first step counts anyhow
        train(model, 3)
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_formats_with_blocks_and_float_sums_are_counted() -> None:
    model = converted(lb.OpSpec.uniform(lb.parse_format("mxfp4")))
    train(model, 1)
    counts = lb.gemm_counts(model)
    assert all(c.lhs is not None for c in counts)
    assert all(
        c.rhs is not None for c in counts
    )  # no codes are read again: the blocks run along another axis
    assert all(c.additions > 0 for c in counts)


def test_the_table_says_what_was_counted() -> None:
    model = converted(lb.OpSpec.uniform(lb.INT8, mac=NARROW))
    train(model, 1)
    lines = lb.counts_table(lb.gemm_counts(model)).splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert len(lines) == 6
    row = next(line for line in lines if line.startswith("2      grad_weight")).split()
    assert row[-2:] == ["-", "-"]
    found = next(c for c in lb.gemm_counts(model) if (c.layer, c.gemm) == ("0", "output"))
    assert f"{100 * found.overflow_share:.3g}" in lines[1].split()
    assert found.overflow_share == found.overflows / found.additions


def test_no_counts_no_share() -> None:
    empty = lb.GemmCounts(layer="a", gemm="output", calls=0, additions=0, overflows=0, lhs=None, rhs=None)
    assert empty.overflow_share == 0.0
    assert lb.counts_table([empty]).splitlines()[1].split() == ["a", "output", "-", "-", "-", "-", "-"]


def test_wrapping_sums_without_a_proof_are_counted_seldom() -> None:
    """Their operands are counted as often as others; their additions would take the slow path."""
    wrapping = lb.MacUnit(accumulator_bits=10, overflow="wrap")
    model = converted(lb.OpSpec.uniform(lb.INT8, mac=wrapping))
    train(model, 1)
    first = [(c.calls, c.additions) for c in lb.gemm_counts(model)]
    elements = [c.lhs.elements for c in lb.gemm_counts(model) if c.lhs is not None]
    assert all(calls == 1 for calls, _ in first)
    train(model, COUNT_EVERY)
    counts = lb.gemm_counts(model)
    assert [(c.calls, c.additions) for c in counts] == first
    assert [c.lhs.elements for c in counts if c.lhs is not None] == [2 * n for n in elements]
