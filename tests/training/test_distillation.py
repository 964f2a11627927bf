import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import lowbit_sim as lb
from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.nn.precision_switch import switches
from lowbit_sim.training import loop
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.companion import kl_divergence
from lowbit_sim.training.distillation import JointDistillation
from lowbit_sim.training.dorefa import dorefa
from lowbit_sim.training.loss_scaling import LossScaling
from lowbit_sim.training.pact import PACT
from lowbit_sim.training.recipe import ForwardPass, Step
from lowbit_sim.training.settings import build_optimizer
from lowbit_sim.training.workload import trace_training_step
from tests.training.grid_nets import SETTINGS, STEPS, emulated_model, grid_model, run, same_weights
from tests.training.toys import parameter_bits, toy_examples

W2A2 = Precision(weight_bits=2, activation_bits=2)
W4A4 = Precision(weight_bits=4, activation_bits=4)
ALONE = {
    "student_weight": 1.0,
    "student_distillation": 0.0,
    "teacher_weight": 1.0,
    "teacher_distillation": 0.0,
}


def distillation(settings=SETTINGS, **options) -> JointDistillation:
    return JointDistillation(settings, **options)


def test_without_distillation_the_nets_train_independently():
    """The model, the teacher and a further student each end with the bits that they have alone."""
    recipe = distillation(**ALONE, students=[W4A4])
    model, result = run([recipe, dorefa(W2A2, steps=STEPS)], emulated_model())
    alone, expected = run([dorefa(W2A2, steps=STEPS)], emulated_model())
    assert parameter_bits(model) == parameter_bits(alone)
    assert result.epochs[-1].test_loss == expected.epochs[-1].test_loss
    teacher, _ = run([], grid_model())
    assert same_weights(recipe.teacher, teacher)
    [student] = recipe.further_students
    assert same_weights(student, run([dorefa(W4A4, steps=STEPS)], emulated_model())[0])


def test_with_distillation_no_net_trains_as_alone():
    recipe = distillation()
    model, _ = run([recipe, dorefa(W2A2, steps=STEPS)])
    alone, _ = run([dorefa(W2A2, steps=STEPS)])
    assert parameter_bits(model) != parameter_bits(alone)
    assert not same_weights(recipe.teacher, run([])[0])


def losses(recipe: JointDistillation, student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor):
    """The two losses by their formulas, in float64."""
    t = recipe.temperatures[0]
    p, q = torch.softmax(teacher / t, 1), torch.softmax(student / t, 1)
    to_student = (p * (p.log() - q.log())).sum(1).mean() * t**2
    to_teacher = (q * (q.log() - p.log())).sum(1).mean() * t**2
    return (
        recipe.student_weight * F.cross_entropy(student, targets) + recipe.student_distillation * to_student,
        recipe.teacher_weight * F.cross_entropy(teacher, targets) + recipe.teacher_distillation * to_teacher,
    )


def step_of(recipe: JointDistillation, model: torch.nn.Module):
    """A step's parts: the pass, the loss that the recipe makes of it, and the teacher's gradients."""
    batch = toy_examples(8)
    step = Step(index=0, epoch=0, model=model, optimizer=build_optimizer(model, SETTINGS), batch=batch)
    recipe.before_step(step)
    logits = model.train()(batch.inputs)
    forward = ForwardPass(part=batch, logits=logits, share=1.0)
    return forward, recipe.on_loss(step, forward, F.cross_entropy(logits, batch.targets))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_losses_and_their_gradients_are_those_of_the_formulas(temperature):
    model = grid_model()
    recipe = distillation(temperatures=(temperature,), student_distillation=0.8, teacher_distillation=0.6)
    recipe.prepare(model)
    reference = copy.deepcopy(recipe.teacher).double()
    # Another seed's weights, or both nets would say the same.
    recipe.teacher.load_state_dict(grid_model(1).state_dict())
    reference.load_state_dict(grid_model(1).state_dict())
    forward, loss = step_of(recipe, model)
    z_student = forward.logits.detach().double().requires_grad_()
    z_teacher = reference(forward.part.inputs.double())
    student, _ = losses(recipe, z_student, z_teacher.detach(), forward.part.targets)
    _, teacher = losses(recipe, z_student.detach(), z_teacher, forward.part.targets)
    assert float(loss.detach()) == pytest.approx(float(student.detach()), rel=1e-6)
    student.backward()
    [gradient] = torch.autograd.grad(loss, forward.logits)
    assert torch.allclose(gradient.double(), z_student.grad, atol=1e-7)  # type: ignore[arg-type]
    teacher.backward()
    for own, expected in zip(recipe.teacher.parameters(), reference.parameters(), strict=True):
        assert own.grad is not None
        assert expected.grad is not None
        assert torch.allclose(own.grad.double(), expected.grad, atol=1e-6)


@given(
    st.lists(st.floats(-4, 4), min_size=6, max_size=6),
    st.lists(st.floats(-4, 4), min_size=6, max_size=6),
    st.floats(0.5, 5),
)
def test_the_derivative_of_the_kl_term_is_the_difference_of_the_softmaxes(a, b, temperature):
    z_teacher = torch.tensor(a, dtype=torch.float64).reshape(2, 3)
    z_student = torch.tensor(b, dtype=torch.float64).reshape(2, 3).requires_grad_()
    kl_divergence(z_teacher, z_student, temperature).backward()
    expected = temperature * (
        torch.softmax(z_student / temperature, 1) - torch.softmax(z_teacher / temperature, 1)
    )
    assert z_student.grad is not None
    assert torch.allclose(z_student.grad, expected.detach() / 2, atol=1e-12)


def test_the_divergence_is_that_of_the_followed_from_the_follower():
    """An asymmetric pair: sum of p log(p / q), not of q log(q / p)."""
    p, q = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])
    forward = float((p * (p / q).log()).sum())
    backward = float((q * (q / p).log()).sum())
    assert float(kl_divergence(p.log(), q.log(), 1.0)) == pytest.approx(forward)
    assert float(kl_divergence(q.log(), p.log(), 1.0)) == pytest.approx(backward)
    assert abs(forward - backward) > 0.1
    assert float(kl_divergence(p.log(), p.log(), 2.0)) == pytest.approx(0.0, abs=1e-7)


def test_the_teachers_term_is_the_mean_over_the_students():
    """Of J students that say the same the teacher's gradient is that of one."""
    gradients = []
    for count in (0, 1, 3):
        model = grid_model()
        recipe = distillation(students=[Precision()] * count, teacher_weight=0.0, teacher_distillation=1.0)
        recipe.prepare(model)
        recipe.teacher.load_state_dict(grid_model(1).state_dict())
        step_of(recipe, model)
        gradients.append([p.grad.clone() for p in recipe.teacher.parameters() if p.grad is not None])
    for other in gradients[1:]:
        assert all(
            torch.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(gradients[0], other, strict=True)
        )


def test_students_have_precisions_and_temperatures_of_their_own():
    recipe = distillation(students=[W4A4, W2A2], temperatures=(1.0, 2.0, 4.0))
    run([recipe], emulated_model())
    found = [{str(s.training) for s in switches(net).values()} for net in recipe.further_students]
    assert found == [{"W4A4"}, {"W2A2"}]
    assert switches(recipe.teacher) == {}
    assert "int8" not in repr(recipe.teacher)
    # One step of the same batch: the student that is cooler than its teacher gets another gradient.
    warm, cool = distillation(students=[W4A4], temperatures=(1.0, 2.0)), distillation(students=[W4A4])
    for recipe in (warm, cool):
        run([recipe])
    assert parameter_bits(warm.further_students[0]) != parameter_bits(cool.further_students[0])


def test_the_mean_square_takes_the_divergences_place():
    recipe = distillation(distance="mse", student_weight=0.3, student_distillation=0.1)
    model = grid_model()
    recipe.prepare(model)
    recipe.teacher.load_state_dict(grid_model(1).state_dict())
    teacher = copy.deepcopy(recipe.teacher)
    forward, loss = step_of(recipe, model)
    wanted = teacher(forward.part.inputs)
    entropy = F.cross_entropy(forward.logits, forward.part.targets)
    expected = 0.3 * entropy + 0.1 * (forward.logits - wanted).square().mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_micro_batches_add_up_to_the_batch():
    """Without batch-norms, whose statistics are those of the micro-batches."""

    def model():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return torch.nn.Sequential(
                torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
            )

    settings = replace(SETTINGS, epochs=1)
    whole, parts = distillation(settings), distillation(replace(settings, accumulation=2))
    a, _ = run([whole], model(), settings)
    b, _ = run([parts], model(), replace(settings, accumulation=2))
    for one, other in ((a, b), (whole.teacher, parts.teacher)):
        assert all(
            torch.allclose(p, q, atol=1e-6) for p, q in zip(one.parameters(), other.parameters(), strict=True)
        )


def test_the_teachers_rate_follows_the_runs_schedule():
    slow = distillation(**ALONE, teacher_learning_rate=0.01)
    run([slow])
    reference, _ = run([], grid_model(), replace(SETTINGS, learning_rate=0.01))
    assert all(
        torch.allclose(p, q, atol=1e-7)
        for p, q in zip(slow.teacher.parameters(), reference.parameters(), strict=True)
    )


@pytest.mark.parametrize("make", [grid_model, emulated_model])
def test_a_run_goes_on_bit_for_bit(make, tmp_path):
    settings = replace(SETTINGS, epochs=3)

    def whole(**options):
        recipe = distillation(settings, students=[W4A4])
        model, result = run([recipe, dorefa(W2A2, steps=9)], make(), settings, **options)
        nets = [model, recipe.teacher, *recipe.further_students]
        return [parameter_bits(net) for net in nets], result.epochs[-1].measurements

    def stop(metrics):
        if metrics.epoch == 1:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(path=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        whole(checkpoint=checkpoint, on_epoch=stop)
    assert whole(checkpoint=checkpoint) == whole()


def test_a_step_that_is_left_out_leaves_the_teacher_alone(monkeypatch):
    class NeverFinite(LossScaling):
        def unscale(self, optimizer):
            super().unscale(optimizer)
            self._finite = False
            return False

    monkeypatch.setattr(loop, "LossScaling", NeverFinite)
    recipe = distillation()
    run([recipe], settings=replace(SETTINGS, autocast="fp16"))
    fresh = grid_model()
    for name, value in recipe.teacher.named_parameters():
        assert torch.equal(value, fresh.get_parameter(name))


def test_the_other_nets_are_on_record_under_their_names():
    model = emulated_model()
    recipe = distillation(students=[W4A4])
    recipe.prepare(model)
    batch = toy_examples(8)
    trace = trace_training_step(
        model, batch.inputs, batch.targets, build_optimizer(model, SETTINGS), recipes=[recipe]
    )
    plain = trace_training_step(model, batch.inputs, batch.targets, build_optimizer(model, SETTINGS))
    own = [e for e in trace.gemms if not e.layer.startswith(("teacher.", "student_2."))]
    assert [(e.role, e.layer, e.macs) for e in own] == [(e.role, e.layer, e.macs) for e in plain.gemms]
    for name, width in (("teacher", "fp32"), ("student_2", "int4_odd")):
        gemms = [e for e in trace.gemms if e.layer.startswith(f"{name}.")]
        assert [(e.role, e.macs) for e in gemms] == [(e.role, e.macs) for e in plain.gemms]
        [inner] = [e for e in gemms if e.layer == f"{name}.1.2" and e.role == "output"]
        assert inner.rhs.format == width
        updates = [e for e in trace.vectors if e.layer == name and e.kind == "optimizer_update"]
        assert [e.elements for e in updates] == [sum(p.numel() for p in model.parameters())]


def test_a_step_is_traced_by_shapes_alone():
    model = emulated_model()
    recipe = distillation()
    recipe.prepare(model)
    batch = toy_examples(8)
    arguments = (batch.targets, build_optimizer(model, SETTINGS))
    real = trace_training_step(model, batch.inputs, *arguments, recipes=[recipe])
    shapes = trace_training_step(model, batch.inputs.to("meta"), *arguments, recipes=[recipe])
    assert [(e.role, e.layer, e.macs) for e in real.gemms] == [
        (e.role, e.layer, e.macs) for e in shapes.gemms
    ]
    assert sum(e.bytes for e in real.vectors) == sum(e.bytes for e in shapes.vectors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"student_weight": -1.0}, "student_weight must be at least 0 and finite, got -1.0"),
        (
            {"student_weight": 0.0, "student_distillation": 0.0},
            "student_weight and student_distillation must not be 0",
        ),
        ({"temperatures": (0.0,)}, "a temperature must be positive and finite, got 0.0"),
        ({"temperatures": (1.0, 2.0)}, "each of the 1 students has one temperature, got 2"),
        ({"distance": "l1"}, "unknown distance of distillation 'l1': known are kl, mse"),
        ({"teacher_learning_rate": 0.0}, "teacher_learning_rate must be positive and finite, got 0.0"),
    ],
    ids=["weight", "weights", "temperature", "temperatures", "distance", "rate"],
)
def test_what_can_not_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        distillation(**options)


def test_it_stands_before_what_changes_the_model():
    with pytest.raises(
        ValueError, match="joint_distillation: pact before it changes the model, .* name pact behind it"
    ):
        run([PACT(bits=2), distillation()])
    model = lb.preprocess_weights(emulated_model(), "dorefa", bits=2)
    with pytest.raises(
        ValueError, match="joint_distillation: the other net is a copy .* leave the arm's `weights` out"
    ):
        run([distillation()], model)
    with pytest.raises(ValueError, match="distillation needs prepare"):
        step_of(distillation(), grid_model())
    with pytest.raises(ValueError, match="the state is that of teacher, the nets are none"):
        distillation().load_state_dict({"teacher": {}})
