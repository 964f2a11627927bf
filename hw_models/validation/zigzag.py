"""ZigZag 3.9.1: cycles and energy of GEMMs on two of its machines, against the cost model on the same machines.

The machines are ZigZag's own descriptions, written as profiles (`machines/zigzag_*.toml`); both tools are models, so
an agreement is no proof and a difference shows where they count differently:

* gemm_l1 (8 x 8 x 8 multipliers on one memory): ZigZag reads a weight every cycle, the spatial array here keeps it
  in its multiplier while the pixels pass, and reads activations instead. Sums go through one port in both.
* tpu_like (32 x 32 multipliers, weights in registers): where the DRAM bounds both, cycles agree; where the array
  does, ZigZag adds loads that it does not overlap (up to as long as computing takes). It sums up over
  several of the 128 weights that each multiplier holds before it writes to the SRAM; the spatial array here writes
  partial sums and reads them back at each, which is the SRAM's energy above ZigZag's.

Energy is compared by part: the multipliers, the registers beside them, the on-chip memory, and the DRAM. ZigZag
bills registers at each access, the model the bits that move (`hw_models.energy`): the weights' reads, not the sums'.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from hw_models.cost import Cost
from hw_models.validation.data_files import read_rows
from hw_models.validation.layers import gemm
from hw_models.validation.peers import component_pj, difference, priced
from hw_models.validation.table import Point

SOURCE = "ZigZag 3.9.1"

MAC, REGISTERS, SRAM, DRAM = "MAC", "registers", "SRAM", "DRAM"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How a machine's parts are named on both sides.

    Attributes:
        profile: The profile's name.
        result_bits: Width of a sum on its way through the memories.
        published: For each of ZigZag's operands, the parts of its memories from the array outwards.
        modelled: For each part, the components of the cost model.
    """

    profile: str
    result_bits: int
    published: dict[str, tuple[str, ...]]
    modelled: dict[str, tuple[str, ...]]


MACHINES = {
    "gemm_l1": Machine(
        profile="zigzag_gemm_l1",
        result_bits=32,
        published={"O": (REGISTERS, SRAM), "I": (SRAM,), "W": (SRAM,)},
        modelled={
            MAC: ("multiply", "add"),
            REGISTERS: ("registers",),
            SRAM: ("operands", "sums"),
            DRAM: ("dram",),
        },
    ),
    "tpu_like": Machine(
        profile="zigzag_tpu_like",
        result_bits=8,
        published={"O": (REGISTERS, SRAM, DRAM), "I": (SRAM, DRAM), "W": (REGISTERS, DRAM)},
        modelled={
            MAC: ("multiply", "add"),
            REGISTERS: ("registers", "weight_registers"),
            SRAM: ("sram",),
            DRAM: ("dram",),
        },
    ),
}


def published_parts(row: dict[str, str]) -> dict[str, float]:
    """ZigZag's energy of a row in pJ by part."""
    parts = {MAC: float(row["mac_energy_pJ"]), REGISTERS: 0.0, SRAM: 0.0, DRAM: 0.0}
    places = MACHINES[row["hw"]].published
    for operand, energies in ast.literal_eval(row["mem_energy_breakdown"]).items():
        for part, energy in zip(places[operand], energies, strict=True):
            parts[part] += energy
    return parts


@cache
def _cost(name: str, M: int, N: int, K: int) -> Cost:
    described = MACHINES[name]
    event = gemm(
        f"{M}x{N}x{K}", M=M, N=N, K=K, sum_bits=described.result_bits, result_bits=described.result_bits
    )
    return priced(event, described.profile)


def row_cost(row: dict[str, str]) -> Cost:
    """The model's cost of a row."""
    return _cost(row["hw"], int(row["M"]), int(row["N"]), int(row["K"]))


def modelled_parts(row: dict[str, str]) -> dict[str, float]:
    """The model's energy of a row in pJ by part."""
    cost = row_cost(row)
    return {part: component_pj(cost, names) for part, names in MACHINES[row["hw"]].modelled.items()}


def points() -> list[Point]:
    """Cycles, energy, and each part's energy of every row."""
    return [point for row in read_rows("zigzag_gemm.csv") for point in _points(row)]


def _points(row: dict[str, str]) -> list[Point]:
    published, modelled, cost = published_parts(row), modelled_parts(row), row_cost(row)
    pairs = {
        "cycles": (float(row["latency_total2"]), float(cost.cycles), "cycles", f"bound by {cost.bound_by}"),
        "energy": (
            float(row["energy_total_pJ"]),
            cost.energy_pj,
            "pJ",
            difference(published, modelled),
        ),
    }
    for part, energy in published.items():
        if energy:
            pairs[f"energy, {part}"] = (energy, modelled[part], "pJ", "")
    return [
        Point(
            source=SOURCE,
            machine=f"{row['hw']} ({MACHINES[row['hw']].profile})",
            workload=f"GEMM: M {row['M']} N {row['N']} K {row['K']}",
            quantity=quantity,
            published=values[0],
            modelled=values[1],
            unit=values[2],
            note=values[3],
        )
        for quantity, values in pairs.items()
    ]
