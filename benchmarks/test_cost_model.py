"""The cost model: a ResNet-50 training step on one machine, the search for its mappings, and sweeps.

Every round starts with empty caches, so it does what a fresh process does after its imports and the compilation of
the kernels; `warm` is the same with them filled.
"""

import gc
import math
from functools import _lru_cache_wrapper
from itertools import islice

import pytest

import hw_models
from hw_models.explore.axis import Axis
from hw_models.explore.overrides import with_overrides
from hw_models.explore.sweep import sweep
from hw_models.mapping.search import best_mapping
from hw_models.operands import gemm_modes
from lowbit_sim.study import price

pytestmark = pytest.mark.benchmark(group="cost model, ResNet-50 step of 32 images")

BATCH = 32


def clear_caches() -> None:
    """Empty every cache of the cost model."""
    for thing in gc.get_objects():
        if type(thing) is _lru_cache_wrapper and str(thing.__module__).startswith("hw_models"):
            thing.cache_clear()


@pytest.fixture(scope="module")
def machine():
    return hw_models.load("edge_npu")


@pytest.fixture(scope="module")
def trace(machine):
    """All layers, three GEMMs each, and all work around them."""
    traced = price.model_trace(
        "resnet50", batch=BATCH, shape=(3, 224, 224), classes=1000, spec=machine.op_spec()
    )
    # 4.09 G multiply-accumulates an image forward (He et al., CVPR 2016: 3.8 G, without the projection shortcuts of
    # the stages and the stride in the 3x3 layer), all in GEMMs.
    forward = sum(e.macs for e in traced.gemms if e.role == "output")
    assert math.isclose(forward / BATCH, 4.09e9, rel_tol=0.01)
    assert {e.role for e in traced.gemms} == {"output", "grad_input", "grad_weight"}
    return traced


def check(trace, machine, report):
    """What must hold of any price: the work is all there and takes no less than its bounds."""
    assert report.total.macs <= trace.macs
    assert sum(part.cycles for part in report.by_role.values()) == report.cycles
    assert report.cycles >= report.bytes / (
        machine.memory.dram.bandwidth_bytes_per_second / report.frequency_hz
    )
    assert report.cycles >= report.total.macs / machine.array.macs_per_cycle(machine.array.modes[-1])
    assert 0 < report.energy_low_pj <= report.energy_pj <= report.energy_high_pj


def test_estimate(benchmark, trace, machine):
    check(trace, machine, hw_models.estimate(trace, machine))
    benchmark.pedantic(hw_models.estimate, (trace, machine), setup=clear_caches, rounds=20)


def test_estimate_warm(benchmark, trace, machine):
    check(trace, machine, hw_models.estimate(trace, machine))
    benchmark(hw_models.estimate, trace, machine)


def test_best_mappings(benchmark, trace, machine):
    def search():
        found = []
        for event in trace.gemms:
            modes = gemm_modes(event, machine)
            assert modes is not None
            lhs, rhs, mode = modes
            found.append(
                best_mapping(event, machine, lhs_bits=lhs.operand_bits, rhs_bits=rhs.operand_bits, mode=mode)
            )
        return found

    for event, mapping in zip(trace.gemms, search(), strict=True):
        assert mapping.cycles >= mapping.compute_cycles >= event.macs / machine.array.elements / 2
    benchmark.pedantic(search, setup=clear_caches, rounds=20)


AXES = [
    Axis(key="array.rows", values=(8, 16, 32, 64)),
    Axis(key="array.columns", values=(8, 16, 32, 64)),
    Axis(key="memory.dram.bandwidth_bytes_per_second", values=tuple(10**9 * n for n in (4, 8, 16))),
]


def test_sweep_of_48_machines(benchmark, trace, machine):
    """In one process; the time of one machine is a 48th."""
    points = benchmark.pedantic(sweep, (trace, machine, AXES), setup=clear_caches, rounds=3)
    by_settings = {point.settings: point for point in points}
    assert len(by_settings) == 48
    for point in islice(points, 0, None, 17):
        there = with_overrides(machine, dict(point.settings))
        assert point.cycles == hw_models.estimate(trace, there).cycles
