import numpy as np
import pytest
from pydantic import ValidationError

import lowbit_sim as lb
from lowbit_sim.arith.multipliers import drum_multiplier, kulkarni_multiplier, mitchell_multiplier
from lowbit_sim.config.mac_config import FloatMacTable, MacTable


def unit(bits: int = 32, **keys) -> lb.MacUnit:
    return MacTable.model_validate(keys).build(bits)


def float_unit(**keys) -> lb.FloatMacUnit:
    return FloatMacTable.model_validate(keys).build()


def test_the_width_that_is_left_out_is_the_operands():
    assert unit(48) == lb.MacUnit(accumulator_bits=48)
    assert unit(48, accumulator_bits=20) == lb.MacUnit(accumulator_bits=20)


def test_every_key_of_the_integer_unit_arrives():
    keys = {
        "accumulator_bits": 20,
        "overflow": "saturate",
        "chunk": 8,
        "outer_bits": 28,
        "overflow_at": "chunk",
        "truncated_bits": 3,
        "truncation": "nearest_even",
        "order": "tree",
    }
    assert unit(**keys) == lb.MacUnit(**keys)
    assert MacTable.model_fields.keys() - {"product_bits", "product_signed"} == keys.keys() | {"products"}


def test_every_key_of_the_float_unit_arrives():
    assert float_unit(
        accumulator="fp16",
        rounding={"mode": "stochastic", "random_bits": 10, "overflow": "saturate"},
        chunk=16,
        outer="bf16",
        order="tree",
        product="fp8_e5m2",
        product_rounding={"mode": "toward_zero"},
    ) == lb.FloatMacUnit(
        accumulator=lb.FP16,
        rounding=lb.Rounding("stochastic", random_bits=10, overflow="saturate"),
        chunk=16,
        outer=lb.BF16,
        order="tree",
        product=lb.FP8_E5M2,
        product_rounding=lb.Rounding("toward_zero", overflow="saturate"),
    )
    assert float_unit(kahan=True) == lb.FloatMacUnit(kahan=True)
    assert FloatMacTable.model_fields.keys() == lb.FloatMacUnit.__dataclass_fields__.keys()


@pytest.mark.parametrize(
    ("keys", "products"),
    [
        ({"products": "mitchell"}, mitchell_multiplier(8)),
        ({"products": "drum"}, drum_multiplier(8)),
        ({"products": "drum:3", "product_bits": 6}, drum_multiplier(6, 3)),
        (
            {"products": "kulkarni", "product_bits": 4, "product_signed": False},
            kulkarni_multiplier(4, signed=False),
        ),
    ],
    ids=str,
)
def test_a_named_multiplier(keys, products):
    assert unit(**keys).products == products


@pytest.mark.parametrize("ending", ["npy", "csv"])
def test_a_file_of_products(tmp_path, ending):
    codes = np.arange(4) - 2 * (np.arange(4) // 2) * 2
    table = codes[:, None] * codes + 1
    path = tmp_path / f"mine.{ending}"
    if ending == "npy":
        np.save(path, table)
    else:
        path.write_text("\n".join(",".join(map(str, row)) for row in table.tolist()))
    products = unit(products=str(path)).products
    assert products is not None
    assert (products.bits, products.signed, products.product(-2, 1)) == (2, True, -1)


def test_what_is_written_builds_the_same_and_names_every_default():
    table = MacTable(chunk=8, truncated_bits=2, products="mitchell")
    written = table.written(table.build(48))
    assert written.build(8) == lb.MacUnit(
        accumulator_bits=48, chunk=8, outer_bits=48, truncated_bits=2, products=mitchell_multiplier(8)
    )
    assert all(value is not None for value in written.model_dump().values())
    floating = FloatMacTable(accumulator="fp16", chunk=8, product="bf16")
    filled = floating.written(floating.build())
    assert filled.build() == lb.FloatMacUnit(
        accumulator=lb.FP16,
        chunk=8,
        outer=lb.FP16,
        product=lb.BF16,
        product_rounding=lb.Rounding(overflow="infinity"),
    )
    assert all(value is not None for value in filled.model_dump().values())


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        (MacTable, {"accumulator_bits": 4}, "greater than or equal to 8"),
        (MacTable, {"order": "random"}, "'sequential' or 'tree'"),
        (MacTable, {"truncation": "down", "truncated_bits": 40}, "leaves nothing"),
        (MacTable, {"products": "mitchel"}, "unknown multiplier 'mitchel'.*did you mean 'mitchell'.*npy"),
        (MacTable, {"products": "drum:x"}, "as in 'drum:4', got products = 'drum:x'"),
        (MacTable, {"products": "mitchell:4"}, "only drum takes a parameter"),
        (MacTable, {"products": "drum:9"}, "2 to bits=8 leading bits"),
        (MacTable, {"products": "absent.npy"}, "can't read the products absent.npy: No such file"),
        (MacTable, {"products": "absent.npy", "product_bits": 4}, "product_bits would have no effect"),
        (MacTable, {"product_signed": True}, "would have no effect without products"),
        (FloatMacTable, {"accumulator": "int8"}, "'int8' is no floating-point format"),
        (FloatMacTable, {"rounding": {"mode": "up", "overflow": "wrap"}}, "can't wrap"),
        (FloatMacTable, {"product_rounding": {"mode": "up"}}, "needs a product format"),
        (FloatMacTable, {"kahan": True, "order": "tree"}, "compensated summation is sequential"),
    ],
)
def test_what_can_not_be_is_refused(model, keys, message):
    with pytest.raises(ValidationError, match=message):
        model.model_validate(keys)


def spec(quantizer: lb.Quantizer, products: lb.ProductTable | None) -> lb.GemmSpec:
    return lb.GemmSpec(quantizer, quantizer, lb.MacUnit(products=products))


MIN_MAX = lb.Quantizer(lb.INT4, scale=lb.MinMaxScale())


@pytest.mark.parametrize(
    ("quantizer", "bits", "signed", "fits"),
    [
        (lb.Quantizer(lb.INT8), 8, True, True),
        (lb.Quantizer(lb.INT8), 7, True, False),
        (lb.Quantizer(lb.UINT8), 8, True, False),
        (lb.Quantizer(lb.UINT8), 8, False, True),
        (lb.Quantizer(lb.INT4), 4, False, False),
        (MIN_MAX, 4, True, False),
        (MIN_MAX, 5, True, True),
        (lb.Quantizer(lb.FP4_E2M1), 5, True, True),
        (lb.Quantizer(lb.FP4_E2M1), 4, True, False),
    ],
    ids=str,
)
def test_a_multiplier_must_hold_every_code(quantizer, bits, signed, fits):
    table = mitchell_multiplier(bits, signed=signed)
    if fits:
        assert spec(quantizer, table).lhs is quantizer
    else:
        with pytest.raises(ValueError, match="lhs has codes from .* but the products of mitchell"):
            spec(quantizer, table)


def test_exact_products_hold_every_code():
    assert spec(lb.Quantizer(lb.UINT8), None).lhs.format == lb.UINT8
