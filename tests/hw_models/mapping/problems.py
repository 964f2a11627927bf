"""Problems, memories and mappings to test with."""

from typing import Any

from hypothesis import strategies as st

from hw_models.compute.dispatch import array_work
from hw_models.mapping.machine import Level, Memories
from hw_models.mapping.problem import DRAM, Beside, Problem, region_of
from hw_models.mapping.tiling import ORDERS, Tiling
from hw_models.schema.array import Array, Mode
from lowbit_sim.trace import ConvGeometry, GemmEvent, Operand

MODE = Mode(source="assumption: for a test", operand_bits=8, macs_per_pe_per_cycle=1)
INT8 = Operand(format="int8", bits=8)


def array(**changes: Any) -> Array:
    fields = {
        "source": "assumption: for a test",
        "rows": 2,
        "columns": 2,
        "arrays": 1,
        "dataflow": "ws",
        "modes": (MODE,),
    }
    return Array(**(fields | changes))


def gemm(M: int, N: int, K: int, **changes: Any) -> GemmEvent:
    fields: dict[str, Any] = {
        "role": "output",
        "lhs": INT8,
        "rhs": INT8,
        "accumulator_bits": 32,
        "overflow": "wrap",
        "outer_bits": 32,
    }
    return GemmEvent(M=M, N=N, K=K, **(fields | changes))


def convolution(role: str, geometry: ConvGeometry, **changes: Any) -> GemmEvent:
    """The GEMM of a role of a convolution."""
    conv = geometry
    ins, outs = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    window = conv.kernel_height * conv.kernel_width
    pixels = conv.batch * conv.out_height * conv.out_width
    sizes = {
        "output": (pixels, outs, window * ins),
        "grad_input": (conv.batch * conv.in_height * conv.in_width, ins, window * outs),
        "grad_weight": (outs, window * ins, pixels),
    }[role]
    return gemm(*sizes, role=role, conv=conv, count=conv.groups, **changes)


def geometry(
    *,
    batch: int = 1,
    channels: int = 2,
    size: int = 5,
    filters: int = 3,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> ConvGeometry:
    out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return ConvGeometry(
        batch=batch,
        in_channels=channels,
        in_height=size,
        in_width=size,
        out_channels=filters,
        out_height=out,
        out_width=out,
        kernel_height=kernel,
        kernel_width=kernel,
        stride=(stride, stride),
        dilation=(dilation, dilation),
        groups=groups,
    )


def problem(event: GemmEvent, machine: Array | None = None, **changes: Any) -> Problem:
    work = array_work(event, machine or array(), MODE)
    fields: dict[str, Any] = {
        "sizes": (event.M, event.N, event.K),
        "bits": (8, 8, 32),
        "work": work,
        "region": region_of(event),
    }
    return Problem(**(fields | changes))


def level(name: str, stage: int, holds: tuple[str, ...], **changes: Any) -> Level:
    fields: dict[str, Any] = {
        "tile_bits": 1 << 30,
        "bits_per_cycle": 64,
        "read_pj_per_bit": 1.0,
        "write_pj_per_bit": 2.0,
        "double_buffered": True,
    }
    return Level(name=name, stage=stage, holds=holds, **(fields | changes))


def memories(*levels: Level, **changes: Any) -> Memories:
    fields: dict[str, Any] = {
        "stages": 1 + max(lv.stage for lv in levels),
        "dram_bits_per_second": 8000,
        "frequency_hz": 1000,
        "dram_read_pj_per_bit": 10.0,
        "dram_write_pj_per_bit": 20.0,
        "arrays": 1,
        "startup_cycles": 0,
    }
    return Memories(levels=levels, **(fields | changes))


ONE_STAGE = memories(level("sram", 0, ("lhs", "rhs")), level("accumulator", 0, ("result",)))
TWO_STAGES = memories(
    level("sram", 0, ("lhs", "rhs")),
    level("accumulator", 0, ("result",)),
    level("cache", 1, ("lhs", "rhs", "result"), read_pj_per_bit=3.0, write_pj_per_bit=4.0),
)
BYPASSED = memories(level("registers", 0, ("rhs",)), level("cache", 1, ("lhs", "result")))
UNBUFFERED = memories(
    level("sram", 0, ("lhs", "rhs"), double_buffered=False), level("accumulator", 0, ("result",))
)

#: Widths of a problem: whole bits, results that leave as codes, and elements with a share of a block's scale.
CODES = {"finished_bits": 8}
SHARES = {"bits": (4 * 4 + 1, 4 * 4 + 2, 4 * 32), "finished_bits": 4 * 8, "units_per_bit": 4}
WIDTHS: list[dict[str, Any]] = [{}, CODES, SHARES]

sizes = st.integers(1, 9)


@st.composite
def events(draw: st.DrawFn) -> GemmEvent:
    if draw(st.booleans()):
        return gemm(draw(sizes), draw(sizes), draw(sizes), count=draw(st.integers(1, 3)))
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    shape = geometry(
        batch=draw(st.integers(1, 2)),
        channels=draw(st.integers(1, 3)),
        size=draw(st.integers(kernel, 5)),
        filters=draw(st.integers(1, 3)),
        kernel=kernel,
        stride=stride,
        padding=draw(st.integers(0, kernel // 2)),
    )
    return convolution(draw(st.sampled_from(["output", "grad_input", "grad_weight"])), shape)


def others() -> st.SearchStrategy[Beside]:
    """Work beside a GEMM, or none."""
    names = ("sram", "accumulator", "cache", "registers", DRAM)
    bits = st.dictionaries(st.sampled_from(names), st.integers(1, 20_000))
    return st.builds(
        lambda cycles, moved: Beside(cycles=cycles, bits=tuple(sorted(moved.items()))),
        st.integers(0, 2000),
        bits,
    )


@st.composite
def tilings(draw: st.DrawFn, shape: tuple[int, int, int], stages: int) -> Tiling:
    """Tiles of every stage, whether they divide what they cut or not, and orders."""
    tiles: list[tuple[int, ...]] = []
    around = shape
    for _ in range(stages):
        around = tuple(draw(st.integers(1, s)) for s in around)
        tiles.insert(0, around)
    orders = tuple(draw(st.sampled_from(ORDERS)) for _ in range(stages))
    return Tiling(tiles=tuple(tiles), orders=orders)  # type: ignore[arg-type]
