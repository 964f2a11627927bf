"""Area of the arrays' multiply-accumulate units: a first-order estimate, for comparing machines.

    processing element = multipliers + adder + registers
    multiplier(b)      = multiply_um2 (b / multiply_bits)^2    of the largest mode, p of these for p products at once
    adder(b)           = add_um2 (b / add_bits)                at the widest accumulator of [arithmetic]
    registers          = register_um2_per_bit (two operands + accumulator)
    area               = elements x element x (node / node0)^2

Modes share their parts: an element has room for its largest multiplier, whichever mode that is, and for its largest
adder. A float mode multiplies significands, s bits of its width: 2 of 4, 4 of 8, 11 of 16, 24 of 32, 53 of 64 bits,
and takes more for its exponents, its normalisation and its rounding. The two factors for that are ratios of the areas
that Horowitz, ISSCC 2014, gives at 45 nm: a fp32 multiplier of 7700 um^2 over 282 (24 / 8)^2 is 3.0, a fp32 adder of
4184 um^2 over a 32-bit integer adder of 137 is 30.5. (At fp16 the same figures give 3.1 and 20.) A log mode shifts:
it takes an adder of the accumulator's width and no multiplier.

Not in it: memories, the vector unit, control, wiring and pads.
"""

from __future__ import annotations

from hw_models.profile import HardwareProfile
from hw_models.schema.array import Mode
from hw_models.schema.energy import Area
from hw_models.spec_event import spec_event
from lowbit_sim.config.layer_tables import GEMM_ROLES

#: Bits of a float's significand, the hidden one included, by its width; E4M3 at 8 bits, binary16 at 16.
_SIGNIFICAND = {4: 2, 8: 4, 16: 11, 32: 24, 64: 53}

#: Area of a float multiplier over an integer one of its significand's width, and of a float adder over an integer
#: one of its width; see the module.
FLOAT_MULTIPLIER = 3.0
FLOAT_ADDER = 30.5


def array_area_mm2(profile: HardwareProfile) -> float | None:
    """Area of all arrays' multiply-accumulate units in mm^2; None for a profile without [area]."""
    area = profile.area
    if area is None:
        return None
    scale = (profile.machine.node_nm / area.node_nm) ** 2
    return 1e-6 * profile.array.elements * _element_um2(profile, area) * scale


def _element_um2(profile: HardwareProfile, area: Area) -> float:
    """Area of a processing element at the node of the figures."""
    modes, sums = profile.array.modes, accumulator_bits(profile)
    operands = max(mode.operand_bits * mode.macs_per_pe_per_cycle for mode in modes)
    return (
        max(_multiplier_um2(mode, area, sums) for mode in modes)
        + max(_adder_um2(mode, area, sums) for mode in modes)
        + area.register_um2_per_bit * (2 * operands + sums)
    )


def accumulator_bits(profile: HardwareProfile) -> int:
    """The widest accumulator of the machine's three GEMMs."""
    widths = []
    for role in GEMM_ROLES:
        event = spec_event(profile.gemm_spec(role), role, 0, 0, 0)  # type: ignore[arg-type]
        widths += [event.accumulator_bits, event.outer_bits]
    return max(widths)


def significand_bits(operand_bits: int) -> int:
    """Bits of the significand of a float of a width; between the standard ones, that of the next wider one."""
    return next((s for bits, s in _SIGNIFICAND.items() if bits >= operand_bits), operand_bits)


def _multiplier_um2(mode: Mode, area: Area, sums: int) -> float:
    p = mode.macs_per_pe_per_cycle
    if mode.kind == "log":
        return p * area.add_um2 * sums / area.add_bits
    float_mode = mode.kind == "float"
    bits = significand_bits(mode.operand_bits) if float_mode else mode.operand_bits
    one = area.multiply_um2 * (bits / area.multiply_bits) ** 2
    return p * one * (FLOAT_MULTIPLIER if float_mode else 1.0)


def _adder_um2(mode: Mode, area: Area, sums: int) -> float:
    one = area.add_um2 * sums / area.add_bits
    return one * FLOAT_ADDER if mode.kind == "float" else one
