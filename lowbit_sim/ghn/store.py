"""A trained hypernetwork in a file: its sizes and its weights, in safetensors, without code that runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from lowbit_sim.ghn.hypernetwork import GraphHypernetwork, HypernetworkSizes
from lowbit_sim.training.state_file import read_state, write_state

_KIND = "lowbit-sim graph hypernetwork 1"


def save_hypernetwork(path: Path, hypernetwork: GraphHypernetwork) -> None:
    """Write a hypernetwork, whole or not at all."""
    state = {
        "sizes": asdict(hypernetwork.sizes),
        "classes": hypernetwork.classes,
        "weights": dict(hypernetwork.state_dict()),
    }
    write_state(path, state, kind=_KIND)


def load_hypernetwork(path: Path) -> GraphHypernetwork:
    """The hypernetwork of a file, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        StateFileError: It is cut off or damaged, or of another kind.
    """
    state = read_state(path, kind=_KIND)
    found = GraphHypernetwork(HypernetworkSizes(**state["sizes"]), state["classes"])
    found.load_state_dict(state["weights"])
    return found
