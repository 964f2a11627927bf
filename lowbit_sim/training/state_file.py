"""A tree of tensors, numbers and strings in one safetensors file: no code runs when it is read.

The tensors are the file's; the tree around them is JSON in its metadata, where a tensor stands as its number. Beside
it stands the SHA-256 of the tree and of every tensor's bytes, so that a file that is cut off or damaged is not read
as another state.

A file is written beside its place, synchronised with the disk and then moved over, so that its place holds the old
file or the new one, whole, whenever the machine stops.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_TREE, _DIGEST, _KIND = "tree", "sha256", "kind"


class StateFileError(ValueError):
    """A file that is no state, or no longer whole."""


def write_state(path: Path, state: Any, *, kind: str) -> None:
    """Write a state, whole or not at all.

    Args:
        path: The file.
        state: Tensors, numbers, strings, None, and lists, tuples and dictionaries of these. The keys of a
            dictionary are strings or whole numbers.
        kind: What the file is, for `read_state` to tell.

    Raises:
        TypeError: Something else in the state, with its place.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_packed(state, tensors, "state"))
    metadata = {_KIND: kind, _TREE: tree, _DIGEST: _digest(tree, tensors)}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata=metadata)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's list of files on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_state(path: Path, *, kind: str) -> Any:
    """The state that `write_state` wrote, bit for bit; its tensors are on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        StateFileError: The file is cut off or damaged, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise StateFileError(f"{path} is cut off or damaged ({error})") from None
    if metadata.get(_KIND) != kind:
        raise StateFileError(f"{path} is no {kind}: it says that it is {metadata.get(_KIND, 'nothing')!r}")
    if metadata[_DIGEST] != _digest(metadata[_TREE], tensors):
        raise StateFileError(
            f"{path} is damaged: its contents do not have the checksum that they were written with"
        )
    return _unpacked(json.loads(metadata[_TREE]), tensors)


def _digest(tree: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(tree.encode())
    for key in sorted(tensors):
        digest.update(f"{key} {tensors[key].dtype} {list(tensors[key].shape)}".encode())
        digest.update(tensors[key].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _packed(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    """A value as JSON: [kind, content], but for what JSON has itself; tensors are put aside by their number."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        key = str(len(tensors))
        # A copy of its own for each: safetensors refuses tensors that share memory.
        tensors[key] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return ["tensor", key]
    if isinstance(value, dict):
        odd = [key for key in value if type(key) not in (str, int)]
        if odd:
            raise TypeError(
                f"{place} has the key {odd[0]!r}: the keys of a state are strings or whole numbers"
            )
        items = [[key, _packed(inner, tensors, f"{place}[{key!r}]")] for key, inner in value.items()]
        return ["dict", items]
    if isinstance(value, list | tuple):
        inner = [_packed(each, tensors, f"{place}[{i}]") for i, each in enumerate(value)]
        return ["tuple" if isinstance(value, tuple) else "list", inner]
    raise TypeError(
        f"{place} is a {type(value).__name__}: a state holds tensors, numbers, strings, None, lists and dictionaries"
    )


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpacked(inner, tensors) for key, inner in content}
    items = [_unpacked(each, tensors) for each in content]
    return tuple(items) if kind == "tuple" else items
