"""What `estimate` can price: a model's training step or inference, one GEMM, or the layers of a file.

A source makes its trace for a machine, because a machine's own numerics decide what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hw_models
from hw_models.workloads import WorkloadError, read_workload
from lowbit_sim.study import price
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.quantities import counted
from lowbit_sim.trace import WorkloadTrace

#: The training step of a model that is priced unless told otherwise.
BATCH, SHAPE, CLASSES = 32, (3, 32, 32), 10

#: Models for ImageNet, and what is priced of them: its images and classes.
IMAGENET = (
    *("resnet18", "resnet50", "vgg16_imagenet", "mobilenet_v1", "mobilenet_v2"),
    *("preresnet20_imagenet", "preresnet50"),
)
IMAGENET_SHAPE, IMAGENET_CLASSES = (3, 224, 224), 1000


@dataclass(frozen=True, kw_only=True)
class WorkloadSource:
    """A workload.

    Attributes:
        title: What it is, in words.
        trace: Makes its events with the numerics of a machine.
    """

    title: str
    trace: Callable[[hw_models.HardwareProfile], WorkloadTrace]


def gemm(sizes: tuple[int, int, int], format: str | None) -> WorkloadSource:
    """One forward GEMM of M, N and K, without the work around it."""
    rows, columns, reduction = sizes
    return WorkloadSource(
        title=f"GEMM {rows},{columns},{reduction}",
        trace=lambda machine: price.gemm_trace(
            rows, columns, reduction, price.machine_spec(machine, format), machine
        ),
    )


def file(path: Path, format: str | None, *, training: bool, batch: int | None) -> WorkloadSource:
    """The layers of an ONNX model, a SCALE-Sim topology or a list of GEMMs, forward or in a training step."""
    what = "One training step" if training else "The forward pass"
    images = "" if batch is None else f", {counted(batch, 'image')}"

    def trace(machine: hw_models.HardwareProfile) -> WorkloadTrace:
        spec = price.machine_spec(machine, format)
        activations = price.machine_activations(machine, format)
        try:
            return read_workload(path, spec=spec, training=training, batch=batch, activations=activations)
        except FileNotFoundError:
            raise StudyError(
                f"there is no file {path}: a workload is an ONNX model (.onnx), or a topology or list of GEMMs "
                "(.csv, .toml)"
            ) from None
        except OSError as error:
            raise StudyError(f"can't read {path}: {error.strerror or error}") from None
        except (WorkloadError, ModuleNotFoundError) as error:
            raise StudyError(str(error)) from None

    return WorkloadSource(title=f"{what} of {path.name}{images}", trace=trace)


def model(
    name: str,
    format: str | None,
    *,
    batch: int | None,
    shape: tuple[int, int, int] | None,
    classes: int | None,
    training: bool = True,
) -> WorkloadSource:
    """A training step of one of the models that come with the package, or its inference."""
    usual = (IMAGENET_SHAPE, IMAGENET_CLASSES) if name in IMAGENET else (SHAPE, CLASSES)
    images, image = BATCH if batch is None else batch, shape or usual[0]
    outputs = usual[1] if classes is None else classes
    size, run = ",".join(map(str, image)), "One training step" if training else "The inference"
    return WorkloadSource(
        title=f"{run} of {name}, {counted(images, 'image')} of {size}",
        trace=lambda machine: price.model_trace(
            name,
            batch=images,
            shape=image,
            classes=outputs,
            spec=price.machine_spec(machine, format),
            activations=price.machine_activations(machine, format),
            training=training,
        ),
    )
