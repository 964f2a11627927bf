"""Element-wise operators on Ethos-U, by hand."""

from __future__ import annotations

import pytest

from hw_models.validation.ethos_u import vela_rows
from hw_models.validation.ethos_u_elementwise import FITTED, RECIPROCAL, elementwise_cycles, softmax_cycles
from hw_models.validation.ethos_u_sizes import SIZES


def test_work_by_hand() -> None:
    small, large = SIZES["ethos-u55-32"], SIZES["ethos-u65-512"]
    assert elementwise_cycles("Mul", 1, small) == 48  # one brick of 16, 3 cycles each
    assert elementwise_cycles("Sub", 17, small, rescales=True) == 192  # two bricks, 6 cycles each
    assert elementwise_cycles("CLZ", 16, small) == 32
    assert elementwise_cycles("Mul", 1, large) == 9  # 16 elements of 0.5625 cycles
    assert elementwise_cycles("CLZ", 1, large) == 8  # 128 bytes at 16 a cycle


@pytest.mark.parametrize(
    ("size", "cycles"),
    [
        # Four units of 4 elements: flash answers after 64 cycles, bursts are half full, 12 cycles of output.
        ("ethos-u55-32", 4 * (64 + 32 + 12) / 4),
        ("ethos-u55-128", (64 + 16 + 20) / 4),
        # The unit of 32 elements hides the wait: 16 elements of 1.125 cycles.
        ("ethos-u55-256", 18),
        # Half a unit; the memory outside answers after 500 cycles.
        ("ethos-u65-256", 0.5 * (500 + 8 + 36) / 4),
    ],
)
def test_a_constant_is_waited_for(size: str, cycles: float) -> None:
    assert elementwise_cycles("Mul", 1, SIZES[size], constant=True) == cycles


@pytest.mark.parametrize("size", [*SIZES])
def test_a_constant_is_never_faster(size: str) -> None:
    machine = SIZES[size]
    assert elementwise_cycles("Mul", 1, machine) <= elementwise_cycles("Mul", 1, machine, constant=True)


def test_those_that_wait_are_the_ones_with_a_constant() -> None:
    """Vela's names agree with the steps of the reciprocal: 1 - d x is a subtraction, d x and x y are products."""
    names = {int(r["idx"]): r["NNG Operator"] for r in vela_rows() if r["model"] == "kws_ref_model"}
    assert len(FITTED) == 10
    assert all(index in RECIPROCAL for index in FITTED)
    assert [names[i] for i in FITTED] == ["Sub", "Sub", "Mul", "Add", *["Sub", "Mul"] * 3]
    others = [i for i in RECIPROCAL if i not in FITTED]
    assert [names[i] for i in others] == ["CLZ", "SHL", *["Mul", "Mul", "Add"] * 3, "Mul"]


def test_the_softmax_works_on_scores_and_on_one_sum() -> None:
    machine = SIZES["ethos-u55-32"]
    assert softmax_cycles(21, "Sub", machine) == 16 * 6  # rescales 12 scores
    assert softmax_cycles(28, "SHL", machine) == 48
    assert softmax_cycles(27, "Sub", machine) == 108


def test_other_operators_are_no_element_wise_work() -> None:
    with pytest.raises(ValueError, match="unknown element-wise operator 'Sup'.*Sub"):
        elementwise_cycles("Sup", 1, SIZES["ethos-u55-32"])
