"""Error feedback: what quantising a weight's gradient loses is kept and added to the next gradient.

    s_t = fp32(g_t + e_t);   q_t = Q(s_t);   e_{t+1} = fp32(s_t - q_t);   the optimiser is given q_t;   e_0 = 0

So sum(q) + e = sum(g): nothing is lost, only late, and even a biased quantiser's errors do not pile up. The equality
is exact wherever the two float32 operations are, as for gradients and scales that are whole multiples of a power of
two, 2^24 of them at most. Each operation is off by half a unit of its result's last place at most.

Sources: Seide et al., "1-bit stochastic gradient descent and its application to data-parallel distributed training of
speech DNNs", Interspeech 2014, section 3; Karimireddy et al., "Error feedback fixes SignSGD and other gradient
compression schemes", ICML 2019, algorithm 2, whose e is ours times the learning rate.

The gradient that is quantised is that of the weight, after its GEMM: the GEMM itself saves nothing. An operand of the
GEMM can't have feedback, as its elements belong to other examples at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.ops.operand import FLOAT_BYTES
from lowbit_sim.quant.quantizer import NotANumberError, Quantizer
from lowbit_sim.quant.scaling import reduces
from lowbit_sim.trace import VectorEvent, emit, recording
from lowbit_sim.training.recipe import Step

#: Which random bits the gradients draw: an operand that neither layers nor other recipes nor the weight update use.
GRADIENT_STREAM = 16 + 11


@dataclass(kw_only=True, eq=False)
class ErrorFeedback:
    """A recipe.

    Before MetaGrad it quantises what MetaGrad reads: for pre-processed weights the gradients at W^, whose residuals
    then are those of W^.

    Args:
        quantizer: Of the gradients, e.g. `Quantizer(INT4)`.
        parameters: Names of the parameters whose gradients are quantised, with shell wildcards; None for those with
            two axes or more: the weights of linear layers, convolutions and embeddings, not biases and norms.
        seed: Seed of the random bits of a stochastic rounding.

    Raises:
        TypeError: Not a quantiser, or patterns that are one string.
        ValueError: A quantiser whose scale depends on past tensors, no names, or a seed that is not an unsigned
            integer of 32 bits.
    """

    quantizer: Quantizer
    parameters: Sequence[str] | None = None
    seed: int = 0
    _residuals: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.quantizer, Quantizer):
            raise TypeError(f"error feedback takes a Quantizer, got {self.quantizer!r}")
        if self.quantizer.is_stateful:
            raise ValueError(
                f"error feedback can't have a scale that depends on past steps ({self.quantizer.scale}): its memory "
                "is the residual; use AbsMaxScale"
            )
        if isinstance(self.parameters, str):
            raise TypeError(f"parameters are a list of patterns, also of one: ({self.parameters!r},)")
        if self.parameters is not None and not self.parameters:
            raise ValueError(
                "parameters is empty: leave it out for every weight, or leave error feedback out"
            )
        Stream(seed=self.seed)  # refuses what could not address random bits later

    @property
    def residuals(self) -> dict[str, Tensor]:
        """What each parameter's gradient has still to be given, by the parameter's name."""
        return dict(self._residuals)

    def before_step(self, step: Step) -> None:
        """Nothing."""

    def on_gradients(self, step: Step) -> None:
        """Put the quantised gradients in the place of the gradients.

        Raises:
            ValueError: A name in `parameters` that fits no parameter of the model.
            NotANumberError: A gradient holds NaN.
        """
        chosen = self._chosen(step.model)
        for site, (name, p) in enumerate(step.model.named_parameters()):
            if p.grad is not None and name in chosen:
                stream = Stream(seed=self.seed, step=step.index, site=site, operand=GRADIENT_STREAM)
                p.grad.copy_(self._quantized(name, p.grad, stream))
                if recording():
                    _bill(p, self.quantizer)

    def after_step(self, step: Step) -> None:
        """Nothing."""

    def state_dict(self) -> dict[str, Any]:
        """The residuals."""
        return {"residuals": {name: residual.clone() for name, residual in self._residuals.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._residuals = {name: residual.clone() for name, residual in state["residuals"].items()}

    def measurements(self) -> dict[str, float]:
        """The L2 norm of all residuals together."""
        squares = [float(residual.double().square().sum()) for residual in self._residuals.values()]
        return {"residual_norm": sum(squares) ** 0.5}

    def _quantized(self, name: str, gradient: Tensor, stream: Stream) -> Tensor:
        residual = self._residuals.get(name)
        # Gradients without data, of a step that is only traced, leave the residuals as they are.
        if residual is None or gradient.is_meta:
            total = gradient.clone()
        else:
            total = gradient + residual.to(gradient.device)  # a checkpoint's residuals come back on the CPU
        try:
            applied = self.quantizer(total, stream=stream).dequantize()
        except NotANumberError as error:
            raise NotANumberError(f"gradient of {name}: {error}") from error
        if not gradient.is_meta:
            self._residuals[name] = total - applied
        return applied

    def _chosen(self, model: nn.Module) -> set[str]:
        named = dict(model.named_parameters())
        stray = self._residuals.keys() - named.keys()
        if stray:
            raise ValueError(unknown("parameter, whose residual was loaded,", min(stray), named))
        if self.parameters is None:
            return {name for name, p in named.items() if p.dim() >= 2}
        for pattern in self.parameters:
            if not any(fnmatchcase(name, pattern) for name in named):
                raise ValueError(unknown("parameter", pattern, named))
        return {name for name in named if any(fnmatchcase(name, pattern) for pattern in self.parameters)}


def _bill(p: nn.Parameter, quantizer: Quantizer) -> None:
    """The sum with the residual, the conversion of the sum, and the new residual, which is a state between steps."""
    elements, size = p.numel(), p.numel() * FLOAT_BYTES
    codes = -(-elements * quantizer.element_format.bits // 8)
    emit(_event("optimizer_update", elements, read=2 * size, write=size, state_bytes=size))
    if reduces(quantizer.scale):
        emit(_event("scale_reduction", elements))
    if quantizer.rounding.is_stochastic:
        emit(_event("random_bits", elements, random_bits=elements * quantizer.rounding.random_bits))
    emit(_event("quantize", elements, read=size, write=codes + size))


def _event(
    kind: str, elements: int, *, read: int = 0, write: int = 0, random_bits: int = 0, state_bytes: int = 0
) -> VectorEvent:
    return VectorEvent(
        kind=kind,
        elements=elements,
        read_bytes=read,
        write_bytes=write,
        role="overhead",
        random_bits=random_bits,
        state_bytes=state_bytes,
    )
