"""From a layer's tensors to the operands of its GEMMs, with every piece of work put on record.

An operand is quantised once, in its tensor's own layout, and its codes are laid out; but where scales vary along
the reduction or a transform mixes elements of it, the real tensor is kept and `product.py` quantises the matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from lowbit_sim.arith.spec import MAX_SAMPLES, GemmSpec, OpSpec
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.whole import is_whole
from lowbit_sim.ops.contraction import TENSORS, Side
from lowbit_sim.ops.counts import count_operand
from lowbit_sim.ops.quantize_events import FLOAT_BYTES as FLOAT_BYTES
from lowbit_sim.ops.quantize_events import Passed, code_bytes, emit_quantize
from lowbit_sim.ops.shard import Shard
from lowbit_sim.ops.stored import element_bits
from lowbit_sim.ops.tally import GemmTally, Tallies
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import NotANumberError, Quantizer
from lowbit_sim.quant.scaling import ScaleState
from lowbit_sim.trace import Parameter, Role, recording

#: Each operand of each GEMM draws its own random bits, and so does each stochastic accumulator. A further sample of
#: an operand adds `SAMPLE_STRIDE`, a further operator of the same layer `PART_STRIDE`.
OPERAND_STREAMS = {
    ("output", "lhs"): 0,
    ("output", "rhs"): 1,
    ("grad_input", "lhs"): 2,
    ("grad_input", "rhs"): 3,
    ("grad_weight", "lhs"): 4,
    ("grad_weight", "rhs"): 5,
}
ACCUMULATOR_STREAMS = {"output": 8, "grad_input": 9, "grad_weight": 10}
SAMPLE_STRIDE = 16
PART_STRIDE = SAMPLE_STRIDE * MAX_SAMPLES

#: Operators of one layer in one step whose random bits can be told apart: their numbers fill 32 bits.
MAX_PARTS = (1 << 32) // PART_STRIDE

#: A layer's running scales, one for each operand of each GEMM: by role (after an operator's slot) and side.
ScaleStates = dict[tuple[str, str], ScaleState]


@dataclass(frozen=True, kw_only=True)
class CallSite:
    """Where an operator runs: it names the layer in events and messages and addresses the random bits.

    Args:
        layer: Module path.
        seed: The run's seed.
        step: How many training steps the layer has made.
        site: The layer's number in the model.
        part: Which of the layer's operators runs, where it has several: each draws bits of its own.
        slot: The name of that operator within the layer; operators of one name share running scales.
        states: The layer's running scales, for scale rules that look at past steps; filled in as they are needed.
        tallies: Where to count overflow, clipping and underflow; None where this call does not count.
        shard: This process' slice of the batch, if the batch is spread over several.
        batched_weight: Whether the operand in the weight's place leads with the batch too, as in a product of
            activations.
        activations: Whether the operand in the weight's place is an activation, which is there only as long as it is
            kept.

    Raises:
        ValueError: A part that its random bits can't be told apart for.
    """

    layer: str = ""
    seed: int = 0
    step: int = 0
    site: int = 0
    part: int = 0
    slot: str = ""
    states: ScaleStates = field(default_factory=dict, compare=False, repr=False)
    tallies: Tallies | None = field(default=None, compare=False, repr=False)
    shard: Shard | None = field(default=None, compare=False, repr=False)
    batched_weight: bool = False
    activations: bool = False

    def __post_init__(self) -> None:
        if not is_whole(self.part, 0, MAX_PARTS - 1):
            raise ValueError(
                f"layer {self.layer!r}: part must be from 0 to {MAX_PARTS - 1} (the operators of one layer in one "
                f"step), got {self.part}"
            )

    @property
    def counting(self) -> bool:
        """Whether what this call loses is counted: for its layer, or for a trace."""
        return self.tallies is not None or recording()

    def tally(self, role: str) -> GemmTally:
        """The counts of a role of this operator; only where `tallies` is given."""
        assert self.tallies is not None
        return self.tallies.setdefault(self.place(role), GemmTally())

    def place(self, role: str) -> str:
        """The role, after the operator's name where the layer has several."""
        return f"{self.slot}.{role}" if self.slot else role

    def parameter(self, role: Role, side: Side) -> Parameter:
        """The parameter that an operand is: "weight", or "" for an activation or a gradient."""
        return "weight" if TENSORS[role, side] == "weight" and not self.activations else ""

    def operator(self, part: int, name: str) -> CallSite:
        """Where one of several operators of this one runs; events and messages call it "layer#name".

        Args:
            part: Its number, counted from this call's own.
            name: Its name, after a dot if this is itself an operator of several.
        """
        slot = f"{self.slot}.{name}" if self.slot else name
        layer = f"{self.layer}.{name}" if self.slot else f"{self.layer}#{name}"
        return replace(self, layer=layer, part=self.part + part, slot=slot)


def stream_at(at: CallSite, operand: int, sample: int = 0, offset: int = 0) -> Stream:
    """The address of the random bits of one operand (or accumulator) of one operator."""
    number = operand + SAMPLE_STRIDE * sample + PART_STRIDE * at.part
    return Stream(seed=at.seed, step=at.step, site=at.site, operand=number, offset=offset)


def operand_stream(role: Role, side: Side, at: CallSite, sample: int = 0, offset: int = 0) -> Stream:
    """The address of an operand's random bits."""
    return stream_at(at, OPERAND_STREAMS[role, side], sample, offset)


def quantize_operand(
    x: Tensor,
    quantizer: Quantizer,
    role: Role,
    side: Side,
    at: CallSite,
    sample: int = 0,
    offset: int = 0,
    scale_known: bool = False,
    passed: Passed | None = None,
) -> QTensor:
    """Quantise one operand of one GEMM.

    Args:
        x: The tensor, or one of the matrices that it is laid out as.
        quantizer: Its quantiser.
        role: Which of the layer's GEMMs.
        side: Which operand.
        at: Where it runs.
        sample: Which of several independent quantisations.
        offset: Index of the first element among those that draw from one stream.
        scale_known: Whether the same scale was found for this tensor before, so that no pass for it is put on record.
        passed: How many elements go on record; all of x by default.

    Raises:
        NotANumberError: x holds NaN; the message names the layer, the GEMM and the tensor.
    """
    state = None
    if quantizer.is_stateful:
        # A state for each matrix, as each has a scale; and for each sample, or one step would move it several times.
        several = f"#{offset // max(x.numel(), 1)}.{sample}" if offset or sample else ""
        state = at.states.setdefault((at.place(role) + several, side), ScaleState())
    sliced = at.shard is not None and (at.batched_weight or TENSORS[role, side] != "weight")
    reduce_max = at.shard.reduce_max if at.shard is not None and sliced else None
    if at.shard is not None and sliced and quantizer.rounding.is_stochastic:
        start, whole = at.shard.place(x.numel())
        # Matrices of one operand come one by one, each after the whole ones before it.
        offset = offset // max(x.numel(), 1) * whole + start
    try:
        stochastic = quantizer.rounding.is_stochastic
        stream = operand_stream(role, side, at, sample, offset) if stochastic else None
        quantized = quantizer(x, stream=stream, state=state, reduce_max=reduce_max)
    except NotANumberError as error:
        raise NotANumberError(f"layer {at.layer!r}, {TENSORS[role, side]} of {role}: {error}") from error
    if at.counting:
        counts = None if x.is_meta else count_operand(x, quantized, quantizer)
        if at.tallies is not None and counts is not None:
            at.tally(role).add_operand(side, counts)
        if recording():
            passed = passed or Passed(elements=x.numel(), bits=element_bits(x))
            parameter = at.parameter(role, side)
            emit_quantize(passed, quantized, quantizer, at.layer, counts, scale_known, parameter)
    return quantized


@dataclass(frozen=True)
class Operands:
    """One operand of a GEMM, ready for `product.product`.

    Attributes:
        quantized: Its codes, one entry for each sample; empty if it is quantised after it is laid out.
        real: The real tensor, if it is quantised after it is laid out.
    """

    quantized: tuple[QTensor, ...]
    real: Tensor | None = None


def stored_bytes(operand: Operands) -> int:
    """Bytes of an operand's codes."""
    return sum(map(code_bytes, operand.quantized))


def after_layout(spec: GemmSpec, side: Side) -> bool:
    """Whether an operand is quantised as matrices rather than as a tensor."""
    quantizer: Quantizer = getattr(spec, side)
    return bool(quantizer.block) or spec.transform is not None


def operands(
    x: Tensor, spec: GemmSpec, role: Role, side: Side, at: CallSite, scale_known: bool = False
) -> Operands:
    """Quantise a tensor for one GEMM, or put it off until it is laid out.

    Samples draw other bits but have one scale, which is found once unless each keeps a running one.

    Raises:
        NotANumberError: x holds NaN.
    """
    if after_layout(spec, side):
        return Operands((), x)
    samples = spec.samples if side == "lhs" else 1
    quantizer: Quantizer = getattr(spec, side)
    again = not quantizer.is_stateful
    return Operands(
        tuple(
            quantize_operand(x, quantizer, role, side, at, s, scale_known=scale_known or (s > 0 and again))
            for s in range(samples)
        )
    )


def kept(
    q: Operands | None, forward: GemmSpec | None, side: Side, backward: GemmSpec | None
) -> Operands | None:
    """The forward GEMM's operand, if a backward GEMM would quantise the tensor to the same codes.

    Quantising is a pure function of the tensor unless it rounds stochastically, so keeping the codes saves
    work and memory and changes no bit. (A rule with running scales would see the tensor a second time: keeping
    the codes is then the better definition, as a machine has one register for the scale of one tensor.)

    Args:
        q: The forward GEMM's operand.
        forward: The forward GEMM.
        side: The operand's side there; in both backward GEMMs such a tensor is on the right.
        backward: The backward GEMM that reads the tensor again.
    """
    if q is None or q.real is not None or forward is None or backward is None:
        return None
    quantizer: Quantizer = getattr(forward, side)
    same = quantizer == backward.rhs and len(q.quantized) == 1 and backward.transform is None
    return q if same and not quantizer.rounding.is_stochastic else None


def gradient_operands(
    g: Tensor, spec: OpSpec, needed: Sequence[bool], at: CallSite
) -> tuple[Operands | None, Operands | None]:
    """grad_output as the operand of the grad_input and of the grad_weight GEMM.

    Quantised once where both would find the same codes (see `kept`). Where their random bits alone differ, the scale
    is on record once.

    Args:
        g: grad_output, float32.
        spec: The layer's numerics.
        needed: Whether the gradient of the input and that of the weight are asked for.
        at: Where it runs.

    Returns:
        For each GEMM its operand, or None if it is native or not needed.
    """
    for_input = for_weight = None
    if needed[0] and spec.grad_input is not None:
        for_input = operands(g, spec.grad_input, "grad_input", "lhs", at)
    if needed[1] and spec.grad_weight is not None:
        quantizer = spec.grad_weight.lhs
        same = spec.grad_input is not None and quantizer == spec.grad_input.lhs
        reusable = for_input is not None and for_input.real is None and spec.grad_weight.transform is None
        if reusable and same and not quantizer.rounding.is_stochastic:
            for_weight = for_input
        else:
            known = reusable and same and not quantizer.is_stateful
            for_weight = operands(g, spec.grad_weight, "grad_weight", "lhs", at, known)
    return for_input, for_weight
