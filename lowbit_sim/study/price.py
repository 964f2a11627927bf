"""Prices one GEMM or one training step of a model on one machine, and tables the parts."""

from __future__ import annotations

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

import hw_models
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.nn.convert import convert
from lowbit_sim.nn.rules import Rule
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.ops.events import gemm_event
from lowbit_sim.ops.linear import MatrixContraction
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.models import build
from lowbit_sim.study.quantities import counted, with_prefix
from lowbit_sim.trace import WorkloadTrace
from lowbit_sim.training.settings import TrainingSettings, build_optimizer
from lowbit_sim.training.workload import trace_training_step

#: The cost model's limit on a GEMM's sizes.
LARGEST_SIZE = 1 << 62

#: Torch's words for what a user can ask for and torch can't do: it has no exception classes of its own for them.
_ONE_VALUE = "more than 1 value per channel"
_NO_MEMORY = ("can't allocate memory", "Storage size calculation overflowed", "Overflow when unpacking long")

#: The name of a format that asks for the native layers.
NATIVE = "fp32"


def machine_spec(profile: hw_models.HardwareProfile, format_name: str | None) -> OpSpec | None:
    """A machine's own numerics, or another format on its accumulators with its rounding; None for "fp32".

    Products that integer accumulators can't add go into `OpSpec.uniform`'s float32 ones; the machine's own are
    integer ones.

    Raises:
        StudyError: An unknown format, or one that can't be rounded as the machine does.
    """
    if format_name is None:
        return profile.op_spec()
    if format_name == NATIVE:
        return None
    arithmetic = profile.arithmetic
    try:
        fmt = parse_format(format_name)
        mac = None if fmt.unit is None else arithmetic.mac
        return OpSpec.uniform(fmt, mac=mac, gradient_rounding=arithmetic.rounding)
    except ValueError as error:
        raise StudyError(f"--format {format_name}: {error}") from None


def gemm_trace(rows: int, columns: int, reduction: int, spec: OpSpec | None) -> WorkloadTrace:
    """The event of one forward GEMM [rows, reduction] x [reduction, columns], without the work around it.

    Raises:
        StudyError: A negative size, or one that the cost model does not take.
    """
    if min(rows, columns, reduction) < 0 or max(rows, columns, reduction) > LARGEST_SIZE:
        raise StudyError(f"a GEMM's sizes are 0 to 2^62, got M,N,K = {rows},{columns},{reduction}")
    layout = MatrixContraction(rows=rows, columns=columns, inner=reduction)
    return WorkloadTrace([gemm_event(layout, "output", spec and spec.output, "")])


def model_trace(
    name: str, *, batch: int, shape: tuple[int, int, int], classes: int, spec: OpSpec | None
) -> WorkloadTrace:
    """One training step of a model (SGD with momentum) on random images; a cost does not depend on them.

    Args:
        name: One of `models.MODELS`.
        batch: Images in the step.
        shape: Channels, height and width of an image; the models take square ones.
        classes: Number of classes.
        spec: Numerics of every layer, None for native float32.

    Raises:
        StudyError: A model, batch or shape that can't be, or that does not fit in memory.
    """
    channels, height, width = shape
    if batch < 1:
        raise StudyError(f"a batch has at least one image, got {batch}")
    if height != width:
        raise StudyError(f"the models take square images, got {height}x{width}")
    step = f"a training step of {name} with {counted(batch, 'image')} of {channels},{height},{width}"
    try:
        return _random_step(name, batch, shape, classes, spec)
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:
        if _ONE_VALUE in str(error):
            raise StudyError(
                f"{step} leaves a batch-norm one value for each channel, of which there is no variance: "
                "choose a larger batch or a larger image"
            ) from None
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
            raise StudyError(
                f"{step} and {classes} classes does not fit in memory: choose a smaller batch, image "
                "or number of classes"
            ) from None
        raise


def _random_step(
    name: str, batch: int, shape: tuple[int, int, int], classes: int, spec: OpSpec | None
) -> WorkloadTrace:
    model = convert(build(name, shape[0], classes, shape[1]), [Rule("*", spec)])
    settings = TrainingSettings(epochs=1, batch_size=batch, learning_rate=0.1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, *shape, generator=generator)
    targets = torch.randint(classes, (batch,), generator=generator)
    return trace_training_step(model, images, targets, build_optimizer(model, settings))


def cost_table(report: hw_models.CostReport, title: str) -> RenderableType:
    """Cycles, energy, traffic and utilisation in total and by role, and the report's notes."""
    table = Table(title=title, header_style="bold")
    table.add_column("", no_wrap=True)
    for heading in ("cycles", "time", "energy", "MACs", "use of peak", "DRAM"):
        table.add_column(heading, justify="right")
    rows = [(role, cost) for role, cost in report.by_role.items() if cost.cycles]
    for label, cost in [*rows, ("total", report.total)]:
        table.add_row(
            label,
            f"{cost.cycles:,}",
            with_prefix(cost.cycles / report.frequency_hz, "s"),
            with_prefix(cost.energy_pj * 1e-12, "J"),
            with_prefix(cost.macs, smallest=0),
            f"{100 * cost.utilization:.1f} %",
            with_prefix(cost.dram_bytes, "B", smallest=0),
            style="bold" if label == "total" else "",
        )
    return Group(table, *(Text(f"Note: {note}") for note in report.notes))
