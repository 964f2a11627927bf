"""Recorded training steps: every GEMM's operands, sums and results, in memory or in one safetensors file.

A tensor's key is `step/gemm/field/group`; what is not a tensor (layer, role, numerics) is JSON in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lowbit_sim.ops.capture import CapturedGemm
from lowbit_sim.study.errors import StudyError

_FIELDS = ("lhs", "rhs", "lhs_scale", "rhs_scale", "sums")
_WORDS = ("layer", "role", "sample", "numerics", "lhs_format", "rhs_format", "lhs_block", "rhs_block")
_FORMAT = "lowbit-sim recording 1"


@dataclass(frozen=True, kw_only=True)
class RecordedGemm:
    """`ops.capture.CapturedGemm` with its numerics in words, as a file can hold it.

    Attributes:
        layer, role, sample, lhs, rhs, lhs_scale, rhs_scale, sums, result: As there.
        numerics: The whole of the GEMM's numerics; "native" for float32.
        lhs_format, rhs_format: Names of the operands' formats.
        lhs_block, rhs_block: Elements along the reduction that share a scale; 0 for no blocks.
    """

    layer: str
    role: str
    sample: int
    numerics: str
    lhs_format: str
    rhs_format: str
    lhs_block: int
    rhs_block: int
    lhs: tuple[Tensor, ...]
    rhs: tuple[Tensor, ...]
    lhs_scale: tuple[Tensor, ...]
    rhs_scale: tuple[Tensor, ...]
    sums: tuple[Tensor, ...]
    result: Tensor

    @property
    def is_native(self) -> bool:
        """Whether it ran in float32."""
        return self.numerics == "native"


def recorded(gemm: CapturedGemm) -> RecordedGemm:
    """A captured GEMM with its numerics in words."""
    spec = gemm.spec
    return RecordedGemm(
        layer=gemm.layer,
        role=gemm.role,
        sample=gemm.sample,
        numerics="native" if spec is None else repr(spec),
        lhs_format="fp32" if spec is None else str(spec.lhs.format),
        rhs_format="fp32" if spec is None else str(spec.rhs.format),
        lhs_block=0 if spec is None else spec.lhs.block,
        rhs_block=0 if spec is None else spec.rhs.block,
        lhs=gemm.lhs,
        rhs=gemm.rhs,
        lhs_scale=gemm.lhs_scale,
        rhs_scale=gemm.rhs_scale,
        sums=gemm.sums,
        result=gemm.result,
    )


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Training steps of one run.

    Attributes:
        title: What ran, in words.
        setup: How it ran: the fields of `diverge.Setup` that had an effect, by name.
        steps: For each step its GEMMs, in the order in which they ran.
    """

    title: str
    setup: dict[str, Any]
    steps: tuple[tuple[RecordedGemm, ...], ...]


def save_recording(path: Path, recording: Recording) -> None:
    """Write a recording.

    Raises:
        StudyError: A file that can't be written.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for i, step in enumerate(recording.steps):
        for j, gemm in enumerate(step):
            tensors.update(_tensors(f"{i}/{j}", gemm))
    steps = [[_words(gemm) for gemm in step] for step in recording.steps]
    metadata = {
        "format": _FORMAT,
        "title": recording.title,
        "setup": json.dumps(recording.setup),
        "steps": json.dumps(steps),
    }
    try:
        save_file(tensors, path, metadata=metadata)
    except OSError as error:
        raise StudyError(f"can't write the recording {path}: {error}") from None


def _tensors(prefix: str, gemm: RecordedGemm) -> Iterator[tuple[str, Tensor]]:
    # Cloned: no two tensors of a file may share memory, but codes that a backward GEMM reads again do.
    yield f"{prefix}/result", gemm.result.contiguous().clone()
    for name in _FIELDS:
        for group, tensor in enumerate(getattr(gemm, name)):
            yield f"{prefix}/{name}/{group}", tensor.contiguous().clone()


def _words(gemm: RecordedGemm) -> dict[str, Any]:
    counts = {name: len(getattr(gemm, name)) for name in _FIELDS}
    return {name: getattr(gemm, name) for name in _WORDS} | {"counts": counts}


def load_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        StudyError: A file that can't be read or is not a recording.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise StudyError(f"{path} is not a recording: it has no {_FORMAT!r} in its metadata")
            steps = [
                tuple(_read(file, f"{i}/{j}", words) for j, words in enumerate(step))
                for i, step in enumerate(json.loads(metadata["steps"]))
            ]
            setup = json.loads(metadata["setup"])
            return Recording(title=metadata["title"], setup=setup, steps=tuple(steps))
    except FileNotFoundError:
        raise StudyError(f"can't read the recording {path}: there is no such file") from None
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise StudyError(f"can't read the recording {path}: {error}") from None


def _read(file: Any, prefix: str, words: dict[str, Any]) -> RecordedGemm:
    counts = words.pop("counts")
    tensors: dict[str, Any] = {
        name: tuple(file.get_tensor(f"{prefix}/{name}/{group}") for group in range(counts[name]))
        for name in _FIELDS
    }
    return RecordedGemm(**words, **tensors, result=file.get_tensor(f"{prefix}/result"))
