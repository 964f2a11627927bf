"""What a benchmark of ours should reach, as a bound on a quotient or on a measured value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: "time": ours over theirs, at most. "speed": theirs over ours, at least. "bandwidth": bytes a second, ours over
#: theirs, at least. "peak_bytes": ours over theirs, at most. "seconds": ours, at most.
Quantity = Literal["time", "speed", "bandwidth", "peak_bytes", "seconds"]

_AT_LEAST = ("speed", "bandwidth")
_WORDS = {
    "time": "at most {limit:g} x {against}",
    "speed": "at least {limit:g} times faster than {against}",
    "bandwidth": "at least {limit:g} of the bandwidth of {against}",
    "peak_bytes": "peak memory at most {limit:g} x {against}",
    "seconds": "at most {limit:g} s",
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on a quantity; `against` names the other contender of the same work and case.

    Raises:
        ValueError: For a comparison without the one to compare with.
    """

    quantity: Quantity
    limit: float
    against: str | None = None

    def __post_init__(self) -> None:
        if (self.against is None) != (self.quantity == "seconds"):
            raise ValueError(f"a target of {self.quantity!r} with against={self.against!r}")

    def met_by(self, value: float) -> bool:
        """Whether a measured quantity is within the bound."""
        return value >= self.limit if self.quantity in _AT_LEAST else value <= self.limit

    @property
    def words(self) -> str:
        """As the table shows it."""
        return _WORDS[self.quantity].format(limit=self.limit, against=self.against)


def at_most_time(limit: float, against: str) -> Target:
    """Our time over theirs."""
    return Target(quantity="time", limit=limit, against=against)


def at_least_speed(limit: float, against: str) -> Target:
    """Their time over ours."""
    return Target(quantity="speed", limit=limit, against=against)


def at_least_bandwidth(limit: float, against: str) -> Target:
    """Bytes a second, ours over theirs; both contenders say what they move."""
    return Target(quantity="bandwidth", limit=limit, against=against)


def at_most_memory(limit: float, against: str) -> Target:
    """Peak bytes, ours over theirs."""
    return Target(quantity="peak_bytes", limit=limit, against=against)


def at_most_seconds(limit: float) -> Target:
    """Our time alone."""
    return Target(quantity="seconds", limit=limit)
