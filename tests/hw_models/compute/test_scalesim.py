"""SCALE-Sim's own conventions, defects included; its 541 layers are in `validation/test_scale_sim.py`."""

from hw_models.compute.scalesim import scalesim_figures
from hw_models.compute.systolic import systolic_cycles, systolic_work


def test_the_printed_cycles_are_one_short():
    for dataflow in ("ws", "os", "is"):
        figures = scalesim_figures(10, 11, 12, rows=4, cols=4, dataflow=dataflow)
        assert figures.cycles == systolic_cycles(10, 11, 12, 4, 4, dataflow) - 1
        assert figures.utilization_percent == 100 * 10 * 11 * 12 / (figures.cycles * 16)


def test_only_output_stationary_writes_too_many():
    for dataflow, surplus in (("ws", 0), ("is", 0), ("os", 9 * (4 + 5))):
        figures = scalesim_figures(12, 15, 7, rows=4, cols=5, dataflow=dataflow)
        right = systolic_work(12, 15, 7, rows=4, cols=5, dataflow=dataflow)
        assert figures.output_writes == right.result_writes + surplus
