import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from hw_models.footprint import footprint_of
from lowbit_sim.trace import GemmEvent, Operand, VectorEvent, WorkloadTrace
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.loop import train
from lowbit_sim.training.settings import build_optimizer
from lowbit_sim.training.workload import trace_training_step
from tests.training.toys import SETTINGS, parameter_bits, toy_examples, toy_model

BATCH = 8


def trace_of(model: nn.Module, inputs: Tensor | None = None) -> WorkloadTrace:
    data = toy_examples(BATCH)
    return trace_training_step(
        model, data.inputs if inputs is None else inputs, data.targets, build_optimizer(model, SETTINGS)
    )


def gemm_shapes(trace: WorkloadTrace) -> list[tuple[str, str, int, int, int]]:
    return [(e.layer, e.role, e.M, e.N, e.K) for e in trace.gemms]


# By hand for the toy: conv 1 -> 4 of 3x3 over 8 images of 4x4, then linear 4 -> 3. The images need no gradient.
TOY_GEMMS = [
    ("0", "output", 8 * 16, 4, 9),
    ("5", "output", 8, 3, 4),
    ("5", "grad_input", 8, 4, 3),
    ("5", "grad_weight", 3, 4, 8),
    ("0", "grad_weight", 4, 9, 8 * 16),
]


def test_a_native_model_is_traced_as_float32():
    trace = trace_of(toy_model())
    assert gemm_shapes(trace) == TOY_GEMMS
    fp32 = Operand(format="fp32", bits=32)
    assert all((e.lhs, e.rhs, e.backend) == (fp32, fp32, "native") for e in trace.gemms)


def test_a_converted_model_has_the_same_gemms_with_its_own_operands():
    model = lb.convert(toy_model(), [lb.Rule("*", lb.OpSpec.uniform(lb.INT8))])
    trace = trace_of(model)
    assert sorted(gemm_shapes(trace)) == sorted(TOY_GEMMS)
    assert {e.lhs.format for e in trace.gemms} == {"int8"}


def test_native_layers_of_a_mixed_model_are_float32():
    model = lb.convert(toy_model(), [lb.Rule("0", None), lb.Rule("*", lb.OpSpec.uniform(lb.INT4))])
    formats = {e.layer: e.lhs.format for e in trace_of(model).gemms}
    assert formats == {"0": "fp32", "5": "int4"}


def vector(trace: WorkloadTrace, kind: str) -> list[tuple[int, int, int]]:
    return [(e.elements, e.read_bytes, e.write_bytes) for e in trace.vectors if e.kind == kind]


def test_vector_work_of_native_modules_by_hand():
    trace = trace_of(toy_model())
    maps, pooled, logits = 8 * 4 * 16, 8 * 4, 8 * 3  # elements; 4 bytes each
    assert vector(trace, "batch_norm") == [(maps, 2 * 4 * maps, 4 * maps), (maps, 4 * 4 * maps, 4 * maps)]
    assert vector(trace, "activation") == [
        (maps, 4 * maps, 4 * maps),  # relu
        *((logits, 4 * logits, 4 * logits), (logits, 4 * logits, 4 * 3)),  # the bias, and its gradient
        (maps, 2 * 4 * maps, 4 * maps),
    ]
    assert vector(trace, "pooling") == [(maps, 4 * maps, 4 * pooled), (maps, 4 * pooled, 4 * maps)]
    assert vector(trace, "loss") == [(logits, 4 * logits, 0), (logits, 4 * logits, 4 * logits)]


def test_the_update_reads_weight_gradient_and_momentum_and_writes_weight_and_momentum():
    parameters = 4 * 9 + 4 + 4 + 4 * 3 + 3
    trace = trace_of(toy_model())
    assert vector(trace, "optimizer_update") == [(parameters, 3 * 4 * parameters, 2 * 4 * parameters)]
    assert [e.role for e in trace.vectors if e.kind == "optimizer_update"] == ["update"]


@pytest.mark.parametrize(
    ("optimizer", "state"), [(lambda p: torch.optim.SGD(p, lr=0.1), 0), (lambda p: torch.optim.Adam(p), 2)]
)
def test_other_optimizers_are_billed_by_their_own_state(optimizer, state):
    model, data = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), toy_examples(BATCH)
    trace = trace_training_step(model, data.inputs, data.targets, optimizer(model.parameters()))
    parameters = 16 * 3 + 3
    assert vector(trace, "optimizer_update") == [
        (parameters, (2 + state) * 4 * parameters, (1 + state) * 4 * parameters)
    ]


def test_events_come_in_the_order_in_which_they_ran():
    kinds = [e.role if isinstance(e, GemmEvent) else e.kind for e in trace_of(toy_model()).events]
    forward = ["output", "batch_norm", "activation", "pooling", "output", "activation", "loss"]
    backward = [
        *("loss", "activation", "grad_input", "grad_weight"),  # the bias' gradient before the GEMMs
        *("pooling", "activation", "batch_norm", "grad_weight"),
    ]
    assert kinds == [*forward, *backward, "optimizer_update"]


@pytest.mark.parametrize(
    "spec", [None, lb.OpSpec.uniform(lb.INT4, gradient_rounding=lb.Rounding("stochastic", random_bits=8))]
)
def test_nothing_changes_but_the_trace(spec):
    model = lb.convert(toy_model().eval(), [lb.Rule("*", spec)])
    data, optimizer = toy_examples(BATCH), build_optimizer(model, SETTINGS)
    bits, steps, state = parameter_bits(model), lb.random_steps(model), torch.get_rng_state()
    trace_training_step(model, data.inputs, data.targets, optimizer)
    assert parameter_bits(model) == bits
    assert lb.random_steps(model) == steps
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert not optimizer.state_dict()["state"]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(not m._forward_hooks for m in model.modules())


def test_the_trace_is_the_same_every_time():
    model = toy_model()
    assert trace_of(model).events == trace_of(copy.deepcopy(model)).events


class Branches(nn.Module):
    """An addition of two branches, as a module with two inputs."""

    class Add(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.left, self.add = nn.Flatten(), nn.Linear(16, 3, bias=False), self.Add()
        self.right = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.left(self.flatten(x))
        return self.add(y, self.right(y))


def test_an_addition_is_a_pass_and_a_view_is_free():
    trace = trace_of(Branches())
    logits = 8 * 3
    assert {e.layer for e in trace.vectors} == {"add", ""}
    # Forward by the module; backward the gradient is passed on to both branches, where the two are added up.
    assert [
        (e.layer, e.elements, e.read_bytes, e.write_bytes) for e in trace.vectors if e.kind == "activation"
    ] == [
        ("add", logits, 4 * logits, 4 * logits),  # one tensor, read once
        ("", logits, 2 * 4 * logits, 4 * logits),
    ]


@pytest.mark.parametrize("layer", [nn.EmbeddingBag(4, 3), nn.LSTM(4, 3), nn.MultiheadAttention(4, 1)])
def test_a_module_of_unknown_cost_is_refused_by_name(layer):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), layer)
    with pytest.raises(ValueError, match=f"module '2' \\({type(layer).__name__}\\) is not known"):
        trace_of(model)


def grouped_convolution(spec: lb.OpSpec | None) -> nn.Module:
    conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding="valid", dilation=(1, 2), groups=2)
    model = nn.Sequential(nn.Conv2d(1, 4, 1), conv, nn.Flatten(), nn.Linear(6 * 1 * 2, 3))
    return lb.convert(model, [lb.Rule("*", spec)])


def test_a_native_convolution_has_the_gemms_and_geometry_of_its_emulated_twin():
    native, emulated = (trace_of(grouped_convolution(spec)) for spec in (None, lb.OpSpec.uniform(lb.INT8)))
    for layer in ("0", "1", "3"):
        ours, theirs = (
            [(e.role, e.M, e.N, e.K, e.count, e.conv) for e in t.gemms if e.layer == layer]
            for t in (native, emulated)
        )
        assert sorted(ours, key=lambda e: e[0]) == sorted(theirs, key=lambda e: e[0])


def test_a_frozen_layer_has_no_weight_gradient():
    model = toy_model()
    model[0].weight.requires_grad_(False)  # pyright: ignore[reportIndexIssue, reportCallIssue]
    trace = trace_of(model)
    assert ("0", "grad_weight") not in [(e.layer, e.role) for e in trace.gemms]
    assert isinstance(trace.events[-1], VectorEvent)
    assert trace.events[-1].elements == 4 + 4 + 4 * 3 + 3


def test_frozen_modules_stay_frozen() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[1].eval()
    seen = []
    model[1].register_forward_hook(lambda module, *_: seen.append(module.training))
    trace_training_step(
        model, torch.randn(3, 4), torch.tensor([0, 1, 2]), torch.optim.SGD(model.parameters(), lr=0.1)
    )
    assert seen == [False]
    trace_training_step(
        model.eval(), torch.randn(3, 4), torch.tensor([0, 1, 2]), torch.optim.SGD(model.parameters(), lr=0.1)
    )
    assert seen == [False, True]


class Products(nn.Module):
    """A linear layer, y y^T, and an attention, without modules for the latter two."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(x.flatten(0, -2).reshape(8, 4, 4))  # [8, 4, 6]
        y = (y @ y.mT) @ y.detach()
        return nn.functional.scaled_dot_product_attention(y, y, y).mean(1)[:, :3]


def test_products_without_a_module_are_not_free() -> None:
    trace = trace_of(Products())
    forward = [("project", 32, 6, 4, 1), ("#0", 4, 4, 6, 8), ("#1", 4, 6, 4, 8)]
    forward += [("#2.scores", 4, 4, 6, 8), ("#2.values", 4, 6, 4, 8)]
    backward = [
        ("#2.values", "grad_input", 4, 4, 6),
        ("#2.values", "grad_weight", 6, 4, 4),
        ("#2.scores", "grad_input", 4, 6, 4),
        ("#2.scores", "grad_weight", 4, 6, 4),
        ("#1", "grad_input", 4, 4, 6),
        ("#0", "grad_input", 4, 6, 4),
        ("#0", "grad_weight", 4, 6, 4),
        ("project", "grad_weight", 6, 4, 32),
    ]
    assert [(e.layer, e.M, e.N, e.K, e.count) for e in trace.gemms if e.role == "output"] == forward
    assert sorted(g for g in gemm_shapes(trace) if g[1] != "output") == sorted(backward)
    assert {e.backend for e in trace.gemms} == {"native"}


def test_emulated_products_bill_themselves_and_alone() -> None:
    spec = lb.OpSpec.uniform(lb.INT8)
    native = trace_of(Products())
    for rules in ([lb.Rule("*", lb.FunctionalSpec(spec)), lb.Rule("*", spec)], [lb.Rule("project", spec)]):
        trace = trace_of(lb.convert(Products(), rules))
        assert sorted(gemm_shapes(trace)) == sorted(gemm_shapes(native))
        ours = {e.layer for e in trace.gemms if e.lhs.format == "int8"}
        assert ours == ({"project"} if len(rules) == 1 else {e.layer for e in native.gemms})


def test_a_product_that_can_not_be_billed_is_refused_by_name() -> None:
    class Distances(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cdist(x, x)[:, :3]

    with pytest.raises(ValueError, match=r"module '1' \(its call of cdist\) is not known"):
        trace_of(nn.Sequential(nn.Flatten(), Distances(), nn.Linear(3, 3)))


def micro_batched(model: nn.Module, accumulation: int, count: int = BATCH, **keys) -> WorkloadTrace:
    data = toy_examples(count)
    return trace_training_step(
        model, data.inputs, data.targets, build_optimizer(model, SETTINGS), accumulation=accumulation, **keys
    )


def test_one_micro_batch_is_the_batch():
    assert micro_batched(toy_model(), 1).events == trace_of(toy_model()).events


@pytest.mark.parametrize("spec", [None, lb.OpSpec.uniform(lb.INT8)], ids=["native", "int8"])
@pytest.mark.parametrize(("count", "sizes"), [(8, [4, 4]), (8, [3, 3, 2]), (5, [2, 2, 1])], ids=str)
def test_micro_batches_are_steps_of_their_size_and_one_update(spec, count, sizes):
    """Against a step of each size by itself: its events but for the update, then the additions."""

    def model() -> nn.Module:  # without a norm, which has no variance of one example
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))
        return lb.convert(net, [lb.Rule("*", spec)])

    trace = micro_batched(model(), len(sizes), count)
    parameters = [16 * 6, 6, 6 * 3, 3]
    additions = [("activation", n, 2 * 4 * n, 4 * n) for n in parameters]
    expected = []
    for number, size in enumerate(sizes):
        expected += [work(e) for e in micro_batched(model(), 1, size).events[:-1]]
        expected += additions if number else []
    assert [work(e) for e in trace.events[:-1]] == expected
    assert trace.events[-1] == micro_batched(model(), 1, count).events[-1]


def work(event) -> tuple:
    """What runs, without what only numbers tell and without what is kept."""
    if isinstance(event, GemmEvent):
        return event.layer, event.role, event.M, event.N, event.K, event.lhs, event.rhs
    return event.kind, event.elements, event.read_bytes, event.write_bytes


def test_the_activations_of_one_micro_batch_are_kept():
    whole, halves = footprint_of(trace_of(toy_model())), footprint_of(micro_batched(toy_model(), 2))
    assert halves.activations == whole.activations // 2
    assert (halves.weights, halves.gradients, halves.optimizer_state) == (
        *(whole.weights, whole.gradients),
        whole.optimizer_state,
    )
    uneven = footprint_of(micro_batched(toy_model(), 3))
    assert uneven.activations == footprint_of(micro_batched(toy_model(), 1, 3)).activations


def test_the_traced_gradient_is_that_of_training_with_accumulation():
    seen: list[list[float]] = []

    class Looks:
        def before_step(self, step): ...

        def on_gradients(self, step):
            seen.append([float(p.grad.double().sum()) for p in step.model.parameters()])

        def after_step(self, step): ...

        def __deepcopy__(self, memo):
            return self

    settings = replace(SETTINGS, epochs=1, accumulation=3)
    data = toy_examples(BATCH)
    torch.manual_seed(0)
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(settings.seed))
    shuffled = Examples(inputs=data.inputs[order], targets=data.targets[order])
    model = toy_model()
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    trace_training_step(model, shuffled.inputs, shuffled.targets, still, recipes=[Looks()], accumulation=3)
    train(model, data, data, settings, recipes=[Looks()])
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("accumulation", [0, BATCH + 1])
def test_a_batch_that_has_not_so_many_micro_batches_is_refused(accumulation):
    with pytest.raises(ValueError, match=rf"8 inputs and 8 targets can't be divided into {accumulation} "):
        micro_batched(toy_model(), accumulation)


def test_micro_batches_without_data_cost_the_same():
    model, data = lb.convert(toy_model(), [lb.Rule("*", lb.OpSpec.uniform(lb.INT8))]), toy_examples(BATCH)
    shapes = trace_training_step(
        model, data.inputs.to("meta"), data.targets, build_optimizer(model, SETTINGS), accumulation=2
    )
    assert [work(e) for e in shapes.events] == [work(e) for e in micro_batched(model, 2).events]
