from typing import get_args

import pytest

import lowbit_sim as lb
from lowbit_sim.config.quantizer_config import (
    GRANULARITIES,
    SCALE_RULES,
    SCALES,
    QuantizerTable,
    build_quantizer,
    full_table,
    granularity_of,
    granularity_value,
)
from lowbit_sim.numerics.catalog import CATALOG
from lowbit_sim.quant.scaling import ScaleRule
from tests.study.tables import STOCHASTIC

RULES = [
    lb.AbsMaxScale(),
    lb.AbsMaxScale(top=16.0),
    lb.PowerOfTwoScale(),
    lb.MinMaxScale(unclipped=True),
    lb.FixedScale(0.25),
    lb.EmaScale(0.5),
    lb.PercentileScale(99.0),
    lb.SawbScale(),
    lb.MseScale(),
    lb.DirectionSensitiveScale(3),
    lb.LearnedScale(),
]
GRANULARITY_VALUES = [
    lb.PerTensor(),
    lb.PerAxis(0),
    lb.PerAxis(-1),
    lb.PerSample(),
    lb.PerGroup(4, 1),
    lb.PerBlock(16),
]


def table(**keys) -> QuantizerTable:
    return QuantizerTable.model_validate(keys)


def test_every_scale_rule_has_a_name():
    assert {type(rule) for rule in RULES} == set(SCALE_RULES.values())
    assert set(SCALE_RULES.values()) == set(get_args(ScaleRule))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_is_written_and_read(rule):
    value = SCALES.value_of(rule)
    read = SCALES(value if isinstance(value, str) else value.model_dump())
    assert SCALES.build(read) == rule


@pytest.mark.parametrize("granularity", GRANULARITY_VALUES, ids=str)
def test_a_granularity_is_written_and_read(granularity):
    value = granularity_value(granularity)
    as_written = value if isinstance(value, str) else value.model_dump(exclude_none=True)
    assert granularity_of(table(format="int8", granularity=as_written).granularity) == granularity


@pytest.mark.parametrize("name", CATALOG)
def test_a_format_alone_is_quantised_as_uniform_does(name):
    assert build_quantizer(name) == lb.OpSpec.uniform(lb.parse_format(name)).output.lhs


def test_every_key_arrives():
    built = build_quantizer(
        table(
            format="int4",
            scale={"rule": "percentile", "percentile": 99.0},
            granularity={"group": 2, "axis": 1},
            rounding=STOCHASTIC,
            nan=-7,
        )
    )
    assert built == lb.Quantizer(
        lb.INT4,
        scale=lb.PercentileScale(99.0),
        granularity=lb.PerGroup(2, 1),
        rounding=lb.Rounding("stochastic", random_bits=8),
        nan=-7,
    )


def test_what_is_left_out_is_the_layers():
    layer = {
        "scale": lb.MseScale(),
        "granularity": lb.PerSample(),
        "rounding": lb.Rounding("up"),
    }
    assert build_quantizer("int8", **layer) == lb.Quantizer(lb.INT8, **layer)
    own = table(format="int8", scale="absmax", granularity="tensor", rounding={"mode": "down"})
    assert build_quantizer(own, **layer) == lb.Quantizer(lb.INT8, rounding=lb.Rounding("down"))


def test_a_block_format_keeps_its_own_scales():
    layer = {"scale": lb.MseScale(), "granularity": lb.PerSample()}
    assert build_quantizer("mxfp4", **layer) == lb.Quantizer(lb.parse_format("mxfp4"))


@pytest.mark.parametrize(
    ("name", "scale"),
    [("fp8_e5m2", 1), ("fixed<8,6>", 1), ("posit8", 1), ("int8", None), ("log4_radix2", None)],
)
def test_a_cast_has_no_scale_where_the_format_has_a_range_of_its_own(name, scale):
    expected = lb.FixedScale(1.0) if scale else lb.AbsMaxScale()
    assert build_quantizer(name, cast=True).scale == expected


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_full_table_builds_the_same_quantiser_whatever_the_layer_says(rule, granularity):
    quantizer = lb.Quantizer(lb.INT4, scale=rule, granularity=GRANULARITIES[granularity])
    full = full_table(quantizer, "int4")
    assert QuantizerTable.model_validate(full.model_dump()) == full
    other = {
        "scale": lb.FixedScale(3.0),
        "granularity": lb.PerBlock(8),
        "rounding": lb.Rounding("up"),
    }
    assert build_quantizer(full, **other) == quantizer


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"format": "int99"}, "unknown format 'int99'"),
        ({"format": "int8", "granularity": "chanel"}, "unknown granularity 'chanel'.*'channel'.*block = "),
        ({"format": "int8", "granularity": {"group": 2}}, "give axis, group and axis, or block, got group"),
        (
            {"format": "int8", "granularity": {"axis": 1, "block": 2}},
            "give axis, group and axis, or block, got axis and block",
        ),
        ({"format": "int8", "granularity": {"block": 0}}, "at least 1, got"),
        ({"format": "mxfp4", "scale": "absmax"}, "scale would have no effect: mxfp4 brings its own"),
        (
            {"format": "mxfp4", "granularity": "tensor"},
            "granularity would have no effect: mxfp4 brings its own",
        ),
        ({"format": "fp8_e5m2", "scale": "minmax"}, "MinMaxScale has a zero point"),
        ({"format": "int16", "scale": "sawb"}, "int2, int4 and int8 only"),
        ({"format": "int8", "rounding": {"mode": "up", "overflow": "wrap"}}, "can't wrap"),
        ({"format": "int4", "nan": 8}, "a code of int4"),
    ],
)
def test_what_can_not_be_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        QuantizerTable.model_validate(keys)
