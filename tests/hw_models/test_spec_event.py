"""The event of a spec is the one that the operators put on record."""

import pytest

import hw_models
from hw_models.spec_event import spec_event
from lowbit_sim.config.layer_tables import GEMM_ROLES
from lowbit_sim.ops.events import gemm_event
from lowbit_sim.ops.linear import MatrixContraction
from tests.hw_models.example import example
from tests.hw_models.schema.test_arithmetic import arithmetic
from tests.study.tables import NUMERICS


@pytest.mark.parametrize("table", NUMERICS, ids=range(len(NUMERICS)))
@pytest.mark.parametrize("role", GEMM_ROLES)
def test_it_is_the_operators_event(table, role):
    spec = example().model_copy(update={"arithmetic": arithmetic(**table)}).gemm_spec(role)
    layout = MatrixContraction(rows=3, columns=5, inner=7)
    assert spec_event(spec, role, *layout.sizes(role)) == gemm_event(layout, role, spec, "")


@pytest.mark.parametrize("name", hw_models.profile_names())
@pytest.mark.parametrize("role", GEMM_ROLES)
def test_the_events_of_the_profiles(name, role):
    spec = hw_models.load(name).gemm_spec(role)
    layout = MatrixContraction(rows=3, columns=5, inner=7)
    assert spec_event(spec, role, *layout.sizes(role)) == gemm_event(layout, role, spec, "")
