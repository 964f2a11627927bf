"""Hypothesis profiles and fixtures of the whole suite.

`dev` is the default; `ci` is chosen where the environment variable CI is set: derandomised, so that a failure
there repeats here, and with more examples. Neither has a deadline: a first call compiles a kernel.
"""

import os
from collections.abc import Iterator

import hypothesis
import pytest

hypothesis.settings.register_profile("dev", deadline=None, max_examples=50)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def _interpret_triton_without_a_gpu() -> None:
    """Let Triton's kernels run in its interpreter, on the CPU's tensors; it reads this when a kernel is defined."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")


_interpret_triton_without_a_gpu()


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Restores torch's number of threads, for tests that change it."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
