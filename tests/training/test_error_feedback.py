import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.numerics.reference import decode_value, encode_value, float32
from lowbit_sim.training.error_feedback import ErrorFeedback
from lowbit_sim.training.loop import train
from lowbit_sim.training.recipe import Step
from tests.training.toys import SETTINGS, check_resumes_bit_for_bit, parameter_bits, toy_examples, toy_model

STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
#: A scale that is a power of two keeps every code's value on the gradients' grid.
ON_A_GRID = lb.Quantizer(lb.INT4, scale=lb.PowerOfTwoScale())


def give(recipe: ErrorFeedback, model: nn.Module, index: int, **gradients: Tensor) -> dict[str, Tensor]:
    """The gradients that a recipe makes of these, by the parameters' names."""
    named = dict(model.named_parameters())
    for name, p in named.items():
        p.grad = gradients[name].clone() if name in gradients else None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recipe.on_gradients(Step(index=index, epoch=0, model=model, optimizer=optimizer, batch=toy_examples(1)))
    return {name: named[name].grad for name in gradients}  # type: ignore[misc]


def layer() -> nn.Module:
    return nn.Linear(5, 3)


def gradients(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 5, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("rounding", [lb.Rounding(), lb.Rounding("toward_zero"), STOCHASTIC], ids=str)
def test_what_was_applied_and_the_residual_are_the_sum_of_the_gradients(rounding):
    """Exactly, on a grid on which both float32 operations are exact."""
    recipe = ErrorFeedback(
        quantizer=lb.Quantizer(lb.INT4, scale=lb.PowerOfTwoScale(), rounding=rounding), seed=4
    )
    model, applied, total = layer(), torch.zeros(3, 5), torch.zeros(3, 5)
    for index, gradient in enumerate(gradients(50)):
        gradient = (gradient * 256).round() / 256
        total += gradient
        applied += give(recipe, model, index, weight=gradient)["weight"]
        assert torch.equal(applied + recipe.residuals["weight"], total)
    assert recipe.residuals["weight"].abs().max() > 0


@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32, allow_subnormal=False), min_size=3, max_size=3), max_size=6
    )
)
def test_of_any_gradients_only_half_units_in_the_last_place_are_lost(rows):
    """Against the definition, number by number: what is applied, and that the sum is off by the roundings alone."""
    recipe, model = ErrorFeedback(quantizer=lb.Quantizer(lb.INT4)), nn.Linear(3, 1, bias=False)
    residual, given_, applied, lost = [0.0] * 3, [Fraction(0)] * 3, [Fraction(0)] * 3, [Fraction(0)] * 3
    for index, row in enumerate(rows):
        found = give(recipe, model, index, weight=torch.tensor([row]))["weight"][0].tolist()
        totals = [float32(g + e) for g, e in zip(row, residual, strict=True)]
        largest = max(map(abs, totals))
        scale = float(np.float32(max(largest / 7, 2.0**-126))) if largest else 1.0
        for i, total in enumerate(totals):
            code = encode_value(float32(total * float32(1 / scale)), lb.INT4, lb.Rounding())
            assert found[i] == float32(decode_value(code, lb.INT4) * scale)
            lost[i] += abs(Fraction(total) - Fraction(row[i]) - Fraction(residual[i]))
            rest = float32(total - found[i])
            lost[i] += abs(Fraction(rest) - (Fraction(total) - Fraction(found[i])))
            given_[i], applied[i], residual[i] = (
                given_[i] + Fraction(row[i]),
                applied[i] + Fraction(found[i]),
                rest,
            )
        assert recipe.residuals["weight"][0].tolist() == residual
        assert all(
            abs(g - a - Fraction(e)) <= loss
            for g, a, e, loss in zip(given_, applied, residual, lost, strict=True)
        )


def test_a_gradient_below_half_a_step_is_applied_late_and_not_never():
    """Rounding to nearest alone would lose the small one forever."""
    model, gradient = nn.Linear(2, 1, bias=False), torch.tensor([[7.0, 0.375]])
    with_, without = ErrorFeedback(quantizer=lb.Quantizer(lb.INT4)), lb.Quantizer(lb.INT4)
    found = [give(with_, model, index, weight=gradient)["weight"][0, 1].item() for index in range(8)]
    assert found == [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    assert sum(found) + with_.residuals["weight"][0, 1].item() == 8 * 0.375
    assert without(gradient).dequantize()[0, 1].item() == 0.0


def test_a_format_that_has_every_gradient_is_plain_training_bit_for_bit():
    plain, fed_back = toy_model(), toy_model()
    cast = lb.Quantizer(lb.FP32, scale=lb.FixedScale(1.0))
    train(plain, toy_examples(), toy_examples(5), SETTINGS)
    train(fed_back, toy_examples(), toy_examples(5), SETTINGS, recipes=[ErrorFeedback(quantizer=cast)])
    assert parameter_bits(plain) == parameter_bits(fed_back)


def test_int2_gradients_change_training():
    plain, fed_back = toy_model(), toy_model()
    train(plain, toy_examples(), toy_examples(5), SETTINGS)
    recipe = ErrorFeedback(quantizer=lb.Quantizer(lb.INT2))
    train(fed_back, toy_examples(), toy_examples(5), SETTINGS, recipes=[recipe])
    assert parameter_bits(plain) != parameter_bits(fed_back)
    assert set(recipe.residuals) == {"0.weight", "5.weight"}, "weights, not biases and norms"
    norms = [float(r.double().square().sum()) for r in recipe.residuals.values()]
    assert recipe.measurements() == {"residual_norm": pytest.approx(sum(norms) ** 0.5)}


def test_parameters_are_chosen_by_name():
    recipe = ErrorFeedback(quantizer=lb.Quantizer(lb.INT4), parameters=("b*",))
    weight, bias = gradients(1)[0], torch.tensor([1.0, 0.3, -0.2])
    found = give(recipe, layer(), 0, weight=weight, bias=bias)
    assert torch.equal(found["weight"], weight)
    assert torch.equal(found["bias"], lb.Quantizer(lb.INT4)(bias).dequantize())


def test_a_parameter_without_a_gradient_keeps_its_residual():
    recipe, model = ErrorFeedback(quantizer=ON_A_GRID), layer()
    give(recipe, model, 0, weight=gradients(1)[0])
    before = recipe.residuals["weight"].clone()
    give(recipe, model, 1)
    assert torch.equal(recipe.residuals["weight"], before)


@pytest.mark.parametrize("quantizer", [ON_A_GRID, lb.Quantizer(lb.INT4, rounding=STOCHASTIC)], ids=str)
def test_it_resumes_bit_for_bit(quantizer):
    recipe, model, inputs = ErrorFeedback(quantizer=quantizer, seed=7), layer(), gradients(8)
    for index in range(4):
        give(recipe, model, index, weight=inputs[index])
    second = ErrorFeedback(quantizer=quantizer, seed=7)
    second.load_state_dict(copy.deepcopy(recipe.state_dict()))
    twin = copy.deepcopy(recipe)
    for index in range(4, 8):
        first = give(recipe, model, index, weight=inputs[index])["weight"]
        assert torch.equal(first, give(second, model, index, weight=inputs[index])["weight"])
    assert torch.equal(recipe.residuals["weight"], second.residuals["weight"])
    assert not torch.equal(recipe.residuals["weight"], twin.residuals["weight"])


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint_bit_for_bit(tmp_path):
    quantizer = lb.Quantizer(lb.INT2, rounding=STOCHASTIC)
    check_resumes_bit_for_bit(lambda: ErrorFeedback(quantizer=quantizer), tmp_path)


def test_each_seed_step_and_parameter_draws_its_own_bits():
    quantizer, g = lb.Quantizer(lb.INT4, rounding=STOCHASTIC), gradients(1)[0]
    model = nn.ModuleDict({"a": layer(), "b": layer()})

    def found(seed: int, index: int) -> list[Tensor]:
        recipe = ErrorFeedback(quantizer=quantizer, seed=seed)
        return list(give(recipe, model, index, **{"a.weight": g, "b.weight": g}).values())

    draws = [tensor for seed, index in ((0, 0), (0, 1), (1, 0)) for tensor in found(seed, index)]
    assert len({tuple(d.flatten().tolist()) for d in draws}) == 6
    assert all(torch.equal(a, b) for a, b in zip(found(0, 1), draws[2:4], strict=True))


def test_names_that_fit_no_parameter_are_refused():
    recipe = ErrorFeedback(quantizer=lb.Quantizer(lb.INT4), parameters=("wieght",))
    with pytest.raises(
        ValueError, match="unknown parameter 'wieght': known are bias, weight; did you mean 'weight'"
    ):
        give(recipe, layer(), 0, weight=gradients(1)[0])
    recipe = ErrorFeedback(quantizer=lb.Quantizer(lb.INT4))
    recipe.load_state_dict({"residuals": {"wight": torch.zeros(3, 5)}})
    with pytest.raises(
        ValueError, match="whose residual was loaded, 'wight': known are bias, weight; did you mean"
    ):
        give(recipe, layer(), 0, weight=gradients(1)[0])


def test_nan_names_the_parameter():
    with pytest.raises(lb.NotANumberError, match="gradient of weight: 15 of 15 elements"):
        give(ErrorFeedback(quantizer=lb.Quantizer(lb.INT4)), layer(), 0, weight=torch.full((3, 5), torch.nan))


def test_its_work_and_its_memory_are_billed_by_shape_alone_too():
    recipe = ErrorFeedback(quantizer=lb.Quantizer(lb.INT4, rounding=STOCHASTIC))
    events = []
    for model, g in ((layer(), torch.ones(3, 5)), (layer().to("meta"), torch.ones(3, 5, device="meta"))):
        with lb.record() as trace:
            give(recipe, model, 0, weight=g)
        events.append(trace.events)
    assert events[0] == events[1]
    total, reduction, bits, conversion = trace.vectors
    assert (total.kind, total.read_bytes, total.write_bytes, total.state_bytes) == (
        "optimizer_update",
        120,
        60,
        60,
    )
    assert (reduction.kind, reduction.elements) == ("scale_reduction", 15)
    assert (bits.kind, bits.random_bits) == ("random_bits", 15 * 8)
    assert (conversion.kind, conversion.read_bytes, conversion.write_bytes) == ("quantize", 60, 8 + 60)
    assert all(event.role == "overhead" for event in trace.vectors)


def test_what_can_not_be_is_refused():
    with pytest.raises(TypeError, match="takes a Quantizer, got 'int4'"):
        ErrorFeedback(quantizer="int4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="can't have a scale that depends on past steps"):
        ErrorFeedback(quantizer=lb.Quantizer(lb.INT4, scale=lb.EmaScale()))
    with pytest.raises(ValueError, match="parameters is empty"):
        ErrorFeedback(quantizer=lb.Quantizer(lb.INT4), parameters=())
    with pytest.raises(TypeError, match="parameters are a list of patterns"):
        ErrorFeedback(quantizer=lb.Quantizer(lb.INT4), parameters="*.weight")
    with pytest.raises(ValueError, match="stream seed must be from 0"):
        ErrorFeedback(quantizer=lb.Quantizer(lb.INT4), seed=-1)
