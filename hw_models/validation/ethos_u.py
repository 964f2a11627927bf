"""Arm Ethos-U: cycles per operator of two MLPerf Tiny models, against Arm's compiler Vela 5.2.0, itself a model.

Vela's rule, checked on every row: cycles of an operator = max(NPU, SRAM, DRAM, on-chip flash, off-chip flash).

The cost model's side of it, by the `ethos_u55` profile scaled to each size:

* convolutions and fully connected layers: the spatial array, the weight stream, the shared buffer and the SRAM come
  from the mapping search; the outermost memory holds weights (a byte each, and 10 bytes of bias and scale for each
  kernel) and activations stay in the SRAM, where the model's own rule would send them outside;
* depthwise convolutions and pooling, which the array takes channel by channel in its columns: see `ethos_u_layers`;
* after the last block of output, the fetch of its kernels' bias and scale: 10 bytes of each, and the latency of the
  outer memory for every 256 bytes. The compiler chooses a block's depth; `BLOCK_KERNELS` is a fit to the fully
  connected rows of the U65-256;
* element-wise operators: elements, padded to bricks of 16 channels, times Vela's cycles per element, or the SRAM's
  time to bring 32 bits of each in and out, whichever is more.

What is known to be missing: the compression of weights (rows bound by flash come out too slow), the time to fill and
drain each block of the output, pooling's sub-kernels of 8 x 8, and which small tensors of the softmax the compiler
puts into the outer memory.

Sources of the machines: ethos-u-vela, architecture_features.py and npu_performance.py (Arm, Apache-2.0), a release of
2021 (github.com/nxp-imx/ethos-u-vela); figures that 5.2.0 may have changed were not at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from hw_models.explore.overrides import with_overrides
from hw_models.load import load
from hw_models.mapping.search import best_mapping
from hw_models.profile import HardwareProfile
from hw_models.validation.data_files import read_rows
from hw_models.validation.ethos_u_layers import CLASSES, MODELS, WITHOUT_WEIGHTS
from hw_models.validation.table import Point
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.trace import GemmEvent

SOURCE = "Arm Vela 5.2.0, Ethos-U"

#: The parts of which an operator takes the greatest.
PARTS = ("NPU", "SRAM AC", "DRAM AC", "OnFlash AC", "OffFlash AC")

BRICK = 16
BYTES_PER_KERNEL = 10
BYTES_PER_FETCH = 256
BYTES_IN_AND_OUT = 8

#: Kernels of a block of output: a fit to the rows of FITTED, which are no evidence for it.
BLOCK_KERNELS = 32
FITTED = ("ethos-u65-256", "ad01_int8")

#: Softmax's first subtraction takes the classifier's 8-bit scores; from the 25th to the 46th operator it works on the
#: reciprocal of one sum.
_FIRST_SUB = 21
_RECIPROCAL = range(25, 47)


@dataclass(frozen=True, kw_only=True)
class Size:
    """A machine of the family.

    Attributes:
        columns, pixel_rows, pixel_columns, cores: Kernels and output pixels at once, and cores.
        frequency_hz, sram_bytes, outer_bytes: Clock, and bytes a cycle of the two memories' ports.
        outer_latency: Cycles until the outer memory answers.
        unary, binary, scaled: Cycles for an element of an operator on 32-bit integers with one and with two operands,
            and of one that rescales 8-bit integers.
    """

    columns: int
    pixel_rows: int
    pixel_columns: int
    cores: int
    frequency_hz: int
    sram_bytes: int
    outer_bytes: int
    outer_latency: int
    unary: float
    binary: float
    scaled: float

    @property
    def profile(self) -> HardwareProfile:
        """`ethos_u55` scaled to this machine, with an outer memory that never stalls: weights are counted apart."""
        pixels = self.pixel_rows * self.pixel_columns
        return with_overrides(
            load("ethos_u55"),
            {
                "clock.frequency_hz": self.frequency_hz,
                "array.columns": self.columns,
                "array.pixel_rows": self.pixel_rows,
                "array.pixel_columns": self.pixel_columns,
                "array.arrays": self.cores,
                "memory.shared_buffer.bandwidth_bytes_per_cycle": 8
                * pixels
                * (1 + self.columns)
                * self.cores,
                "memory.weight_buffer.bandwidth_bytes_per_cycle": 16 * self.cores,
                "memory.sram.bandwidth_bytes_per_cycle": self.sram_bytes,
                "memory.dram.bandwidth_bytes_per_second": 10**15,
            },
        )


def _size(
    columns: int, pixels: tuple[int, int], cores: int, speeds: tuple[float, float, float], *, u65: bool
) -> Size:
    return Size(
        columns=columns,
        pixel_rows=pixels[0],
        pixel_columns=pixels[1],
        cores=cores,
        frequency_hz=1_000_000_000 if u65 else 500_000_000,
        sram_bytes=16 if u65 else 8,
        outer_bytes=12 if u65 else 1,
        outer_latency=500 if u65 else 64,
        unary=speeds[0],
        binary=speeds[1],
        scaled=speeds[2],
    )


SIZES = {
    "ethos-u55-32": _size(4, (1, 1), 1, (2.0, 3.0, 6.0), u65=False),
    "ethos-u55-64": _size(8, (1, 1), 1, (1.0, 1.5, 3.0), u65=False),
    "ethos-u55-128": _size(8, (1, 2), 1, (0.75, 1.25, 1.5), u65=False),
    "ethos-u55-256": _size(8, (2, 2), 1, (0.625, 1.125, 0.75), u65=False),
    "ethos-u65-256": _size(8, (2, 2), 1, (0.625, 1.125, 0.75), u65=True),
    "ethos-u65-512": _size(8, (2, 2), 2, (0.3125, 0.5625, 0.375), u65=True),
}


def _rounded(value: int, step: int) -> int:
    return -(-value // step) * step


def gemm_cycles(event: GemmEvent, size: Size) -> float:
    """Cycles of a layer: the greatest of the array, the on-chip memories and the weights' way in."""
    profile = size.profile
    mapping = best_mapping(event, profile, lhs_bits=8, rhs_bits=8, mode=profile.array.modes[0])
    if event.layer in WITHOUT_WEIGHTS:
        return float(mapping.cycles)
    stream = mapping.traffic.bits("weight_buffer") / (
        8 * profile.memory.levels["weight_buffer"].bandwidth_bytes_per_cycle
    )
    last_block = BYTES_PER_KERNEL * min(event.N, BLOCK_KERNELS) * size.outer_latency / BYTES_PER_FETCH
    weights = (event.K + BYTES_PER_KERNEL) * event.N / size.outer_bytes
    return max(max(mapping.compute_cycles, stream) + last_block, float(mapping.cycles), weights)


#: The element-wise operators of the softmax behind the classifier: one with a single operand, and those with two.
_UNARY = ("CLZ",)
_BINARY = ("Sub", "Add", "Mul", "Asr", "SHL")


def elementwise_cycles(operator: str, elements: int, size: Size, *, rescales: bool) -> float:
    """Cycles of an element-wise operator.

    Args:
        operator: Vela's name.
        elements: Elements of its result.
        size: The machine.
        rescales: Whether it takes 8-bit operands of different scales.

    Raises:
        ValueError: An operator that is not element-wise.
    """
    if operator not in (*_UNARY, *_BINARY):
        raise ValueError(unknown("element-wise operator", operator, (*_UNARY, *_BINARY)))
    each = size.scaled if rescales else size.unary if operator in _UNARY else size.binary
    return _rounded(elements, BRICK) * max(each, BYTES_IN_AND_OUT / size.sram_bytes)


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
        modelled = elementwise_cycles(operator, _elements(index), size, rescales=index == _FIRST_SUB)
        kind, workload = "element-wise", f"softmax {index} {operator}"
    return Point(
        source=SOURCE,
        machine=f"ethos_u55 scaled to {row['accelerator']}",
        workload=f"{row['model']}: {workload}",
        quantity=f"cycles, {kind}",
        published=float(row["Op Cycles"]),
        modelled=modelled,
        unit="cycles",
        note=_bound(row),
    )


def _elements(index: int) -> int:
    return 1 if index in _RECIPROCAL else CLASSES


def _bound(row: dict[str, str]) -> str:
    greatest = max(PARTS, key=lambda part: float(row[part]))
    fitted = (
        "; a block's depth is a fit to these rows" if (row["accelerator"], row["model"]) == FITTED else ""
    )
    return f"bound by {greatest.removesuffix(' AC')} in Vela{fitted}"
