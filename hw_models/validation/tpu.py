"""TPU v1: a weight matrix's way to the array and the roofline of six applications, against the `tpu_v1` profile.

Jouppi et al., ISCA 2017. In the machine the weight memory's port carries weights alone, and activations stay in the
unified buffer, so that the port's time is taken for what the mapping moves of the weights.

* Section 7: LSTM1's 600 x 600 matrices take nine tiles of 256 x 256, 18 us.
* Table 3: measured throughput. A roofline has to lie above it: min(peak, 2 x operations per byte of weights x
  bandwidth), with table 1's operations per byte. The applications' layers are not public; a stand-in of whole tiles
  (2048 x 2048 weights, used as often as table 1 says) goes through the model.
* The same stand-in's throughput with the array's own cycles, skew between tiles included. What is missing to the
  measurement is waiting for shifts, small layers and their dependences.
"""

from __future__ import annotations

from hw_models.gemm_cost import gemm_cost
from hw_models.load import load
from hw_models.mapping.search import Mapping
from hw_models.profile import HardwareProfile
from hw_models.requantization import requantized
from hw_models.validation.data_files import silicon_rows
from hw_models.validation.table import Point
from hw_models.workloads.layer import Layer, forward_events
from lowbit_sim.trace import GemmEvent, WorkloadTrace

SOURCE = "Jouppi et al., ISCA 2017"

#: Operations for each byte of weights, table 1.
OPERATIONS_PER_WEIGHT = {"MLP0": 200, "MLP1": 168, "LSTM0": 64, "LSTM1": 96, "CNN0": 2888, "CNN1": 1750}
SIDE = 2048
LSTM1_BATCH = 96


def _event(profile: HardwareProfile, M: int, N: int, K: int) -> GemmEvent:
    """The GEMM of a layer that the machine runs forward, as an estimate prices it."""
    layer = Layer(name="", M=M, N=N, K=K)
    (event,) = requantized(WorkloadTrace(forward_events(layer, profile.op_spec())), profile).gemms
    return event


def _mapping(event: GemmEvent, profile: HardwareProfile) -> Mapping:
    mapping = gemm_cost(event, profile).mapping
    assert mapping is not None  # the array has a mode for int8
    return mapping


def weight_seconds(mapping: Mapping, profile: HardwareProfile) -> float:
    """Seconds that the weights take to come in from the memory outside."""
    crossings = [c for c in mapping.traffic.crossings if (c.level, c.operand) == ("dram", "rhs")]
    return sum(c.read_bits for c in crossings) / 8 / profile.memory.dram.bandwidth_bytes_per_second


def points() -> list[Point]:
    """The tile, and each application's limit and throughput."""
    profile = load("tpu_v1")
    rows = {row["workload"]: row for row in silicon_rows("TPU v1")}
    found = [_tile(profile, float(rows.pop("LSTM1 600x600 tile")["value"]))]
    for name, row in rows.items():
        found += _application(profile, name, float(row["value"]))
    return found


def _tile(profile: HardwareProfile, microseconds: float) -> Point:
    event = _event(profile, LSTM1_BATCH, 600, 600)
    return Point(
        source=SOURCE,
        machine="tpu_v1",
        workload="LSTM1, a 600 x 600 matrix",
        quantity="time to load the weights",
        published=microseconds,
        modelled=1e6 * weight_seconds(_mapping(event, profile), profile),
        unit="us",
        note="section 7; nine padded tiles",
    )


def _application(profile: HardwareProfile, name: str, measured: float) -> list[Point]:
    uses = OPERATIONS_PER_WEIGHT[name]
    event = _event(profile, uses, SIDE, SIDE)
    mapping = _mapping(event, profile)
    peak = profile.array.macs_per_cycle(profile.array.modes[0]) * profile.clock.frequency_hz
    weights = weight_seconds(mapping, profile)
    array = mapping.compute_cycles / profile.clock.frequency_hz
    bound = event.macs / max(weights, event.macs / peak)
    reached = event.macs / max(weights, array)
    common = {"source": SOURCE, "machine": "tpu_v1", "workload": name, "published": measured, "unit": "TOPS"}
    return [
        Point(**common, quantity="roofline", modelled=2e-12 * bound, limit="at least"),
        Point(
            **common,
            quantity="throughput",
            modelled=2e-12 * reached,
            note="a stand-in without small layers' waiting",
        ),
    ]
