"""The wording for unknown names."""

from lowbit_sim.numerics.suggest import unknown


def test_lists_sorted_names_and_the_nearest() -> None:
    assert unknown("fruit", "aple", ["pear", "apple"]) == (
        "unknown fruit 'aple': known are apple, pear; did you mean 'apple'?"
    )


def test_far_names_get_no_guess() -> None:
    assert unknown("fruit", 42, iter(["pear", "apple"])) == "unknown fruit 42: known are apple, pear"
