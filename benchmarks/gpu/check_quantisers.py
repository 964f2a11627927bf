"""Whether the device's quantisers give the CPU's bits: every format and rounding, whole quantisers, far elements."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

import lowbit_sim as lb
from benchmarks.gpu.rows import Rows
from benchmarks.gpu.task import Record, Task
from lowbit_sim.numerics.catalog import CATALOG, parse_format
from lowbit_sim.numerics.encode import check_rounding, code_range, decode
from lowbit_sim.numerics.formats import BlockFormat, CodebookFormat, ElementFormat, FloatFormat, Format
from lowbit_sim.numerics.rounding import RoundingMode
from lowbit_sim.quant.codes import to_codes
from lowbit_sim.quant.granularity import Granularity
from lowbit_sim.quant.qtensor import QTensor, code_dtype
from lowbit_sim.quant.scaling import (
    EmaScale,
    LearnedScale,
    MseScale,
    PercentileScale,
    SawbScale,
    ScaleRule,
    ScaleState,
)

#: What the catalogue has not: fixed point, flushed and deep subnormals, uneven values.
SAMPLES: tuple[ElementFormat, ...] = (
    parse_format("fixed<8,6>"),
    parse_format("fixed<16,-112>"),
    parse_format("fixed<4,149,symmetric>"),
    FloatFormat(exponent_bits=4, mantissa_bits=3, bias=7, has_subnormals=False),
    FloatFormat(exponent_bits=4, mantissa_bits=4, bias=140, has_infinity=False, has_nan=False),
    FloatFormat(exponent_bits=5, mantissa_bits=2, bias=147, has_subnormals=False),
    CodebookFormat(values=(-3.0, -1.0, 2.0), name="without_zero"),
    CodebookFormat(values=(2.0**-20, 2.0**23), name="far_apart"),
)  # pyright: ignore[reportAssignmentType]

EDGES = (
    0.0,
    2.0**-149,
    1e-40,
    2.0**-126,
    1e-30,
    2.0**24,
    2.0**31,
    1e30,
    2.0**127,
    3.4028234663852886e38,
    float("inf"),
)

#: An offset that is no whole number of Philox blocks, and one that is, in the high half of the counter.
STREAMS = (
    lb.Stream(seed=3, step=1, site=4, operand=1, offset=5),
    lb.Stream(seed=2**32 - 1, step=2**31, offset=2**40),
)

GRANULARITIES: tuple[tuple[Granularity, tuple[int, ...]], ...] = (
    (lb.PerTensor(), (300, 70)),
    (lb.PerAxis(0), (64, 33, 3, 3)),
    (lb.PerAxis(1), (8, 24, 14, 14)),
    (lb.PerAxis(-1), (130, 77)),
    (lb.PerSample(), (6, 3, 32, 32)),
    (lb.PerGroup(4, 1), (5, 18, 7, 7)),
    (lb.PerBlock(32), (40, 96)),
    (lb.PerBlock(16), (3, 5, 50)),
)

RULES: tuple[ScaleRule, ...] = (
    lb.AbsMaxScale(),
    lb.PowerOfTwoScale(),
    EmaScale(0.9),
    LearnedScale(),
    PercentileScale(99.0),
    SawbScale(),
    MseScale(),
)


def element_codes(seconds: float, device: str = "cuda", formats: tuple[Format, ...] | None = None) -> Record:
    """Every rounding of every format of single numbers, against the CPU."""
    every = (*CATALOG.values(), *SAMPLES) if formats is None else formats
    elements = [fmt for fmt in every if not isinstance(fmt, BlockFormat)]
    rows = Rows(seconds)
    for fmt in elements:
        rows.add({"format": str(fmt)}, partial(_compared_codes, fmt, device))
    return rows.record(all_equal=rows.all("equal"))


def _compared_codes(fmt: ElementFormat, device: str) -> Record:
    x = probes(fmt)
    checks = [
        int((_codes(x, fmt, how, stream, device) != _codes(x, fmt, how, stream, "cpu")).sum())
        for how in roundings(fmt)
        for stream in STREAMS[: 2 if how.is_stochastic else 1]
    ]
    different = sum(checks)
    return {"elements": x.numel(), "checks": len(checks), "different": different, "equal": not different}


def _device(name: str) -> torch.device:
    """Where the next codes are computed."""
    return torch.device(name)


def _codes(x: Tensor, fmt: ElementFormat, how: lb.Rounding, stream: lb.Stream, device: str) -> Tensor:
    where = _device(device)
    scale = torch.ones(1, device=where)
    return to_codes(x.to(where), scale, None, lb.PerTensor(), fmt, how, stream).cpu()


def roundings(fmt: ElementFormat) -> Iterator[lb.Rounding]:
    """The roundings that a format can have, with random bits of each width of a draw."""
    for overflow, mode in itertools.product(("saturate", "wrap", "infinity"), RoundingMode):
        for bits in (8, 16, 32) if mode == RoundingMode.STOCHASTIC else (0,):
            how = lb.Rounding(mode, overflow, bits)
            try:
                check_rounding(fmt, how)
            except ValueError:
                continue
            yield how


def probes(fmt: ElementFormat, most: int = 2000) -> Tensor:
    """Values of the format, points between them, the float32 neighbours of both, and the edges of float32."""
    low, high = code_range(fmt)
    codes = np.unique(np.linspace(low, high, min(most, high - low + 1)).round().astype(np.int64))
    values = decode(torch.from_numpy(codes).to(code_dtype(fmt)), fmt).double().numpy()
    values = np.unique(values[np.isfinite(values)])
    steps = np.diff(values)
    ends = (values[0] - steps[0] * np.arange(1, 4) / 2, values[-1] + steps[-1] * np.arange(1, 4) / 2)
    points = np.concatenate([values, *(values[:-1] + steps * part for part in (0.25, 0.5, 0.75)), *ends])
    points = points[np.abs(points) <= np.finfo(np.float32).max].astype(np.float32)
    near = [np.nextafter(points, np.float32(limit)) for limit in (-3e38, 3e38)]
    edges = np.array(EDGES, dtype=np.float32)
    return torch.from_numpy(np.unique(np.concatenate([points, *near, edges, -edges])))


def whole_quantizers(seconds: float, device: str = "cuda") -> Record:
    """Codes, scales and zero points of every granularity, scale rule and block format, against the CPU.

    The search for the least error needs SciPy, and is left out where that is missing.
    """
    rows = Rows(seconds)
    for quantizer, shape in _cases():
        known = {"quantizer": f"{quantizer}, {type(quantizer.scale).__name__}", "shape": list(shape)}
        rows.add(known, partial(_compared_quantizer, quantizer, shape, device))
    return rows.record(all_equal=rows.all("equal"))


def _compared_quantizer(quantizer: lb.Quantizer, shape: tuple[int, ...], device: str) -> Record:
    found, expected = (_quantized(quantizer, shape, where) for where in (device, "cpu"))
    return {"equal": _equal(found, expected)}


def _cases() -> Iterator[tuple[lb.Quantizer, tuple[int, ...]]]:
    how = lb.Rounding("stochastic", random_bits=8)
    for granularity, shape in GRANULARITIES:
        yield lb.Quantizer(parse_format("int4"), granularity=granularity, rounding=how), shape
        affine = lb.MinMaxScale()
        yield lb.Quantizer(parse_format("uint8"), granularity=granularity, scale=affine, rounding=how), shape
    for rule in _rules():
        yield lb.Quantizer(parse_format("int8"), granularity=lb.PerAxis(0), scale=rule), (6, 500)
    for fmt in CATALOG.values():
        if isinstance(fmt, BlockFormat):
            yield lb.Quantizer(fmt), (30, 100)


def _rules() -> tuple[ScaleRule, ...]:
    return RULES if find_spec("scipy") else tuple(rule for rule in RULES if not isinstance(rule, MseScale))


def _quantized(quantizer: lb.Quantizer, shape: tuple[int, ...], device: str) -> QTensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) * torch.randn(shape, generator=generator).exp()
    state = ScaleState() if quantizer.is_stateful else None
    return quantizer(x.to(_device(device)), stream=lb.Stream(seed=5, offset=32), state=state)


def _equal(found: QTensor, expected: QTensor) -> bool:
    pairs = [
        (found.codes, expected.codes),
        (found.scale, expected.scale),
        (found.dequantize(), expected.dequantize()),
    ]
    if expected.zero_point is not None and found.zero_point is not None:
        pairs.append((found.zero_point, expected.zero_point))
    same = (found.zero_point is None) == (expected.zero_point is None)
    return same and all(torch.equal(a.cpu(), b) for a, b in pairs)


def far_elements(
    seconds: float,
    device: str = "cuda",
    elements: int = 2**31 + 2**20,
    border: int = 2**31,
    width: int = 4096,
) -> Record:
    """Elements on both sides of index 2^31 of one tensor, against the CPU's codes of those parts alone.

    Args:
        device: Where the whole tensor is.
        elements: Its size; it, the border and the width are multiples of a block.
        border: An index of interest.
        width: Elements of a part.
    """
    stochastic = lb.Rounding("stochastic", random_bits=8)
    quantizers = (
        lb.Quantizer(parse_format("int8"), scale=lb.FixedScale(2.0**-6), rounding=stochastic),
        lb.Quantizer(parse_format("mxfp8_e4m3"), rounding=stochastic),
    )
    where, rows, far = _device(device), Rows(seconds), 2**33
    x = torch.randn(elements, generator=torch.Generator(where).manual_seed(0), device=where)
    for quantizer in quantizers:
        _device(device)
        codes = quantizer(x, stream=lb.Stream(seed=1, offset=far)).codes
        for start in (0, border - width // 2, elements - width):
            part, place = slice(start, start + width), lb.Stream(seed=1, offset=far + start)
            known = {"quantizer": str(quantizer), "start": start}
            rows.add(known, partial(_compared_part, quantizer, x[part], place, codes[part]))
    return rows.record(elements=elements, all_equal=rows.all("equal"))


def _compared_part(quantizer: lb.Quantizer, x: Tensor, place: lb.Stream, found: Tensor) -> Record:
    expected = quantizer(x.to(_device("cpu")), stream=place).codes
    return {"equal": torch.equal(found.cpu(), expected)}


TASKS = [
    Task(
        name="quantiser_codes",
        summary="Codes of every format and rounding against the CPU's.",
        seconds=150,
        work=element_codes,
        needs=("triton", "numba"),
    ),
    Task(
        name="quantisers",
        summary="Whole quantisers, scales and zero points, against the CPU's.",
        seconds=120,
        work=whole_quantizers,
        needs=("triton", "numba"),
    ),
    Task(
        name="quantiser_far_elements",
        summary="Random bits and codes of elements beyond index 2^31.",
        seconds=120,
        work=far_elements,
        needs=("triton", "numba"),
    ),
]
