"""Watch, or forbid, the way without matrices."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lowbit_sim.ops import product


@contextmanager
def by_matrices() -> Iterator[None]:
    """Every GEMM goes the general way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product, "_whole", lambda *arguments: None)
        yield


@contextmanager
def direct_roles() -> Iterator[list[str]]:
    """The roles whose GEMM was multiplied without matrices."""
    roles, original = [], product._whole

    def watched(layout, role, *arguments):
        found = original(layout, role, *arguments)
        if found is not None:
            roles.append(role)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product, "_whole", watched)
        yield roles
