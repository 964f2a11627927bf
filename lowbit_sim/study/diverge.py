"""Run two configurations side by side, step by step, and say where they part.

A side is written

    FORMAT | PROFILE | native          that numerics in every layer: "int8", "mxfp4", "tpu_v1", "my_machine.toml"
    STUDY.toml:ARM                     an arm of a study
    ...@BACKEND                        either, with every GEMM forced on one backend: "int8@reference"
    FILE.safetensors                   a run recorded earlier
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import nn

import hw_models
from lowbit_sim.arith.gemm import BACKENDS
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.nn.convert import convert
from lowbit_sim.nn.rules import Rule
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.suggest import did_you_mean, unknown
from lowbit_sim.ops.backend import using_backend
from lowbit_sim.ops.capture import capture
from lowbit_sim.study.arms import build_arm
from lowbit_sim.study.arms import settings as arm_settings
from lowbit_sim.study.config import Study
from lowbit_sim.study.data import Dataset, load
from lowbit_sim.study.divergence import Divergence, first_divergence
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import load_study
from lowbit_sim.study.models import build
from lowbit_sim.study.quantities import counted
from lowbit_sim.study.recordings import RecordedGemm, Recording, load_recording, recorded
from lowbit_sim.training.autocast import forward
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.examples import Examples, shuffled
from lowbit_sim.training.settings import TrainingSettings, build_optimizer

NATIVE = "native"
_RECORDING = ".safetensors"

#: The fields of `Setup` that a study's arm brings itself.
_OF_THE_MODEL = {"model", "width", "data", "batch_size", "learning_rate"}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What both sides share, where a side does not bring its own.

    Attributes:
        model: Name of the model.
        width: Channels of its first stage, or None for its own.
        data: Name of the data set.
        data_root: Folder of the data sets.
        batch_size: Images in a step.
        learning_rate: Of plain stochastic gradient descent with momentum 0.9.
        seed: Of the weights, the order of the images and the random bits.
        steps: Training steps.
    """

    model: str = "small_cnn"
    width: int | None = None
    data: str = "digits"
    data_root: Path | None = None
    batch_size: int = 32
    learning_rate: float = 0.1
    seed: int = 0
    steps: int = 1


@dataclass(frozen=True, kw_only=True)
class Report:
    """How the comparison ended.

    Attributes:
        a, b: The two sides as they were given.
        steps: Steps that both sides have.
        gemms: GEMMs that were compared.
        divergence: Where they part; None if nowhere.
    """

    a: str
    b: str
    steps: int
    gemms: int
    divergence: Divergence | None


def diverge(a: str, b: str, setup: Setup, tolerance: float = 0.0) -> Report:
    """Run two sides until they part.

    Args:
        a: The first side; the module's docstring says how sides are written.
        b: The second side.
        setup: What both share.
        tolerance: See `first_divergence`.

    Raises:
        StudyError: A side that can't be read, or that names what does not exist.
    """
    found, compared, steps = None, 0, 0
    for step, (x, y) in enumerate(zip_longest(_steps(a, setup), _steps(b, setup))):
        if x is None or y is None:
            found = _ended(step, "A" if x is None else "B")
            break
        steps += 1
        compared += min(len(x), len(y))
        found = first_divergence(step, x, y, tolerance)
        if found is not None:
            break
    return Report(a=a, b=b, steps=steps, gemms=compared, divergence=found)


def _ended(step: int, side: str) -> Divergence:
    detail = f"{side} has no more than {counted(step, 'step')}"
    return Divergence(step=step, gemm=0, layer="", role="output", what="order", detail=detail)


def setup_for(sides: Sequence[str], given: dict[str, Any]) -> Setup:
    """The setup of some sides: defaults, over them what recordings ran with, over that what is given.

    Args:
        sides: The sides as they are written.
        given: Fields of `Setup` that the user chose, None for those left out.

    Raises:
        StudyError: Something is given that contradicts a recording or that no side would use.
    """
    given = {key: value for key, value in given.items() if value is not None}
    fields: dict[str, Any] = {}
    for side in (side for side in sides if side.endswith(_RECORDING)):
        recording = load_recording(Path(side))
        for key, value in recording.setup.items():
            if given.get(key, value) != value:
                raise StudyError(f"{side} was recorded with {key} = {value!r}: {given[key]!r} contradicts it")
        fields |= recording.setup | {"steps": len(recording.steps)}
    idle = sorted(given.keys() & _OF_THE_MODEL)
    if idle and not any(map(_uses_setup, sides)):
        raise StudyError(f"{', '.join(idle)} would have no effect: every side brings its own")
    return Setup(**(fields | given))


def _uses_setup(side: str) -> bool:
    return not side.endswith(_RECORDING) and not _is_arm(side.partition("@")[0])


def _is_arm(what: str) -> bool:
    path, colon, _ = what.rpartition(":")
    return bool(colon) and path.endswith(".toml")


def record_side(side: str, setup: Setup) -> Recording:
    """Run one side and keep all of its GEMMs.

    Raises:
        StudyError: As `diverge`.
    """
    used = {"seed": setup.seed}
    if _uses_setup(side):
        used = {key: getattr(setup, key) for key in ("seed", *sorted(_OF_THE_MODEL))}
    return Recording(title=side, setup=used, steps=tuple(_steps(side, setup)))


def _steps(side: str, setup: Setup) -> Iterator[tuple[RecordedGemm, ...]]:
    if side.endswith(_RECORDING):
        return iter(load_recording(Path(side)).steps)
    what, _, backend = side.partition("@")
    if what.endswith(_RECORDING):
        raise StudyError(f"side {side!r}: a recording ran on its own backend, it takes no @BACKEND")
    if backend and backend not in BACKENDS:
        raise StudyError(f"side {side!r}: {unknown('backend', backend, BACKENDS)}")
    model, data, settings = _built(what, side, setup)
    return _train(model, data.train, settings, setup.steps, backend or None)


def _built(what: str, side: str, setup: Setup) -> tuple[nn.Module, Dataset, TrainingSettings]:
    path, _, arm = what.rpartition(":")
    if _is_arm(what):
        return _of_study(load_study(Path(path)), arm, side, setup)
    data = load(setup.data, setup.data_root)
    model = build(
        setup.model, data.in_channels, data.classes, data.image_size, width=setup.width, seed=setup.seed
    )
    convert(model, [Rule("*", _numerics(what, side))], seed=setup.seed)
    settings = TrainingSettings(
        epochs=1,
        batch_size=setup.batch_size,
        learning_rate=setup.learning_rate,
        schedule="constant",
        seed=setup.seed,
    )
    return model, data, settings


def _of_study(
    study: Study, arm_name: str, side: str, setup: Setup
) -> tuple[nn.Module, Dataset, TrainingSettings]:
    arms = {arm.name: arm for arm in study.arms}
    if arm_name not in arms:
        raise StudyError(f"side {side!r}: {unknown('arm', arm_name, arms)}")
    data = load(study.data.name, setup.data_root, limit=study.data.limit, test_limit=study.data.test_limit)
    arm = arms[arm_name]
    return build_arm(study, arm, data, setup.seed), data, arm_settings(study, arm, setup.seed)


def _numerics(what: str, side: str) -> OpSpec:
    if what == NATIVE:
        # Not left unconverted: the operators keep what their native GEMMs compute, torch's layers don't.
        return OpSpec(output=None, grad_input=None, grad_weight=None)
    if _is_study(what):
        raise StudyError(f"side {side!r} is a study: name one of its arms, as in {what}:ARM")
    if what in hw_models.profile_names() or what.endswith(".toml"):
        return hw_models.load(what).op_spec()
    try:
        return OpSpec.uniform(parse_format(what))
    except ValueError as error:
        profiles = ", ".join(hw_models.profile_names())
        nearest = did_you_mean(what, hw_models.profile_names())
        raise StudyError(
            f"side {side!r} is not native, a machine profile ({profiles} or a file{nearest}), STUDY.toml:ARM, a "
            f"recording (FILE{_RECORDING}), or a format: {error}"
        ) from None


def _is_study(what: str) -> bool:
    """Whether a file has a study's arms; a profile has none."""
    try:
        return what.endswith(".toml") and "arms" in tomllib.loads(Path(what).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _train(
    model: nn.Module, examples: Examples, settings: TrainingSettings, steps: int, backend: str | None
) -> Iterator[tuple[RecordedGemm, ...]]:
    """Train step by step; each step's GEMMs. Random generators are put back between steps."""
    optimizer = build_optimizer(model, settings)
    batches = _forever(examples, settings)
    forced: Callable = (lambda: using_backend(backend)) if backend else nullcontext
    model.train()
    for step in range(steps):
        batch = next(batches)
        with deterministic(settings.seed + step), forced(), capture() as kept:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(forward(model, batch.inputs, settings.autocast), batch.targets).backward()
            optimizer.step()
        yield tuple(recorded(gemm) for gemm in kept.gemms)


def _forever(examples: Examples, settings: TrainingSettings) -> Iterator[Examples]:
    import torch

    order = torch.Generator().manual_seed(settings.seed)
    while True:
        yield from shuffled(examples, settings.batch_size, order)
