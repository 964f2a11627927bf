"""What the tests of the checks share."""

import pytest
from hypothesis import Phase

from lowbit_sim.testing import contract


@pytest.fixture
def unshrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure as it is found: for tests that it is found at all, as making it smaller takes most of the time."""
    monkeypatch.setattr(contract, "PHASES", (Phase.generate,))
