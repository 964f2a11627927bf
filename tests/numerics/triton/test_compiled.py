"""What the interpreter can't show: that the compiled kernels neither flush, contract nor approximate anything."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """The reports of `compiled.py`, made where Triton compiles."""
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.numerics.triton.compiled"],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_instruction_changes_bits(kernels: dict[str, dict]) -> None:
    assert len(kernels) >= 11
    assert {name: report["inexact"] for name, report in kernels.items() if report["inexact"]} == {}


def test_the_product_with_the_reciprocal_is_an_instruction_of_its_own(kernels: dict[str, dict]) -> None:
    # 2048 elements on 128 threads: 16 products each.
    assert {name for name, report in kernels.items() if report["products"] < 16} == {
        "extremes",
        "magnitudes of blocks",
    }


def test_elements_are_read_16_bytes_at_a_time(kernels: dict[str, dict]) -> None:
    assert {name for name, report in kernels.items() if not report["reads_16_bytes"]} == set()


def test_nearest_rounding_takes_few_instructions(kernels: dict[str, dict]) -> None:
    # A tensor's 16 elements of a thread; what the documentation says of the bandwidth rests on it.
    assert kernels["int8 nearest"]["instructions"] <= 10 * 16
    assert kernels["int8 stochastic"]["instructions"] <= 26 * 16
