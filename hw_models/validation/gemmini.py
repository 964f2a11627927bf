"""Gemmini: cycles of GEMMs in simulation of the RTL, against the cost model with the `gemmini` profile.

GemminiRocketConfig, 16 x 16 int8, weight stationary (Genc et al., DAC 2021); cycles from Verilator, published with
NPUsim (github.com/yonseicasl/NPUsim, golden_rtl_cycles.csv), with the software around the array (tiled_matmul_auto).
The profile's start-up of 2,270 cycles is a fit to these points; what is evidence is that one constant holds from
10,000 to 540,000 cycles. 64 x 64 x 64 is mostly start-up.

The last quantity is the same array without the start-up and with exposed loading, as SCALE-Sim would have it.
"""

from __future__ import annotations

from hw_models.compute.systolic import systolic_cycles
from hw_models.load import load
from hw_models.mapping.search import best_mapping
from hw_models.validation.data_files import silicon_rows
from hw_models.validation.layers import gemm
from hw_models.validation.table import Point

SOURCE = "NPUsim, RTL of Gemmini (Verilator)"

#: The GEMM that is reported apart.
MOSTLY_STARTUP = "64 x 64 x 64"


def points() -> list[Point]:
    """Each GEMM with the profile, and with exposed loading alone."""
    profile = load("gemmini")
    array, mode = profile.array, profile.array.modes[0]
    found = []
    for row in silicon_rows("Gemmini GemminiRocketConfig"):
        M, N, K = (int(row[key]) for key in "MNK")
        name = f"{M} x {N} x {K}"
        mapping = best_mapping(gemm(name, M=M, N=N, K=K), profile, lhs_bits=8, rhs_bits=8, mode=mode)
        exposed = systolic_cycles(M, N, K, array.rows, array.columns)
        note = "mostly start-up" if name == MOSTLY_STARTUP else ""
        for quantity, modelled, says in (
            ("cycles, mostly start-up" if note else "cycles", mapping.cycles, note),
            ("cycles, loading exposed", exposed, "not the profile's: for comparison"),
        ):
            found.append(
                Point(
                    source=SOURCE,
                    machine="gemmini",
                    workload=f"GEMM {name}",
                    quantity=quantity,
                    published=float(row["value"]),
                    modelled=float(modelled),
                    unit="cycles",
                    note=says,
                )
            )
    return found
