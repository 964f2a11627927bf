"""Whether emulated training on this device computes what it does on the CPU.

Two networks train for a few steps. One has emulated layers without biases, ReLU and a given gradient of its output,
and learns at a rate that is a power of two: nothing in it depends on the order of a device's float additions, so that
its outputs, gradients and weights must be the CPU's bit for bit. The other has batch-norm, pooling and a loss, whose
float sums every device orders in its own way: there each emulated GEMM that ran is computed again on the CPU from the
very operands that it had, and its sums must be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.rows import Rows
from benchmarks.gpu.task import Record, Task

if TYPE_CHECKING:
    from lowbit_sim.arith.spec import OpSpec

#: 2^-6: its product with a gradient is exact.
_RATE = 1 / 64


def specs() -> dict[str, OpSpec]:
    """Numerics whose GEMMs are proven, drawn at random, saturating, floating-point and block-scaled."""
    import lowbit_sim as lb
    from lowbit_sim.arith.float_mac import FloatMacUnit
    from lowbit_sim.arith.mac import MacUnit
    from lowbit_sim.numerics.catalog import BF16

    stochastic = lb.Rounding("stochastic", random_bits=8)
    narrow = MacUnit(accumulator_bits=16, overflow="saturate")
    return {
        "int8": lb.OpSpec.uniform(lb.INT8),
        "int4, stochastic gradients": lb.OpSpec.uniform(lb.INT4, gradient_rounding=stochastic),
        "int8 in 16 saturating bits": lb.OpSpec.uniform(lb.INT8, mac=narrow),
        "fp8 in bf16": lb.OpSpec.uniform(lb.FP8_E4M3FN, mac=FloatMacUnit(accumulator=BF16)),
        "mxfp8": lb.OpSpec.uniform(lb.MXFP8_E4M3),
    }


def whole_steps(seconds: float, device: str = "cuda", batch: int = 16, steps: int = 3) -> Record:
    """Outputs, gradients and weights of the network without float sums."""
    rows = Rows(seconds)
    for name, spec in specs().items():
        rows.add({"numerics": name}, partial(_both_trained, spec, device, batch, steps))
    return rows.record(all_equal=rows.all("equal"))


def _both_trained(spec: OpSpec, device: str, batch: int, steps: int) -> Record:
    """How many tensors of all steps were compared, and which differ."""
    on_cpu, on_device = (_trained(spec, where, batch, steps) for where in ("cpu", device))
    compared = [
        (f"step {step}: {tensor}", torch.equal(value, found[tensor]))
        for step, (expected, found) in enumerate(zip(on_cpu, on_device, strict=True))
        for tensor, value in expected.items()
    ]
    different = [tensor for tensor, equal in compared if not equal]
    return {"tensors": len(compared), "different": different, "equal": not different}


def _trained(spec: OpSpec, device: str, batch: int, steps: int) -> list[dict[str, Tensor]]:
    import lowbit_sim as lb

    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, stride=2, groups=2, bias=False), nn.ReLU(), nn.Flatten()),
        nn.Linear(16 * 9, 10, bias=False),
    ]
    network = lb.convert(nn.Sequential(*layers), [lb.Rule("*", spec)]).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=_RATE)
    generator, found = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        x = torch.randn(batch, 3, 8, 8, generator=generator).to(device).requires_grad_()
        optimizer.zero_grad()
        y = network(x)
        y.backward(torch.randn(batch, 10, generator=generator).to(device))
        gradients = {f"{n}.grad": p.grad for n, p in network.named_parameters()}
        optimizer.step()
        tensors = {"y": y, "x.grad": x.grad, **gradients, **dict(network.named_parameters())}
        found.append({n: t.detach().cpu().clone() for n, t in tensors.items() if t is not None})
    return found


def captured_gemms(seconds: float, device: str = "cuda", batch: int = 16, steps: int = 3) -> Record:
    """Every emulated GEMM of a network with batch-norm, pooling and a loss, computed again on the CPU."""
    rows = Rows(seconds)
    for name, spec in specs().items():
        rows.add({"numerics": name}, partial(_computed_again, spec, device, batch, steps))
    return rows.record(all_equal=rows.all("equal"))


def _computed_again(spec: OpSpec, device: str, batch: int, steps: int) -> Record:
    """How many GEMMs ran, and whether the CPU finds the sums of all."""
    import torch.nn.functional as F

    import lowbit_sim as lb
    from lowbit_sim.ops.capture import capture
    from lowbit_sim.study.models import build

    # Its quantisers' random bits are in the operands; those of an accumulator would need their stream.
    network = lb.convert(build("small_cnn", 3, 10, 8, width=8, seed=0), [lb.Rule("*", spec)]).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=_RATE)
    generator, gemms = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        x = torch.randn(batch, 3, 8, 8, generator=generator).to(device)
        targets = torch.randint(10, (batch,), generator=generator).to(device)
        optimizer.zero_grad()
        with capture() as kept:
            F.cross_entropy(network(x), targets).backward()
        optimizer.step()
        gemms += kept.gemms
    compared = [_same_sums(gemm) for gemm in gemms]
    return {"gemms": len(compared), "equal": all(compared) and bool(compared)}


def _same_sums(gemm: Any) -> bool:
    """Whether the CPU finds the sums of a captured GEMM."""
    again = _again(gemm)
    return all(
        torch.equal(again(a.cpu(), b.cpu()), sums.cpu())
        for a, b, sums in zip(gemm.lhs, gemm.rhs, gemm.sums, strict=True)
    )


def _again(gemm: Any) -> Callable[[Tensor, Tensor], Tensor]:
    from lowbit_sim.arith.block_gemm import run_block_gemm
    from lowbit_sim.arith.gemm import gemm as multiply

    spec = gemm.spec
    if not spec.block:
        return lambda a, b: multiply(a, b, spec.mac)
    left, right = (scale[0].cpu() if scale else None for scale in (gemm.lhs_scale, gemm.rhs_scale))
    return lambda a, b: run_block_gemm(a, b, left, right, spec.block, spec.mac, spec.across).values


TASKS = [
    Task(
        name="training_step_bits",
        summary="Emulated training steps without float sums: outputs, gradients, weights against the CPU's.",
        seconds=120,
        work=whole_steps,
        needs=("numba", "triton"),
    ),
    Task(
        name="training_step_gemms",
        summary="Every GEMM of emulated training steps of a batch-norm network, computed again on the CPU.",
        seconds=120,
        work=captured_gemms,
        needs=("numba", "triton"),
    ),
]
