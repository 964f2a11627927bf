"""Reports as pytest-benchmark writes them."""

from typing import Any


def bench(shortest: float, group: str = "", **extra: Any) -> dict[str, Any]:
    """One benchmark of a report; `extra` is what it says of itself."""
    stats = {"min": shortest, "median": 2 * shortest, "iqr": 0.5 * shortest, "rounds": 7}
    return {"name": "test_some[case]", "group": group, "stats": stats, "extra_info": extra}


def raced(shortest: float, baseline: list[float], implementation: str, **extra: Any) -> dict[str, Any]:
    """One that ran in turn with a memory copy of 8 bytes."""
    facts = {"implementation": "memory copy", "ours": False, "moved_bytes": 8, "macs": None}
    named = {"work": "quantise", "case": "16M", "implementation": implementation, "ours": True}
    return bench(shortest, **{**named, **extra}, baseline={**facts, "seconds": baseline})


def report(*benchmarks: dict[str, Any], missing: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """A whole report."""
    cpu = {"brand_raw": "Some CPU", "flags": ["sse", "avx2", "avx512_vnni"]}
    return {
        "datetime": "2026-11-21T18:00:00+00:00",
        "machine_info": {"cpu": cpu},
        "benchmarks": list(benchmarks),
        "missing": missing or [],
    }
