"""An arm's numerics in the few words that fit a table's cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.numerics.formats import CodebookFormat, Format
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from lowbit_sim.ops.elementwise import ElementwiseSpec
from lowbit_sim.study.recipes import RecipeTable
from lowbit_sim.study.training_config import TrainingOverrides
from lowbit_sim.training.update_spec import UpdateSpec


def operands(spec: OpSpec | None) -> str:
    """Formats of the operands: "int8"; where the GEMMs differ, "output int4, grad_input and grad_weight luq4 x int4".

    A transform comes after them: "int8 after hadamard 32". A codebook's codes may be narrower than what they stand
    for: "codebook15 of 8-bit values".
    """
    return _by_gemm(spec, _formats)


def accumulator(spec: OpSpec | None) -> str:
    """The accumulators: "16-bit saturate", "32-bit wrap, chunks of 16 into 40-bit", "fp16, chunks of 64 into fp32".

    With block scales, then what adds the blocks: "32-bit wrap, blocks of 32 into fp32".
    """
    return _by_gemm(spec, _accumulators)


def gradient_rounding(spec: OpSpec | None) -> str:
    """Rounding of the output's gradient in the backward GEMMs: "nearest_even", "stochastic (r=8)" (r random bits).

    With several samples, "stochastic (r=8), mean of 2".
    """
    gemms = [g for g in (spec.grad_input, spec.grad_weight) if g is not None] if spec else []
    return " / ".join(_distinct(_rounding(gemm) for gemm in gemms)) or "none"


def activations(spec: ElementwiseSpec) -> str:
    """Formats of the tensors between modules: "bf16", or "output bf16, grad_input fp32, grad_output fp32"."""
    roles = ("output", "grad_input", "grad_output")
    texts = {role: "fp32" if (q := getattr(spec, role)) is None else str(q.format) for role in roles}
    if len(set(texts.values())) == 1:
        return texts["output"]
    return ", ".join(f"{role} {text}" for role, text in texts.items())


def update(spec: UpdateSpec) -> str:
    """Formats of the weight update: "bf16 stochastic (r=16)", or "weight bf16, momentum fp16" where they differ."""
    texts = {
        name: f"{quantizer.format}{_unless_nearest(quantizer.rounding)}"
        for name in ("weight", "momentum", "second_moment", "gradient")
        if (quantizer := getattr(spec, name)) is not None
    }
    if len(set(texts.values())) == 1 and {"weight", "momentum"} <= texts.keys():
        return texts["weight"]
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def recipes(tables: Sequence[RecipeTable], clip_gradient_norm: float | None = None) -> str:
    """Training algorithms in the order in which they act: "metagrad (hypernetwork fc), clip_gradient_norm 5.0"."""
    clip = [] if clip_gradient_norm is None else [f"clip_gradient_norm {clip_gradient_norm}"]
    return ", ".join([*(table.described() for table in tables), *clip])


def overrides(training: TrainingOverrides | None) -> str:
    """Hyperparameters that are the arm's own: "learning_rate 0.03, epochs 20"."""
    values = {} if training is None else training.model_dump(exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _by_gemm(spec: OpSpec | None, words: Callable[[GemmSpec], str]) -> str:
    if spec is None:
        return "fp32"
    gemms = {"output": spec.output, "grad_input": spec.grad_input, "grad_weight": spec.grad_weight}
    texts = {role: words(gemm) if gemm else "fp32" for role, gemm in gemms.items()}
    roles = {text: [r for r in texts if texts[r] == text] for text in texts.values()}
    if len(roles) == 1:
        return texts["output"]
    return ", ".join(f"{' and '.join(alike)} {text}" for text, alike in roles.items())


def _formats(gemm: GemmSpec) -> str:
    text = " x ".join(_distinct((_format(gemm.lhs.format), _format(gemm.rhs.format))))
    return text if gemm.transform is None else f"{text} after {gemm.transform}"


def _format(format: Format) -> str:
    """A format's name; of a codebook whose values are wider than its codes, also how wide they are."""
    if not isinstance(format, CodebookFormat) or format.unit is None:
        return str(format)
    largest = max(abs(format.values[0]), abs(format.values[-1])) / format.unit
    bits = int(largest).bit_length() + (format.values[0] < 0)
    return f"{format} of {bits}-bit values" if bits > format.bits else str(format)


def _accumulators(gemm: GemmSpec) -> str:
    blocks = f", blocks of {gemm.block} into {_float_mac(gemm.across)}" if gemm.block else ""
    return _mac(gemm.mac) + blocks


def _mac(mac: MacUnit | FloatMacUnit) -> str:
    if isinstance(mac, FloatMacUnit):
        return _float_mac(mac)
    plain = MacUnit.__dataclass_fields__.keys() - {"accumulator_bits", "overflow", "chunk", "outer_bits"}
    if any(getattr(mac, name) != getattr(MacUnit(), name) for name in plain):
        return str(mac)
    text = f"{mac.accumulator_bits}-bit {mac.overflow}"
    if mac.chunk:
        text += f", chunks of {mac.chunk} into {mac.result_bits}-bit"
    elif mac.outer_bits:
        text += f" into {mac.outer_bits}-bit"
    return text


def _float_mac(mac: FloatMacUnit) -> str:
    text = f"{mac.accumulator}{_unless_nearest(mac.rounding)}"
    text += " saturate" if mac.rounding.overflow == "saturate" else ""
    text += " tree" if mac.order == "tree" else ""
    text += " kahan" if mac.kahan else ""
    text += f", products in {mac.product}" if mac.product else ""
    text += f", chunks of {mac.chunk}" if mac.chunk else ""
    return text + (f" into {mac.result_format}" if mac.has_outer else "")


def _rounding(gemm: GemmSpec) -> str:
    return _mode(gemm.lhs.rounding) + (f", mean of {gemm.samples}" if gemm.samples > 1 else "")


def _mode(rounding: Rounding) -> str:
    bits = f" (r={rounding.random_bits})" if rounding.is_stochastic else ""
    return f"{rounding.mode}{bits}"


def _unless_nearest(rounding: Rounding) -> str:
    """The mode after a space, but for what a float's rounding is taken to be."""
    return "" if rounding.mode == RoundingMode.NEAREST_EVEN else f" {_mode(rounding)}"


def _distinct(texts: Iterable[str]) -> list[str]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(texts))
