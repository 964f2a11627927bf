"""Workloads from files: SCALE-Sim's topologies, lists of GEMMs, ONNX models.

trace = read_workload(
    "resnet18.csv", spec=profile.op_spec(), activations=profile.activation_spec(), training=True
)
report = hw_models.estimate(trace, profile)
"""

from __future__ import annotations

from pathlib import Path

from hw_models.workloads import gemm_list, topology
from hw_models.workloads.errors import WorkloadError as WorkloadError
from hw_models.workloads.layer import Layer as Layer
from hw_models.workloads.layer import training_events as training_events
from hw_models.workloads.rows import read_rows
from hw_models.workloads.step import step_trace
from hw_models.workloads.stored import checked
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.config.elementwise_config import ElementwiseSpec
from lowbit_sim.trace import WorkloadTrace

_KINDS = (
    "a topology of convolutions (.csv), a list of GEMMs (.csv with M, N, K in its header, or .toml), or an ONNX "
    "model (.onnx)"
)


def read_workload(
    path: str | Path,
    *,
    spec: OpSpec | None = None,
    training: bool = False,
    batch: int | None = None,
    activations: ElementwiseSpec | None = None,
) -> WorkloadTrace:
    """The events of running the layers of a file.

    Args:
        path: A file; its ending and its header say of which kind.
        spec: The numerics of every layer; None for native float32.
        training: Whether to derive a training step from the forward layers: the gradients of inputs and weights, the
            quantisers of their operands, and the update (SGD with momentum).
        batch: Samples that run at once, for a topology (which is of one) and for an ONNX model that leaves the size
            of its first axis open.
        activations: The formats of the tensors between layers, by casts (`stored` tells the rules); None for float32.

    Raises:
        FileNotFoundError: No such file.
        WorkloadError: A file that can't be read as a workload, with the file and the line or node in the message;
            or activations that are not cast.
        ModuleNotFoundError: An ONNX model without the package `onnx`.
    """
    path = Path(path)
    activations = checked(activations)
    if batch is not None and batch < 1:
        raise WorkloadError(f"{path}: a batch has at least one sample, got {batch}")
    match path.suffix.lower():
        case ".onnx":
            from hw_models.workloads.onnx_trace import onnx_trace

            return onnx_trace(path, spec=spec, training=training, batch=batch, activations=activations)
        case ".toml":
            entries = gemm_list.from_toml(path)
        case ".csv":
            rows = list(read_rows(path))
            if rows and topology.is_topology(rows[0].cells):
                layers = topology.read_topology(path, rows, batch=batch or 1)
                return step_trace(layers, spec, training=training, activations=activations)
            if not rows or not gemm_list.is_gemm_list(rows[0].cells):
                raise WorkloadError(
                    f"{path}, line 1: neither the header of a topology (Layer name, {', '.join(topology.COLUMNS)}, "
                    "Strides) nor that of a list of GEMMs (M, N, K)"
                )
            entries = gemm_list.from_rows(path, rows)
        case ending:
            raise WorkloadError(f"{path}: a workload is {_KINDS}, got {ending or 'no ending'}")
    if batch is not None:
        raise WorkloadError(f"{path}: a list of GEMMs says its sizes itself: leave the batch out")
    return gemm_list.gemm_list_trace(entries, spec, training=training, activations=activations)
