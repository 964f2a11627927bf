"""The vectors against a checker that knows nothing of this project: Python's integers and `struct` alone."""

import json
import struct
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import lowbit_sim as lb
from lowbit_sim.cli import app
from lowbit_sim.study import vectors as golden
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.vector_schema import LayerVectors

STOCHASTIC = lb.Rounding("stochastic", random_bits=8)


# -- the checker: bits in, bits out --------------------------------------------------------------------------


def signed(text: str, bits: int) -> int:
    value = int(text, 16)
    return value - (1 << bits) if value >> (bits - 1) else value


def real(text: str) -> float:
    return struct.unpack(">f", bytes.fromhex(text))[0]


def float32(x: float) -> float:
    return struct.unpack("<f", struct.pack("<f", x))[0]


def fit(total: int, bits: int, rule: str) -> int:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if rule == "wrap":
        return (total - low) % (1 << bits) + low
    return max(low, min(high, total))


def accumulate(a: list[int], b: list[int], mac: dict) -> tuple[int, list[tuple[str, int, int, bool]]]:
    """One result, and the value and overflow of each addition."""
    chunk = mac["chunk"] or max(len(a), 1)
    outer, log = 0, []
    for number, start in enumerate(range(0, len(a), chunk)):
        inner = 0
        for k in range(start, min(start + chunk, len(a))):
            total = inner + a[k] * b[k]
            inner = fit(total, mac["accumulator_bits"], mac["overflow"])
            log.append(("inner", number, inner, inner != total))
        total = outer + inner
        outer = fit(total, mac["outer_bits"], mac["overflow"])
        log.append(("outer", number, outer, outer != total))
    return outer, log


def code(x: float, scale: float, low: int, high: int, mode: str, random: int, random_bits: int) -> int:
    y = Fraction(float32(x * float32(1 / scale)))
    floor = y.numerator // y.denominator
    if mode == "stochastic":
        rounded = floor + (int((y - floor) * 2**random_bits) + random >= 2**random_bits)
    else:
        rounded = round(y)
    return max(low, min(high, rounded))


def check_operand(operand: dict, tensors: dict) -> None:
    tensor = tensors[operand["tensor"]]["float32"]
    [scale], (low, high) = operand["scale"], operand["code_range"]
    rounding, bits = operand["rounding"], operand["code_bits"]
    words = operand["random"]["words"] if operand["random"] else ["0"] * len(tensor)
    for x, word, expected in zip(tensor, words, operand["codes"], strict=True):
        found = code(
            real(x), real(scale), low, high, rounding["mode"], int(word, 16), rounding["random_bits"]
        )
        assert found == signed(expected, bits)


def check_gemm(gemm: dict, tensors: dict) -> None:
    check_operand(gemm["lhs"], tensors)
    check_operand(gemm["rhs"], tensors)
    mac, (rows, columns, reduction) = gemm["mac"], (gemm["M"], gemm["N"], gemm["K"])
    overflows, logs = 0, {}
    for group in range(gemm["groups"]):
        a, b = (
            [signed(h, gemm[side]["multiplicand_bits"]) for h in gemm[side]["matrices"][group]]
            for side in ("lhs", "rhs")
        )
        [scale] = gemm["scale"][group]
        for i in range(rows):
            for j in range(columns):
                total, log = accumulate(a[i * reduction : (i + 1) * reduction], b[j::columns], mac)
                assert total == signed(gemm["sums"][group][i * columns + j], gemm["sum_bits"])
                assert float32(float32(total) * real(scale)) == real(gemm["results"][group][i * columns + j])
                overflows += sum(step[3] for step in log)
                logs[group, i, j] = log
    assert overflows == gemm["overflows"]
    for dot in gemm["traced"]:
        log = logs[dot["group"], dot["row"], dot["column"]]
        widths = {"inner": mac["accumulator_bits"], "outer": mac["outer_bits"]}
        shown = [
            (s["accumulator"], s["chunk"], signed(s["value"], widths[s["accumulator"]]), s["overflow"])
            for s in dot["additions"]
        ]
        assert shown == log


# -- the tests -----------------------------------------------------------------------------------------------


SPECS = {
    "int8": lb.OpSpec.uniform(lb.INT8),
    "int8 stochastic, 14 bits saturating": lb.OpSpec.uniform(
        lb.INT8,
        mac=lb.MacUnit(accumulator_bits=14, overflow="saturate"),
        gradient_rounding=STOCHASTIC,
    ),
    "int8, chunks of 2, wrapping": lb.OpSpec.uniform(
        lb.INT8, mac=lb.MacUnit(accumulator_bits=13, chunk=2, outer_bits=15), gradient_rounding=STOCHASTIC
    ),
}
SAMPLES = {
    "linear": golden.linear_sample((3, 4, 5), seed=1),
    "conv2d": golden.conv_sample((1, 2, 3, 3, 2, 3), seed=1),
}


def written(sample, spec, **options) -> dict:
    """What a reader of the file sees."""
    return json.loads(golden.layer_vectors(sample, spec, **options).model_dump_json())


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("kind", SAMPLES)
def test_an_independent_checker_finds_every_code_accumulator_and_result(kind, spec):
    file = written(SAMPLES[kind], SPECS[spec], seed=3, traced=1000)
    assert [g["role"] for g in file["gemms"]] == ["output", "grad_input", "grad_weight"]
    for gemm in file["gemms"]:
        assert len(gemm["traced"]) == gemm["groups"] * gemm["M"] * gemm["N"]
        check_gemm(gemm, file)
    if "bits" in spec or "wrapping" in spec:
        assert sum(g["overflows"] for g in file["gemms"]) > 0


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_checker_can_fail(kind):
    file = written(SAMPLES[kind], SPECS["int8 stochastic, 14 bits saturating"], seed=3)
    gemm = file["gemms"][0]
    gemm["mac"]["accumulator_bits"] = 32
    with pytest.raises(AssertionError):
        check_gemm(gemm, file)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("kind", SAMPLES)
def test_the_fast_path_and_the_layer_give_the_same_bits(kind, spec):
    sample = SAMPLES[kind]
    vectors = golden.layer_vectors(sample, SPECS[spec], seed=3)
    for gemm, part in zip(vectors.gemms, ("output", "grad_input", "grad_weight"), strict=True):
        numerics = getattr(SPECS[spec], part)
        a, b = (
            torch.tensor([signed(h, side.multiplicand_bits) for h in side.matrices[0]]).reshape(shape)
            for side, shape in ((gemm.lhs, (gemm.M, gemm.K)), (gemm.rhs, (gemm.K, gemm.N)))
        )
        sums = lb.gemm(a, b, numerics.mac)
        assert sums.flatten().tolist() == [signed(h, gemm.sum_bits) for h in gemm.sums[0]]
    model = lb.convert(torch.nn.Sequential(sample.layer), [lb.Rule("*", SPECS[spec])], seed=3)
    x = sample.x.clone().requires_grad_()
    y = model(x)
    y.backward(sample.grad_output)
    assert golden._bits(y) == vectors.output.float32
    assert golden._bits(x.grad) == vectors.grad_input.float32
    assert golden._bits(model.get_parameter("0.weight").grad) == vectors.grad_weight.float32
    model.zero_grad()


def test_results_of_a_convolution_are_the_tensors_elements():
    """The gradient of the weight [O, C, R, S] is a matrix [O, R S C]."""
    file = written(SAMPLES["conv2d"], SPECS["int8"])
    gemm = file["gemms"][2]
    tensor = torch.tensor([real(h) for h in file["grad_weight"]["float32"]]).reshape(2, 2, 3, 3)
    matrix = torch.tensor([real(h) for h in gemm["results"][0]]).reshape(2, 3, 3, 2)
    assert torch.equal(tensor, matrix.permute(0, 3, 1, 2))


def test_scales_of_each_channel_are_given_for_each_result():
    value = lb.Quantizer(lb.INT8)
    gemm = lb.GemmSpec(value, lb.Quantizer(lb.INT8, granularity=lb.PerAxis(0)))
    plain = lb.GemmSpec(value, value)
    file = written(SAMPLES["conv2d"], lb.OpSpec(output=gemm, grad_input=plain, grad_weight=plain))
    first = file["gemms"][0]
    assert len(first["scale"][0]) == first["M"] * first["N"]
    for total, scale, result in zip(first["sums"][0], first["scale"][0], first["results"][0], strict=True):
        assert float32(float32(signed(total, 32)) * real(scale)) == real(result)


def test_traces_of_chunks_keep_each_chunks_end():
    spec = SPECS["int8, chunks of 2, wrapping"]
    full, chunks, none = (
        written(SAMPLES["linear"], spec, trace=trace)["gemms"][0]["traced"]
        for trace in ("additions", "chunks", "none")
    )
    assert none == []
    for every, ends in zip(full, chunks, strict=True):
        assert [s["accumulator"] for s in ends["additions"]] == ["inner", "outer"] * 3
        outer = [s for s in every["additions"] if s["accumulator"] == "outer"]
        assert [s for s in ends["additions"] if s["accumulator"] == "outer"] == outer
        for end in ends["additions"][::2]:
            inner = [
                s for s in every["additions"] if s["accumulator"] == "inner" and s["chunk"] == end["chunk"]
            ]
            assert end["value"] == inner[-1]["value"]
            assert end["overflow"] == any(s["overflow"] for s in inner)


def test_the_shipped_schema_is_that_of_the_models():
    path = Path(golden.__file__).parent / "vectors.schema.json"
    assert path.read_text(encoding="utf-8") == golden.json_schema()
    shown = CliRunner().invoke(app, ["vectors", "--schema"])
    assert json.loads(shown.output) == LayerVectors.model_json_schema()


def test_the_command_writes_a_file_that_its_schema_accepts(tmp_path):
    arguments = ["vectors", "--format", "int4", "--random-bits", "4", "--chunk", "2", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [*arguments, "--layer", "conv2d"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "3 GEMMs" in result.output
    text = (tmp_path / "conv2d.json").read_text(encoding="utf-8")
    vectors = LayerVectors.model_validate_json(text)
    assert vectors.gemms[1].lhs.rounding.random_bits == 4
    assert vectors.gemms[0].mac.chunk == 2
    assert json.loads((tmp_path / "vectors.schema.json").read_text())["title"] == "LayerVectors"
    for gemm in json.loads(text)["gemms"]:
        check_gemm(gemm, json.loads(text))


def test_a_layer_of_a_model_has_the_tensors_of_its_first_step(tmp_path):
    arguments = ["vectors", "--profile", "tpu_v1", "--model", "mlp", "--layer", "5", "--trace", "none"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    vectors = LayerVectors.model_validate_json((tmp_path / "5.json").read_text(encoding="utf-8"))
    assert (vectors.gemms[0].M, vectors.gemms[0].N, vectors.gemms[0].K) == (1, 10, 128)
    # The gradient of a cross entropy over classes sums to zero; ReLU came before.
    assert abs(sum(map(real, vectors.grad_output.float32))) < 1e-6
    assert min(map(real, vectors.input.float32)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: golden.random_sample("linear", "2,3", 0), "takes M,N,K"),
        (lambda: golden.random_sample("conv2d", "1,1,3,3,2,2", 0), "kernel's size R is odd"),
        (lambda: golden.random_sample("linear", "2,x,3", 0), "whole numbers with commas"),
        (lambda: golden.spec_of_options({"format": "int8", "profile": "tpu_v1"}), "exactly one of"),
        (lambda: golden.spec_of_options({"format": "int8", "accumulator_bits": 4}), "accumulator_bits: "),
        (
            lambda: golden.model_sample("mlp", "9", SPECS["int8"], data="digits", batch=1, seed=0),
            "mlp has no linear or convolution layer '9'; it has 1, 3, 5",
        ),
        (
            lambda: golden.layer_vectors(
                SAMPLES["linear"], lb.OpSpec(output=None, grad_input=None, grad_weight=None)
            ),
            "output runs in native float32",
        ),
        (
            lambda: golden.layer_vectors(SAMPLES["linear"], lb.OpSpec.uniform(lb.BF16)),
            "vectors are of integer",
        ),
        (
            lambda: golden.layer_vectors(SAMPLES["linear"], lb.OpSpec.uniform(lb.parse_format("mxint8"))),
            "block scales",
        ),
    ],
)
def test_what_can_not_be_is_said(call, message):
    with pytest.raises(StudyError, match=message):
        call()
