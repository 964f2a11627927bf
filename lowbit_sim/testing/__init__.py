"""Property tests for your own quantisers, rounding and multiply-accumulate units.

    from lowbit_sim.testing import check_quantizer

    def test_my_quantiser():
        check_quantizer(my_quantise, "int8")

The checks compare a plain callable, bit for bit, with this project's definition of the arithmetic, search for an
input where the two differ and report the smallest one found. The strategies are Hypothesis strategies for tests of
your own. `docs/testing-your-quantiser.md` is the tour. Hypothesis comes with `pip install lowbit-sim[test]`.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError(
        "lowbit_sim.testing needs Hypothesis, which is an optional dependency: pip install 'lowbit-sim[test]'"
    ) from error

from lowbit_sim.testing.contract import ContractError as ContractError
from lowbit_sim.testing.gemm_checks import check_backend as check_backend
from lowbit_sim.testing.gemm_strategies import code_matrices as code_matrices
from lowbit_sim.testing.gemm_strategies import float_mac_units as float_mac_units
from lowbit_sim.testing.gemm_strategies import gemm_shapes as gemm_shapes
from lowbit_sim.testing.gemm_strategies import mac_units as mac_units
from lowbit_sim.testing.mac_checks import check_mac as check_mac
from lowbit_sim.testing.quantizer_checks import check_quantizer as check_quantizer
from lowbit_sim.testing.rounding_checks import check_rounding as check_rounding
from lowbit_sim.testing.strategies import formats as formats
from lowbit_sim.testing.strategies import quantizers as quantizers
from lowbit_sim.testing.strategies import roundings as roundings
from lowbit_sim.testing.tensors import tensors as tensors
from lowbit_sim.testing.unbiased_check import check_unbiased as check_unbiased
