"""The cost model beside SCALE-Sim's simulation of the same layers.

SCALE_SIM names a Python interpreter in which SCALE-Sim 3 is installed (`pip install scalesim==3.0.0 "numpy<2.3"`);
without it the comparison is skipped. SCALE-Sim's time is that of its process, start and traces included.
"""

import csv
import os
import subprocess
from pathlib import Path

import pytest

import hw_models
from benchmarks.test_cost_model import clear_caches
from hw_models.explore.overrides import with_overrides
from hw_models.workloads import read_workload

pytestmark = pytest.mark.benchmark(group="three layers of ResNet-50, 32 x 32, weight-stationary")

ROWS = COLUMNS = 32

TOPOLOGY = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
conv3_1x1, 28, 28, 1, 1, 512, 128, 1,
conv4_3x3, 16, 16, 3, 3, 256, 256, 1,
conv5_1x1, 7, 7, 1, 1, 2048, 512, 1,
"""

CONFIG = f"""[general]
run_name = layers

[architecture_presets]
ArrayHeight: {ROWS}
ArrayWidth: {COLUMNS}
IfmapSramSzkB: 512
FilterSramSzkB: 512
OfmapSramSzkB: 256
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Bandwidth: 10
Dataflow: ws
MemoryBanks: 1
ReadRequestBuffer: 32
WriteRequestBuffer: 32

[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2

[sparsity]
SparsitySupport: false
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 8
RandomNumberGeneratorSeed: 40

[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    path = tmp_path / "layers.csv"
    path.write_text(TOPOLOGY)
    return path


def test_scale_sim(benchmark, topology):
    python = os.environ.get("SCALE_SIM")
    if not python:
        pytest.skip("SCALE_SIM names no Python interpreter with SCALE-Sim 3 installed")
    folder = topology.parent
    (folder / "run.cfg").write_text(CONFIG)
    names = [line.split(",")[0] for line in TOPOLOGY.splitlines()[1:]]
    (folder / "layout.csv").write_text(
        "Layer," + "," * 19 + "\n" + "".join(f"{n},{'1,' * 20}\n" for n in names)
    )
    command = [python, "-m", "scalesim.scale", "-c", "run.cfg", "-t", topology.name, "-l", "layout.csv"]
    command += ["-p", "out", "-i", "conv", "-s", "N"]
    benchmark.pedantic(
        subprocess.run, (command,), {"cwd": folder, "check": True, "capture_output": True}, rounds=1
    )
    with (folder / "out" / "layers" / "COMPUTE_REPORT.csv").open() as report:
        theirs = [int(row[" Total Cycles"]) for row in csv.DictReader(report)]
    # It prints the index of the last cycle.
    assert [cycles + 1 for cycles in theirs] == compute_cycles(topology)


def compute_cycles(topology: Path) -> list[int]:
    """Cycles of the array for each layer."""
    gemms = read_workload(topology).gemms
    return [hw_models.systolic_cycles(e.M, e.N, e.K, rows=ROWS, cols=COLUMNS, dataflow="ws") for e in gemms]


def test_estimate(benchmark, topology):
    """All of it: cycles, traffic and energy under the best mapping, with empty caches."""
    sizes = {"array.rows": ROWS, "array.columns": COLUMNS, "array.loading": "exposed"}
    machine = with_overrides(hw_models.load("tpu_v1"), sizes)
    trace = read_workload(topology, spec=machine.op_spec())
    report = hw_models.estimate(trace, machine)
    assert [g.mapping.compute_cycles for _, g in report.gemms if g.mapping] == [
        c + machine.array.startup_cycles for c in compute_cycles(topology)
    ]
    benchmark.pedantic(hw_models.estimate, (trace, machine), setup=clear_caches, rounds=20)
