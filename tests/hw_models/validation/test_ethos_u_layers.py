"""The MLPerf Tiny models that Arm's compiler was run on."""

from __future__ import annotations

import pytest

from hw_models.validation.ethos_u import vela_rows
from hw_models.validation.ethos_u_layers import MODELS, TAPS_AT_ONCE, anomaly_detection, keyword_spotting


@pytest.mark.parametrize("model", sorted(MODELS))
def test_layers_have_the_macs_of_the_rows(model: str) -> None:
    layers = MODELS[model]()
    rows = {int(r["idx"]): r for r in vela_rows() if r["model"] == model}
    padded = {"pool": 125, "depthwise": 9}
    for index, event in layers.items():
        taps = next((t for name, t in padded.items() if name in event.layer), event.K)
        assert event.M * event.N * taps == int(rows[index]["MAC Count"]), event.layer


def test_models_have_their_published_layers() -> None:
    dense = [(e.K, e.N) for e in anomaly_detection().values()]
    assert dense == [(640, 128), *[(128, 128)] * 3, (128, 8), (8, 128), *[(128, 128)] * 3, (128, 640)]
    stem = keyword_spotting()[0]
    assert (stem.M, stem.N, stem.K) == (25 * 5, 64, 40)


def test_taps_of_one_channel_are_rounded_up_to_those_taken_at_once() -> None:
    layers = keyword_spotting()
    assert (layers[2].K, layers[18].K) == (12, 128)
    assert all(layer.K % TAPS_AT_ONCE == 0 for layer in layers.values())
