"""Whether the library products that proofs rely on are exact here, and native INT8 layers give the CPU's bits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.gpu.rows import Rows
from benchmarks.gpu.task import Record, Task


def exact_products(seconds: float) -> Record:
    """Whether the library products that proofs rely on are exact here, against int64 on the CPU."""
    torch.backends.cuda.matmul.allow_tf32 = False
    generator = torch.Generator().manual_seed(0)
    rows = Rows(seconds)
    for m, k, n in ((32, 64, 32), (256, 576, 64), (1024, 1024, 1024), (4096, 288, 128)):
        for limit in (7, 127, 128):
            a = torch.randint(-limit, min(limit, 127) + 1, (m, k), dtype=torch.int8, generator=generator)
            b = torch.randint(-limit, min(limit, 127) + 1, (k, n), dtype=torch.int8, generator=generator)
            a[0], b[:, 0] = -limit, -limit
            expected = a.to(torch.int64) @ b.to(torch.int64)
            x, y = a.cuda(), b.cuda()
            products: dict[str, Callable[[], Tensor]] = {
                "int_mm": lambda x=x, y=y: torch._int_mm(x, y),  # pyright: ignore
                "float32": lambda x=x, y=y: x.float() @ y.float(),
                "bfloat16": lambda x=x, y=y: _bfloat16_product(x, y),
            }
            for name, product in products.items():
                row = {"m": m, "k": k, "n": n, "limit": limit, "product": name}
                # The float products are proven exact below 2^24 only.
                row["proven"] = name == "int_mm" or k * limit * limit < 1 << 24
                rows.add(row, lambda product=product, right=expected: _equal(product(), right))
    exact = all(row.get("equal", False) for row in rows.rows if row["proven"])
    return rows.record(every_proven_product_is_exact=exact)


def _equal(found: Tensor, expected: Tensor) -> Record:
    return {"equal": torch.equal(found.cpu().to(torch.int64), expected)}


def _bfloat16_product(x: Tensor, y: Tensor) -> Tensor:
    """INT8 codes are bfloat16 values; the sum is formed, and returned, in float32."""
    return torch.mm(x.bfloat16(), y.bfloat16(), out_dtype=torch.float32)


def native_int8_layers(_: float) -> Record:
    """Whether native INT8 layers give the CPU's bits here: the outputs and all gradients of a small network."""
    from lowbit_sim.nn.native_int8 import convert_to_native_int8

    def network() -> nn.Module:
        torch.manual_seed(0)
        # Without biases, whose gradients are float sums in the order of the device.
        convolutions = (
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(16, 8, 3, stride=2, bias=False),
            nn.ReLU(),
        )
        linear = nn.Linear(8 * 7 * 7, 10, bias=False)
        return convert_to_native_int8(nn.Sequential(*convolutions, nn.Flatten(), linear))

    generator = torch.Generator().manual_seed(0)
    x, g = torch.randn(32, 3, 16, 16, generator=generator), torch.randn(32, 10, generator=generator)
    found = [_passes(network().to(device), x.to(device), g.to(device)) for device in ("cpu", "cuda")]
    rows = [{"tensor": name, "equal": torch.equal(found[0][name], found[1][name])} for name in found[0]]
    return {"rows": rows, "all_equal": all(row["equal"] for row in rows)}


def _passes(network: nn.Module, x: Tensor, g: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    y = network(x)
    y.backward(g)
    weights = {name: p.grad.cpu() for name, p in network.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {"output": y.detach().cpu(), "grad_input": x.grad.cpu(), **weights}


TASKS = [
    Task(
        name="exact_products",
        summary="Exactness of int8, float32 and bfloat16 products.",
        seconds=120,
        work=exact_products,
    ),
    Task(
        name="native_int8_layers",
        summary="Native INT8 layers against the CPU's bits.",
        seconds=120,
        work=native_int8_layers,
    ),
]
