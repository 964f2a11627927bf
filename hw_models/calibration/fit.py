"""The few numbers of a machine that a handful of measurements fix.

    startup   the time of the smallest GEMM, the least over the modes
    rate_m    macs / (time - startup) of mode m's fastest GEMM
    bandwidth of a copy
    power     energy over time while GEMMs run, where there is a counter

A profile's array does a whole number of multiply-accumulates a cycle in each mode. The slowest mode's is the number
up to `FINEST` for which the others, rounded, are the least off; it fixes the clock. Small numbers are wanted, as a
tile's reduction takes that many times fewer cycles and its ends weigh the more. Cycles of a fitted machine are such
units, not those of the device's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hw_models.calibration.timing import TimedGemm

#: The most multiply-accumulates that an element of the array does in a cycle of the slowest mode.
FINEST = 4


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A machine's fitted numbers.

    Attributes:
        startup_s: Seconds before a GEMM does its first product.
        macs_per_second: Sustained rate of each mode by its name.
        bytes_per_second: Bandwidth of the memory outside, read and written.
        power_w: Power under load, or None where it was not measured.
    """

    startup_s: float
    macs_per_second: Mapping[str, float]
    bytes_per_second: float
    power_w: float | None = None

    @property
    def slowest_macs(self) -> int:
        """Multiply-accumulates that an element does in a cycle of the slowest mode."""
        return min(range(1, FINEST + 1), key=self._rounding_error)

    def clock(self, elements: int) -> int:
        """The frequency in Hz at which an array of so many elements has the slowest mode's rate."""
        return max(1, round(min(self.macs_per_second.values()) / (elements * self.slowest_macs)))

    def macs_per_element(self, mode: str) -> int:
        """Multiply-accumulates of a mode that an element does in a cycle of that clock."""
        return max(1, round(self.slowest_macs * self._ratio(mode)))

    def _ratio(self, mode: str) -> float:
        return self.macs_per_second[mode] / min(self.macs_per_second.values())

    def _rounding_error(self, slowest: int) -> float:
        """The largest share by which a mode's whole number differs from its rate."""
        exact = [slowest * self._ratio(mode) for mode in self.macs_per_second]
        return round(max(abs(round(value) - value) / value for value in exact), 3)


def fit(gemms: Sequence[TimedGemm], bytes_per_second: float, power_w: float | None = None) -> Fit:
    """The numbers that the measured times fix.

    Args:
        gemms: A smallest GEMM, whose products take no time to speak of, and large ones, of every mode.
        bytes_per_second: What a copy reads and writes in a second.
        power_w: Power under load.

    Raises:
        ValueError: A mode with no GEMM that takes longer than starting one.
    """
    startup = min(gemm.seconds for gemm in gemms)
    rates: dict[str, float] = {}
    for gemm in gemms:
        if gemm.seconds > startup:
            rate = gemm.macs / (gemm.seconds - startup)
            rates[gemm.mode] = max(rates.get(gemm.mode, 0.0), rate if gemm.seconds > 4 * startup else 0.0)
    for mode in {gemm.mode for gemm in gemms}:
        if not rates.get(mode):
            raise ValueError(
                f"no GEMM of mode {mode} took longer than four times the {startup:.3g} s of starting one: "
                "time larger ones"
            )
    return Fit(startup_s=startup, macs_per_second=rates, bytes_per_second=bytes_per_second, power_w=power_w)
