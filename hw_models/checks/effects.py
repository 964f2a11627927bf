"""Keys that a profile gives and that change nothing beside its other keys."""

from __future__ import annotations

from collections.abc import Iterator

from hw_models.checks.remark import Remark
from hw_models.profile import HardwareProfile
from hw_models.schema.array import SYSTOLIC


def check_effects(profile: HardwareProfile) -> Iterator[Remark]:
    """Keys without effect."""
    array, vector = profile.array, profile.vector
    if "operations_per_random_word" in vector.model_fields_set and vector.random_bits_per_cycle:
        yield Remark(
            location=("vector", "operations_per_random_word"),
            message=f"has no effect: random_bits_per_cycle = {vector.random_bits_per_cycle} says that a unit of its "
            "own draws random bits; leave one of the two out",
        )
    if "loading" in array.model_fields_set and array.dataflow not in SYSTOLIC:
        yield Remark(
            location=("array", "loading"),
            message=f"has no effect: dataflow = {array.dataflow!r} shows no loading; leave it out",
        )
    if array.padded_loads and array.dataflow not in ("ws", "is"):
        yield Remark(
            location=("array", "padded_loads"),
            message=f"has no effect: dataflow = {array.dataflow!r} loads no operand that then stays; leave it out",
        )
    yield from _outer_accumulator(profile)
    yield from _interconnect(profile)


def _outer_accumulator(profile: HardwareProfile) -> Iterator[Remark]:
    arithmetic = profile.arithmetic
    if arithmetic.outer_bits is None or arithmetic.outer_bits != arithmetic.accumulator_bits:
        return
    if not arithmetic.chunk:
        yield Remark(
            location=("arithmetic", "outer_bits"),
            message=f"has no effect: without a chunk the one sum of {arithmetic.accumulator_bits} bits moves on "
            "as it is; leave it out, or give a chunk",
        )


def _interconnect(profile: HardwareProfile) -> Iterator[Remark]:
    links = profile.interconnect
    if links is None:
        return
    used = {"ring": 2, "torus_2d": 4}.get(links.topology)
    if used is not None and links.links_per_device > used:
        yield Remark(
            location=("interconnect", "links_per_device"),
            message=f"{links.links_per_device} links, of which a {links.topology} connects {used} to neighbours: "
            "count links that run side by side in link_bandwidth_bytes_per_second",
        )
