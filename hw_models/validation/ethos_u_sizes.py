"""The sizes of Arm's Ethos-U55 and Ethos-U65, from the `ethos_u55` profile.

Source: ethos-u-vela, architecture_features.py (Arm, Apache-2.0), a release of 2021 (github.com/nxp-imx/ethos-u-vela):
units of output, cores, ports, latencies and `output_cycles_per_elem` of each size.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.explore.overrides import with_overrides
from hw_models.load import load
from hw_models.profile import HardwareProfile


@dataclass(frozen=True, kw_only=True)
class Size:
    """A machine of the family.

    Attributes:
        columns, pixel_rows, pixel_columns, cores: Kernels and output pixels at once, and cores.
        frequency_hz, sram_bytes, outer_bytes: Clock, and bytes a cycle of the two memories' ports.
        outer_latency: Cycles until the outer memory answers.
        unary, binary, scaled: Cycles for an element of an operator on 32-bit integers with one and with two operands,
            and of one that rescales 8-bit integers.
    """

    columns: int
    pixel_rows: int
    pixel_columns: int
    cores: int
    frequency_hz: int
    sram_bytes: int
    outer_bytes: int
    outer_latency: int
    unary: float
    binary: float
    scaled: float

    @property
    def unit(self) -> int:
        """Elements of a unit of output of one core: kernels times pixels."""
        return self.columns * self.pixel_rows * self.pixel_columns

    @property
    def profile(self) -> HardwareProfile:
        """`ethos_u55` scaled to this machine, with an outer memory that never stalls: weights are counted apart."""
        return with_overrides(
            load("ethos_u55"),
            {
                "clock.frequency_hz": self.frequency_hz,
                "array.columns": self.columns,
                "array.pixel_rows": self.pixel_rows,
                "array.pixel_columns": self.pixel_columns,
                "array.arrays": self.cores,
                "memory.shared_buffer.bandwidth_bytes_per_cycle": 8
                * (self.pixel_rows * self.pixel_columns + self.unit)
                * self.cores,
                "memory.weight_buffer.bandwidth_bytes_per_cycle": 16 * self.cores,
                "memory.sram.bandwidth_bytes_per_cycle": self.sram_bytes,
                "memory.dram.bandwidth_bytes_per_second": 10**15,
            },
        )


def _size(
    columns: int, pixels: tuple[int, int], cores: int, speeds: tuple[float, float, float], *, u65: bool
) -> Size:
    return Size(
        columns=columns,
        pixel_rows=pixels[0],
        pixel_columns=pixels[1],
        cores=cores,
        frequency_hz=1_000_000_000 if u65 else 500_000_000,
        sram_bytes=16 if u65 else 8,
        outer_bytes=12 if u65 else 1,
        outer_latency=500 if u65 else 64,
        unary=speeds[0],
        binary=speeds[1],
        scaled=speeds[2],
    )


SIZES = {
    "ethos-u55-32": _size(4, (1, 1), 1, (2.0, 3.0, 6.0), u65=False),
    "ethos-u55-64": _size(8, (1, 1), 1, (1.0, 1.5, 3.0), u65=False),
    "ethos-u55-128": _size(8, (1, 2), 1, (0.75, 1.25, 1.5), u65=False),
    "ethos-u55-256": _size(8, (2, 2), 1, (0.625, 1.125, 0.75), u65=False),
    "ethos-u65-256": _size(8, (2, 2), 1, (0.625, 1.125, 0.75), u65=True),
    "ethos-u65-512": _size(8, (2, 2), 2, (0.3125, 0.5625, 0.375), u65=True),
}
