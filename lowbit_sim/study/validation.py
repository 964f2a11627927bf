"""The cost model against published figures, with the points that need a step traced from PyTorch.

`hw_models` knows no models and traces nothing, so that RaPiD's traced steps are made here and priced there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import hw_models
from hw_models.validation import comparisons as published
from hw_models.validation import rapid
from hw_models.validation.table import Comparison, Point
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.config.layer_tables import GEMM_ROLES
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import FixedScale
from lowbit_sim.study.price import model_trace
from lowbit_sim.study.workload_source import IMAGENET_CLASSES, IMAGENET_SHAPE
from lowbit_sim.trace import WorkloadTrace


def comparisons(names: list[str] | None = None) -> dict[str, Comparison]:
    """Comparisons by their names, all of them by default; see `hw_models.validation.comparisons`.

    Raises:
        ValueError: An unknown name.
    """
    chosen = published.comparisons(names)
    return {key: replace(value, points=_rapid) if key == "rapid" else value for key, value in chosen.items()}


@cache
def _rapid() -> list[Point]:
    profile = hw_models.load("rapid_hfp8")
    spec = profile.op_spec()
    own, casts = (_step(profile, each) for each in (spec, _with_casts(spec)))
    return [*published.COMPARISONS["rapid"].points(), *rapid.traced_points(own, casts)]


def _step(profile: hw_models.HardwareProfile, spec: OpSpec) -> WorkloadTrace:
    """ResNet-50's step on one chip."""
    return model_trace(
        "resnet50",
        batch=rapid.IMAGES_PER_CHIP,
        shape=IMAGENET_SHAPE,
        classes=IMAGENET_CLASSES,
        spec=spec,
        activations=profile.activation_spec(),
    )


def _with_casts(spec: OpSpec) -> OpSpec:
    """The numerics with operands cast to their formats, without a scale."""

    def cast(quantizer: Quantizer) -> Quantizer:
        return replace(quantizer, scale=FixedScale(1.0))

    gemms: dict[str, GemmSpec] = {role: getattr(spec, role) for role in GEMM_ROLES}
    return OpSpec(**{role: replace(g, lhs=cast(g.lhs), rhs=cast(g.rhs)) for role, g in gemms.items()})
