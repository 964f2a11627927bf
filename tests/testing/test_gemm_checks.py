import pytest
import torch

from lowbit_sim.arith.additions import additions
from lowbit_sim.arith.backends import reference
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.gemm import gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.numerics.catalog import FP16
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.testing import ContractError, check_backend, check_mac

SATURATE = MacUnit(accumulator_bits=16, overflow="saturate")
CHUNKED = MacUnit(accumulator_bits=16, overflow="saturate", chunk=4, outer_bits=20)


def clip(total, low=-(2**15), high=2**15 - 1):
    return max(low, min(high, total))


def sequential(a, b, fit=clip):
    total = 0
    for x, y in zip(a, b, strict=True):
        total = fit(total + x * y)
    return total


def test_right_units_pass():
    check_mac(sequential, SATURATE, max_examples=100)
    check_mac(lambda a, b: sum(x * y for x, y in zip(a, b, strict=True)), MacUnit(accumulator_bits=48))
    check_backend(lambda a, b: a.int() @ b.int(), MacUnit(), max_examples=40)
    check_backend(
        lambda a, b: a.astype("int32") @ b.astype("int32"), MacUnit(), takes="numpy", max_examples=40
    )


UNITS = [
    MacUnit(accumulator_bits=12, overflow="wrap", chunk=3, outer_bits=14),
    MacUnit(
        accumulator_bits=12,
        overflow="saturate_symmetric",
        chunk=3,
        truncated_bits=2,
        truncation="nearest_even",
    ),
    MacUnit(accumulator_bits=12, overflow="saturate", overflow_at="chunk", chunk=3),
    MacUnit(accumulator_bits=12, overflow="saturate", overflow_at="outer", chunk=3),
    MacUnit(accumulator_bits=12, overflow="saturate", order="tree"),
]


@pytest.mark.parametrize("mac", UNITS, ids=str)
def test_the_reference_passes_and_counts_for_every_kind_of_unit(mac):
    check_mac(lambda a, b: reference.dot(a, b, mac), mac, max_examples=50)
    check_backend(lambda a, b: gemm(a, b, mac, backend="reference"), mac, max_examples=20, largest=3)
    with pytest.raises(ContractError):
        check_mac(lambda a, b: sequential(a, b, lambda t: clip(t, -(2**11), 2**11 - 2)), mac)


WRONG = {
    "never overflows": (
        lambda a, b: sum(x * y for x, y in zip(a, b, strict=True)),
        SATURATE,
        "above its range|below its range",
    ),
    "clips the sum once": (
        lambda a, b: clip(sum(x * y for x, y in zip(a, b, strict=True))),
        SATURATE,
        "range",
    ),
    "clips one too early": (
        lambda a, b: sequential(a, b, lambda t: clip(t, -(2**15), 2**15 - 2)),
        SATURATE,
        "k = |no addition",
    ),
    "symmetric": (
        lambda a, b: sequential(a, b, lambda t: clip(t, -(2**15) + 1)),
        SATURATE,
        "range|no addition",
    ),
    "no chunks": (sequential, CHUNKED, r"outer chunk \d"),
    "backwards": (lambda a, b: sequential(a[::-1], b[::-1]), SATURATE, "range|no addition"),
    "drops the last": (lambda a, b: sequential(a[:-1], b[:-1]), SATURATE, "no addition overflows"),
    "raises on nothing": (lambda a, b: [a[0], sequential(a, b)][1], SATURATE, "raised IndexError"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_units_are_found(name):
    fn, mac, message = WRONG[name]
    with pytest.raises(ContractError, match=message):
        check_mac(fn, mac)


def test_a_wrong_count_of_overflows_is_found():
    check_mac(lambda a, b: reference.dot(a, b, SATURATE), SATURATE)
    with pytest.raises(ContractError, match="1 overflows"):
        check_mac(lambda a, b: (reference.dot(a, b, SATURATE)[0], 0), SATURATE)


def test_the_shortest_vectors_are_reported():
    with pytest.raises(ContractError) as caught:
        check_mac(WRONG["never overflows"][0], SATURATE)
    [line] = [line for line in str(caught.value).split("\n") if "a = " in line]
    assert len(line.split("[")[1].split(",")) <= 3


@pytest.mark.usefixtures("unshrunk")
def test_a_backend_that_swaps_chunks_or_drops_a_row_is_found():
    def swapped(a, b):
        halves = [gemm(a[:, i : i + 4], b[i : i + 4], SATURATE).int() for i in range(0, a.shape[1], 4)]
        total = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int32)
        for part in reversed(halves):
            total = (total + part).clamp(-(2**15), 2**15 - 1)
        return total

    unit = MacUnit(accumulator_bits=16, overflow="saturate", chunk=4)
    check_backend(lambda a, b: gemm(a, b, unit), unit, max_examples=20)
    with pytest.raises(ContractError, match="element|outer"):
        check_backend(swapped, unit, largest=3)
    with pytest.raises(ContractError, match="another shape"):
        check_backend(lambda a, b: gemm(a, b, unit)[1:], unit)


@pytest.mark.usefixtures("unshrunk")
def test_float_accumulators():
    single, half = FloatMacUnit(), FloatMacUnit(accumulator=FP16)

    def in_float32(a, b):
        total = torch.zeros(a.shape[0], b.shape[1])
        for k in range(a.shape[1]):
            total = (total.double() + a[:, k : k + 1].double() * b[k].double()).float()
        return total

    check_backend(in_float32, single, max_examples=25)
    with pytest.raises(ContractError, match="is not fp16"):
        check_backend(in_float32, half)
    with pytest.raises(ValueError, match="draws random bits"):
        check_backend(in_float32, FloatMacUnit(rounding=Rounding("stochastic", "infinity", 8)))


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_a_backend_that_never_overflows_is_found(bits, overflow):
    with pytest.raises(ContractError, match="its range"):
        check_backend(
            lambda a, b: a.long() @ b.long(),
            MacUnit(accumulator_bits=bits, overflow=overflow),
            max_examples=5,
        )


TILES = {
    "K of 33 and more": lambda a, b: a.shape[1] >= 33,
    "an odd K": lambda a, b: a.shape[1] == 129,
    "17 rows": lambda a, b: a.shape[0] > 16,
    "17 columns": lambda a, b: b.shape[1] > 16,
}


@pytest.mark.parametrize("name", TILES)
def test_a_backend_that_errs_at_the_edge_of_a_tile_is_found(name):
    with pytest.raises(ContractError, match="is not 32-bit"):
        check_backend(lambda a, b: a.int() @ b.int() + int(TILES[name](a, b)), MacUnit(), max_examples=5)
    single = FloatMacUnit()
    with pytest.raises(ContractError, match="is not fp32"):
        check_backend(lambda a, b: gemm(a, b, single) + 1e30 * int(TILES[name](a, b)), single, max_examples=5)


def test_large_matrices_can_be_asked_for():
    largest = [0]

    def note(a, b):
        largest[0] = max(largest[0], a.numel(), b.numel())
        return a.int() @ b.int()

    check_backend(note, MacUnit(), largest=600, max_examples=15)
    assert largest[0] > 9000
    check_backend(lambda a, b: gemm(a, b, FloatMacUnit()), FloatMacUnit(), largest=600, max_examples=10)


@pytest.mark.parametrize("takes", ["torch", "numpy"])
def test_a_backend_that_overwrites_an_operand_is_found(takes):
    def overwrites(a, b):
        result = a.astype("int32") @ b.astype("int32") if takes == "numpy" else a.int() @ b.int()
        b *= 2
        return result

    with pytest.raises(ContractError, match="overwrites overwrites argument 1"):
        check_backend(overwrites, MacUnit(), takes=takes)


def test_wrong_arguments():
    with pytest.raises(TypeError, match="mac is a MacUnit"):
        check_mac(sequential, "int16")
    with pytest.raises(TypeError, match="of an integer format"):
        check_mac(sequential, SATURATE, a_format="bf16")
    with pytest.raises(ValueError, match="takes is"):
        check_backend(sequential, SATURATE, takes="lists")


def test_narrow_formats_bring_their_own_codes():
    seen = set()

    def note(a, b):
        seen.update(a)
        assert all(-2 <= y <= 1 for y in b)
        return sequential(a, b)

    check_mac(note, SATURATE, a_format="uint4", b_format="int2_full")
    assert seen == set(range(16))
    assert additions([3], [4], SATURATE)[0] == 12
