"""A study of graph hypernetworks that runs in a second or two."""

from pathlib import Path
from typing import Any

from lowbit_sim.study.ghn.config import GhnStudy
from lowbit_sim.study.ghn.load import parse_ghn_study


def table(**changed: Any) -> dict[str, Any]:
    """The study as a TOML file holds it; keys of `changed` take the place of its own."""
    return {
        "title": "tiny ghn",
        "seeds": [0],
        "data": {"name": "digits", "limit": 96, "test_limit": 32},
        "space": {
            "networks": 6,
            "layers": [1, 1],
            "nodes": [1, 1],
            "channels": [4],
            "channel_multipliers": [1],
            "stem_kernels": [3],
            "operators": ["conv_1x1", "conv_3x3", "sep_conv_3x3", "max_pool_3x3", "skip"],
        },
        "hypernetwork": {"hidden": 8, "inner": [4, 8], "channels": 4, "kernel": 3},
        "training": {"epochs": 2, "steps_per_epoch": 1, "meta_batch": 2, "batch_size": 8},
        "evaluation": {
            "precisions": ["W32A32", "W4A4"],
            "calibration_batches": 1,
            "splits": {"test": {"networks": 2}, "deep": {"networks": 1, "layers": [2, 2]}},
        },
        "fine_tuning": {
            "split": "test",
            "networks": 1,
            "precision": "W4A4",
            "epochs": 1,
            "learning_rates": [0.05],
        },
        "arms": [
            {"name": "float", "fine_tune": False},
            {"name": "noise", "strategy": "noisequant", "precision": "W4A4"},
        ],
        **changed,
    }


def study(**changed: Any) -> GhnStudy:
    return parse_ghn_study(table(**changed), "tiny.toml", Path())
