"""Accumulators that the array's depth outgrows, and random bits that nobody draws.

A sum of n products of codes in [a, b] and [c, d] lies in n [min(ac, ad, bc, bd), max(...)], so a two's complement
accumulator holds it in any case if its width is at least

    bits = 1 + ceil(log2(n max|product|))     (with one product less on the negative side)

A float accumulator with m mantissa bits that rounds to nearest stops growing once it is 2^(m + 1) times the product
added to it: Higham, "Accuracy and Stability of Numerical Algorithms", section 4.2; Wang et al., NeurIPS 2018, call it
swamping.
"""

from __future__ import annotations

from collections.abc import Iterator

from hw_models.checks.remark import Remark, in_words
from hw_models.profile import HardwareProfile
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.arith.spec import GemmSpec, multiplicand_range
from lowbit_sim.config.layer_tables import GEMM_ROLES
from lowbit_sim.quant.scaling import FixedScale

#: Products of a short reduction where the array has no depth: a 3 x 3 convolution of 16 channels.
SHORT_REDUCTION = 144


def check_numerics(profile: HardwareProfile) -> Iterator[Remark]:
    """Inconsistencies between [arithmetic], the array's depth and the unit for random bits."""
    said: set[str] = set()
    for role in GEMM_ROLES:
        spec = profile.gemm_spec(role)
        for remark in [] if spec is None else _accumulator(profile, role, spec):
            if remark.message not in said:  # the three GEMMs often share a unit
                said.add(remark.message)
                yield remark
    yield from _random_bits(profile)
    yield from _requantizer(profile)


def depth(profile: HardwareProfile, spec: GemmSpec) -> tuple[int, str]:
    """How many products the inner accumulator is to hold, and why so many."""
    if spec.block:
        return spec.block, "a block"
    if spec.mac.chunk:
        return spec.mac.chunk, "a chunk"
    array = profile.array
    if array.dataflow in ("ws", "is", "spatial"):
        packed = max(mode.macs_per_pe_per_cycle for mode in array.modes)
        return array.rows * packed, "the array's depth"
    return SHORT_REDUCTION, "a 3 x 3 convolution of 16 channels"


def _accumulator(profile: HardwareProfile, role: str, spec: GemmSpec) -> Iterator[Remark]:
    products, what = depth(profile, spec)
    if isinstance(spec.mac, FloatMacUnit):
        yield from _float_accumulator(profile, role, spec, spec.mac, products, what)
    else:
        yield from _integer_accumulator(profile, role, spec, spec.mac, products, what)


def bits_needed(low: int, high: int) -> int:
    """Width of the two's complement accumulator that holds every sum from low to high."""
    return 1 + max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0)


def product_range(spec: GemmSpec) -> tuple[int, int]:
    """The smallest and the largest product of two codes."""
    products = spec.mac.products if isinstance(spec.mac, MacUnit) else None
    if products is not None and not products.is_exact:
        return -products.largest, products.largest
    corners = [a * b for a in multiplicand_range(spec.lhs) for b in multiplicand_range(spec.rhs)]
    return min(corners), max(corners)


def _integer_accumulator(
    profile: HardwareProfile, role: str, spec: GemmSpec, mac: MacUnit, products: int, what: str
) -> Iterator[Remark]:
    low, high = product_range(spec)
    needed = bits_needed(products * low, products * high)
    names = f"{spec.lhs.format} x {spec.rhs.format}"
    at_limit = "wraps around" if mac.overflow == "wrap" else "saturates"
    if mac.overflow_at != "outer" and needed > mac.accumulator_bits:
        limit = accumulator_range(mac.accumulator_bits)[1]
        yield Remark(
            location=unit_key(profile, role, "accumulator_bits"),
            message=f"{mac.accumulator_bits} bits hold {in_words(limit // max(high, -low, 1))} products of {names} "
            f"in the worst case, but {what} has {in_words(products)}: then the sum {at_limit}; {needed} bits hold "
            f"any such sum, up to {in_words(products * max(high, -low))}",
        )
    if (mac.chunk or mac.outer_bits) and mac.overflow_at != "chunk":
        # A chunk's sum is no wider than the inner accumulator, and loses its low bits on the way.
        inner = mac.accumulator_bits if mac.overflow_at == "addition" else needed
        moved = max(min(needed, inner) - mac.truncated_bits, 1)
        if moved > mac.result_bits:
            yield Remark(
                location=unit_key(profile, role, "outer_bits"),
                message=f"the outer accumulator of {mac.result_bits} bits is narrower than the sum of one chunk of "
                f"{names}, {moved} bits: then it {at_limit}; give it {moved} bits and one more for each doubling of "
                "the number of chunks",
            )


def _float_accumulator(
    profile: HardwareProfile, role: str, spec: GemmSpec, mac: FloatMacUnit, products: int, what: str
) -> Iterator[Remark]:
    names = f"{spec.lhs.format} x {spec.rhs.format}"
    largest = float(spec.lhs.element_format.max_value) * float(spec.rhs.element_format.max_value)
    # Operands that are not scaled mean values as they are, and need not come near their format's end.
    scaled = not any(isinstance(quantizer.scale, FixedScale) for quantizer in (spec.lhs, spec.rhs))
    if scaled and largest > mac.accumulator.max_value:
        yield Remark(
            location=unit_key(profile, role, "accumulator"),
            message=f"{mac.accumulator} ends at {in_words(mac.accumulator.max_value)}, below the largest product of "
            f"{names}, {largest:.4g}: a single product becomes "
            f"{'its largest value' if mac.rounding.overflow == 'saturate' else 'infinite'}; a wider exponent "
            "holds it",
        )
    swamped = 2 ** (mac.accumulator.mantissa_bits + 1)
    if products > swamped and not (mac.rounding.is_stochastic or mac.kahan or mac.order == "tree"):
        yield Remark(
            location=unit_key(profile, role, "accumulator"),
            message=f"{mac.accumulator} stops growing after {in_words(swamped)} equal products, and {what} has "
            f"{in_words(products)}: chunks of at most {in_words(swamped)}, stochastic rounding or a longer mantissa "
            "keep them",
        )


def unit_key(profile: HardwareProfile, role: str, key: str) -> tuple[str, ...]:
    """Where a key of a role's MAC unit stands, or would stand."""
    own = getattr(profile.arithmetic, role)
    for table, path in ((own, ("arithmetic", role)), (profile.arithmetic, ("arithmetic",))):
        if table is not None and table.mac is not None:
            return (*path, "mac", key)
        if table is not None and getattr(table, key, None) is not None:
            return (*path, key)
    return ("arithmetic", key) if key != "accumulator" else ("arithmetic", "format")


def _random_bits(profile: HardwareProfile) -> Iterator[Remark]:
    asked = random_bits_asked(profile)
    drawn = profile.vector.random_bits_per_cycle
    location = ("vector", "random_bits_per_cycle")
    if asked and not drawn and "operations_per_random_word" not in profile.vector.model_fields_set:
        yield Remark(
            location=location,
            message="0 although [arithmetic] rounds stochastically: the vector unit computes the random bits, in "
            f"{profile.vector.operations_per_random_word} operations for each 32; give the bits that a unit of their "
            "own draws in a cycle, or operations_per_random_word if there is none",
        )
    if drawn and not asked:
        yield Remark(
            location=location,
            message="has no effect: nothing in [arithmetic] rounds stochastically; "
            "random_bits_per_cycle = 0 says that there is no such unit",
        )
    if drawn and asked > drawn:
        yield Remark(
            location=location,
            message=f"the unit draws {in_words(drawn)} random bits a cycle, but rounding at the vector unit's and "
            f"the array's full rate asks for {in_words(asked)}: {in_words(asked)} would keep up",
        )


def random_bits_asked(profile: HardwareProfile) -> float:
    """Random bits a cycle that the machine's roundings ask for when its units run at their full rate.

    Elements are quantised at the vector unit's rate; a stochastic accumulator takes bits for every addition.
    """
    vector, array = profile.vector, profile.array
    rate = vector.operations_per_cycle / vector.operations_per_element("quantize")
    asked = 0.0
    for spec in filter(None, map(profile.gemm_spec, GEMM_ROLES)):
        bits = [q.rounding.random_bits for q in (spec.lhs, spec.rhs) if q.rounding.is_stochastic]
        elements = rate * max(bits, default=0)
        mac = spec.mac
        per_addition = mac.rounding.random_bits if isinstance(mac, FloatMacUnit) else 0
        slowest = min(array.macs_per_cycle(mode) for mode in array.modes)
        asked = max(asked, elements + per_addition * slowest)
    return asked


def _requantizer(profile: HardwareProfile) -> Iterator[Remark]:
    specs = list(filter(None, map(profile.gemm_spec, GEMM_ROLES)))
    if profile.arithmetic.requantizer == "float" or any(isinstance(s.mac, MacUnit) for s in specs):
        return
    yield Remark(
        location=("arithmetic", "requantizer"),
        message=f"{profile.arithmetic.requantizer!r} has no effect: every accumulator is a floating-point one, whose "
        "sums need no integer multiplier; 'float' is right",
    )
