"""Rule I before the first step: the formulas, the collapse, and the table of the documentation."""

import re
from pathlib import Path

import pytest

from lowbit_sim.nn.rescaled_weight import WeightRescaling
from lowbit_sim.quant.dorefa_weights import DoReFaLevels
from lowbit_sim.training.head_statistics import IMAGENET_HEADS, Head, statistics_at_the_start

DOCS = Path(__file__).parents[2] / "docs" / "sat.md"


def rescaling(bits: int | None, kind: str) -> WeightRescaling:
    return WeightRescaling(levels=None if bits is None else DoReFaLevels(bits=bits), kind=kind)


VARIANTS: dict[str, WeightRescaling | None] = {
    "plain": None,
    "clamped": rescaling(None, "none"),
    "clamped, 4 bits": rescaling(4, "none"),
    "clamped, 2 bits": rescaling(2, "none"),
    "SAT, 4 bits": rescaling(4, "constant"),
    "SAT, 2 bits": rescaling(2, "constant"),
}


@pytest.mark.parametrize("outputs", [10, 100, 1000])
def test_sat_keeps_the_plain_logit_variance_and_the_clamp_lets_it_grow_with_the_classes(outputs):
    head = Head(inputs=256, outputs=outputs, pool=2)
    plain = 256 / (outputs * 4)
    found = {name: statistics_at_the_start(head, kind) for name, kind in VARIANTS.items()}
    for name in ("plain", "SAT, 4 bits", "SAT, 2 bits"):
        assert found[name].logit_variance == pytest.approx(plain, rel=0.05)
    grown = found["clamped"].logit_variance / plain
    assert {10: 1, 100: 5, 1000: 25}[outputs] <= grown <= {10: 3, 100: 10, 1000: 60}[outputs]
    assert found["clamped"].logit_variance < found["clamped, 4 bits"].logit_variance
    assert found["clamped, 4 bits"].logit_variance < found["clamped, 2 bits"].logit_variance


def test_a_saturated_softmax_has_no_entropy_and_a_gradient_of_the_wrong_size():
    head = IMAGENET_HEADS["MobileNet-V2"]
    found = {
        name: statistics_at_the_start(head, VARIANTS[name])
        for name in ("plain", "clamped, 2 bits", "SAT, 2 bits")
    }
    assert found["plain"].entropy > 0.98
    assert found["clamped, 2 bits"].entropy < 0.1
    assert found["SAT, 2 bits"].entropy == pytest.approx(found["plain"].entropy, abs=0.01)
    assert found["clamped, 2 bits"].gradient_norm > 10 * found["plain"].gradient_norm
    assert found["SAT, 2 bits"].gradient_norm == pytest.approx(found["plain"].gradient_norm, rel=0.02)
    assert found["clamped, 2 bits"].loss > 2 * found["SAT, 2 bits"].loss


def test_the_table_of_the_documentation():
    table = re.search(r"<!-- heads -->\n(.*?)\n<!-- end of heads -->", DOCS.read_text(), re.DOTALL)
    assert table is not None
    header, _, *rows = table.group(1).splitlines()
    names = [name.strip() for name in header.strip("|").split("|")][2:]
    assert names == list(VARIANTS)
    assert len(rows) == len(IMAGENET_HEADS)
    for row, (name, head) in zip(rows, IMAGENET_HEADS.items(), strict=True):
        network, inputs, *cells = [text.strip() for text in row.strip("|").split("|")]
        assert (network, int(inputs)) == (name, head.inputs)
        for text, variant in zip(cells, names, strict=True):
            found = statistics_at_the_start(head, VARIANTS[variant])
            shown, entropy = map(float, text.split(", "))
            assert shown == pytest.approx(found.logit_variance, rel=0.05)
            assert entropy == pytest.approx(found.entropy, abs=0.02)
