"""The data sets that a study can name.

`DATASETS` is the list: a name and a function from (folder or None, limits) to a `Dataset`. A new set is one
reader and one line.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.data.cifar import load_cifar10
from lowbit_sim.study.data.dataset import DataError, Dataset, data_root
from lowbit_sim.study.data.digits import load_digits
from lowbit_sim.study.data.idx import EMNIST_BALANCED, FASHION_MNIST, MNIST, load_idx
from lowbit_sim.study.data.side_by_side import load_side_by_side

__all__ = ["DATASETS", "DataError", "Dataset", "load"]

#: Sets that come with a library, and sets that are read from files under a root.
EMBEDDED: dict[str, Callable[..., Dataset]] = {"digits": load_digits}
FROM_FILES: dict[str, Callable[..., Dataset]] = {
    "mnist": partial(load_idx, MNIST),
    "mnist_pairs": partial(load_side_by_side, 2),
    "mnist_triples": partial(load_side_by_side, 3),
    "fashion_mnist": partial(load_idx, FASHION_MNIST),
    "emnist_balanced": partial(load_idx, EMNIST_BALANCED),
    "cifar10": load_cifar10,
}
DATASETS = (*EMBEDDED, *FROM_FILES)


def load(
    name: str, root: Path | None = None, *, limit: int | None = None, test_limit: int | None = None
) -> Dataset:
    """Load a data set.

    Args:
        name: One of `DATASETS`.
        root: The folder that holds the files; by default the environment's LOWBIT_DATA.
        limit: Keep the first `limit` training images, or None for all.
        test_limit: The same for the test images.

    Raises:
        DataError: An unknown name, or files that are missing or damaged.
    """
    if name in EMBEDDED:
        return EMBEDDED[name](limit=limit, test_limit=test_limit)
    if name not in FROM_FILES:
        raise DataError(unknown("data set", name, DATASETS))
    return FROM_FILES[name](data_root(root, name), limit=limit, test_limit=test_limit)
