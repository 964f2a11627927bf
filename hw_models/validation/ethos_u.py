"""Arm Ethos-U: cycles per operator of two MLPerf Tiny models, against Arm's compiler Vela 5.2.0, itself a model.

Vela's rule, checked on every row: cycles of an operator = max(NPU, SRAM, DRAM, on-chip flash, off-chip flash).

The cost model's side of it, by the `ethos_u55` profile scaled to each size:

* convolutions, depthwise ones included, pooling and fully connected layers: the spatial array, the weight stream, the
  shared buffer and the SRAM come from the mapping search, as in any estimate; the outermost memory holds weights (a
  byte each, and 10 bytes of bias and scale for each kernel) and activations stay in the SRAM, where the model's own
  rule would send them outside;
* after the last block of output, the fetch of its kernels' bias and scale: 10 bytes of each, and the latency of the
  outer memory for every 256 bytes. The compiler chooses a block's depth; `BLOCK_KERNELS` is a fit to the fully
  connected rows of the U65-256;
* element-wise operators: see `ethos_u_elementwise`, where some rows are a fit too.

What is known to be missing: the compression of weights (rows bound by flash come out too slow), the time to fill and
drain each block of the output, pooling's sub-kernels of 8 x 8, and which small tensors of the softmax the compiler
puts into the outer memory.

Source of what is not the profile's: ethos-u-vela, npu_performance.py (Arm, Apache-2.0), a release of 2021
(github.com/nxp-imx/ethos-u-vela); figures that 5.2.0 may have changed were not at hand.
"""

from __future__ import annotations

from functools import cache

from hw_models.mapping.search import best_mapping
from hw_models.validation import ethos_u_elementwise
from hw_models.validation.data_files import read_rows
from hw_models.validation.ethos_u_elementwise import softmax_cycles
from hw_models.validation.ethos_u_layers import MODELS, WITHOUT_WEIGHTS
from hw_models.validation.ethos_u_sizes import SIZES, Size
from hw_models.validation.table import Point
from lowbit_sim.trace import GemmEvent

SOURCE = "Arm Vela 5.2.0, Ethos-U"

#: The parts of which an operator takes the greatest.
PARTS = ("NPU", "SRAM AC", "DRAM AC", "OnFlash AC", "OffFlash AC")

BYTES_PER_KERNEL = 10
BYTES_PER_FETCH = 256

#: Kernels of a block of output: a fit to the rows of FITTED, which are no evidence for it.
BLOCK_KERNELS = 32
FITTED = ("ethos-u65-256", "ad01_int8")


def gemm_cycles(event: GemmEvent, size: Size) -> float:
    """Cycles of a layer: the greatest of the array, the on-chip memories and the weights' way in."""
    profile = size.profile
    mapping = best_mapping(event, profile, lhs_bits=8, rhs_bits=8, mode=profile.array.modes[0])
    if event.layer in WITHOUT_WEIGHTS:
        return float(mapping.cycles)
    stream = mapping.traffic.bits("weight_buffer") / (
        8 * profile.memory.levels["weight_buffer"].bandwidth_bytes_per_cycle
    )
    kernels = event.count * event.N
    last_block = BYTES_PER_KERNEL * min(kernels, BLOCK_KERNELS) * size.outer_latency / BYTES_PER_FETCH
    weights = (event.K + BYTES_PER_KERNEL) * kernels / size.outer_bytes
    return max(max(mapping.compute_cycles, stream) + last_block, float(mapping.cycles), weights)


@cache
def vela_rows() -> tuple[dict[str, str], ...]:
    """The compiler's rows, fused activations (which take no cycles) included."""
    return tuple(read_rows("vela_per_layer.csv"))


def points() -> list[Point]:
    """Every operator that takes time; fused activations and tables take none."""
    return [_point(row) for row in vela_rows() if float(row["Op Cycles"])]


def _point(row: dict[str, str]) -> Point:
    size, index, operator = SIZES[row["accelerator"]], int(row["idx"]), row["NNG Operator"]
    event = MODELS[row["model"]]().get(index)
    if event is not None:
        modelled, kind, workload = gemm_cycles(event, size), "layer", event.layer
    else:
        modelled = softmax_cycles(index, operator, size)
        kind, workload = "element-wise", f"softmax {index} {operator}"
    return Point(
        source=SOURCE,
        machine=f"ethos_u55 scaled to {row['accelerator']}",
        workload=f"{row['model']}: {workload}",
        quantity=f"cycles, {kind}{', fitted' if _fit(row) else ''}",
        published=float(row["Op Cycles"]),
        modelled=modelled,
        unit="cycles",
        note=_bound(row),
    )


def _bound(row: dict[str, str]) -> str:
    greatest = max(PARTS, key=lambda part: float(row[part]))
    return f"bound by {greatest.removesuffix(' AC')} in Vela{_fit(row)}"


def _fit(row: dict[str, str]) -> str:
    """What was fitted to a row."""
    if (row["accelerator"], row["model"]) == FITTED:
        return "; a block's depth is a fit to these rows"
    if row["model"] == "kws_ref_model" and int(row["idx"]) in ethos_u_elementwise.FITTED:
        return "; a block's size and latency are a fit to these rows"
    return ""
