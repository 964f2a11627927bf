"""RaPiD: the share of the peak that training sustains, against the `rapid_hfp8` profile.

Venkataramani et al., ISCA 2021 (abstract): four chips of 32 cores train in HFP8 with a mini-batch of 512 at 203
TFLOPS on average over networks, 102 to 588, of a peak of 768: 26 %, 13 to 77 %. The paper's figures are a model's
too, calibrated to silicon within 1 %. Which network lies where is not in the abstract, so that the range is the limit
and the average no more than a hint.

A step is ResNet-50's with 128 images on each of four chips that add up their gradients, with activations of 16 bits.
The first one is written by hand (`training_step`). What decides is element-wise work: with the usual fusion the share
lies in the range, with every operator on its own just below it. Zeros that a stride inserts are no use of the array.

The second one is traced from PyTorch (`traced_points`), with the profile's `activations`. Less of it is fused, as
`fusion` joins neighbours alone: a rectifier's result is written in 16 bits, read once more and written as codes,
where the step by hand writes codes; the gradient of a layer's input goes out and comes back around the GEMM of its
weight; and a scale of each tensor must be found before its codes are written. RaPiD's operands have a programmable
exponent bias and no such scale: with casts in their place the codes are made in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from hw_models.estimate import estimate
from hw_models.explore.overrides import with_overrides
from hw_models.load import load
from hw_models.validation.data_files import silicon_rows
from hw_models.validation.layers import resnet50
from hw_models.validation.table import Limit, Point
from hw_models.validation.training_step import training_step
from lowbit_sim.trace import GemmEvent, WorkloadTrace

SOURCE = "Venkataramani et al., ISCA 2021, abstract"
PEAK_TFLOPS = 768.0
LEAST_TFLOPS, MOST_TFLOPS = 102.0, 588.0
CHIPS = 4
IMAGES_PER_CHIP = 128


def _batched(layer: GemmEvent) -> GemmEvent:
    conv = layer.conv and replace(layer.conv, batch=IMAGES_PER_CHIP)
    return replace(layer, M=IMAGES_PER_CHIP * layer.M, conv=conv)


@cache
def sustained_percent(*, fused: bool) -> float:
    """Useful multiply-accumulates of a step of ResNet-50 in percent of the peak in its time.

    Args:
        fused: Whether element-wise work is fused.
    """
    profile = load("rapid_hfp8")
    if not fused:
        profile = with_overrides(profile, {"vector.fuses": False})
    step = training_step([_batched(layer) for layer in resnet50()], profile, fused=fused)
    report = estimate(step, profile, devices=CHIPS)
    return 100 * report.utilization


def _peak() -> Iterator[Point]:
    profile = load("rapid_hfp8")
    mode = next(m for m in profile.array.modes if (m.kind, m.operand_bits) == ("float", 8))
    modelled = 2 * CHIPS * profile.array.macs_per_cycle(mode) * profile.clock.frequency_hz / 1e12
    yield Point(
        source=SOURCE,
        machine="rapid_hfp8",
        workload="4 chips",
        quantity="peak",
        published=PEAK_TFLOPS,
        modelled=modelled,
        unit="TFLOPS",
    )


def _average_tflops() -> float:
    return next(float(row["value"]) for row in silicon_rows("4 x 32-core RaPiD"))


def traced_points(step: WorkloadTrace, step_of_casts: WorkloadTrace) -> list[Point]:
    """The share of a step that was traced from PyTorch, against the lowest published one.

    Args:
        step: ResNet-50's step with `IMAGES_PER_CHIP` images and the numerics of `rapid_hfp8`.
        step_of_casts: The same with operands that are cast to their formats without a scale.
    """
    profile = load("rapid_hfp8")
    traced = "ResNet-50 step traced from PyTorch"
    notes = {
        traced: (step, "the profile's numerics: a scale for each tensor, found in a pass of its own"),
        f"{traced}, casts": (step_of_casts, "operands cast without a scale, as an exponent bias does"),
    }
    return [
        Point(
            source=SOURCE,
            machine="rapid_hfp8",
            workload=workload,
            quantity="sustained share of the peak",
            published=100 * LEAST_TFLOPS / PEAK_TFLOPS,
            modelled=100 * estimate(trace, profile, devices=CHIPS).utilization,
            unit="%",
            note=note,
            limit="at least",
        )
        for workload, (trace, note) in notes.items()
    ]


def _share(tflops: float, *, fused: bool, limit: Limit = "", note: str) -> Point:
    return Point(
        source=SOURCE,
        machine="rapid_hfp8",
        workload="ResNet-50 training, 4 x 128 images" + ("" if fused else ", nothing fused"),
        quantity="sustained share of the peak",
        published=100 * tflops / PEAK_TFLOPS,
        modelled=sustained_percent(fused=fused),
        unit="%",
        note=note,
        limit=limit,
    )


def points() -> list[Point]:
    """The peak, and the sustained share against the published range and average."""
    return [
        *_peak(),
        _share(LEAST_TFLOPS, fused=True, limit="at least", note="the lowest of the networks"),
        _share(MOST_TFLOPS, fused=True, limit="at most", note="the highest of the networks"),
        _share(_average_tflops(), fused=True, note="the average of the networks: a hint"),
        _share(
            _average_tflops(),
            fused=False,
            note="each element-wise operator reads and writes the memory outside",
        ),
    ]
