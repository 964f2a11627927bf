"""Models on levels that the tests of SAT and PACT share."""

from typing import Any

from torch import nn

import lowbit_sim as lb
from lowbit_sim.study.models import build
from lowbit_sim.training.loop import train
from lowbit_sim.training.settings import TrainingSettings
from tests.training.toys import parameter_bits, toy_examples


def luq_spec(accumulator_bits: int) -> lb.OpSpec:
    """INT4 operands, LUQ gradients, a narrow accumulator."""
    mac = lb.MacUnit(accumulator_bits=accumulator_bits, overflow="saturate")
    operand = lb.Quantizer(lb.INT4)
    gradient = lb.luq()
    return lb.OpSpec(
        output=lb.GemmSpec(operand, operand, mac),
        grad_input=lb.GemmSpec(gradient, operand, mac),
        grad_weight=lb.GemmSpec(gradient, operand, mac),
    )


def prepared(name: str = "mlp", *recipes: Any, spec: lb.OpSpec | None = None, **sizes: int) -> nn.Module:
    model = build(name, 1, sizes.pop("classes", 10), sizes.pop("size", 8), **sizes)
    if spec is not None:
        lb.convert(model, [lb.Rule("*", spec)])
    for recipe in recipes:
        recipe.prepare(model)
    return model


def trained(model: nn.Module, *recipes: Any, **changes: Any) -> tuple[list[bytes], float]:
    settings = TrainingSettings(
        **{"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "weight_decay": 0.5, **changes}
    )
    result = train(model, toy_examples(40), toy_examples(10), settings, recipes=recipes)
    assert result.status == "completed"
    return parameter_bits(model), result.epochs[-1].train_loss
