"""Random bits are a function of (seed, step, site, operand, element) and of nothing else."""

import itertools
from dataclasses import replace

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.ops import emulated
from lowbit_sim.ops.capture import capture
from lowbit_sim.ops.im2col import Window
from lowbit_sim.ops.operand import CallSite, Operands, kept, quantize_operand
from tests.ops.cases import ROLES, output_shape, reals, run_conv, run_linear

STOCHASTIC = lb.Quantizer(lb.INT4, rounding=lb.Rounding("stochastic", random_bits=8))
NEAREST = lb.Quantizer(lb.INT4)
GEMM = GemmSpec(STOCHASTIC, STOCHASTIC)
SPEC = lb.OpSpec(output=GEMM, grad_input=GEMM, grad_weight=GEMM)
AT = CallSite(seed=5, step=3, site=2)
WINDOW = Window(kernel=(3, 3), stride=(2, 1), padding=(1, 1, 1, 1), groups=2)

#: The number of each operand's stream, part of the contract: changing one changes every recorded training run.
STREAMS = {
    ("output", "lhs"): 0,
    ("output", "rhs"): 1,
    ("grad_input", "lhs"): 2,
    ("grad_input", "rhs"): 3,
    ("grad_weight", "lhs"): 4,
    ("grad_weight", "rhs"): 5,
}


def linear_results(at: CallSite, spec: lb.OpSpec = SPEC):
    return run_linear(reals(0, 20, 30), reals(1, 10, 30), reals(2, 20, 10), spec, at=at)


def conv_results(at: CallSite, spec: lb.OpSpec = SPEC):
    shape = (4, 6, 8, 8)
    g = reals(2, *output_shape(shape, 10, WINDOW))
    return run_conv(reals(0, *shape), reals(1, 10, 3, 3, 3), g, WINDOW, spec, at=at)


def equal(a, b) -> list[bool]:
    return [torch.equal(x, y) for x, y in zip(a, b, strict=True)]


OPERATORS = pytest.mark.parametrize("results", [linear_results, conv_results])


@OPERATORS
def test_the_same_address_gives_the_same_bits(results) -> None:
    assert equal(results(AT), results(AT)) == [True] * 3


@OPERATORS
@pytest.mark.parametrize("field", ["seed", "step", "site"])
def test_every_part_of_the_address_counts(results, field) -> None:
    assert equal(results(AT), results(replace(AT, **{field: 9}))) == [False] * 3


@OPERATORS
def test_the_name_of_a_layer_does_not(results) -> None:
    assert equal(results(AT), results(replace(AT, layer="renamed"))) == [True] * 3


def test_each_operand_draws_from_its_own_stream() -> None:
    x = reals(0, 40, 50)
    codes = {}
    for (role, side), number in STREAMS.items():
        codes[number] = quantize_operand(x, STOCHASTIC, role, side, AT).codes  # type: ignore[arg-type]
        expected = STOCHASTIC(x, stream=lb.Stream(seed=5, step=3, site=2, operand=number))
        assert torch.equal(codes[number], expected.codes)
    assert all(not torch.equal(codes[a], codes[b]) for a, b in itertools.combinations(codes, 2))


def test_each_gemm_of_a_layer_draws_for_itself() -> None:
    """The layer's results by the definition, each operand quantised with its own stream."""
    x, w, g = reals(0, 20, 30), reals(1, 10, 30), reals(2, 20, 10)

    def drawn(tensor: torch.Tensor, operand: int) -> lb.QTensor:
        return STOCHASTIC(tensor, stream=lb.Stream(seed=5, step=3, site=2, operand=operand))

    operands = ((drawn(x, 0), drawn(w, 1)), (drawn(g, 2), drawn(w, 3)), (drawn(g, 4), drawn(x, 5)))
    equations = ("bi,oi->bo", "bo,oi->bi", "bo,bi->oi")
    for found, (lhs, rhs), equation in zip(linear_results(AT), operands, equations, strict=True):
        sums = torch.einsum(equation, lhs.codes.long(), rhs.codes.long())
        assert torch.equal(found, sums.float() * (lhs.scale * rhs.scale))


@OPERATORS
@pytest.mark.usefixtures("torch_threads")
def test_threads_change_no_bit(results) -> None:
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(results(AT))
    assert equal(*found) == [True] * 3


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_threads_change_no_bit_of_a_tensor_of_many_blocks(overflow) -> None:
    mac = lb.MacUnit(accumulator_bits=10, overflow=overflow, chunk=16, outer_bits=12)
    spec = lb.OpSpec(**{role: replace(GEMM, mac=mac) for role in ROLES})
    x, w, g = reals(0, 300, 130), reals(1, 140, 130), reals(2, 300, 140)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(run_linear(x, w, g, spec, at=AT))
    assert equal(*found) == [True] * 3


REUSABLE = {
    "per tensor": lb.OpSpec.uniform(lb.INT8),
    "zero points": lb.OpSpec.uniform(lb.INT8, scale=lb.MinMaxScale()),
    "stochastic gradients": lb.OpSpec.uniform(
        lb.INT4, gradient_rounding=lb.Rounding("stochastic", random_bits=8)
    ),
    "stochastic everywhere": SPEC,
    "native grad_input": replace(lb.OpSpec.uniform(lb.INT8), grad_input=None),
    "native grad_weight": replace(lb.OpSpec.uniform(lb.INT8), grad_weight=None),
    "native output": replace(lb.OpSpec.uniform(lb.INT8), output=None),
    "other formats backward": replace(lb.OpSpec.uniform(lb.INT8), grad_input=GEMM, grad_weight=GEMM),
}


@OPERATORS
@pytest.mark.parametrize("spec", REUSABLE.values(), ids=REUSABLE)
def test_keeping_codes_changes_no_bit(results, spec, monkeypatch) -> None:
    found = results(AT, spec)
    monkeypatch.setattr(emulated, "kept", lambda *_: None)
    assert equal(found, results(AT, spec)) == [True] * 3


def test_what_is_kept() -> None:
    q = Operands((NEAREST(reals(0, 3, 4)),))
    nearest, mixed = GemmSpec(NEAREST, NEAREST), GemmSpec(STOCHASTIC, NEAREST)
    assert kept(q, nearest, "lhs", nearest) is q
    assert kept(q, nearest, "lhs", mixed) is q  # only the right operand of a backward GEMM is an old tensor
    assert kept(q, mixed, "rhs", nearest) is q
    assert kept(q, mixed, "lhs", nearest) is None
    assert kept(q, GEMM, "lhs", GEMM) is None
    assert kept(q, nearest, "lhs", GemmSpec(NEAREST, lb.Quantizer(lb.INT8))) is None
    assert kept(None, None, "lhs", nearest) is None
    assert kept(q, nearest, "lhs", None) is None


def test_running_scales_move_once_a_step_however_many_samples() -> None:
    """Every sample of a step is scaled by the same past, as one sample is."""
    running = lb.Quantizer(lb.INT4, scale=lb.EmaScale(), rounding=lb.Rounding("stochastic", random_bits=8))
    scales = {}
    for samples in (1, 3):
        spec = replace(lb.OpSpec.uniform(lb.INT8), grad_weight=GemmSpec(running, NEAREST, samples=samples))
        at = replace(AT, states={})
        with capture() as kept:
            for step in range(3):
                run_linear(reals(0, 4, 5), reals(1, 3, 5), reals(step, 4, 3) * 2**step, spec, at=at)
        scales[samples] = [g.lhs_scale[0] for g in kept.gemms if g.role == "grad_weight"]
    assert [float(s) for s in scales[3]] == [float(s) for s in scales[1] for _ in range(3)]
    assert len({float(s) for s in scales[1]}) == 3 - 1  # the first two steps use the first maximum
