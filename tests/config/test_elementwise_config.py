"""The table of formats between modules, in a layer's table and in a machine's."""

import pytest
from pydantic import ValidationError

import hw_models
import lowbit_sim as lb
from lowbit_sim.config.elementwise_config import ElementwiseTable
from lowbit_sim.config.layer_tables import LayerTable
from lowbit_sim.config.numerics import activation_spec
from lowbit_sim.study.numerics_config import NumericsTable, activations

SIXTEEN = {"output": "bf16", "grad_input": "bf16", "grad_output": "bf16"}
BF16 = lb.Quantizer(lb.BF16, scale=lb.FixedScale(1.0))
SPEC = lb.ElementwiseSpec(output=BF16, grad_input=BF16, grad_output=BF16)


def test_a_layer_s_table_builds_the_spec() -> None:
    table = LayerTable.model_validate({"format": "int8", "activations": SIXTEEN})
    assert activation_spec(table) == SPEC
    assert activation_spec(LayerTable(format="int8")) is None


def test_written_out_it_builds_the_same() -> None:
    table = ElementwiseTable.model_validate({"grad_output": "fp8_e5m2"})
    full = ElementwiseTable.model_validate(table.written().model_dump())
    assert full.build() == table.build()
    assert full.grad_output != "fp8_e5m2"


def test_an_arm_with_a_profile_takes_the_machine_s() -> None:
    table = NumericsTable(profile="rapid_hfp8")
    spec = activations(table)
    assert spec == hw_models.load("rapid_hfp8").activation_spec()
    assert spec is not None
    assert str(spec.grad_output) == "float<6,9>"
    assert activations(NumericsTable(profile="tpu_v1")) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"native": True, "activations": SIXTEEN}, "activations would have no effect beside native"),
        ({"profile": "tpu_v1", "activations": SIXTEEN}, "activations would have no effect beside profile"),
        ({"format": "int8", "activations": {}}, "give one or more of output, grad_input, grad_output"),
        (
            {"format": "int8", "activations": {"output": {"format": "int8", "scale": "learned"}}},
            "learned scale",
        ),
    ],
    ids=["native", "profile", "empty", "learned"],
)
def test_what_can_not_be_is_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NumericsTable.model_validate(keys)
