"""Each machine with one memory larger or faster is no slower, layer by layer."""

import pytest

import hw_models
from lowbit_sim.study.price import model_trace


def changed(machine: hw_models.HardwareProfile, level: str, key: str) -> hw_models.HardwareProfile:
    """The machine with twice of something."""
    memory = machine.memory
    table = memory.dram if level == "dram" else memory.levels[level]
    twice = table.model_copy(update={key: 2 * getattr(table, key)})
    return machine.model_copy(update={"memory": memory.model_copy(update={level: twice})})


def larger(machine: hw_models.HardwareProfile):
    """Each level and what of it is doubled."""
    yield "dram", "bandwidth_bytes_per_second"
    for level in machine.memory.levels:
        yield level, "bandwidth_bytes_per_cycle"
        yield level, "capacity_bytes"


def slowed_down(name: str, workload: str, options: dict, changes) -> list[tuple[str, str, str]]:
    """Level, key and layer of what takes longer with twice of something."""
    machine = hw_models.load(name)
    trace = model_trace(workload, **options, spec=machine.op_spec())
    before = hw_models.estimate(trace, machine).by_layer
    slower = []
    for level, key in changes(machine):
        after = hw_models.estimate(trace, changed(machine, level, key)).by_layer
        slower += [(level, key, layer) for layer, cost in after.items() if cost.cycles > before[layer].cycles]
    return slower


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_twice_of_any_memory_slows_no_layer_down(name):
    assert not slowed_down(name, "resnet18", {"batch": 2, "shape": (3, 32, 32), "classes": 10}, larger)


@pytest.mark.parametrize(
    ("name", "level"),
    [("gemmini", "accumulator"), ("ethos_u55", "shared_buffer"), ("rapid_training", "accumulator")],
)
def test_a_gemm_uses_more_room_so_that_its_layers_vector_work_keeps_its_bandwidth(name, level):
    """The mapping that is the fastest by itself slows each of these down, by up to 23 % of a layer."""
    options = {"batch": 16, "shape": (3, 224, 224), "classes": 10}
    assert not slowed_down(name, "resnet50", options, lambda machine: [(level, "capacity_bytes")])
