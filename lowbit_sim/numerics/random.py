"""Random bits as a pure function of where they are used.

Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a 128-bit counter
and a 64-bit key give 128 random bits. The key is (seed, operand), the counter (element block, step, site),
so the same (seed, step, site, operand, element) gives the same bits on any backend, device, number of
threads and tiling. A draw of up to 8 (16, 32) bits is an 8- (16-, 32-) bit piece of a block: element i
reads piece i mod n of block i div n, where n pieces fill 128 bits, lowest piece of word 0 first.
"""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.numerics.whole import is_whole

_MULTIPLIER_0 = 0xD2511F53
_MULTIPLIER_1 = 0xCD9E8D57
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The address of a tensor's random bits.

    Args:
        seed: The run's seed.
        step: The training step.
        site: Which layer draws.
        operand: Which operand of the layer's GEMMs draws.
        offset: Global index of the tensor's first element: a rank that holds a slice of a batch passes the
            slice's offset and draws the bits that it would have drawn unsharded.

    Raises:
        ValueError: A field outside its range (32 bits unsigned; the offset 62 bits).
    """

    seed: int
    step: int = 0
    site: int = 0
    operand: int = 0
    offset: int = 0

    def __post_init__(self) -> None:
        for name in ("seed", "step", "site", "operand"):
            value = getattr(self, name)
            if not is_whole(value, 0, _MASK):
                raise ValueError(f"stream {name} must be from 0 to {_MASK}, got {value}")
        if not is_whole(self.offset, 0, (1 << 62) - 1):
            raise ValueError(f"stream offset must be from 0 to 2^62 - 1, got {self.offset}")


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox 4x32: four 32-bit words from a counter and a key. The definition."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL_0) & _MASK, (k1 + _WEYL_1) & _MASK
    return c0, c1, c2, c3


def draw_width(random_bits: int) -> int:
    """Bits of a block that one element takes: 8, 16 or 32."""
    return 8 if random_bits <= 8 else 16 if random_bits <= 16 else 32


def draw(stream: Stream, element: int, random_bits: int) -> int:
    """The random integer in [0, 2^random_bits) of a tensor's element (its index in row-major order)."""
    width = draw_width(random_bits)
    block, piece = divmod(stream.offset + element, 128 // width)
    words = philox4x32((block & _MASK, block >> 32, stream.step, stream.site), (stream.seed, stream.operand))
    word, place = divmod(piece, 32 // width)
    return (words[word] >> (place * width)) & ((1 << random_bits) - 1)
