import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.config.gradient_config import GRADIENTS, TRANSFORMS
from lowbit_sim.quant.codebook import grid_codebook
from lowbit_sim.quant.distributions import magnitudes
from lowbit_sim.quant.gradient.codebook import codebook_gradient
from lowbit_sim.quant.gradient.dorefa import dorefa_gradient
from lowbit_sim.quant.gradient.luq import luq
from lowbit_sim.quant.gradient.statquant import bhq, psq, ptq
from lowbit_sim.quant.gradient.two_phase import two_phase_fp4
from lowbit_sim.quant.gradient.unified_int8 import direction_sensitive
from lowbit_sim.study.numerics_config import NumericsTable, op_spec


def spec_of(**keys) -> lb.OpSpec:
    spec = op_spec(NumericsTable.model_validate({"format": "int8", **keys}))
    assert spec is not None
    return spec


PER_TENSOR = lb.PerTensor()

NORMAL, LOGNORMAL = magnitudes("normal"), magnitudes("lognormal", spread=2.0, elements=1000)


def fitted(samples: torch.Tensor, *, random_bits: int = 8, levels: int = 15, **options) -> lb.Quantizer:
    book = grid_codebook(samples, levels, **options)
    return codebook_gradient(book.values, top=book.top, random_bits=random_bits)


#: Names that need parameters.
NEED = {"codebook": {"name": "codebook", "values": [-1.0, 0.0, 1.0]}}


@pytest.mark.parametrize(
    ("gradient", "grad_input", "grad_weight"),
    [
        ("luq", luq(), luq()),
        (
            {"name": "luq", "exponent_bits": 2, "random_bits": 4, "momentum": 0.5},
            luq(2, random_bits=4, momentum=0.5),
            luq(2, random_bits=4, momentum=0.5),
        ),
        ("dorefa", dorefa_gradient(8), dorefa_gradient(8, granularity=PER_TENSOR)),
        (
            {"name": "dorefa", "bits": 4, "random_bits": 3},
            dorefa_gradient(4, random_bits=3),
            dorefa_gradient(4, random_bits=3, granularity=PER_TENSOR),
        ),
        ({"name": "ptq", "bits": 5}, ptq(5), ptq(5)),
        ({"name": "psq", "bits": 5}, psq(5), ptq(5)),
        ({"name": "bhq", "bits": 5}, bhq(5)[1], ptq(5)),
        (
            {"name": "unified_int8", "bits": 6, "period": 5},
            direction_sensitive(6, period=5),
            direction_sensitive(6, period=5),
        ),
        ("two_phase_fp4", two_phase_fp4().grad_input, two_phase_fp4().grad_weight),
        (
            {"name": "codebook", "values": [-4.0, -1.0, 0.0, 1.0, 4.0], "top": 5.0, "random_bits": 0},
            codebook_gradient((-4.0, -1.0, 0.0, 1.0, 4.0), top=5.0, random_bits=0),
            codebook_gradient((-4.0, -1.0, 0.0, 1.0, 4.0), top=5.0, random_bits=0),
        ),
        ("fitted_codebook", fitted(NORMAL), fitted(NORMAL)),
        (
            {
                "name": "fitted_codebook",
                "distribution": "lognormal",
                "spread": 2.0,
                "elements": 1000,
                "levels": 7,
                "value_bits": 6,
                "random_bits": 0,
            },
            fitted(LOGNORMAL, random_bits=0, levels=7, value_bits=6, stochastic=False),
            fitted(LOGNORMAL, random_bits=0, levels=7, value_bits=6, stochastic=False),
        ),
    ],
    ids=str,
)
def test_a_named_quantiser_is_the_left_operand_of_both_backward_gemms(gradient, grad_input, grad_weight):
    spec, plain = spec_of(gradient=gradient), lb.OpSpec.uniform(lb.INT8)
    assert spec.grad_input is not None
    assert spec.grad_weight is not None
    assert (spec.grad_input.lhs, spec.grad_weight.lhs) == (grad_input, grad_weight)
    assert spec.output == plain.output
    assert (spec.grad_input.rhs, spec.grad_weight.rhs) == (lb.Quantizer(lb.INT8), lb.Quantizer(lb.INT8))


def test_every_name_is_tested_and_has_its_defaults_written_out():
    assert set(GRADIENTS.tables) == {
        "luq",
        "dorefa",
        "ptq",
        "psq",
        "bhq",
        "unified_int8",
        "two_phase_fp4",
        "codebook",
        "fitted_codebook",
    }
    for name in GRADIENTS.tables:
        given = GRADIENTS(NEED.get(name, name))
        written = GRADIENTS.written(given)
        assert not isinstance(written, str)
        assert GRADIENTS.build(written) == GRADIENTS.build(given)


def test_bhq_mixes_the_rows_of_grad_input_alone():
    spec = spec_of(gradient="bhq")
    assert [gemm and gemm.transform for gemm in (spec.output, spec.grad_input, spec.grad_weight)] == [
        None,
        lb.HouseholderTransform(),
        None,
    ]


def test_samples_of_the_gradient_are_both_backward_gemms():
    spec = spec_of(gradient={"name": "luq", "samples": 3})
    assert [g and g.samples for g in (spec.output, spec.grad_input, spec.grad_weight)] == [1, 3, 3]


def test_a_gemms_own_operand_takes_the_place_of_the_named_quantiser():
    spec = spec_of(gradient={"name": "bhq", "samples": 2}, grad_input={"lhs": "int4"})
    assert spec.grad_input == lb.GemmSpec(lb.Quantizer(lb.INT4), lb.Quantizer(lb.INT8))
    assert spec.grad_weight == lb.GemmSpec(ptq(8), lb.Quantizer(lb.INT8), samples=2)


def test_transforms_by_name():
    assert TRANSFORMS.build("householder") == lb.HouseholderTransform()
    assert TRANSFORMS.build(TRANSFORMS({"name": "hadamard", "block": 8})) == lb.HadamardTransform(8)


def test_a_layers_transform_is_for_every_gemm_and_a_gemms_own_comes_first():
    spec = spec_of(
        transform={"name": "hadamard", "block": 8},
        output={"transform": {"name": "hadamard", "block": 4}},
    )
    assert [g and g.transform for g in (spec.output, spec.grad_input, spec.grad_weight)] == [
        lb.HadamardTransform(4),
        lb.HadamardTransform(8),
        lb.HadamardTransform(8),
    ]
