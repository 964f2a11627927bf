"""The events of one GEMM, or of a model's training step or inference, with the numerics of a machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import hw_models
from hw_models.requantization import with_codes
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.config.layer_tables import LayerTable
from lowbit_sim.config.mac_config import SHORT_KEYS, FloatMacTable
from lowbit_sim.config.numerics import layer_spec
from lowbit_sim.nn.convert import convert
from lowbit_sim.nn.rules import Rule
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.ops.elementwise import ElementwiseSpec
from lowbit_sim.ops.events import converts_sums, gemm_event
from lowbit_sim.ops.linear import MatrixContraction
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.models import build
from lowbit_sim.study.quantities import counted
from lowbit_sim.trace import WorkloadTrace
from lowbit_sim.training.inference import trace_inference
from lowbit_sim.training.settings import TrainingSettings, build_optimizer
from lowbit_sim.training.workload import trace_training_step

#: The cost model's limit on a GEMM's sizes.
LARGEST_SIZE = 1 << 62

#: Torch's words for what a user can ask for and torch can't do: it has no exception classes of its own for them.
_ONE_VALUE = "more than 1 value per channel"
_TOO_LARGE = (
    "Storage size calculation overflowed",
    "Overflow when unpacking long",
    "numel: integer multiplication",
)

#: The name of a format that asks for the native layers.
NATIVE = "fp32"


def machine_spec(profile: hw_models.HardwareProfile, format_name: str | None) -> OpSpec | None:
    """A machine's own numerics, or another format on its accumulators with its rounding; None for "fp32".

    Products that integer accumulators can't add go into `OpSpec.uniform`'s float32 ones.

    Raises:
        StudyError: An unknown format, or one that can't be rounded or added as the machine does.
    """
    if format_name is None:
        return profile.op_spec()
    if format_name == NATIVE:
        return None
    arithmetic = profile.arithmetic
    keys: dict[str, Any] = {"format": format_name, "gradient_rounding": arithmetic.gradient_rounding}
    try:
        whole = Quantizer(parse_format(format_name)).element_format.unit is not None
        if whole or isinstance(arithmetic.mac, FloatMacTable):
            keys |= {key: getattr(arithmetic, key) for key in ("mac", *SHORT_KEYS)}
        return layer_spec(LayerTable(**keys))
    except (ValueError, TypeError) as error:
        raise StudyError(f"--format {format_name}: {error}") from None


def machine_activations(
    profile: hw_models.HardwareProfile, format_name: str | None
) -> ElementwiseSpec | None:
    """The formats in which a machine keeps tensors between modules, whatever its operands; None for "fp32"."""
    return None if format_name == NATIVE else profile.activation_spec()


def gemm_trace(
    rows: int,
    columns: int,
    reduction: int,
    spec: OpSpec | None,
    machine: hw_models.HardwareProfile | None = None,
) -> WorkloadTrace:
    """The event of one forward GEMM [rows, reduction] x [reduction, columns], without the work around it.

    Args:
        rows: M.
        columns: N.
        reduction: K.
        spec: Its numerics, None for native float32.
        machine: Whose `arithmetic.result_bits` the results leave in, if their sums are converted at all; None for
            results as they were summed.

    Raises:
        StudyError: A negative size, or one that the cost model does not take.
    """
    if min(rows, columns, reduction) < 0 or max(rows, columns, reduction) > LARGEST_SIZE:
        raise StudyError(f"a GEMM's sizes are 0 to 2^62, got M,N,K = {rows},{columns},{reduction}")
    layout = MatrixContraction(rows=rows, columns=columns, inner=reduction)
    numerics = spec and spec.output
    event = gemm_event(layout, "output", numerics, "")
    if machine is not None and numerics is not None and converts_sums(numerics):
        event = with_codes(event, machine)
    return WorkloadTrace([event])


def model_trace(
    name: str,
    *,
    batch: int,
    shape: tuple[int, int, int],
    classes: int,
    spec: OpSpec | None,
    activations: ElementwiseSpec | None = None,
    training: bool = True,
) -> WorkloadTrace:
    """One training step of a model (SGD with momentum) or its inference, traced by shapes alone.

    Nothing is computed or allocated.

    Args:
        name: One of `models.MODELS`.
        batch: Images that run at once.
        shape: Channels, height and width of an image; the models take square ones.
        classes: Number of classes.
        spec: Numerics of every layer, None for native float32.
        activations: Formats of the tensors between modules, None for float32; with a spec only.
        training: Whether a step is trained; else the model runs forward in evaluation mode.

    Raises:
        StudyError: A model, batch or shape that can't be, or tensors larger than torch can count.
    """
    channels, height, width = shape
    if batch < 1:
        raise StudyError(f"a batch has at least one image, got {batch}")
    if height != width:
        raise StudyError(f"the models take square images, got {height}x{width}")
    run = "a training step" if training else "the inference"
    step = f"{run} of {name} with {counted(batch, 'image')} of {channels},{height},{width}"
    try:
        model, images = _shapes(name, batch, shape, classes, Rule("*", spec, activations))
        return _step(model, images) if training else trace_inference(model, images)
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        if _ONE_VALUE in str(error):
            raise StudyError(
                f"{step} leaves a batch-norm one value for each channel, of which there is no variance: "
                "choose a larger batch or a larger image"
            ) from None
        if any(words in str(error) for words in _TOO_LARGE):
            raise StudyError(
                f"{step} and {classes} classes has tensors of more than 2^63 bytes: choose a smaller batch, image "
                "or number of classes"
            ) from None
        raise


def _shapes(
    name: str, batch: int, shape: tuple[int, int, int], classes: int, rule: Rule
) -> tuple[nn.Module, Tensor]:
    with torch.device("meta"):
        model = build(name, shape[0], classes, shape[1])
        images = torch.empty(batch, *shape)
    return convert(model, [rule]), images


def _step(model: nn.Module, images: Tensor) -> WorkloadTrace:
    settings = TrainingSettings(epochs=1, batch_size=len(images), learning_rate=0.1)
    targets = torch.empty(len(images), dtype=torch.int64, device="meta")
    return trace_training_step(model, images, targets, build_optimizer(model, settings))
