"""The trace of an ONNX model: a forward pass, or the training step that follows from it.

The step is the graph's own: convolutions, products and the passes around them, forward and in the opposite order
backward, the sums of gradients where a tensor has several readers, and the update of the parameters by SGD with
momentum. The loss is not part of a graph. Weights are those inputs of a node that no input of the model enters; a
gradient goes to every tensor behind a parameter. In a training step a batch norm is the training one, also in a graph
exported without; in a forward pass it has fixed statistics, and a dropout does nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hw_models.workloads.errors import WorkloadError
from hw_models.workloads.layer import Layer, backward_events, forward_events
from hw_models.workloads.onnx_graph import Graph, Node, read_graph
from hw_models.workloads.onnx_layers import FREE, LAYERS, PARAMETERS, layer_of, pass_of
from hw_models.workloads.passes import Pass, backward_pass, forward_pass, rounding_pass
from hw_models.workloads.step import update_event
from hw_models.workloads.stored import (
    Stored,
    drawn_bits,
    gradient_as_read,
    gradient_as_written,
    stored_bytes,
)
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.config.elementwise_config import ElementwiseSpec
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.trace import Event, VectorEvent, WorkloadTrace


def onnx_trace(
    path: Path,
    *,
    spec: OpSpec | None,
    training: bool,
    batch: int | None,
    activations: ElementwiseSpec | None = None,
) -> WorkloadTrace:
    """The events of running a model; see `read_workload`.

    Raises:
        FileNotFoundError, ModuleNotFoundError, WorkloadError: As `read_workload`.
    """
    step = _Step(read_graph(path, batch), spec, training, activations)
    for node in step.graph.nodes:
        step.run(node)
    if not any(isinstance(done.work, Layer) for done in step.done):
        raise WorkloadError(f"{path}: no node multiplies matrices ({', '.join(LAYERS)})")
    return WorkloadTrace(step.events + (step.backward() if training else []))


@dataclass(frozen=True, kw_only=True)
class _Done:
    """A node that ran: what it was, the tensor that it read first and the one that it wrote."""

    work: Layer | Pass
    x: str
    y: str


class _Step:
    """Runs the nodes one after another and remembers what the backward pass needs."""

    def __init__(
        self, graph: Graph, spec: OpSpec | None, training: bool, activations: ElementwiseSpec | None
    ) -> None:
        self.graph, self.spec, self.training, self.activations = graph, spec, training, activations
        self.events: list[Event] = []
        self.done: list[_Done] = []
        self.trained: set[str] = set()
        self.kept: set[str] = set()
        self.parameters: set[str] = set()
        self.readers: Counter[str] = Counter()
        self.source: dict[str, str] = {}
        self.formats: dict[str, Quantizer | None] = {}

    def run(self, node: Node) -> None:
        """A node's forward pass."""
        own = self._own_parameters(node)
        reads = [name for name in node.inputs if self._root(name) in self.trained]
        if node.operator in LAYERS:
            self._run_layer(node, bool(own), node.inputs[0] in reads)
        else:
            self._run_pass(node, bool(reads or own))
        self.parameters |= own
        if self._is_free(node):
            self.source.update({name: self._root(node.inputs[0]) for name in node.outputs if node.inputs})
            return
        self.readers.update(self._root(name) for name in reads)
        if reads or own:
            self.trained.update(node.outputs)

    def _is_free(self, node: Node) -> bool:
        return node.operator in FREE or (node.operator == "Dropout" and not self.training)

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
        layer = replace(layer, stored=self._formats(node))
        self.events += forward_events(layer, self.spec, training=self.training)
        if self.spec is None:
            self.kept.add(self._root(node.inputs[0]))
        self._note(node, layer)

    def _run_pass(self, node: Node, gradient: bool) -> None:
        done = None if self._is_free(node) else pass_of(node, self.graph)
        if done is None:
            return
        if node.operator == "BatchNormalization" and not self.training:
            done = replace(done, work="linear")
        gradient = gradient and self.training
        done = replace(done, stored=self._formats(node), read_bytes=self._read_bytes(node, done))
        kept = self._keep(node, done) if gradient else 0
        self.events += forward_pass(done, kept, training=gradient)
        if gradient:
            self._note(node, done)
        else:
            self.formats[node.outputs[0]] = done.stored.y

    def _note(self, node: Node, work: Layer | Pass) -> None:
        self.formats[node.outputs[0]] = work.stored.y
        self.done.append(_Done(work=work, x=self._root(node.inputs[0]), y=node.outputs[0]))

    def _format(self, name: str) -> Quantizer | None:
        """The format of a tensor: float32 for what no node has written."""
        return self.formats.get(self._root(name))

    def _formats(self, node: Node) -> Stored:
        """The formats of a node's forward pass."""
        return Stored(x=self._format(node.inputs[0]), y=self.activations and self.activations.output)

    def _gradient_formats(self, done: _Done) -> Stored:
        """The formats of a node with those of its gradients, which depend on how many nodes read its tensors."""
        return replace(
            done.work.stored,
            g=gradient_as_read(self.activations, self.readers[done.y]),
            dx=gradient_as_written(self.activations, self.readers[done.x]),
        )

    def _read_bytes(self, node: Node, done: Pass) -> int:
        names = list(dict.fromkeys(self._tensors(node.inputs)))[: len(done.inputs)]
        return sum(stored_bytes(n, self._format(name)) for n, name in zip(done.inputs, names, strict=False))

    def _tensors(self, names: Sequence[str]) -> list[str]:
        return [n for n in names if n in self.graph.floats and n not in self.graph.constants]

    def _keep(self, node: Node, done: Pass) -> int:
        """Bytes that a node leaves for the backward pass; a tensor that is kept already costs nothing."""
        kept = {"in": node.inputs, "out": node.outputs[:1]}
        names: Sequence[str] = kept.get(done.keeps, ())
        new = {self._root(n) for n in self._tensors(names)} - self.kept
        self.kept |= new
        written = None if done.unrounded else done.stored.y
        formats = {n: written if done.keeps == "out" else self._format(n) for n in new}
        return done.marks + sum(
            stored_bytes(math.prod(self.graph.shape(node, n)), kept_in) for n, kept_in in formats.items()
        )

    def backward(self) -> list[Event]:
        """The backward pass and the update."""
        events: list[Event] = []
        for done in reversed(self.done):
            events += self._backward(done)
        update = update_event(sum(math.prod(self.graph.shapes[name]) for name in self.parameters))
        return [*events, update]

    def _backward(self, done: _Done) -> list[Event]:
        work = replace(done.work, stored=self._gradient_formats(done))
        if isinstance(work, Layer):
            elements, events = work.elements["g"], backward_events(work, self.spec)
        else:
            elements, events = work.output, [*backward_pass(work)]
        return [*self._arrival(work.name, done.y, elements, work.stored.g), *events]

    def _arrival(self, name: str, tensor: str, elements: int, stored: Quantizer | None) -> list[VectorEvent]:
        """What the gradient of a tensor takes until it is there: the sum of those of several readers."""
        readers = self.readers[tensor]
        if not readers and stored is not None:
            return rounding_pass(name, elements, stored)  # the loss hands on float32
        if readers < 2:
            return []
        part = gradient_as_written(self.activations, readers)
        between = (readers - 2) * stored_bytes(elements, None)
        event = VectorEvent(
            kind="activation",
            elements=(readers - 1) * elements,
            read_bytes=readers * stored_bytes(elements, part) + between,
            write_bytes=between + stored_bytes(elements, stored),
            random_bits=drawn_bits(elements, stored),
        )
        return [event]
