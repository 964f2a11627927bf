"""The MLPerf Tiny models that Arm's compiler was run on."""

from __future__ import annotations

import pytest

from hw_models.compute.convolution import is_depthwise
from hw_models.validation.ethos_u import vela_rows
from hw_models.validation.ethos_u_layers import MODELS, anomaly_detection, keyword_spotting


@pytest.mark.parametrize("model", sorted(MODELS))
def test_layers_have_the_macs_of_the_rows(model: str) -> None:
    layers = MODELS[model]()
    rows = {int(r["idx"]): r for r in vela_rows() if r["model"] == model}
    for index, event in layers.items():
        assert event.macs == int(rows[index]["MAC Count"]), event.layer


def test_models_have_their_published_layers() -> None:
    dense = [(e.K, e.N) for e in anomaly_detection().values()]
    assert dense == [(640, 128), *[(128, 128)] * 3, (128, 8), (8, 128), *[(128, 128)] * 3, (128, 640)]
    stem = keyword_spotting()[0]
    assert (stem.M, stem.N, stem.K) == (25 * 5, 64, 40)


def test_depthwise_layers_and_pooling_are_groups_of_one_channel() -> None:
    layers = keyword_spotting()
    for index, taps in ((2, 9), (18, 125)):
        assert (layers[index].count, layers[index].N, layers[index].K) == (64, 1, taps)
        assert is_depthwise(layers[index])
    assert layers[20].count == 1  # of one channel: a maximum over the words
