from dataclasses import replace

import pytest
from rich.console import Console

from lowbit_sim.study import measured
from lowbit_sim.study.markdown_table import default_columns, markdown_table
from lowbit_sim.study.recorded import study_result
from lowbit_sim.study.recorded_cost import RecordedCost
from lowbit_sim.study.report import study_table
from lowbit_sim.study.results import ArmResult, Price, SeedResult, StudyResult, to_dict
from tests.study import examples

COST = RecordedCost(
    values={
        "seconds": 0.01,
        "cycles": 1000,
        "energy_pj": 2e12,
        "notes": [],
        "by_role": {
            role: {"cycles": 1, "energy_pj": 1.0}
            for role in ("output", "grad_input", "grad_weight", "update", "overhead")
        },
    }
)


def rendered(table) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def arm(name: str, energy_j: float | None = 30.0, peak: int | None = 3 << 20) -> ArmResult:
    epoch = replace(examples.metrics(), steps=10, energy_j=energy_j, peak_memory_bytes=peak)
    run = examples.run()
    training = replace(run.training, epochs=(epoch, replace(epoch, epoch=1)), step_seconds=(0.02, 0.02))
    return ArmResult(
        name=name,
        native=name == "fp32",
        operands="fp32",
        accumulator="fp32",
        gradient_rounding="none",
        prices=(Price(machine="h200", cost=COST),),
        runs=(SeedResult(seed=0, training=training),),
    )


def result(*arms: ArmResult, **changes) -> StudyResult:
    study = StudyResult(
        title="t",
        question="",
        data="d",
        model="mlp",
        classes=10,
        test_examples=100,
        batch_size=8,
        seeds=(0,),
        status="completed",
        arms=arms,
        hardware="NVIDIA H200",
        measured_how={"time": "CUDA events", "energy": "NVML", "memory": "tensors"},
    )
    return replace(study, **changes)


def test_energy_of_a_step_is_the_median_over_epochs_and_memory_the_peak():
    subject = arm("fp32")
    assert subject.energy_per_step_j == 3.0
    assert subject.peak_memory_bytes == 3 << 20
    assert (measured.energy(subject), measured.memory(subject)) == ("3.00 J", "3.0 MiB")
    without = arm("fp32", None, None)
    assert (without.energy_per_step_j, without.peak_memory_bytes) == (None, None)
    assert (measured.energy(without), measured.memory(without)) == (None, None)


@pytest.mark.parametrize(
    ("machine", "hardware", "same"),
    [
        ("h200", "NVIDIA H200", True),
        ("measured_nvidia_h200", "NVIDIA H200", True),
        ("h200", "NVIDIA H100", False),
        ("h200", "", False),
        ("measured", "NVIDIA H200", False),
        ("measured_intel_xeon_processor", "Intel(R) Xeon(R) Processor", True),
    ],
)
def test_a_profile_is_the_hardware_s_by_the_words_of_its_name(machine, hardware, same):
    assert measured.is_profile_of(machine, hardware) == same


def test_measured_stands_beside_modelled():
    subject = arm("fp32")
    assert measured.beside(subject, subject.prices[0]) == "2 / 1.5"
    assert measured.beside(arm("x", None), subject.prices[0]) == "2 / -"
    assert measured.beside(subject, Price(machine="h200", cost=None)) is None


def test_the_table_has_rows_for_what_was_measured():
    text = rendered(study_table(result(arm("fp32"), arm("int8"))))
    assert "energy per step" in text
    assert "3.00 J" in text
    assert "peak memory" in text
    assert "time, modelled" in text
    assert "2 / 1.5" in text
    assert "On NVIDIA H200: time by CUDA events; energy by NVML" in " ".join(text.split())


def test_on_other_hardware_and_without_counters_the_rows_are_left_out():
    how = {"time": "the host's clock", "energy": "not measured: no counter", "memory": "not measured: why"}
    text = rendered(study_table(result(arm("fp32", None, None), hardware="A CPU", measured_how=how)))
    assert "energy per step" not in text
    assert "time, modelled" not in text
    assert "energy not measured: no counter" in " ".join(text.split())


def test_a_table_says_which_arms_were_not_available():
    text = rendered(study_table(result(arm("fp32"), unavailable={"tf32": "no units"})))
    assert "Not available here: tf32 (no units)." in " ".join(text.split())


def test_markdown_has_the_columns_that_were_measured():
    subject = result(arm("fp32"))
    assert {"energy", "memory"} <= set(default_columns(subject))
    assert not {"energy", "memory"} & set(default_columns(result(arm("fp32", None, None))))
    table = markdown_table(subject, ["seconds", "energy", "memory", "beside:h200"])
    assert "| fp32 | 20.0 ms | 3.00 J | 3.0 MiB | 2 / 1.5 |" in table


def test_a_record_holds_all_of_it_and_older_ones_load_without():
    record = to_dict(result(arm("fp32"), unavailable={"tf32": "no units"}))
    assert record["arms"][0]["energy_per_step_j"] == 3.0
    again = study_result(record, "it")
    assert again.arms[0].energy_per_step_j == 3.0
    assert (again.hardware, again.unavailable) == ("NVIDIA H200", {"tf32": "no units"})
    for key in ("unavailable", "hardware", "measured_how"):
        del record[key]
    for epoch in record["arms"][0]["runs"][0]["epochs"]:
        for key in ("steps", "energy_j", "peak_memory_bytes"):
            del epoch[key]
    older = study_result(record, "it")
    assert older.arms[0].energy_per_step_j is None
    assert (older.hardware, older.unavailable, measured.in_words(older)) == ("", {}, "")
