"""AccelForge 1.0.467: time and energy of square GEMMs on three of its machines, against the model on the same ones.

The machines are AccelForge's own descriptions, written as profiles (`machines/accelforge_*.toml`). Operands and
results have 8 bits on both sides. AccelForge gives one number for a GEMM's energy, so a difference is attributed
where its parts are known: the multipliers (MACs times the energy of one) and, where the DRAM bounds the time, the
DRAM (time times bandwidth times the energy of a bit).

* tpu_v4i: GEMMs of 128 and 256 columns are one and two tiles of weights, which the model deals to as many of the four
  arrays; AccelForge splits the rows of the input over all four. The model sends everything through the large buffer.
* nvdla: one buffer; both search for the least traffic, and find the same.
* eyeriss: AccelForge splits by factors of the sizes alone, so that powers of two use 8 x 8 of 12 x 14 multipliers, as
  the profile does. The energies of its scratchpads, its buffer and its multipliers come from estimators at 65 nm
  whose figures are not published with it. The profile has the nearest at hand, at 45 nm, so energy is a comparison of
  its order alone, and a close agreement is chance.

AccelForge fills a buffer to the last byte and overlaps transfers all the same; the profiles have twice the capacity,
of which the model uses one half at a time.

Its machine "simple" has no units to compare: every bit read or written takes 1, and every multiply-accumulate 1, with
no register and no reuse. `simple_energy` is that machine in closed form, and reproduces it exactly.
"""

from __future__ import annotations

from hw_models.cost import Cost
from hw_models.validation.data_files import read_rows
from hw_models.validation.layers import gemm
from hw_models.validation.peers import PJ_PER_UJ, component_pj, machine, priced
from hw_models.validation.table import Point

SOURCE = "AccelForge 1.0.467"

#: Its machines that are modelled, and the profile of each.
MACHINES = {
    "tpu_v4i": "accelforge_tpu_v4i",
    "nvdla": "accelforge_nvdla",
    "eyeriss": "accelforge_eyeriss",
}

#: The machine of units, and the bits of each of its operands.
SIMPLE = "simple"
BITS = 8


def simple_energy(M: int, N: int, K: int) -> int:
    """Energy of a GEMM on the machine "simple", in its units.

    Each multiply-accumulate takes 1, reads both operands and the sum and writes the sum, at 1 a bit; the first of
    each sum has none to read.
    """
    return M * N * K * (1 + 4 * BITS) - M * N * BITS


def row_cost(row: dict[str, str]) -> Cost:
    """The model's cost of a row."""
    M, side = int(row["M"]), int(row["KN"])
    event = gemm(f"{M}x{side}x{side}", M=M, N=side, K=side, sum_bits=8)
    return priced(event, MACHINES[row["arch"]])


def points() -> list[Point]:
    """Time and energy of every row of a machine with units, and the energy of those without."""
    return [
        point
        for row in read_rows("accelforge_gemm.csv")
        for point in ([_simple_point(row)] if row["arch"] == SIMPLE else _points(row))
    ]


def _simple_point(row: dict[str, str]) -> Point:
    M, side = int(row["M"]), int(row["KN"])
    return Point(
        source=SOURCE,
        machine=f"{SIMPLE} (closed form)",
        workload=f"GEMM: M {M} N {side} K {side}",
        quantity="energy",
        published=float(row["energy_J"]),
        modelled=float(simple_energy(M, side, side)),
        unit="units",
        note="a machine of units: 1 for a bit and for a multiply-accumulate",
    )


def _points(row: dict[str, str]) -> list[Point]:
    profile, cost = machine(MACHINES[row["arch"]]), row_cost(row)
    values = {
        "time": (
            1e6 * float(row["latency_s"]),
            1e6 * cost.cycles / profile.clock.frequency_hz,
            "us",
            f"bound by {cost.bound_by}",
        ),
        "energy": (
            1e6 * float(row["energy_J"]),
            cost.energy_pj / PJ_PER_UJ,
            "uJ",
            energy_by_part(row),
        ),
    }
    return [
        Point(
            source=SOURCE,
            machine=f"{row['arch']} ({MACHINES[row['arch']]})",
            workload=f"GEMM: M {row['M']} N {row['KN']} K {row['KN']}",
            quantity=quantity,
            published=published,
            modelled=modelled,
            unit=unit,
            note=note,
        )
        for quantity, (published, modelled, unit, note) in values.items()
    ]


def energy_by_part(row: dict[str, str]) -> str:
    """The parts of the model's energy, the largest first, beside which AccelForge's total stands."""
    cost = row_cost(row)
    parts = {"MAC": component_pj(cost, ("multiply", "add"))}
    parts |= {name: e.nominal_pj for name, e in cost.energy.items() if name not in ("multiply", "add")}
    ordered = sorted((name for name in parts if parts[name]), key=lambda name: -parts[name])
    return "model: " + ", ".join(f"{name} {parts[name] / PJ_PER_UJ:.3g} uJ" for name in ordered)
