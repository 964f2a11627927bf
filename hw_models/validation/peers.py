"""What the comparisons with other cost models share: their machines as profiles, and energy by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources

from hw_models.cost import Cost
from hw_models.gemm_cost import gemm_cost
from hw_models.load import parse
from hw_models.profile import HardwareProfile
from lowbit_sim.trace import GemmEvent

PJ_PER_UJ = 1e6


@cache
def machine(name: str) -> HardwareProfile:
    """A peer's machine: a profile beside this module, by its name."""
    file = resources.files("hw_models.validation") / "machines" / f"{name}.toml"
    return parse(file.read_text(), f"{name}.toml")


@cache
def priced(event: GemmEvent, name: str) -> Cost:
    """The cost of a GEMM, in its fastest mapping, on the machine of a name."""
    return gemm_cost(event, machine(name)).cost


def component_pj(cost: Cost, names: Iterable[str]) -> float:
    """Nominal energy of some components together; one that took none is left out of a cost."""
    return sum(cost.energy[name].nominal_pj for name in names if name in cost.energy)


def difference(published: Mapping[str, float], modelled: Mapping[str, float]) -> str:
    """Where two energies by part differ, the largest difference first: "DRAM +1.2 uJ, MAC +0 uJ".

    Args:
        published: Energy in pJ by part.
        modelled: The same parts.
    """
    gaps = {part: (modelled[part] - published[part]) / PJ_PER_UJ for part in published}
    return ", ".join(f"{part} {gap:+.3g} uJ" for part, gap in sorted(gaps.items(), key=lambda g: -abs(g[1])))
