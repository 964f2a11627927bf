"""Whether every kind of accumulator gives the CPU's bits on this device: values, and overflows where counted.

The expected results are the CPU's, whose kernels equal the definition on every input that the tests have.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.gpu.rows import Rows
from benchmarks.gpu.task import Record, Task, tell

if TYPE_CHECKING:
    from lowbit_sim.arith.float_mac import FloatMacUnit
    from lowbit_sim.arith.mac import MacUnit

#: M, K and N: within one program, around its edges, and a layer of ResNet-20.
SHAPES = ((17, 300, 9), (130, 577, 65), (4096, 288, 32))
FLOAT_SHAPES = ((17, 100, 9), (65, 300, 40))

_OPERANDS = {torch.int8: (-128, 127), torch.uint8: (0, 255), torch.int16: (-3000, 3000)}

Shape = tuple[int, int, int]


def integer_units() -> list[MacUnit]:
    """Each pair of rules at least once, lanes of 32 and of 64 bits, and products from a table."""
    import numpy as np

    from lowbit_sim.arith.mac import MacUnit
    from lowbit_sim.arith.products import ProductTable

    places = itertools.product(("wrap", "saturate", "saturate_symmetric"), ("addition", "chunk", "outer"))
    units = [
        MacUnit(accumulator_bits=15, overflow=overflow, overflow_at=at, chunk=chunk, outer_bits=outer)
        for overflow, at in places
        for chunk, outer in ((0, None), (32, 20), (21, 13))
    ]
    modes = ("down", "up", "toward_zero", "nearest_even", "nearest_away")
    units += [
        MacUnit(accumulator_bits=16, overflow="saturate", chunk=16, truncated_bits=3, truncation=mode)
        for mode in modes
    ]
    units += [MacUnit(accumulator_bits=bits, overflow="saturate") for bits in (8, 12, 20, 24, 31, 33, 40)]
    units += [
        MacUnit(order="tree"),
        MacUnit(accumulator_bits=16, overflow="saturate", order="tree"),
        MacUnit(accumulator_bits=16, overflow="saturate", order="tree", chunk=32, outer_bits=24),
    ]
    table = np.random.default_rng(0).integers(-(2**14), 2**14, (256, 256))
    units.append(
        MacUnit(
            accumulator_bits=20, overflow="saturate", products=ProductTable(bits=8, signed=True, table=table)
        )
    )
    return units


def float_units() -> list[FloatMacUnit]:
    """Every rounding, chunks, compensated sums, rounded products, and the machine's own float32."""
    from lowbit_sim.arith.float_mac import FloatMacUnit
    from lowbit_sim.numerics.catalog import BF16, FP8_E4M3FN, FP16, FP32
    from lowbit_sim.numerics.rounding import Rounding, RoundingMode

    units = [
        FloatMacUnit(
            accumulator=FP16,
            rounding=Rounding(mode, random_bits=8 if mode == RoundingMode.STOCHASTIC else 0),
        )
        for mode in RoundingMode
    ]
    stochastic = [
        FloatMacUnit(accumulator=BF16, rounding=Rounding("stochastic", random_bits=bits), chunk=7)
        for bits in (3, 12, 20)
    ]
    others = [
        FloatMacUnit(),
        FloatMacUnit(chunk=16),
        FloatMacUnit(accumulator=FP16, chunk=32, outer=FP32),
        FloatMacUnit(accumulator=BF16, kahan=True),
        FloatMacUnit(accumulator=FP16, product=FP8_E4M3FN),
    ]
    return [*units, *stochastic, *others]


def random_codes(shape: tuple[int, int], dtype: torch.dtype, seed: int) -> Tensor:
    """Codes of a whole range, with extremes in the first row and column, where sums overflow soonest."""
    low, high = _OPERANDS[dtype]
    codes = torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))
    codes[0], codes[:, 0] = high, low
    return codes.to(dtype)


def check_integers(seconds: float, device: str = "cuda", shapes: Sequence[Shape] = SHAPES) -> Record:
    """Every integer unit by the fastest way and by the kernel, against the CPU."""
    from lowbit_sim.arith.backends import triton_gpu
    from lowbit_sim.arith.gemm import run_gemm

    rows = Rows(seconds, quiet=True)
    for number, mac in enumerate(integer_units()):
        dtypes = [torch.int8] if mac.products else list(_OPERANDS)
        for (m, k, n), dtype in itertools.product(shapes, dtypes):
            a, b = random_codes((m, k), dtype, number), random_codes((k, n), torch.int8, number + 1)
            x, y = a.to(device), b.to(device)
            expected = functools.cache(partial(run_gemm, a, b, mac))
            ways: dict[str, Callable[[], Any]] = {"fastest": partial(run_gemm, x, y, mac)}
            if triton_gpu.why_not(mac, x, y, True) is None:
                ways["kernel"] = partial(run_gemm, x, y, mac, backend=triton_gpu.NAME)
            for way, run in ways.items():
                known = _known(str(mac), (m, k, n), str(dtype), way)
                rows.add(known, lambda run=run, expected=expected: _compared(run(), expected()))
        _told(rows, str(mac))
    return rows.record(all_equal=rows.all("equal"))


def check_floats(seconds: float, device: str = "cuda", shapes: Sequence[Shape] = FLOAT_SHAPES) -> Record:
    """Every floating-point unit by the kernel, on operands of bfloat16 and of float32, against the CPU."""
    from lowbit_sim.arith.float_gemm import run_float_gemm
    from lowbit_sim.arith.float_triton import NAME
    from lowbit_sim.numerics.random import Stream

    rows, stream = Rows(seconds, quiet=True), Stream(seed=3, step=1, site=4, operand=1, offset=5)
    for mac, (m, k, n), dtype in itertools.product(float_units(), shapes, (torch.bfloat16, torch.float32)):
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(*s, generator=generator).to(dtype).float() for s in ((m, k), (k, n)))
        on_cpu = partial(run_float_gemm, a, b, mac, stream=stream)
        on_device = partial(run_float_gemm, a.to(device), b.to(device), mac, stream=stream, backend=NAME)
        known = _known(str(mac), (m, k, n), str(dtype), "kernel")
        rows.add(known, lambda one=on_device, other=on_cpu: _compared_floats(one(), other()))
        _told(rows, str(mac))
    return rows.record(all_equal=rows.all("equal"))


def check_blocks(seconds: float, device: str = "cuda", shape: Shape = (70, 320, 33)) -> Record:
    """Block-scaled operands, in integers and in floats, with sums across blocks in float32 and in bfloat16."""
    from lowbit_sim.arith.block_gemm import run_block_gemm
    from lowbit_sim.arith.float_mac import FloatMacUnit
    from lowbit_sim.arith.mac import MacUnit
    from lowbit_sim.numerics.catalog import BF16, FP16

    rows, (m, k, n), block = Rows(seconds), shape, 32
    generator = torch.Generator().manual_seed(0)
    scales = [torch.rand(*s, generator=generator) for s in ((m, -(-k // block)), (-(-k // block), n))]
    codes = [random_codes(s, torch.int8, i) for i, s in enumerate(((m, k), (k, n)))]
    values = [x.to(torch.float32) / 64 for x in codes]
    inner = [(MacUnit(), codes), (MacUnit(accumulator_bits=14, overflow="saturate"), codes)]
    inner += [(FloatMacUnit(accumulator=FP16), values)]
    for (mac, operands), across in itertools.product(inner, (FloatMacUnit(), FloatMacUnit(accumulator=BF16))):
        unit = partial(run_block_gemm, block=block, mac=mac, across=across)
        on_device, on_cpu = (
            partial(unit, *(x.to(where) for x in (*operands, *scales))) for where in (device, "cpu")
        )
        known = _known(f"{mac} across {across}", shape, str(operands[0].dtype), "fastest")
        rows.add(known, lambda one=on_device, other=on_cpu: _compared(one(), other()))
    return rows.record(all_equal=rows.all("equal"))


def _known(unit: str, shape: Shape, dtype: str, way: str) -> Record:
    return {"unit": unit, "shape": list(shape), "dtype": dtype, "way": way}


def _told(rows: Rows, unit: str) -> None:
    """Progress: rows that agree are not told one by one."""
    tell(f"{len(rows.rows)} rows, the last of {unit}")


def _compared_floats(found: Any, expected: Any) -> Record:
    swamped = {"swamped": found.swamped, "swamped_on_cpu": expected.swamped}
    return _compared(found, expected) | swamped


def _compared(found: Any, expected: Any) -> Record:
    same = torch.equal(_bits(found.values.cpu()), _bits(expected.values))
    counts = found.overflows == expected.overflows and found.swamped == expected.swamped
    return {
        "backend": found.backend,
        "overflows": found.overflows,
        "overflows_on_cpu": expected.overflows,
        "equal": same and counts,
    }


def _bits(values: Tensor) -> Tensor:
    """The bits of float32 values, so that signs of zeros count; integers as they are."""
    return values.view(torch.int32) if values.dtype == torch.float32 else values


TASKS = [
    Task(
        name="gemm_bits_integer",
        summary="Integer accumulators: values and overflows against the CPU's.",
        seconds=150,
        work=check_integers,
        needs=("numba", "triton"),
    ),
    Task(
        name="gemm_bits_float",
        summary="Floating-point accumulators: bits and counts against the CPU's.",
        seconds=150,
        work=check_floats,
        needs=("numba", "triton"),
    ),
    Task(
        name="gemm_bits_blocks",
        summary="Block-scaled GEMMs: bits and counts against the CPU's.",
        seconds=120,
        work=check_blocks,
        needs=("numba", "triton"),
    ),
]
