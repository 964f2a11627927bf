"""SGD, Adam and AdamW whose master weights and states are kept in low-precision formats.

With Q_* the rounding of `update_spec.py` and g the gradient, float32 in between, one parameter's update is

    SGD                                             Adam, AdamW at the parameter's t-th update
    g' = Q_gradient(g) + weight_decay w             g' = Q_gradient(g) (Adam: + weight_decay w)
    b  = momentum m + (1 - dampening) g'            a  = beta1 m + (1 - beta1) g';  b = beta2 v + (1 - beta2) g'^2
    m' = Q_momentum(b)     (at first b = g')        m' = Q_momentum(a);             v' = Q_second_moment(b)
    u  = m'                                         u  = m' / (1 - beta1^t) / (sqrt(v') / sqrt(1 - beta2^t) + eps)
    u  = g' + momentum m'  (nesterov)               w  = w (1 - lr weight_decay)  (AdamW)
    w' = Q_weight(w - lr u)                         w' = Q_weight(w - lr u)

where `state_reads="unrounded"` puts b (a, b) in the place of m' (m', v') in u. The float32 operations between the
roundings are torch's own, in the order of `torch.optim` with foreach=False: an update without formats is bit for bit
that of `torch.optim`. The weights that training starts from are taken as they are; the first update rounds them.

Sources: Wang et al., NeurIPS 2018 (see `update_spec.py`); Kingma and Ba, "Adam", ICLR 2015, algorithm 1; Loshchilov
and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lowbit_sim.numerics.random import Stream
from lowbit_sim.quant.quantizer import NotANumberError
from lowbit_sim.trace import recording
from lowbit_sim.training.update_spec import UPDATE_STREAMS, ParameterUpdate, UpdateBill, UpdateSpec

_SPEC, _SEED, _STEP = "update", "seed", "random_step"


class LowPrecisionOptimizer(torch.optim.Optimizer):
    """What the low-precision optimisers share: the walk over the parameters, random addresses and events.

    Each parameter group has its own `update` (an `UpdateSpec`) and `seed`. A state_dict holds torch's entries, the
    seed, and for each parameter `random_step`, the number of its updates; an optimiser that loads it keeps its own
    specs and goes on bit for bit.
    """

    _options: dict[str, Any]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, with `update` and `seed` of the group checked.

        Raises:
            TypeError: An `update` that is not an UpdateSpec.
            ValueError: A seed that is not an unsigned integer of 32 bits.
        """
        # torch's constructors add the groups before the defaults can be told of the two new options.
        options = self.defaults if _SPEC in self.defaults else self._options
        group = {_SPEC: options[_SPEC], _SEED: options[_SEED], **param_group}
        if not isinstance(group[_SPEC], UpdateSpec):
            raise TypeError(f"update is an UpdateSpec, got {group[_SPEC]!r}")
        Stream(seed=group[_SEED])  # refuses what could not address random bits later
        super().add_param_group(group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError: A parameter that is not float32, or a sparse gradient.
            NotANumberError: NaN in a tensor that is rounded.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._refuse_nan()
        bill, site = UpdateBill(), 0
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step_parameter(p, group, site, bill)
                site += 1
        if recording():
            bill.emit()
        return loss

    def _refuse_nan(self) -> None:
        """Refuse a NaN before the first parameter is changed, so that a step can be skipped as a whole.

        Only where something is rounded: native formats carry it on, as torch's optimisers do.
        """
        site = 0
        for group in self.param_groups:
            rounds = any(getattr(group[_SPEC], name) is not None for name in UPDATE_STREAMS)
            for p in group["params"]:
                if rounds and p.grad is not None and not p.grad.is_meta and bool(torch.isnan(p.grad).any()):
                    count = int(torch.isnan(p.grad).sum())
                    raise NotANumberError(
                        f"{count} of {p.grad.numel()} elements of the gradient of parameter {site} are NaN: "
                        "nothing was updated"
                    )
                site += 1

    def _step_parameter(self, p: Tensor, group: dict[str, Any], site: int, bill: UpdateBill) -> None:
        grad = p.grad
        assert grad is not None
        if p.dtype != torch.float32 or grad.is_sparse:
            got = "a sparse gradient" if grad.is_sparse else str(p.dtype)
            raise ValueError(
                f"parameter {site} has {got}; the update takes float32 weights and dense gradients"
            )
        state = self.state[p]
        step = state.setdefault(_STEP, 0)
        update = ParameterUpdate(spec=group[_SPEC], seed=group[_SEED], step=step, site=site, bill=bill)
        p.copy_(self._updated(p, -grad if group["maximize"] else grad, state, group, update))
        state[_STEP] = step + 1

    def _updated(
        self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any], update: ParameterUpdate
    ) -> Tensor:
        """The parameter's new value; new states are put in `state`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """torch's, plain data: the specs stay out of it."""
        packed = super().state_dict()
        groups = [{k: v for k, v in group.items() if k != _SPEC} for group in packed["param_groups"]]
        return {**packed, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """torch's; the specs are those that this optimiser was made with. torch.optim's state_dicts fit too."""
        kept = [(group[_SPEC], group[_SEED]) for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, (spec, seed) in zip(self.param_groups, kept, strict=True):
            group[_SPEC] = spec
            group.setdefault(_SEED, seed)


class SGD(LowPrecisionOptimizer, torch.optim.SGD):
    """`torch.optim.SGD` with weights and momentum in low precision.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate.
        momentum: Factor of the momentum buffer; 0 for none.
        dampening: Dampening of the momentum.
        weight_decay: L2 penalty.
        nesterov: Whether to use Nesterov momentum.
        maximize: Whether to maximise.
        update: The formats; a group may have its own.
        seed: Seed of the random bits, 0 to 2^32 - 1.

    Raises:
        ValueError: As torch.optim.SGD.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        update: UpdateSpec = UpdateSpec(),
        seed: int = 0,
    ) -> None:
        self._options = {_SPEC: update, _SEED: seed}
        torch.optim.SGD.__init__(
            self, params, lr, momentum, dampening, weight_decay, nesterov, maximize=maximize, foreach=False
        )
        self.defaults.update(self._options)

    def _updated(
        self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any], update: ParameterUpdate
    ) -> Tensor:
        g, momentum = update.gradient(grad), group["momentum"]
        if group["weight_decay"] != 0:
            g = g.add(p, alpha=group["weight_decay"])
        if momentum != 0:
            old = state.get("momentum_buffer")
            new = g.clone() if old is None else old.mul(momentum).add_(g, alpha=1 - group["dampening"])
            state["momentum_buffer"] = update.keep("momentum", new)
            seen = update.seen(state["momentum_buffer"], new)
            g = g.add(seen, alpha=momentum) if group["nesterov"] else seen
        return update.keep("weight", p.add(g, alpha=-float(group["lr"])))


class Adam(LowPrecisionOptimizer, torch.optim.Adam):
    """`torch.optim.Adam` with weights and moments in low precision.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate.
        betas: Factors of the running means of the gradient and of its square.
        eps: Added to the denominator.
        weight_decay: L2 penalty.
        decoupled_weight_decay: Whether the decay acts on the weights instead of the gradient, as AdamW's.
        maximize: Whether to maximise.
        update: The formats; a group may have its own.
        seed: Seed of the random bits, 0 to 2^32 - 1.

    Raises:
        ValueError: As torch.optim.Adam.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        update: UpdateSpec = UpdateSpec(),
        seed: int = 0,
    ) -> None:
        self._options = {_SPEC: update, _SEED: seed}
        torch.optim.Adam.__init__(
            self,
            params,
            lr,
            betas,
            eps,
            weight_decay,
            maximize=maximize,
            foreach=False,
            decoupled_weight_decay=decoupled_weight_decay,
        )
        self.defaults.update(self._options)

    def _updated(
        self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any], update: ParameterUpdate
    ) -> Tensor:
        g, w, lr = update.gradient(grad), p, float(group["lr"])
        if "exp_avg" not in state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        state["step"] += 1
        if group["weight_decay"] != 0:
            if group["decoupled_weight_decay"]:
                w = w.mul(1 - lr * group["weight_decay"])
            else:
                g = g.add(p, alpha=group["weight_decay"])
        moments = self._moments(g, state, group["betas"], update)
        return update.keep("weight", _adam_step(w, *moments, float(state["step"]), lr, group))

    def _moments(
        self, g: Tensor, state: dict[str, Any], betas: tuple[float, float], update: ParameterUpdate
    ) -> tuple[Tensor, Tensor]:
        """Move both running means on; what the weight's update reads of them."""
        mean = state["exp_avg"].lerp(g, 1 - betas[0])
        square = state["exp_avg_sq"].mul(betas[1]).addcmul_(g, g, value=1 - betas[1])
        state["exp_avg"] = update.keep("momentum", mean)
        state["exp_avg_sq"] = update.keep("second_moment", square)
        return update.seen(state["exp_avg"], mean), update.seen(state["exp_avg_sq"], square)


def _adam_step(
    w: Tensor, mean: Tensor, square: Tensor, step: float, lr: float, group: dict[str, Any]
) -> Tensor:
    corrections = [1 - beta**step for beta in group["betas"]]
    denominator = (square.sqrt() / corrections[1] ** 0.5).add_(group["eps"])
    return w.addcdiv(mean, denominator, value=-(lr / corrections[0]))


class AdamW(Adam):
    """`torch.optim.AdamW` with weights and moments in low precision; see `Adam`.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate.
        betas: Factors of the running means of the gradient and of its square.
        eps: Added to the denominator.
        weight_decay: Decoupled weight decay.
        maximize: Whether to maximise.
        update: The formats; a group may have its own.
        seed: Seed of the random bits, 0 to 2^32 - 1.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        maximize: bool = False,
        update: UpdateSpec = UpdateSpec(),
        seed: int = 0,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            decoupled_weight_decay=True,
            maximize=maximize,
            update=update,
            seed=seed,
        )
