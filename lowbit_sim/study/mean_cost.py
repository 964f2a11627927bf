"""The cost of a run's mean step, from the costs of a step in each of its stages.

Times, energies, bytes and counts are means over the run's steps; memory is that of the stage that keeps the most; a
utilisation is the useful time over the whole time. A part of a cost that only some stages have counts as 0 in others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hw_models import CostReport
from lowbit_sim.study.recorded_cost import RecordedCost

#: What is not a sum over a step's events.
_LARGEST, _UTILIZATION = ("footprint_bytes", "area_mm2", "frequency_hz", "devices"), "utilization"


def mean_cost(parts: Sequence[tuple[float, CostReport]]) -> CostReport | RecordedCost:
    """The cost of the mean step.

    Args:
        parts: For each stage its share of the run's steps and the cost of one of them; the shares' sum is 1.
    """
    if len(parts) == 1:
        return parts[0][1]
    values = _mean([(share, report.to_dict()) for share, report in parts])
    values["edp_js"] = values["energy_pj"] * 1e-12 * values["seconds"]
    return RecordedCost(values=values)


def _mean(parts: Sequence[tuple[float, Mapping[str, Any]]]) -> dict[str, Any]:
    """The mean of tables of one form; keys in the order in which they first come."""
    keys = dict.fromkeys(key for _, table in parts for key in table)
    values = {key: _value(key, [(share, table.get(key)) for share, table in parts]) for key in keys}
    if _UTILIZATION in values:
        values[_UTILIZATION] = _utilization(parts)
    return values


def _value(key: str, parts: Sequence[tuple[float, Any]]) -> Any:
    known = [value for _, value in parts if value is not None]
    if not known:
        return None
    if isinstance(known[0], Mapping):
        if key in _LARGEST:
            return {name: max(value.get(name, 0) for value in known) for name in known[0]}
        return _mean([(share, value) for share, value in parts if value is not None])
    if isinstance(known[0], list):
        return list(dict.fromkeys(text for value in known for text in value))
    if isinstance(known[0], str):
        return max(parts, key=lambda part: part[0])[1] or known[0]
    if key in _LARGEST:
        return max(known)
    mean = sum(share * value for share, value in parts if value is not None)
    return round(mean) if all(isinstance(value, int) for value in known) else mean


def _utilization(parts: Sequence[tuple[float, Mapping[str, Any]]]) -> float:
    cycles = sum(share * table["cycles"] for share, table in parts)
    useful = sum(share * table["cycles"] * table[_UTILIZATION] for share, table in parts)
    return useful / cycles if cycles else 0.0
