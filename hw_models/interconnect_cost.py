"""The all-reduce of the gradients in data-parallel training, on one of n equal machines.

Every machine sends and receives 2 (n - 1) / n of the gradients' bytes G, which is the least that any all-reduce can
do (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", JPDC 69(2), 2009). Of
what that takes, with L links of b bytes a second in each direction and a latency of t for each message:

| topology        | seconds                                                   | derivation                       |
|-----------------|-----------------------------------------------------------|----------------------------------|
| ring            | 2 (n - 1)/n G / (L b) + 2 (n - 1) t                       | reduce-scatter, then all-gather  |
| fully_connected | 2 (n - 1)/n G / (L b) + 2 t                               | each in one step: a machine      |
|                 |                                                           | sends n - 1 parts at once        |
| torus_2d, r x c | 2 (c - 1)(r + 1)/n G / (L b) + 2 (r + c - 2) t            | see below                        |

The ring is Thakur, Rabenseifner and Gropp's reduce-scatter and all-gather ("Optimization of collective communication
operations in MPICH", IJHPCA 19(1), 2005) with the gradients split over L / 2 rings in each direction, so that all
links send. The torus has r <= c machines to a side, as near to a square as n's factors are, and half of the links in
each direction. One half of the gradients is reduce-scattered along rows, all-reduced along columns in parts of
1 / c, and all-gathered along rows; the other half goes along columns first, at the same time. With h = G / 2 and
B = L b / 2, the phases take the longer of both halves:

    2 max((c-1)/c, (r-1)/r) h / B + 2 max((r-1)/(r c), (c-1)/(c r)) h / B = 2 (c - 1)(r + 1)/(r c) h / B

which for r = c is the ring's 2 (n - 1)/n G / (L b).

Beside the links: a machine reads its gradients and writes their sums once each at the memory outside, and adds
(n - 1) / n of them up in the vector unit, one operation each. Transfers stream, so the step takes the longest of
links, memory and vector unit, and then the latencies. It runs after the backward pass and overlaps with nothing.
Energy is that of the bits which this machine sends.
"""

from __future__ import annotations

import math
from fractions import Fraction

from hw_models.compute.work import ceil_div
from hw_models.cost import Cost
from hw_models.footprint import FLOAT_BYTES
from hw_models.pricing import Pricing
from hw_models.ranges import EnergyRange
from hw_models.schema.interconnect import Interconnect
from hw_models.vector_cost import memory_bound_cost, vector_level, vector_traffic


def all_reduce_cost(gradient_bytes: int, devices: int, pricing: Pricing) -> Cost:
    """The cost of one all-reduce on each machine, without static power.

    Args:
        gradient_bytes: Bytes of all gradients, which are float32.
        devices: Machines, 1 or more; one alone does nothing.
        pricing: The machine.

    Raises:
        ValueError: No devices, or several of a machine without links.
    """
    links = require_links(pricing, devices)
    if devices == 1 or links is None or not gradient_bytes:
        return Cost()
    sent = sent_bytes(gradient_bytes, devices)
    added = ceil_div(gradient_bytes * (devices - 1), FLOAT_BYTES * devices)
    moving = memory_bound_cost(
        pricing,
        vector_traffic(gradient_bytes, gradient_bytes, vector_level(pricing)),
        compute_cycles=ceil_div(added, pricing.profile.vector.operations_per_cycle),
        bound="vector",
        energy={
            "vector": pricing.energies.vector_operation.scaled(added),
            "interconnect": _link_bit(pricing).scaled(8 * sent),
        },
    )
    return _waiting_for_links(moving, gradient_bytes, devices, links, pricing)


def require_links(pricing: Pricing, devices: int) -> Interconnect | None:
    """The links of a machine that is to work with others.

    Raises:
        ValueError: No devices, or several of a machine without links.
    """
    links = pricing.profile.interconnect
    if devices < 1:
        raise ValueError(f"a step runs on one device or more, got devices={devices}")
    if devices > 1 and links is None:
        raise ValueError(
            f"{pricing.profile.machine.name} has no [interconnect]: give its topology, its links' bandwidth and "
            f"their latency, or take one device instead of {devices}"
        )
    return links


def _link_bit(pricing: Pricing) -> EnergyRange:
    assert pricing.energies.link_bit is not None
    return pricing.energies.link_bit


def _waiting_for_links(moving: Cost, size: int, devices: int, links: Interconnect, pricing: Pricing) -> Cost:
    frequency = pricing.profile.clock.frequency_hz
    sending = math.ceil(transfer_seconds(size, devices, links) * frequency)
    latency = math.ceil(Fraction(links.latency_s) * messages(devices, links) * frequency)
    bounds = {"links": sending} if sending >= moving.cycles else dict(moving.cycles_by_bound)
    bounds["links"] = bounds.get("links", 0) + latency
    return Cost(
        cycles=sum(bounds.values()),
        compute_cycles=moving.compute_cycles,
        dram_bytes=moving.dram_bytes,
        traffic=moving.traffic,
        energy=moving.energy,
        cycles_by_bound=bounds,
    )


def sent_bytes(size: int, devices: int) -> int:
    """Bytes that a machine sends, and receives, in an all-reduce of `size` bytes."""
    return ceil_div(2 * (devices - 1) * size, devices)


def transfer_seconds(size: int, devices: int, links: Interconnect) -> Fraction:
    """Seconds in which the links are busy: exact."""
    whole = links.links_per_device * links.link_bandwidth_bytes_per_second
    if links.topology == "torus_2d":
        rows, columns = torus_sides(devices)
        return Fraction(2 * (columns - 1) * (rows + 1) * size, devices * whole)
    return Fraction(2 * (devices - 1) * size, devices * whole)


def messages(devices: int, links: Interconnect) -> int:
    """Messages that follow on one another."""
    if links.topology == "fully_connected":
        return 2
    if links.topology == "torus_2d":
        return 2 * (sum(torus_sides(devices)) - 2)
    return 2 * (devices - 1)


def torus_sides(devices: int) -> tuple[int, int]:
    """Rows and columns of the torus, rows <= columns, as near to a square as the factors are."""
    rows = next(r for r in range(math.isqrt(devices), 0, -1) if devices % r == 0)
    return rows, devices // rows
