"""Philox against Random123's published answers, and draws against their definition."""

import dataclasses

import numpy as np
import pytest

from lowbit_sim.numerics.kernels import philox_blocks
from lowbit_sim.numerics.random import Stream, draw, draw_width, philox4x32
from tests.numerics.cases import stream_draws

# Random123 1.14, tests/kat_vectors, "philox4x32 10".
KNOWN_ANSWERS = [
    # counter, key, words
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
STREAM = Stream(seed=11, step=22, site=33, operand=44)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_reference_gives_the_known_answers(counter, key, words) -> None:
    assert philox4x32(counter, key) == words


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        # The kernel's block index is signed and below 2^62: the second vector's is not reachable.
        KNOWN_ANSWERS[0],
        ((0x243F6A88, 0x05A308D3, 0x13198A2E, 0x03707344), KNOWN_ANSWERS[2][1], None),
        ((0xFFFFFFFF, 0x3FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), None),
    ],
)
def test_kernel_gives_the_reference_at_the_corners(counter, key, words) -> None:
    stream = Stream(seed=key[0], operand=key[1], step=counter[2], site=counter[3])
    block = philox_blocks(stream, counter[0] | counter[1] << 32, 1)
    assert tuple(block[0].tolist()) == (words or philox4x32(counter, key))


@pytest.mark.parametrize("first", [0, 5, (1 << 32) - 2, (1 << 32) + 7, (1 << 60) - 3])
def test_blocks_are_consecutive_counters(first: int) -> None:
    blocks = philox_blocks(STREAM, first, 4)
    assert blocks.dtype == np.uint32
    for i, block in enumerate(blocks.tolist()):
        counter = ((first + i) & 0xFFFFFFFF, (first + i) >> 32, STREAM.step, STREAM.site)
        assert tuple(block) == philox4x32(counter, (STREAM.seed, STREAM.operand))


@pytest.mark.parametrize(
    ("random_bits", "width"), [(1, 8), (7, 8), (8, 8), (9, 16), (16, 16), (17, 32), (32, 32)]
)
def test_a_draw_is_a_piece_of_a_block(random_bits: int, width: int) -> None:
    assert draw_width(random_bits) == width
    expected = stream_draws(STREAM, 100, width) & ((1 << random_bits) - 1)
    assert [draw(STREAM, i, random_bits) for i in range(100)] == expected.tolist()


def test_pieces_by_hand() -> None:
    words = philox4x32((0, 0, 0, 0), (0, 0))
    stream = Stream(seed=0)
    assert [draw(stream, i, 32) for i in range(4)] == list(words)
    assert [draw(stream, i, 16) for i in range(3)] == [0xE8D5, 0x6627, 0xC58D]
    assert [draw(stream, i, 8) for i in range(5)] == [0xD5, 0xE8, 0x27, 0x66, 0x8D]
    assert [draw(stream, i, 4) for i in range(5)] == [0x5, 0x8, 0x7, 0x6, 0xD]


@pytest.mark.parametrize("offset", [1, 15, 16, 1 << 34, (1 << 36) + 5, (1 << 62) - 32])
@pytest.mark.parametrize("random_bits", [8, 16, 32])
def test_offset_moves_along_the_same_stream(offset: int, random_bits: int) -> None:
    moved = dataclasses.replace(STREAM, offset=offset)
    assert [draw(moved, i, random_bits) for i in range(20)] == [
        draw(STREAM, offset + i, random_bits) for i in range(20)
    ]


@pytest.mark.parametrize("field", ["seed", "step", "site", "operand"])
def test_every_field_of_the_address_matters(field: str) -> None:
    before = stream_draws(STREAM, 4096, 8)
    after = stream_draws(dataclasses.replace(STREAM, **{field: getattr(STREAM, field) + 1}), 4096, 8)
    # Independent bytes agree in one place of 256; these counts are fixed, so the bound is not luck.
    assert (before == after).sum() < 4096 // 64


def test_swapped_fields_are_other_addresses() -> None:
    fields = ["seed", "step", "site", "operand"]
    streams = [Stream(**{name: int(name == chosen) for name in fields}) for chosen in fields]
    assert len({tuple(philox_blocks(s, 0, 1)[0].tolist()) for s in streams}) == 4


@pytest.mark.parametrize("field", ["seed", "step", "site", "operand"])
@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_field_out_of_range(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"stream {field} must be from 0 to 4294967295, got {value}"):
        Stream(**{"seed": 0, field: value})


@pytest.mark.parametrize("offset", [-1, 1 << 62])
def test_offset_out_of_range(offset: int) -> None:
    with pytest.raises(ValueError, match=f"stream offset must be .*got {offset}"):
        Stream(seed=0, offset=offset)
