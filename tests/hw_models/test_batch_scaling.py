"""Twice the batch takes at most twice the cost and a fixed one, also where it ends inside a fold of the array.

    C(2 S) <= 2 C(S) + F        C in cycles, mapped for cycles, and in energy, mapped for energy

S is the dimension that the batch is in: M of the forward GEMM and of grad_input, K of grad_weight; it fills a fold of
the array or more. F does not depend on the batch. It is what it takes, at every memory, to move in and out

    twice the operand without the batch     the weights; in grad_weight the result
    once one image as it is unfolded        of a convolution

Each has its cause. Two halves of grad_weight leave two sums, of which the second one reads the first. Where S ends
inside a fold, halves would take a fold more than the whole, whose tiles therefore end elsewhere: three or four of
them stand for two halves (`hw_models.mapping.tiling`), and the weights or the sums cross for each. A tile of a
convolution that ends inside a row or an image is billed for all of it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import hw_models
from hw_models.mapping.search import Objective
from hw_models.operands import gemm_modes
from hw_models.pricing import Pricing
from lowbit_sim.trace import GemmEvent, WorkloadTrace
from tests.hw_models.machines import tiny
from tests.hw_models.mapping.problems import gemm
from tests.hw_models.random_machines import convolutions, machines, plain_gemms

ROLES = ("output", "grad_input", "grad_weight")


def doubled(event: GemmEvent) -> GemmEvent:
    """The event of twice the batch."""
    conv = event.conv and replace(event.conv, batch=2 * event.conv.batch)
    if event.role == "grad_weight":
        return replace(event, conv=conv, K=2 * event.K)
    return replace(event, conv=conv, M=2 * event.M)


def fixed_bits(event: GemmEvent, machine: hw_models.HardwareProfile) -> int:
    """Bits of twice the operand without the batch, and of an image as it is unfolded, at their widths in memory."""
    modes = gemm_modes(event, machine)
    lhs, rhs = (32, 32) if modes is None else (modes[0].operand_bits, modes[1].operand_bits)
    if event.role == "grad_weight":
        batchless, unfolded = event.M * event.N * event.outer_bits, event.N * event.K * rhs
    else:
        batchless, unfolded = event.K * event.N * rhs, event.M * event.K * lhs
    return event.count * (2 * batchless + (unfolded // event.conv.batch if event.conv else 0))


def fixed_cost(event: GemmEvent, machine: hw_models.HardwareProfile) -> tuple[float, float]:
    """Cycles and nominal pJ of moving these into and out of every memory."""
    bits = fixed_bits(event, machine)
    moved = {(name, "lhs"): 2 * bits for name in [*machine.memory.levels, "dram"]}
    pricing = Pricing(profile=machine)
    cycles = sum(pricing.memory_cycles(moved).values())
    energies = pricing.energies
    each = [*energies.read.values(), *energies.write.values(), energies.dram_read, energies.dram_write]
    switching = sum(one.scaled(bits).nominal_pj for one in each)
    return cycles, switching + cycles * machine.energy.static_power_w / machine.clock.frequency_hz * 1e12


def costs(event: GemmEvent, machine: hw_models.HardwareProfile) -> tuple[float, float]:
    """Cycles of the fastest mapping, and pJ of the one of least energy."""

    def report(objective: Objective) -> hw_models.CostReport:
        return hw_models.estimate(WorkloadTrace([event]), machine, objective=objective)

    return report("cycles").cycles, report("energy").energy_pj


def fills_a_fold(event: GemmEvent, machine: hw_models.HardwareProfile) -> bool:
    """Whether the batch fills a fold in every mode of the array."""
    array = machine.array
    fold = max(mode.macs_per_pe_per_cycle for mode in array.modes) * max(array.rows, array.columns)
    return (event.K if event.role == "grad_weight" else event.M) >= fold


def check(event: GemmEvent, machine: hw_models.HardwareProfile) -> None:
    for once, twice, fixed in zip(
        costs(event, machine), costs(doubled(event), machine), fixed_cost(event, machine), strict=True
    ):
        assert twice <= (2 * once + fixed) * (1 + 1e-9)


three_roles = plain_gemms.flatmap(lambda e: st.sampled_from(ROLES).map(lambda role: replace(e, role=role)))


@settings(max_examples=60, deadline=None)
@given(event=three_roles, machine=machines(overlap=False))
def test_of_a_gemm(event, machine):
    assume(fills_a_fold(event, machine))
    check(event, machine)


@settings(max_examples=60, deadline=None)
@given(event=convolutions(), machine=machines(overlap=False))
def test_of_a_convolution(event, machine):
    assume(fills_a_fold(event, machine))
    check(event, machine)


@pytest.mark.parametrize("role", ["output", "grad_weight"])
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_of_every_batch_where_memory_is_scarce(dataflow, role):
    """Sizes that end anywhere inside a fold of 6 or 5, beside memories that hold a few folds."""
    machine = tiny(
        ('dataflow = "ws"', f'dataflow = "{dataflow}"'),
        ("rows = 4", "rows = 6"),
        ("columns = 4", "columns = 5"),
        ("= 4096", "= 900"),
        ("= 1024", "= 1200"),
    )
    for size in (12, 13, 17, 20, 23, 31):
        sizes = (17, 19, size) if role == "grad_weight" else (size, 19, 17)
        check(gemm(*sizes, role=role), machine)
