"""A comparison of two runs in words."""

from __future__ import annotations

from lowbit_sim.study.diverge import Report
from lowbit_sim.study.divergence import Divergence
from lowbit_sim.study.quantities import counted

_TENSORS = {
    "output": {"lhs": "input", "rhs": "weight"},
    "grad_input": {"lhs": "grad_output", "rhs": "weight"},
    "grad_weight": {"lhs": "grad_output", "rhs": "input"},
}


def text(report: Report) -> str:
    """Where the two sides part, or that they don't."""
    compared = f"{counted(report.gemms, 'GEMM')} of {counted(report.steps, 'training step')}"
    if report.divergence is None:
        return f"{report.a} and {report.b} agree in {compared}."
    found = report.divergence
    if not found.layer:
        return f"{report.a} (A) and {report.b} (B) agree in {compared}, but {found.detail}."
    lines = [
        f"{report.a} (A) and {report.b} (B) part in step {found.step}, layer {found.layer!r}, {found.role} GEMM "
        f"(number {found.gemm} of the step):"
    ]
    if found.detail:
        lines.append(f"  {_subject(found)}: {found.detail}")
        return "\n".join(lines)
    lines.append(
        f"  {_subject(found)}, element {list(found.element)}; {found.differing} of {found.elements} differ"
    )
    names = ("A", "B")
    for i, name in enumerate(names):
        code = f"   code {_number(found.codes[i])}" if found.codes else ""
        value = f"{found.values[i]:.9g} ({found.values[i].hex()})" if found.values else ""
        lines.append(f"  {name}: {value}{code}")
    return "\n".join(lines)


def _number(code: float) -> str:
    return str(int(code)) if code == int(code) else repr(code)


def _subject(found: Divergence) -> str:
    if found.what == "order":
        return "the GEMMs themselves"
    side, _, rest = found.what.partition(" ")
    if side in ("lhs", "rhs"):
        tensor = _TENSORS.get(found.role, {}).get(side, side)
        noun = f"{side} ({tensor}){' ' + rest if rest else ''}"
    else:
        noun = {"sum": "the accumulators", "result": "the result"}[found.what]
    return f"{noun}, matrix {found.group}" if found.group else noun
