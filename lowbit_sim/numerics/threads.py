"""How numba's parallel kernels share the machine with torch."""

from __future__ import annotations

import numpy as np
import torch


def prepare_numba() -> None:
    """Choose numba's OpenMP threading layer; call it before the first parallel kernel is compiled.

    The default layer may be `workqueue`, which aborts the process when two threads enter it, as autograd's
    worker threads do.
    """
    from numba.core import config

    config.THREADING_LAYER = "omp"  # pyright: ignore[reportAttributeAccessIssue]


def refuse_flushed_subnormals() -> None:
    """Refuse to compute where the processor takes subnormal numbers for zero.

    `torch.set_flush_denormal(True)` does so on the thread that calls it and on those that this one starts afterwards,
    but on no other, so that results would depend on the number of threads.

    Raises:
        RuntimeError: Subnormals are flushed on this thread.
    """
    if np.float32(2.0**-126) * np.float32(0.5) == 0:
        raise RuntimeError(
            "subnormal numbers are flushed to zero on this thread, so results would depend on the number of "
            "threads: call torch.set_flush_denormal(False)"
        )


def match_torch_threads(pieces: int) -> None:
    """Let the calling thread's next parallel kernel use as many threads as torch does.

    Args:
        pieces: How many threads the work is worth; starting one takes longer than a small kernel.

    Raises:
        RuntimeError: Subnormals are flushed on this thread, as they would be for good on threads that it starts.
    """
    import numba
    from numba.core import config

    refuse_flushed_subnormals()
    most: int = config.NUMBA_NUM_THREADS  # pyright: ignore[reportAttributeAccessIssue]
    threads = torch.get_num_threads()
    numba.set_num_threads(max(1, min(threads, most, pieces)))
    # numba's first call sets the OpenMP runtime's number of threads, which torch's may be too.
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
