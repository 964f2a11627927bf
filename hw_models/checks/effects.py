"""Keys that a profile gives and that change nothing beside its other keys."""

from __future__ import annotations

from collections.abc import Iterator

from hw_models.checks.numerics import unit_key
from hw_models.checks.remark import Remark
from hw_models.operands import UnsupportedOperandError, gemm_modes
from hw_models.profile import HardwareProfile
from hw_models.schema.array import SYSTOLIC
from hw_models.spec_event import spec_event
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.config.layer_tables import GEMM_ROLES


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
    if array.depthwise_over_columns and min(array.rows, array.columns) == 1:
        one = "rows" if array.rows == 1 else "columns"
        yield Remark(
            location=("array", "depthwise_over_columns"),
            message=f"has no effect: with {one} = 1 no two groups lie side by side; leave it out",
        )
    yield from _result_bits(profile)
    yield from _outer_accumulator(profile)
    yield from _interconnect(profile)


def _result_bits(profile: HardwareProfile) -> Iterator[Remark]:
    """Codes of results no narrower than the sums that they are made of, or of another width than the next operand."""
    bits, spec = profile.arithmetic.result_bits, profile.gemm_spec("output")
    if bits is None or spec is None or not isinstance(spec.mac, MacUnit):
        return
    if bits >= spec.mac.result_bits:
        yield Remark(
            location=("arithmetic", "result_bits"),
            message=f"has no effect: the sums of the output GEMM have {spec.mac.result_bits} bits; give the width "
            "of a code, or leave it out",
        )
        return
    held = _held_bits(profile)
    if held is not None and held != bits:
        yield Remark(
            location=("arithmetic", "result_bits"),
            message=f"codes of {bits} bits, where the output GEMM reads {held}: each result is converted by a pass "
            f"of its own before the next GEMM; give {held}",
        )


def _held_bits(profile: HardwareProfile) -> int | None:
    """The width in which the memories hold the output GEMM's left operand; None where its blocks share scales."""
    event = spec_event(profile.gemm_spec("output"), "output", 1, 1, 1)
    try:
        modes = gemm_modes(event, profile)
    except UnsupportedOperandError:  # a remark of its own
        return None
    return None if event.lhs.block else event.lhs.bits if modes is None else modes[0].operand_bits


def _outer_accumulator(profile: HardwareProfile) -> Iterator[Remark]:
    locations: set[tuple[str, ...]] = set()
    for role in GEMM_ROLES:
        spec = profile.gemm_spec(role)
        mac = None if spec is None else spec.mac
        location = unit_key(profile, role, "outer_bits")
        if not isinstance(mac, MacUnit) or mac.chunk or location in locations:
            continue
        if mac.outer_bits == mac.accumulator_bits:  # a wider one is priced: the sum moves on to it
            locations.add(location)
            yield Remark(
                location=location,
                message=f"has no effect: without a chunk the one sum of {mac.accumulator_bits} bits moves on "
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
