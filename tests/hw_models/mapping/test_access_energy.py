import pytest

from hw_models.mapping.access_energy import access_pj_per_bit
from hw_models.schema.memory import Access, OnChip


def memory(bandwidth: int, *accesses: tuple[int, float]) -> OnChip:
    return OnChip(
        source="assumption: for a test",
        capacity_bytes=1024,
        bandwidth_bytes_per_cycle=bandwidth,
        holds=("lhs",),
        accesses=tuple(
            Access.model_validate({"bits": bits, "read_pj": pj, "write_pj": 2 * pj}) for bits, pj in accesses
        ),
    )


def test_one_width_is_an_energy_of_a_bit():
    for bandwidth in (1, 8, 64):
        assert access_pj_per_bit(memory(bandwidth, (64, 6.4)), write=False) == pytest.approx((0.1,) * 3)


def test_between_two_widths_an_access_is_interpolated():
    level = memory(4, (16, 2.0), (48, 4.0))  # words of 32 bits: 3 pJ
    assert access_pj_per_bit(level, write=False)[1] == pytest.approx(3.0 / 32)
    assert access_pj_per_bit(level, write=True)[1] == pytest.approx(6.0 / 32)


def test_a_narrow_word_opens_a_whole_row_and_a_wide_one_is_several():
    assert access_pj_per_bit(memory(1, (16, 2.0), (48, 4.0)), write=False)[1] == pytest.approx(2.0 / 8)
    assert access_pj_per_bit(memory(64, (16, 2.0), (48, 4.0)), write=False)[1] == pytest.approx(4.0 / 48)
