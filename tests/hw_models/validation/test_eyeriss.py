"""Eyeriss on AlexNet: active elements exactly, each layer's processing time within 20 %."""

import pytest

from hw_models.validation.eyeriss import layers, points

POINTS = points()


def of(quantity: str) -> dict[str, float]:
    return {p.workload.split()[1].rstrip(","): p.error for p in POINTS if p.quantity == quantity}


def test_every_layer_is_compared():
    assert len(POINTS) == 15
    assert set(of("processing time")) == set(layers()) == {f"CONV{i}" for i in range(1, 6)}


def test_the_layers_have_the_published_products():
    published = {"CONV1": 0.42, "CONV2": 0.90, "CONV3": 0.60, "CONV4": 0.45, "CONV5": 0.30}
    assert {name: round(event.macs / 1e9, 2) for name, event in layers().items()} == pytest.approx(
        published, abs=0.01
    )


def test_active_elements_are_exact():
    assert of("active processing elements") == dict.fromkeys(layers(), 0.0)


@pytest.mark.parametrize("layer", [f"CONV{i}" for i in range(1, 6)])
def test_processing_time_within_20_percent(layer):
    assert abs(of("processing time")[layer]) < 20


def test_buffer_accesses_are_of_the_first_order():
    errors = of("global buffer accesses")
    assert max(abs(error) for error in errors.values()) < 40
    assert max(abs(errors[layer]) for layer in ("CONV1", "CONV2")) < 10
