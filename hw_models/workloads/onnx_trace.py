"""The trace of an ONNX model: a forward pass, or the training step that follows from it.

The step is the graph's own: convolutions, products and the passes around them, forward and in the opposite order
backward, the sums of gradients where a tensor has several readers, and the update of the parameters by SGD with
momentum. The loss is not part of a graph. Weights are those inputs of a node that no input of the model enters; a
gradient goes to every tensor behind a parameter. A batch norm is the training one, also in a graph exported without.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hw_models.workloads.errors import WorkloadError
from hw_models.workloads.layer import FLOAT_BYTES, Layer, backward_events, forward_events
from hw_models.workloads.onnx_graph import Graph, Node, read_graph
from hw_models.workloads.onnx_layers import FREE, LAYERS, PARAMETERS, layer_of, pass_of
from hw_models.workloads.passes import Pass, backward_pass, forward_pass
from hw_models.workloads.step import update_event
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.trace import Event, VectorEvent, WorkloadTrace


def onnx_trace(path: Path, *, spec: OpSpec | None, training: bool, batch: int | None) -> WorkloadTrace:
    """The events of running a model; see `read_workload`.

    Raises:
        FileNotFoundError, ModuleNotFoundError, WorkloadError: As `read_workload`.
    """
    step = _Step(read_graph(path, batch), spec, training)
    for node in step.graph.nodes:
        step.run(node)
    if not any(isinstance(done, Layer) for done in step.done):
        raise WorkloadError(f"{path}: no node multiplies matrices ({', '.join(LAYERS)})")
    return WorkloadTrace(step.events + (step.backward() if training else []))


class _Step:
    """Runs the nodes one after another and remembers what the backward pass needs."""

    def __init__(self, graph: Graph, spec: OpSpec | None, training: bool) -> None:
        self.graph, self.spec, self.training = graph, spec, training
        self.events: list[Event] = []
        self.done: list[Layer | Pass] = []
        self.trained: set[str] = set()
        self.kept: set[str] = set()
        self.parameters: set[str] = set()
        self.readers: Counter[str] = Counter()
        self.source: dict[str, str] = {}

    def run(self, node: Node) -> None:
        """A node's forward pass."""
        own = self._own_parameters(node)
        reads = [name for name in node.inputs if self._root(name) in self.trained]
        if node.operator in LAYERS:
            self._run_layer(node, bool(own), node.inputs[0] in reads)
        else:
            self._run_pass(node, bool(reads or own))
        self.parameters |= own
        if node.operator in FREE:
            self.source.update({name: self._root(node.inputs[0]) for name in node.outputs if node.inputs})
            return
        self.readers.update(self._root(name) for name in reads)
        if reads or own:
            self.trained.update(node.outputs)

    def _root(self, name: str) -> str:
        """The tensor that another is a view of."""
        return self.source.get(name, name)

    def _own_parameters(self, node: Node) -> set[str]:
        places: Sequence[int] = PARAMETERS.get(node.operator, ())
        names: list[str] = [node.inputs[i] for i in places if i < len(node.inputs)]
        return {name for name in names if name in self.graph.constants and name in self.graph.shapes}

    def _run_layer(self, node: Node, weights: bool, input_gradient: bool) -> None:
        layer = layer_of(node, self.graph, input_gradient)
        layer = replace(layer, weights=weights, input_kept=self._root(node.inputs[0]) in self.kept)
        self.events += forward_events(layer, self.spec, training=self.training)
        if self.spec is None:
            self.kept.add(self._root(node.inputs[0]))
        self.done.append(layer)

    def _run_pass(self, node: Node, gradient: bool) -> None:
        done = pass_of(node, self.graph)
        if done is None:
            return
        gradient = gradient and self.training
        kept = self._keep(node, done) if gradient else 0
        self.events.append(forward_pass(done, kept, training=self.training))
        if gradient:
            self.done.append(done)

    def _keep(self, node: Node, done: Pass) -> int:
        """Bytes that a node leaves for the backward pass; a tensor that is kept already costs nothing."""
        kept = {"in": node.inputs, "out": node.outputs[:1]}
        names: Sequence[str] = kept.get(done.keeps, ())
        new = {
            self._root(n) for n in names if n in self.graph.floats and n not in self.graph.constants
        } - self.kept
        self.kept |= new
        return done.marks + FLOAT_BYTES * sum(math.prod(self.graph.shape(node, n)) for n in new)

    def backward(self) -> list[Event]:
        """The backward pass and the update."""
        events: list[Event] = []
        for done in reversed(self.done):
            events += backward_events(done, self.spec) if isinstance(done, Layer) else backward_pass(done)
        several = {name: n - 1 for name, n in self.readers.items() if n > 1 and name in self.graph.shapes}
        elements = sum(n * math.prod(self.graph.shapes[name]) for name, n in several.items())
        if elements:
            size = elements * FLOAT_BYTES
            sums = VectorEvent(kind="activation", elements=elements, read_bytes=2 * size, write_bytes=size)
            events.append(sums)
        return [*events, update_event(sum(math.prod(self.graph.shapes[name]) for name in self.parameters))]
