import pytest
import torch

from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ghn import he_initialized
from lowbit_sim.ghn.graph import NetworkGraph
from lowbit_sim.study.data import Dataset
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.config import FineTuningTable
from lowbit_sim.study.ghn.fine_tuning import check_fine_tuning, fine_tuned
from lowbit_sim.study.ghn.results import FineTuning
from tests.ghn.examples import graphs, images

DATA = Dataset(name="tiny", description="tiny", train=images(24), test=images(12, seed=1), classes=4)

TABLE = FineTuningTable(
    split="test", networks=1, precision="W4A4", epochs=2, learning_rates=(0.05,), batch_size=12
)


def network() -> NetworkGraph:
    return graphs(1)[0]


def changed(**keys) -> FineTuningTable:
    return FineTuningTable(**{**TABLE.model_dump(), **keys})


def tuned(table: FineTuningTable = TABLE, rate: float = 0.05) -> FineTuning:
    start = he_initialized(network(), seed=0)
    return fine_tuned(table, start, DATA, number=3, learning_rate=rate, seed=0, mac=MacUnit())


def test_every_epoch_is_there_and_the_seed_decides():
    found = tuned()
    assert (found.number, found.learning_rate, found.status) == (3, 0.05, "completed")
    assert len(found.accuracies) == 2
    assert found == tuned()


def test_recipes_act():
    """Gradients that are clipped to nothing leave the start as it is, whatever the rate."""
    still = changed(recipes=[{"name": "clip_gradient_norm", "max_norm": 1e-30}])
    assert tuned(still, rate=0.05).accuracies == tuned(still, rate=0.5).accuracies
    assert tuned(rate=0.05).accuracies != tuned(rate=0.5).accuracies


def test_sat_goes_on_from_a_network_s_weights():
    """Predicted weights as a start for SAT: clamped, on DoReFa's levels in emulated layers."""
    table = changed(recipes=[{"name": "sat", "bits": 4}])
    check_fine_tuning(table, network(), len(DATA.train), MacUnit())
    assert tuned(table).status == "completed"


def test_numerics_are_those_of_the_table():
    """An accumulator of 8 bits saturates at 127, a product may be 105: so the same start goes another way."""
    table = changed(numerics={"format": "int8", "accumulator_bits": 8, "overflow": "saturate"})
    check_fine_tuning(table, network(), len(DATA.train), MacUnit())
    assert tuned(table).accuracies != tuned().accuracies


def test_recipes_that_can_not_act_are_found_first():
    table = changed(
        recipes=[{"name": "sat", "bits": 4}, {"name": "dorefa", "weight_bits": 4, "activation_bits": 4}]
    )
    with pytest.raises(StudyError, match="fine_tuning: "):
        check_fine_tuning(table, network(), len(DATA.train), MacUnit())


def test_a_start_that_is_not_finite_diverges():
    start = he_initialized(network(), seed=0)
    with torch.no_grad():
        start.get_submodule("layers.classifier_bias").bias.fill_(float("inf"))
    found = fine_tuned(TABLE, start, DATA, number=0, learning_rate=0.05, seed=0, mac=MacUnit())
    assert (found.status, found.accuracies) == ("diverged", ())
