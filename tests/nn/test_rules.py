"""Which rule a layer takes."""

import pytest

from lowbit_sim.nn.rules import Rule, UnusedRuleError, match_rules
from tests.nn.models import INT4, INT8

PATHS = ["features.0", "features.10", "classifier", "block.attn.proj"]


def specs(*rules: Rule) -> dict[str, object]:
    return {path: rule.spec for path, rule in match_rules(rules, PATHS).items()}


def test_the_first_match_wins() -> None:
    assert specs(Rule("classifier", None), Rule("features.*", INT4), Rule("*", INT8)) == {
        "features.0": INT4,
        "features.10": INT4,
        "classifier": None,
        "block.attn.proj": INT8,
    }


def test_a_path_without_a_rule_is_left_out() -> None:
    assert specs(Rule("classifier", INT8)) == {"classifier": INT8}
    assert specs() == {}


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*", PATHS),
        ("features.?", ["features.0"]),
        ("features.??", ["features.10"]),
        ("block.*", ["block.attn.proj"]),
        ("*.proj", ["block.attn.proj"]),
        ("features.[01]", ["features.0"]),
        ("classifier", ["classifier"]),
        ("Classifier", []),
        ("class", []),
        ("features", []),
    ],
)
def test_wildcards(pattern, matched) -> None:
    assert [path for path in PATHS if Rule(pattern, None).matches(path)] == matched


def test_an_unused_rule_lists_the_layers() -> None:
    with pytest.raises(
        UnusedRuleError, match="rule 'feature.0' matches no layer: the layers are 'features.0', 'fea"
    ):
        specs(Rule("feature.0", INT8))
    with pytest.raises(UnusedRuleError, match="the layers are none"):
        match_rules([Rule("*", INT8)], [])


def test_a_long_list_of_layers_is_cut() -> None:
    with pytest.raises(UnusedRuleError, match=r"'l10', 'l11', \.\.\.$"):
        match_rules([Rule("x", INT8)], [f"l{i}" for i in range(40)])


def test_a_shadowed_rule_names_the_one_before() -> None:
    message = "rule 'features.0' is never used: rule 'features.[*]' before it takes 'features.0'"
    with pytest.raises(UnusedRuleError, match=message):
        specs(Rule("features.*", INT8), Rule("features.0", INT4), Rule("*", None))


def test_equal_rules_shadow_each_other() -> None:
    rule = Rule("*", INT8)
    for other in (Rule("*", INT8), rule):
        with pytest.raises(UnusedRuleError, match="rule '[*]' is never used"):
            specs(rule, other)


@pytest.mark.parametrize("spec", ["int8", INT8.output, INT8.output and INT8.output.lhs, 8])
def test_a_rule_takes_an_op_spec(spec) -> None:
    with pytest.raises(
        TypeError,
        match="rule 'features' takes an OpSpec, an ElementwiseSpec, a FunctionalSpec or None, "
        f"got {type(spec).__name__}",
    ):
        Rule("features", spec)
