"""What `torch.compile` and CUDA graphs make of converted models and of native INT8 ones on this device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.task import Record, Task


def compile_and_graphs(_: float) -> Record:
    """Compiled against eager, bit for bit; graphs of emulated layers refused; graphs of native INT8 ones replayed."""
    import lowbit_sim as lb
    from lowbit_sim.nn.native_int8 import convert_to_native_int8
    from lowbit_sim.quant.quantizer import missing_kernel

    def emulated(network: nn.Module) -> nn.Module:
        return lb.convert(network, [lb.Rule("*", lb.OpSpec.uniform(lb.INT8))])

    rows = [_row("native_int8, compiled", lambda: _compiled(convert_to_native_int8))]
    if (why := missing_kernel(torch.device("cuda"))) is None:
        rows += [
            _row("emulated, compiled", lambda: _compiled(emulated)),
            _row("emulated, graph", lambda: _graph(emulated)),
        ]
    else:
        rows.append({"what": "emulated", "raised": f"not available: {why}"})
    return {"rows": [*rows, _row("native_int8, graph", lambda: _graph(convert_to_native_int8))]}


def _row(what: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What came of it; an error of torch's or of ours is a result."""
    try:
        return {"what": what, **work()}
    except Exception as error:  # the compiler raises types of its own
        return {"what": what, "raised": f"{type(error).__name__}: {error}"[:600]}


def _network(kind: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 10))
    return kind(nn.Sequential(*layers)).cuda()


def _inputs() -> Tensor:
    return torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0)).cuda()


def _compiled(kind: Callable[[nn.Module], nn.Module]) -> dict[str, Any]:
    found: list[list[Tensor]] = []
    for wrap in (lambda network: network, torch.compile):
        network = _network(kind)
        y = wrap(network)(_inputs())
        y.square().sum().backward()
        weights = [p.grad for p in network.parameters() if p.grad is not None and p.ndim > 1]
        found.append([y.detach(), *weights])
    return {"equals_eager": all(map(torch.equal, *found))}


def _graph(kind: Callable[[nn.Module], nn.Module]) -> dict[str, Any]:
    network, x = _network(kind), _inputs()
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            expected = network(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = network(x)
        graph.replay()
    torch.cuda.synchronize()
    return {"replay_equals_eager": torch.equal(y, expected)}


TASKS = [
    Task(
        name="compile_and_graphs",
        summary="torch.compile and CUDA graphs around converted and native INT8 models.",
        seconds=120,
        work=compile_and_graphs,
    )
]
