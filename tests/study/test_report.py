from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

import hw_models
import lowbit_sim as lb
from lowbit_sim.ops.counts import OperandCounts
from lowbit_sim.study.arms import price
from lowbit_sim.study.price import gemm_trace
from lowbit_sim.study.report import study_table
from lowbit_sim.study.results import Price, SeedResult, StageCost, StudyResult
from lowbit_sim.trace import WorkloadTrace
from lowbit_sim.training.metrics import TrainingResult
from tests.study.examples import arm, native_arm, result, run

FLOAT_NOTE = "native float GEMMs run on the vector unit: the array has no float mode"
#: Three arrays of integers, of at most 8 bits.
MACHINES = [hw_models.load(name) for name in ("edge_npu", "gemmini", "tpu_v1")]


def prices(spec: lb.OpSpec | None) -> tuple[Price, ...]:
    return tuple(price(gemm_trace(4096, 512, 4608, spec), machine) for machine in MACHINES)


def rendered(study: StudyResult, width: int = 100) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(study_table(study))
    return capture.get()


LOST = OperandCounts(elements=200, underflowed=25)


@pytest.fixture
def four_arms() -> StudyResult:
    int8, int4 = prices(lb.OpSpec.uniform(lb.INT8)), prices(lb.OpSpec.uniform(lb.INT4))
    return result(
        native_arm((run(0, 0.9914), run(1, 0.9886)), prices(None)),
        arm(
            "INT8", (run(0, 0.99, additions=10), run(1, 0.98, additions=10)), int8, accumulator="32-bit wrap"
        ),
        arm(
            "INT4 SR",
            (run(0, 0.1, additions=1000, overflows=1, operands=LOST), run(1, None)),
            int4,
            operands="int4",
        ),
        arm(
            "INT8 acc16",
            (run(0, 0.5, additions=10, overflows=None),),
            int8,
            gradient_rounding="stochastic (r=8)",
        ),
    )


def row(text: str, label: str) -> list[str]:
    """The cells of the first row with a label."""
    line = next(
        line for line in text.splitlines() if line.startswith("│") and line[1:].strip().startswith(label)
    )
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def test_four_arms_and_three_machines_fit_100_columns_without_a_broken_cell(four_arms):
    text = rendered(four_arms)
    assert max(map(len, text.splitlines())) <= 100
    body = [line for line in text.splitlines() if line.startswith("│")]
    # A wrapped cell makes a row without a label; only the status of a mixed arm may need one.
    unlabelled = [line for line in body if not line[1:].split("│")[0].strip()]
    assert len(unlabelled) <= 2
    assert "…" not in text


def test_metrics_are_rows_and_arms_are_columns(four_arms):
    text = rendered(four_arms, width=160)
    assert row(text, "operands") == ["fp32", "int8", "int4", "int8"]
    assert row(text, "accumulator") == ["fp32", "32-bit wrap", "16-bit saturate", "16-bit saturate"]
    assert row(text, "test accuracy, %") == ["99.00 ± 0.20", "98.50 ± 0.71", "10.00", "50.00"]
    assert row(text, "minus fp32, points") == ["+0.00", "-0.50", "-89.00", "-49.00"]
    assert row(text, "status") == ["ok", "ok", "diverged 1 of 2, chance level 1 of 2 [1]", "1 of 2 not run"]
    assert row(text, "time per step") == ["12.0 ms"] * 4
    assert row(text, "ratio to fp32") == ["1.00x"] * 4
    assert row(text, "overflowed additions") == ["- [2]", "none", "0.1 %", "- [3]"]
    assert row(text, "clipped operands") == ["-", "-", "none", "-"]
    assert row(text, "operands to zero") == ["-", "-", "12.5 %", "-"]


def test_every_machine_has_its_section_and_what_it_can_not_run_is_a_dash_with_a_reason():
    wide = prices(lb.OpSpec.uniform(lb.INT16))
    text = rendered(result(arm("INT16", prices=wide), arm(prices=prices(lb.OpSpec.uniform(lb.INT8)))), 160)
    for machine in MACHINES:
        assert row(text, machine.machine.name)[0].startswith("[")
        assert f"int16 (16 bits), but {machine.machine.name} multiplies integers" in text
    for label in (
        "cycles / energy",
        "energy, range",
        "forward",
        "grad_input",
        "grad_weight",
        "update",
        "overhead",
    ):
        cells = row(text, label)
        assert cells[0] == "-"
        assert " / " in cells[1] or label == "energy, range"


def test_the_range_of_an_energy_is_in_the_unit_of_its_high_end(four_arms):
    cost = four_arms.arms[1].prices[0].cost
    assert cost is not None
    low, high = row(rendered(four_arms, width=160), "energy, range")[1].split("-")
    scale = {"mJ": 1e9, "µJ": 1e6}[high.split()[1]]
    assert float(high.split()[0]) * scale == pytest.approx(cost.energy_high_pj, rel=0.006)
    assert float(low) * scale == pytest.approx(cost.energy_low_pj, rel=0.006)


@pytest.mark.parametrize(
    ("low_pj", "high_pj", "text"),
    [
        (2.14e9, 2.14e9, "-"),
        (2.1e9, 2.14e9, "2.10-2.14 mJ"),
        (0.05e9, 480e9, "0.0500-480 mJ"),
        (0.0, 3e9, "0-3.00 mJ"),
        (0.0, 0.0, "-"),
    ],
)
def test_the_ends_of_a_range_have_equal_digits(four_arms, low_pj, high_pj, text):
    first, *others = four_arms.arms
    cost = SimpleNamespace(
        **{name: getattr(first.prices[0].cost, name) for name in ("cycles", "energy_pj", "notes", "by_role")},
        energy_low_pj=low_pj,
        energy_high_pj=high_pj,
    )
    changed = replace(first, prices=(replace(first.prices[0], cost=cost), *first.prices[1:]))
    shown = rendered(replace(four_arms, arms=(changed, *others)), width=160)
    assert row(shown, "energy, range")[0] == text


def test_native_arms_are_priced_and_the_models_note_on_them_is_a_footnote(four_arms):
    text = rendered(four_arms, width=160)
    assert all(" / " in cell for cell in row(text, "cycles / energy"))
    assert text.count(FLOAT_NOTE) == 1
    for machine in MACHINES:
        mark = row(text, machine.machine.name)[0]
        assert f"{mark} {FLOAT_NOTE}" in text


def test_the_figures_are_the_reports(four_arms):
    cost = four_arms.arms[1].prices[0].cost
    assert cost is not None
    cycles, energy = row(rendered(four_arms, width=160), "cycles / energy")[1].split(" / ")
    assert float(cycles.rstrip("kM")) * {"k": 1e3, "M": 1e6}[cycles[-1]] == pytest.approx(
        cost.cycles, rel=0.006
    )
    scale = {"mJ": 1e9, "µJ": 1e6}[energy.split()[1]]
    assert float(energy.split()[0]) * scale == pytest.approx(cost.energy_pj, rel=0.006)


def test_footnotes_are_numbered_in_order_and_given_once(four_arms):
    text = rendered(four_arms)
    notes = [line for line in text.splitlines() if line.startswith("[")]
    assert [int(line[1 : line.index("]")]) for line in notes] == list(range(1, len(notes) + 1))
    assert "[1] INT4 SR, seed 1: epoch 1: the training loss is nan" in notes


def test_a_study_without_machines_baseline_or_runs_is_all_dashes():
    text = rendered(result(arm("[b]x[/b]"), status="interrupted"))
    assert "(interrupted)" in text
    assert "[b]x[/b]" in text
    assert row(text, "status") == ["not run"]
    assert row(text, "test accuracy, %") == row(text, "time per step") == ["-"]


def test_without_a_native_arm_a_footnote_says_why_nothing_is_compared():
    text = rendered(result(arm("INT8", (run(),))))
    assert "[1] no native arm to compare with" in text
    assert row(text, "minus native, points") == row(text, "ratio to native") == ["- [1]"]
    assert "no native arm" not in rendered(result(native_arm((run(),))))


def test_a_run_that_diverged_in_its_first_epoch_has_no_overflow_share_for_that_reason():
    diverged = SeedResult(
        seed=0,
        training=TrainingResult(status="diverged", reason="epoch 0: nan", epochs=(), step_seconds=()),
    )
    text = rendered(result(native_arm((run(),)), arm("INT8", (diverged,))))
    assert "no epoch ended" in text
    assert "not counted" not in text


def test_an_arm_whose_gemms_are_all_native_counted_nothing():
    text = rendered(result(native_arm((run(),)), arm("INT8", (run(additions=0, overflows=0),))))
    assert "no GEMM ran on an emulated integer accumulator" in text


def test_the_caption_says_where_overflows_are_counted(four_arms):
    assert "Overflowed additions: in the first step of every epoch." in " ".join(rendered(four_arms).split())


def test_one_is_singular_in_the_caption():
    text = " ".join(rendered(result(arm(), seeds=(0,), batch_size=1, test_examples=1), 300).split())
    assert "Seed 0. Accuracy on 1 test image after" in text
    assert "one training step of 1 image." in text


def priced(*notes: str) -> Price:
    [event] = gemm_trace(4, 4, 4, lb.OpSpec.uniform(lb.INT8)).events
    cost = hw_models.estimate(WorkloadTrace([event]), MACHINES[0])
    return Price(machine="m", cost=replace(cost, notes=notes))


@pytest.mark.parametrize(
    ("notes", "marks", "footnotes"),
    [
        ((), "", []),
        ((FLOAT_NOTE,), "[2]", [f"[2] {FLOAT_NOTE}"]),
        (("output: ran with X",), "[2]", ["[2] priced at the formats that ran;"]),
        (
            ("output: ran with X", FLOAT_NOTE, "more"),
            "[2][3]",
            [f"[2] {FLOAT_NOTE}", "[3] priced at the formats that ran;"],
        ),
    ],
)
def test_float_gemms_on_the_vector_unit_have_their_own_footnote(notes, marks, footnotes):
    text = rendered(result(native_arm(prices=(priced(*notes),))), width=160)
    assert row(text, "m  ")[0] == marks
    lines = [line for line in text.splitlines() if line.startswith("[")][1:]  # [1] is on the accumulator
    assert len(lines) == len(footnotes)
    assert all(line.startswith(start) for line, start in zip(lines, footnotes, strict=True))


@pytest.mark.parametrize("count", [4, 5, 7, 8])
def test_more_arms_than_fit_come_in_further_tables_with_the_baseline(count):
    others = [arm(f"arm {i}", (run(0, 0.9),)) for i in range(count - 1)]
    text = rendered(result(native_arm((run(0, 0.95),)), *others))
    headings = [line for line in text.splitlines() if line.startswith("┃") and "arm" in line]
    shown = [[cell.strip() for cell in line.strip("┃").split("┃")][1:] for line in headings]
    assert [names[0] for names in shown] == ["fp32"] * len(shown)
    assert [name for names in shown for name in names[1:]] == [f"arm {i}" for i in range(count - 1)]
    assert max(map(len, shown)) == 4
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("Accuracy on") == 1


def test_many_arms_without_a_native_one():
    text = rendered(result(*(arm(f"arm {i}", (run(0, 0.9),)) for i in range(6))))
    assert all(f"arm {i}" in text for i in range(6))


def test_an_inference_has_a_row_where_recipes_change_what_infers():
    int8, fp32 = prices(lb.OpSpec.uniform(lb.INT8)), prices(None)
    plain = arm("INT8", (run(0, 0.9),), int8, inference=int8)
    assert "  inference" not in rendered(result(plain))
    changed = arm("W2A2", (run(0, 0.9),), int8, inference=int8, recipes="dorefa (weight_bits 2)")
    text = rendered(result(native_arm((run(0, 0.9),), fp32), changed))
    lines = [line for line in text.splitlines() if "  inference" in line]
    assert len(lines) == len(MACHINES)
    assert "-" in lines[0]  # the native arm is of a record without inferences


def test_a_mean_step_says_what_it_is_the_mean_of():
    [first, *others] = prices(lb.OpSpec.uniform(lb.INT8))
    stages = tuple(
        StageCost(name=name, share=share, cycles=10, energy_pj=1.0)
        for name, share in (("W32A32", 0.25), ("W2A2", 0.75))
    )
    text = rendered(result(arm("W2A2", (run(0, 0.9),), (replace(first, stages=stages), *others))), width=300)
    assert (
        "the mean step of a run in stages: W32A32 25 %, W2A2 75 % of the steps; result.json has the cost"
        in text
    )
