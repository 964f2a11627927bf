import math

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.vectors.digits import float32s
from lowbit_sim.study.vectors.layer import layer_vectors
from lowbit_sim.study.vectors.sample import linear_sample
from tests.study.vectors.cases import BLOCKS, FLOAT_UNITS, INTEGER_UNITS, SAMPLES, SPECS, mixed, written
from tests.study.vectors.checker import check_gemm
from tests.study.vectors.numbers import float32, real, signed

LAYERS = [("linear", name) for name in SPECS] + [
    ("conv2d", name)
    for name in (
        "chunks of 2, wrapping",
        "two samples",
        "fp8 into fp16",
        "stochastic",
        "zero points, float",
        "nvfp4",
    )
]


@pytest.mark.parametrize(("kind", "spec"), LAYERS)
def test_an_independent_checker_finds_every_code_accumulator_and_result(kind, spec):
    file = written(SAMPLES[kind], SPECS[spec], seed=3, traced=1000)
    assert list(dict.fromkeys(g["role"] for g in file["gemms"])) == ["output", "grad_input", "grad_weight"]
    for gemm in file["gemms"]:
        assert len(gemm["traced"]) == gemm["groups"] * gemm["M"] * gemm["N"]
        # Numbers, or there would be little to compare.
        assert all(math.isfinite(real(text)) for group in gemm["results"] for text in group)
    check_all(file)


def check_all(file: dict) -> None:
    for gemm in file["gemms"]:
        check_gemm(gemm, file)


#: In these some accumulator overflows, so that the rule for it is part of what is checked.
OVERFLOWING = [
    "14 bits saturating",
    "chunks of 2, wrapping",
    "tree, truncated",
    "overflow at the chunk's end",
    "overflow of the outer one",
    "mxint8",
]


@pytest.mark.parametrize("spec", OVERFLOWING)
def test_accumulators_overflow(spec):
    assert sum(g["overflows"] for g in written(SAMPLES["linear"], SPECS[spec], seed=3)["gemms"]) > 0


def damaged(text: str) -> str:
    """The same digits but the last; of a float32, another exponent."""
    if len(text) == 8:
        return f"{int(text, 16) ^ 1 << 23:08x}"
    return text[:-1] + f"{int(text[-1], 16) ^ 1:x}"


def change(record: dict, key: str) -> None:
    """Change the first number of a list (of lists), or a number."""
    if isinstance(record[key], list):
        change_list = record[key]
        while isinstance(change_list[0], list):
            change_list = change_list[0]
        change_list[0] = damaged(change_list[0])
    elif isinstance(record[key], bool):
        record[key] = not record[key]
    else:
        record[key] = damaged(record[key]) if isinstance(record[key], str) else record[key] + 1


DAMAGES = {
    "a code": ("stochastic", lambda g: (g["lhs"]["quantized"][0], "codes")),
    "a scale": ("stochastic", lambda g: (g["lhs"]["quantized"][0], "scale")),
    "a multiplicand": ("int8", lambda g: (g["rhs"], "matrices")),
    "a random word": ("stochastic", lambda g: (g["lhs"]["quantized"][0], "words")),
    "the address": ("stochastic", lambda g: (g["random"][0], "operand")),
    "a sum": ("stochastic", lambda g: (g, "sums")),
    "a GEMM's scale": ("stochastic", lambda g: (g, "scale")),
    "a result": ("stochastic", lambda g: (g, "results")),
    "the overflows": ("stochastic", lambda g: (g, "overflows")),
    "an accumulator": ("stochastic", lambda g: (g["traced"][0]["additions"][1], "value")),
    "an accumulator's float": ("stochastic", lambda g: (g["traced"][0]["additions"][1], "float32")),
    "an overflow": ("stochastic", lambda g: (g["traced"][0]["additions"][1], "overflow")),
    "a drawn word": ("stochastic", lambda g: (g["traced"][0]["additions"][1], "random")),
    "the mantissa": ("fp8 into fp16", lambda g: (g["mac"]["accumulator"], "mantissa_bits")),
    "the chunk": ("fp8 toward zero in chunks", lambda g: (g["mac"], "chunk")),
    "the product": ("tree of rounded products", lambda g: (g["mac"]["product"], "mantissa_bits")),
    "compensation": ("Kahan", lambda g: (g["mac"], "kahan")),
    "a block scale's code": ("nvfp4", lambda g: (g["lhs"]["quantized"][0]["block_scales"], "codes")),
    "the tensor scale": ("nvfp4", lambda g: (g["lhs"]["quantized"][0]["block_scales"], "tensor_scale")),
    "a matrix's scale": ("mxfp8", lambda g: (g["rhs"], "matrix_scales")),
    "a block's sum": ("mxfp8", lambda g: (g["traced"][0]["blocks"][-1], "sum")),
    "a block's term": ("mxfp8", lambda g: (g["traced"][0]["blocks"][-1], "term")),
    "a block's addition": ("mxfp8", lambda g: (g["traced"][0]["blocks"][-1]["additions"][0], "value")),
    "the accumulator's width": ("14 bits saturating", lambda g: (g["mac"], "accumulator_bits")),
    "the truncation": ("tree, truncated", lambda g: (g["mac"], "truncated_bits")),
}


#: What changes no bit of the small second GEMM.
ROUNDS = ("the product",)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checker_finds(damage):
    spec, place = DAMAGES[damage]
    file = written(SAMPLES["linear"], SPECS[spec], seed=3)
    change(*place(file["gemms"][0 if damage in ROUNDS else 1]))
    with pytest.raises(AssertionError):
        check_all(file)


def test_the_checker_finds_a_wrong_product():
    file = written(SAMPLES["linear"], SPECS["Mitchell's products"], seed=3)
    [table] = file["product_tables"].values()
    table["products"] = [damaged(text) for text in table["products"]]
    with pytest.raises(AssertionError):
        check_gemm(file["gemms"][0], file)


@pytest.mark.parametrize(("kind", "spec"), LAYERS)
def test_the_fast_path_of_the_layer_gives_the_same_bits(kind, spec):
    sample = SAMPLES[kind]
    vectors = layer_vectors(sample, SPECS[spec], seed=3, trace="none")
    model = lb.convert(torch.nn.Sequential(sample.layer), [lb.Rule("*", SPECS[spec])], seed=3)
    model.zero_grad()
    x = sample.x.clone().requires_grad_()
    y = model(x)
    y.backward(sample.grad_output)
    assert float32s(y) == vectors.output.float32
    assert float32s(x.grad) == vectors.grad_input.float32
    assert float32s(model.get_parameter("0.weight").grad) == vectors.grad_weight.float32
    model.zero_grad()


@pytest.mark.parametrize("spec", ["int8", "stochastic", "mxint8"])
def test_the_matrices_of_a_linear_layer_are_its_codes(spec):
    """x w^T, g w and g^T x; with blocks the quantised matrix has the reduction last."""
    for gemm in written(SAMPLES["linear"], SPECS[spec])["gemms"]:
        for side in ("lhs", "rhs"):
            operand = gemm[side]
            rows, columns = operand["quantized"][0]["shape"]
            codes = operand["quantized"][0]["codes"]
            turned = [codes[i * columns + j] for j in range(columns) for i in range(rows)]
            is_plain = [rows, columns] == [gemm[size] for size in ("MK" if side == "lhs" else "KN")]
            assert operand["matrices"][0] == (codes if is_plain else turned)


def test_samples_have_entries_of_their_own_and_are_averaged():
    file = written(SAMPLES["linear"], SPECS["three samples"], seed=3)
    samples = [g for g in file["gemms"] if g["role"] == "grad_input"]
    assert [g["sample"] for g in samples] == [0, 1, 2]
    assert len({tuple(g["lhs"]["quantized"][0]["words"]) for g in samples}) == 3
    assert len({tuple(g["rhs"]["quantized"][0]["codes"]) for g in samples}) == 1
    assert len({g["random"][0]["operand"] for g in samples}) == 3
    for *parts, mean in zip(*(g["results"][0] for g in samples), file["grad_input"]["float32"], strict=True):
        total = float32(float32(real(parts[0]) + real(parts[1])) + real(parts[2]))
        assert float32(total * float32(1 / 3)) == real(mean)


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
    check_gemm(first, file)
    for total, scale, result in zip(first["sums"][0], first["scale"][0], first["results"][0], strict=True):
        assert float32(float32(signed(total, 32)) * real(scale)) == real(result)


@pytest.mark.parametrize(
    ("spec", "count"), [("chunks of 2, wrapping", 3), ("Kahan", 3), ("tree of rounded products", 2)]
)
def test_traces_of_chunks_keep_each_chunks_end(spec, count):
    full, chunks, none = (
        written(SAMPLES["linear"], SPECS[spec], trace=trace)["gemms"][0]["traced"]
        for trace in ("additions", "chunks", "none")
    )
    assert none == []
    for every, ends in zip(full, chunks, strict=True):
        assert [s["accumulator"] for s in ends["additions"]] == ["inner", "outer"] * count
        for end in ends["additions"]:
            place = end["accumulator"], end["chunk"]
            own = [s for s in every["additions"] if (s["accumulator"], s["chunk"]) == place]
            assert end["value"] == [s for s in own if s["part"] == "sum"][-1]["value"]
            assert end["overflow"] == any(s["overflow"] for s in own)


def test_blocks_are_traced_by_chunks_too():
    full, chunks = (
        written(SAMPLES["linear"], SPECS["mxint8"], trace=trace)["gemms"][0]["traced"][0]
        for trace in ("additions", "chunks")
    )
    assert [len(b["additions"]) for b in full["blocks"]] == [6, 2]
    assert [len(b["additions"]) for b in chunks["blocks"]] == [4, 2]
    assert [b["additions"][-1]["last_k"] for b in chunks["blocks"]] == [3, 4]
    assert [b["sum"] for b in full["blocks"]] == [b["sum"] for b in chunks["blocks"]]


def test_a_block_whose_scale_vanishes_is_zero():
    sample = linear_sample((2, 2, 6), seed=1)
    sample.x[0, 3:] *= 1e-6
    file = written(sample, BLOCKS["nvfp4"])
    part = file["gemms"][0]["lhs"]["quantized"][0]
    assert int(part["block_scales"]["codes"][1], 16) == 0
    assert real(part["scale"][1]) == 1
    check_gemm(file["gemms"][0], file)


def test_infinities_and_nan_are_codes_too():
    sample = linear_sample((1, 2, 3), seed=1)
    sample.x[0] = torch.tensor([3e38, -3e38, 1.0])
    sample.layer.get_parameter("weight").data[0] = torch.tensor([3e38, 3e38, 0.0])
    spec = lb.OpSpec.uniform(lb.BF16, mac=lb.FloatMacUnit(accumulator=lb.parse_format("fp16"), chunk=1))
    file = written(sample, spec)
    gemm = file["gemms"][0]
    check_gemm(gemm, file)
    assert gemm["sums"][0][0] == "7e00"
    assert gemm["results"][0][0] == "7fc00000"
    assert [s["value"] for s in gemm["traced"][0]["additions"]] == [
        "7c00",
        "7c00",
        "fc00",
        "7e00",
        "0000",
        "7e00",
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (lb.OpSpec(output=None, grad_input=None, grad_weight=None), "output runs in native float32"),
        (mixed(lb.MacUnit(), transform=lb.HadamardTransform(4)), "grad_input transforms its operands"),
        (lb.OpSpec.uniform(lb.INT8, scale=lb.EmaScale(0.9)), "depend on past steps"),
    ],
    ids=["native", "transform", "stateful"],
)
def test_what_can_not_be_is_said(spec, message):
    with pytest.raises(StudyError, match=message):
        layer_vectors(SAMPLES["linear"], spec)


def test_every_kind_of_format_and_unit_is_among_the_cases():
    kinds = set()
    for spec in (INTEGER_UNITS | FLOAT_UNITS | BLOCKS).values():
        for gemm in layer_vectors(linear_sample((1, 2, 2), seed=1), spec).gemms:
            kinds |= {gemm.mac.kind, gemm.lhs.format.kind, gemm.rhs.format.kind, gemm.lhs.multiplicand}
    assert kinds >= {"integer", "float", "log", "posit", "code", "float32"}
