import pytest

from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.training.progressive import progressive
from lowbit_sim.training.two_step import two_step
from tests.training.grid_nets import STEPS, run, same_weights
from tests.training.toys import parameter_bits


def plan(recipe) -> list[tuple[str, int]]:
    return [(stage.name, stage.steps) for stage in recipe.stages()]


def test_the_bits_fall_in_equal_shares():
    assert plan(progressive(steps=50)) == [
        ("W32A32", 10),
        ("W16A16", 10),
        ("W8A8", 10),
        ("W4A4", 10),
        ("W2A2", 10),
    ]
    assert plan(progressive((8, 2), steps=40, shares=(1, 3))) == [("W8A8", 10), ("W2A2", 30)]


def test_nested_stages_quantise_the_weights_first():
    assert plan(progressive((32, 4, 2), steps=60, nested=True)) == [
        ("W32A32", 20),
        ("W4A32", 10),
        ("W4A4", 10),
        ("W2A4", 10),
        ("W2A2", 10),
    ]


def test_nested_from_full_precision_is_two_step():
    nested = progressive((32, 2), steps=STEPS, nested=True, shares=(1, 2))
    reference = two_step(Precision(weight_bits=2, activation_bits=2), steps=STEPS, pretraining=1 / 3)
    assert plan(nested) == plan(reference)
    assert parameter_bits(run([nested])[0]) == parameter_bits(run([reference])[0])


def test_the_limit_of_32_bits_is_plain_training():
    plain, expected = run([])
    full, result = run([progressive((32,), steps=STEPS)])
    assert same_weights(plain, full)
    assert abs(result.epochs[-1].test_loss - expected.epochs[-1].test_loss) < 1e-6


def test_equal_widths_change_nothing():
    assert plan(progressive((2, 2, 2), steps=9)) == [("W2A2", 9)]
    assert plan(progressive((2, 2), steps=9, nested=True)) == [("W2A2", 9)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": (2, 4)}, r"bits fall from stage to stage, as in \[32, 16, 8, 4, 2\], got \[2, 4\]"),
        ({"bits": ()}, "bits fall from stage to stage"),
        ({"bits": (8, 4), "shares": (1.0,)}, "each of the 2 widths has one share, got 1"),
        ({"bits": (20, 4)}, "weight_bits must be from 1 to 16, or 32 for full precision, got 20"),
        ({"steps": 3}, "a run of 3 steps is too short for its 5 stages"),
    ],
    ids=["rising", "none", "shares", "bits", "steps"],
)
def test_what_can_not_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        progressive(**{"steps": 100, **options})
