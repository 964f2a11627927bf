"""What a GEMM backend returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lowbit_sim.arith.mac import MacUnit


@dataclass(frozen=True, kw_only=True)
class GemmResult:
    """A GEMM's result and how it came about.

    Attributes:
        values: The accumulators' last values [M, N], of dtype `result_dtype(mac)`.
        overflows: Additions that overflowed; None where the path that ran can't tell.
        swamped: Additions of floats that lost one of the two whole: it is not zero, and the result is the other
            (Sakr et al. 2019); None where not counted.
        additions: Additions in all, by the MAC unit's `additions`.
        backend: The backend that ran, or two joined by "+".
        why: The proof or the refusal that decided the backend.
    """

    values: Tensor
    overflows: int | None
    swamped: int | None = None
    additions: int = 0
    backend: str
    why: str

    def __str__(self) -> str:
        count = "not counted" if self.overflows is None else str(self.overflows)
        swamped = f"; swamped: {self.swamped}" if self.swamped else ""
        return f"{self.backend} ({self.why}); overflows: {count} of {self.additions} additions{swamped}"


def result_dtype(mac: MacUnit) -> torch.dtype:
    """int32 for results of up to 32 bits (truncated ones counted), int64 above."""
    return torch.int32 if mac.value_bits <= 32 else torch.int64
