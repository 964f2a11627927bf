"""How the compiled kernels share the machine."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch

from lowbit_sim.numerics import catalog, kernels
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.numerics.threads import match_torch_threads
from tests.numerics.cases import kernel_codes


@pytest.mark.usefixtures("torch_threads")
def test_kernels_use_as_many_threads_as_torch() -> None:
    for threads in (1, 2):
        torch.set_num_threads(threads)
        match_torch_threads(pieces=8)
        assert numba.get_num_threads() == min(threads, numba.config.NUMBA_NUM_THREADS)  # pyright: ignore
        match_torch_threads(pieces=0)
        assert numba.get_num_threads() == 1


def test_the_first_kernel_leaves_torchs_threads_alone() -> None:
    """In a new process, where numba has not started its threads."""
    code = (
        "import torch; torch.set_num_threads(1); import lowbit_sim as lb\n"
        "lb.Quantizer(lb.INT8)(torch.ones(3)); print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.usefixtures("torch_threads")
def test_more_torch_threads_than_numba_has() -> None:
    torch.set_num_threads(numba.config.NUMBA_NUM_THREADS + 1)  # pyright: ignore
    match_torch_threads(pieces=1 << 20)
    assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS  # pyright: ignore


def test_several_threads_may_quantise_at_once() -> None:
    # numba's default layer aborts the process here; autograd's workers do just this.
    x = np.linspace(-200, 200, 3 * kernels.ROW_ELEMENTS, dtype=np.float32)
    alone = kernel_codes(x, catalog.INT8, Rounding())
    assert numba.threading_layer() == "omp"  # pyright: ignore
    with ThreadPoolExecutor(4) as pool:
        for codes in pool.map(lambda _: kernel_codes(x, catalog.INT8, Rounding()), range(16)):
            np.testing.assert_array_equal(codes, alone)


def test_flushed_subnormals_are_refused():
    """Only the calling thread flushes, so results would depend on the number of threads."""
    import lowbit_sim as lb

    x = torch.full((4,), 2.0**-140)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormals")
    try:
        with pytest.raises(RuntimeError, match=r"call torch.set_flush_denormal\(False\)"):
            lb.Quantizer(lb.INT8)(x)
        with pytest.raises(RuntimeError, match="subnormal numbers are flushed"):
            lb.run_float_gemm(x[None], x[:, None], lb.FloatMacUnit())
    finally:
        torch.set_flush_denormal(False)
    assert lb.Quantizer(lb.FP32, scale=lb.FixedScale(1.0))(x).dequantize().tolist() == x.tolist()


def test_threads_are_not_started_flushing():
    """In a new process: a thread keeps for good whether it flushes, and takes that from the one that starts it."""
    code = """
import torch
torch.set_num_threads(2)
import lowbit_sim as lb
x = torch.randn(1 << 20)
if not torch.set_flush_denormal(True):
    raise SystemExit("not supported")
for quantizer in (lb.Quantizer(lb.INT8), lb.Quantizer(lb.BF16, scale=lb.FixedScale(1.0))):
    try:
        quantizer(x)
    except RuntimeError as error:
        assert "call torch.set_flush_denormal(False)" in str(error)
    else:
        raise AssertionError("not refused")
torch.set_flush_denormal(False)
codes = lb.Quantizer(lb.BF16, scale=lb.FixedScale(1.0))(torch.full((1 << 20,), 3e-39)).codes
print("zeros:", int((codes == 0).sum()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "not supported" in done.stderr:
        pytest.skip("this processor does not flush subnormals")
    assert done.stdout.strip() == "zeros: 0", done.stderr
