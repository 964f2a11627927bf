"""Tell a converted model that each process runs a slice of the batch; see `ops.shard` for what this changes."""

from __future__ import annotations

from torch import nn

from lowbit_sim.nn.elementwise import attachments
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.ops.shard import Shard


def set_shard(model: nn.Module, shard: Shard | None) -> None:
    """From now on every emulated layer and rounded module of a model runs this process' slice of the batch.

    Every tensor that they read is to lead with the batch. All processes must run the model in step, evaluations too;
    `set_shard(model, None)` ends it. A model may be passed with its DistributedDataParallel wrapper.

    Args:
        model: A converted model.
        shard: The slice, `Shard.of(group)`; None for the whole batch.

    Raises:
        ValueError: A model of which nothing is emulated, or an emulated recurrent layer.
    """
    runners = [m for m in model.modules() if isinstance(m, EmulatedLayer)]
    roundings = [rounding for _, rounding in attachments(model)]
    if not runners and not roundings:
        raise ValueError("nothing of the model is emulated: convert it before you shard its batch")
    if shard is not None:
        _refuse_sequences(model)
    for runner in (*runners, *roundings):
        runner.shard = shard


def _refuse_sequences(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module, EmulatedLayer) and isinstance(module, nn.RNNBase):
            raise ValueError(
                f"layer {path!r}, an emulated {type(module).__name__}, runs over rows in the order of steps and then "
                "samples, so a slice of the batch is no slice of its rows: keep it native, or use its cells"
            )
