"""A look at the networks of a split, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lowbit_sim.ghn.architecture import Architecture
from lowbit_sim.ghn.cost import trace_network
from lowbit_sim.ghn.graph_builder import build_graph
from lowbit_sim.ghn.precision import Precision
from lowbit_sim.ghn.space import held_out
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.data import Dataset, load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.config import GhnStudy
from lowbit_sim.study.ghn.tables import Table
from lowbit_sim.study.quantities import with_prefix

#: A batch of one image: batch-norms have fixed statistics in an inference.
_ONE = 1


def networks_table(study: GhnStudy, split: str, count: int, data_root: Path | None = None) -> Table:
    """The first networks of a split.

    Args:
        study: The study.
        split: A held-out split, or "train".
        count: How many; fewer, if the split has no more.
        data_root: Folder of the data sets, whose images the networks are for.

    Raises:
        StudyError: A split that the study does not have, or data that are missing.
    """
    data = load(study.data.name, data_root, limit=study.data.limit, test_limit=study.data.test_limit)
    return Table(
        title=f"networks of split {split!r}",
        headings=("number", "cells", "nodes of a cell", "channels", "nodes", "parameters", "MACs"),
        rows=tuple(
            _row(number, each, data) for number, each in enumerate(_architectures(study, split, count))
        ),
    )


def _architectures(study: GhnStudy, split: str, count: int) -> Sequence[Architecture]:
    training, splits = study.space.training(), study.evaluation.splits
    if split == "train":
        return [training[number] for number in range(min(count, len(training)))]
    if split not in splits:
        raise StudyError(unknown("split", split, ["train", *splits]))
    wanted = min(count, splits[split].networks)
    return held_out(splits[split].on(study.space), split, wanted, training)


def _row(number: int, architecture: Architecture, data: Dataset) -> tuple[str, ...]:
    graph = build_graph(architecture, data.in_channels, data.classes)
    image = (_ONE, data.in_channels, data.image_size, data.image_size)
    macs = trace_network(graph, Precision(), images=image).macs
    cells = (architecture.normal, architecture.reduction)
    return (
        str(number),
        str(architecture.layers),
        " and ".join(str(len(cell.nodes)) for cell in cells),
        f"{architecture.channels} x {architecture.channel_multiplier}",
        str(len(graph)),
        with_prefix(graph.parameters, smallest=0),
        with_prefix(macs, smallest=0),
    )
