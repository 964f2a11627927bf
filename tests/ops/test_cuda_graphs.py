from types import SimpleNamespace

import pytest
import torch

from lowbit_sim.ops.emulated import refuse_graph
from lowbit_sim.ops.operand import CallSite


@pytest.mark.parametrize(("is_cuda", "capturing"), [(False, True), (True, False)])
def test_without_a_capture_nothing_is_refused(is_cuda, capturing, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    refuse_graph(SimpleNamespace(is_cuda=is_cuda), CallSite(layer="features.0"))  # type: ignore[arg-type]


def test_a_capture_is_refused_by_the_layers_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(
        RuntimeError, match=r"layer 'features.0' is emulated and can't be recorded into a CUDA"
    ):
        refuse_graph(SimpleNamespace(is_cuda=True), CallSite(layer="features.0"))  # type: ignore[arg-type]
