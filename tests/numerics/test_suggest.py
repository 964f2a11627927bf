"""The wording for unknown names."""

from lowbit_sim.numerics.suggest import did_you_mean, unknown


def test_lists_sorted_names_and_the_nearest() -> None:
    assert unknown("fruit", "aple", ["pear", "apple"]) == (
        "unknown fruit 'aple': known are apple, pear; did you mean 'apple'?"
    )


def test_far_names_get_no_guess() -> None:
    assert unknown("fruit", 42, iter(["pear", "apple"])) == "unknown fruit 42: known are apple, pear"


def test_initials_stand_for_a_name_of_several_words() -> None:
    names = ["layers", "learning_rate", "batch_size", "l"]
    assert did_you_mean("lr", names) == "; did you mean 'learning_rate'?"
    assert did_you_mean("bs", names) == "; did you mean 'batch_size'?"
    assert did_you_mean("laers", names) == "; did you mean 'layers'?"
    assert did_you_mean("xyz", names) == did_you_mean(3, names) == ""


def test_thirty_names_are_listed_and_more_are_not() -> None:
    names = [f"name{i:02}" for i in range(31)]
    assert unknown("fruit", "name3", names[:30]).startswith(
        "unknown fruit 'name3': known are name00, name01, "
    )
    assert unknown("fruit", "name3", names) == "unknown fruit 'name3'; did you mean 'name30', " + (
        "'name23', 'name13', 'name03' or 'name29'? 31 are known"
    )


def test_a_long_list_of_formats_names_its_page() -> None:
    names = [f"int{i}" for i in range(40)]
    assert unknown("format", "int3", names).endswith("? docs/formats.md lists all 40")
    assert unknown("format", "xyz", names) == "unknown format 'xyz'; docs/formats.md lists all 40"
