"""In which format each tensor of a traced step is stored, and which event wrote it.

The emulator computes with float32 tensors throughout. A tensor whose values a quantiser has just rounded to a format
is stored in that format's bits by a machine, and read in as many; whoever rounds it says so here. All other tensors
are stored at the width of their dtype: nothing is inferred from values.

What is known of a tensor is known of its storage, and so of every view of it, up to the next write in place, which
torch counts. It ends with the storage and with the step (`following`); outside of a step nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.trace import VectorEvent, amend


@dataclass
class Written:
    """An event that wrote tensors, as it stands after what was said of them later.

    Attributes:
        event: The event.
        read_unrounded: Whether the backward pass reads its result as it was before any rounding.
    """

    event: VectorEvent
    read_unrounded: bool = False


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What is known of a storage in one state of its values; the reference keeps its address from being reused."""

    storage: StorageWeakRef
    version: int
    dtype: torch.dtype
    quantizer: Quantizer | None = None
    written: Written | None = None


_steps: list[dict[int, _Known]] = []


@contextmanager
def following() -> Iterator[None]:
    """Follow the tensors of a step."""
    _steps.append({})
    try:
        yield
    finally:
        _steps.pop()


def wrote(written: Written, tensor: Tensor) -> None:
    """Tell that an event wrote a tensor, at the width of its dtype."""
    _note(tensor, written=written)


def stored_in(tensor: Tensor, quantizer: Quantizer) -> None:
    """Tell that a tensor's values are those that a quantiser gave."""
    _note(tensor, quantizer=quantizer)


def format_of(tensor: Tensor) -> Quantizer | None:
    """The quantiser whose values a tensor holds, or None where there is none or it is not known."""
    known = _known(tensor)
    return known and known.quantizer


def written_by(tensor: Tensor) -> Written | None:
    """The event that wrote a tensor as it is now, if that is known."""
    known = _known(tensor)
    return known and known.written


def element_bits(tensor: Tensor) -> int:
    """Bits that an element takes in memory; a scale for a whole tensor or axis is not counted."""
    quantizer = format_of(tensor)
    own = 8 * tensor.element_size()
    return own if quantizer is None or quantizer.block else min(own, quantizer.element_format.bits)


def memory_bytes(tensor: Tensor) -> int:
    """Bytes that a tensor takes in memory, each of its elements once."""
    return math.ceil(tensor.numel() * element_bits(tensor) / 8)


def narrow(
    written: Written,
    tensor: Tensor,
    quantizer: Quantizer,
    clipped: int | None = None,
    underflowed: int | None = None,
) -> None:
    """Change the event that wrote a tensor into one that writes it in a format: its unit rounds on the way out.

    What the event keeps of its result is kept in that format too, and it draws the rounding's random bits.

    Args:
        written: The event.
        tensor: What it wrote, at the width of its dtype.
        quantizer: What rounds it, without a scale that must be found first.
        clipped: How many elements lay beyond the format's ends; None where nobody counted.
        underflowed: How many that were not zero became zero.
    """
    event = written.event
    less = memory_bytes(tensor) - math.ceil(tensor.numel() * quantizer.element_format.bits / 8)
    kept = event.kept_bytes - less if event.keeps == "result" and event.kept_bytes else event.kept_bytes
    drawn = tensor.numel() * quantizer.rounding.random_bits if quantizer.rounding.is_stochastic else 0
    written.event = replace(
        event,
        write_bytes=event.write_bytes - less,
        kept_bytes=kept,
        random_bits=event.random_bits + drawn,
        clipped=clipped,
        underflowed=underflowed,
    )
    amend(event, written.event)


def _note(tensor: Tensor, quantizer: Quantizer | None = None, written: Written | None = None) -> None:
    if _steps:
        storage = tensor.untyped_storage()
        _steps[-1][storage._cdata] = _Known(
            storage=StorageWeakRef(storage),
            version=tensor._version,
            dtype=tensor.dtype,
            quantizer=quantizer,
            written=written,
        )


def _known(tensor: Tensor) -> _Known | None:
    if not _steps:
        return None
    known = _steps[-1].get(tensor.untyped_storage()._cdata)
    same = known is not None and (known.version, known.dtype) == (tensor._version, tensor.dtype)
    return known if same else None
