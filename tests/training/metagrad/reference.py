"""MetaGrad written as its algorithm is: the hypernetwork inside the graph of the next step's loss.

    W_t = update(W_{t-1}, M_phi(g_{t-1}, ...))       with its graph
    L_t = loss(net(W^_t));  dL_t/dphi by autograd, through W_t;  phi moves by plain gradient descent

W^ is the weight as it is, or pre-processed by DoReFa or BWN, whose formulas stand here once more; M then corrects the
gradient at W^, and its output is multiplied by the calibration. Every weight tensor is corrected on its own,
optimisers are written out with their derivative, and nothing but the hypernetworks is shared with the recipe.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lowbit_sim.training.examples import Examples
from lowbit_sim.training.metagrad.coordinates import Coordinates
from lowbit_sim.training.metagrad.hypernetworks import Hypernetwork


def sgd(w: Tensor, g: Tensor, kept: dict[str, Any], o: dict[str, Any]) -> Tensor:
    """One update of SGD; the kept buffer has no graph."""
    g = g * (-1 if o.get("maximize") else 1) + o.get("weight_decay", 0) * w
    momentum = o.get("momentum", 0)
    if momentum:
        buffer = momentum * kept["b"] + (1 - o.get("dampening", 0)) * g if "b" in kept else g
        kept["b"] = buffer.detach()
        g = g + momentum * buffer if o.get("nesterov") else buffer
    return w - o["lr"] * g


def adam(w: Tensor, g: Tensor, kept: dict[str, Any], o: dict[str, Any]) -> Tensor:
    """One update of Adam or, with `decoupled`, of AdamW."""
    g, (beta1, beta2), decay = g * (-1 if o.get("maximize") else 1), o["betas"], o.get("weight_decay", 0)
    kept["t"] = kept.get("t", 0) + 1
    w, g = (w * (1 - o["lr"] * decay), g) if o.get("decoupled") else (w, g + decay * w)
    m = beta1 * kept.get("m", 0) + (1 - beta1) * g
    v = beta2 * kept.get("v", 0) + (1 - beta2) * g * g
    kept["m"], kept["v"] = m.detach(), v.detach()
    m_hat, v_hat = m / (1 - beta1 ** kept["t"]), v / (1 - beta2 ** kept["t"])
    return w - o["lr"] * m_hat / (v_hat.sqrt() + o["eps"])


class _StraightThrough(torch.autograd.Function):
    """W to W^, with the calibration as the derivative."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, hat: Tensor, calibration: Tensor) -> Tensor:
        ctx.save_for_backward(calibration)
        return hat.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * ctx.saved_tensors[0], None, None


def _preprocessed(kind: str, w: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """W^, how hypernetworks read the weight, and the calibration; biases are as they are."""
    w = w.detach()
    if kind == "bwn" and w.ndim == 2:
        sign = (w >= 0).double() * 2 - 1
        return sign * w.abs().mean(), {"preprocessed": w, "signed": w}, torch.ones_like(w)
    if kind == "dorefa 4" and w.ndim == 2:
        t, largest = w.tanh(), w.tanh().abs().max()
        between = t / (2 * largest) + 0.5
        read = {"preprocessed": between, "signed": t / largest}
        return 2 * (15 * between).round() / 15 - 1, read, (1 - t * t) / largest
    return w, {"preprocessed": w, "signed": w}, torch.ones_like(w)


@dataclass
class Run:
    """A model's weights by name with all that is kept of each, and phi's gradients so far."""

    weights: dict[str, Tensor]
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    phi_gradients: list[list[Tensor]] = field(default_factory=list)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt().clamp_min(1e-30).expand(x.numel())


def _corrected(m: Hypernetwork, kept: dict[str, Any]) -> Tensor:
    g, w, moment = (kept[k].reshape(-1) for k in ("g", "w", "moment"))
    state = tuple(kept.get("state", (torch.zeros(n, g.numel(), dtype=g.dtype) for n in m.state_features)))
    c = Coordinates(
        gradient=g, scale=_rms(g), weight=w, weight_scale=_rms(w), moment=moment, moment_scale=_rms(moment)
    )
    y, after = m(c, state)
    kept["state_after"] = tuple(s.detach() for s in after)
    return y.reshape(kept["g"].shape) * kept["calibration"]


def run(
    model: nn.Module,
    hypernetwork: Hypernetwork,
    data: list[Examples],
    update: Any,
    options: dict[str, Any],
    phi_rate: float,
    cut: bool = False,
    preprocessing: str = "none",
) -> Run:
    """Train a copy of a model's parameters; both model and hypernetwork are float64.

    Args:
        model: The network; its parameters stay as they are.
        hypernetwork: M; moved in place.
        data: Batches.
        update: `sgd` or `adam`.
        options: Its hyperparameters.
        phi_rate: phi's learning rate.
        cut: Whether M's output is taken out of the graph.
        preprocessing: "dorefa 4" (with 4 bits), "bwn" or "none".
    """
    phi = list(hypernetwork.parameters())
    run = Run({name: p.detach().clone() for name, p in model.named_parameters()})
    for batch in data:
        graph = {
            name: _moved(hypernetwork, w, run.kept.get(name), update, options, cut)
            for name, w in run.weights.items()
        }
        made = {name: _preprocessed(preprocessing, w) for name, w in graph.items()}
        hats = {name: _StraightThrough.apply(graph[name], hat, c) for name, (hat, _, c) in made.items()}
        loss = F.cross_entropy(functional_call(model, hats, (batch.inputs,)), batch.targets)  # pyright: ignore[reportArgumentType]
        if run.kept:
            found = torch.autograd.grad(
                loss, phi, retain_graph=True, materialize_grads=True, allow_unused=True
            )
            run.phi_gradients.append([g.clone() for g in found])
        gradients = torch.autograd.grad(loss, list(hats.values()))  # pyright: ignore[reportArgumentType]
        if run.kept:
            with torch.no_grad():
                for p, g in zip(phi, found, strict=True):
                    p -= phi_rate * g
        run.weights = {name: w.detach() for name, w in graph.items()}
        for (name, w), g in zip(run.weights.items(), gradients, strict=True):
            old = run.kept.get(name, {})
            _, read, calibration = made[name]
            run.kept[name] = {
                "g": g,
                "w": read.get(hypernetwork.weight_reading, w),
                "moment": _moment(hypernetwork, old, g),
                "calibration": calibration,
                "optimizer": {},
            }
            if old:
                run.kept[name] |= {"state": old["state_after"], "optimizer": old["optimizer"]}
    return run


def _moment(m: Hypernetwork, old: dict[str, Any], g: Tensor) -> Tensor:
    if not old or m.moment_decay is None:
        return torch.zeros_like(g)
    return m.moment_decay * old["moment"] + (1 - m.moment_decay) * old["g"]


def _moved(m: Hypernetwork, w: Tensor, kept: Any, update: Any, options: dict[str, Any], cut: bool) -> Tensor:
    if kept is None:
        return w.clone().requires_grad_()
    corrected = _corrected(m, kept)
    moved = update(w, corrected.detach() if cut else corrected, kept["optimizer"], options)
    return moved if moved.requires_grad else moved.requires_grad_()
