import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lowbit_sim.cli import app
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.vectors import schema
from lowbit_sim.study.vectors.layer import layer_vectors
from lowbit_sim.study.vectors.schema import LayerVectors
from lowbit_sim.study.vectors.write import write_vectors
from tests.study.vectors.cases import SAMPLES, SPECS
from tests.study.vectors.checker import check_gemm
from tests.study.vectors.numbers import real


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["vectors", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def memh(path: Path) -> list[str]:
    """What `$readmemh` reads: words without comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [word for line in lines for word in line.partition("//")[0].split()]


def test_the_shipped_schema_is_that_of_the_models():
    path = Path(schema.__file__).parent / "vectors.schema.json"
    assert path.read_text(encoding="utf-8") == schema.json_schema()
    assert json.loads(invoke("--schema")) == LayerVectors.model_json_schema()


def test_the_command_writes_a_file_that_its_schema_accepts(tmp_path):
    options = ["--format", "int4", "--random-bits", 4, "--chunk", 2, "--layer", "conv2d", "--out", tmp_path]
    assert "3 GEMMs" in invoke(*options)
    assert {path.name for path in tmp_path.iterdir()} == {"conv2d.json", "vectors.schema.json"}
    text = (tmp_path / "conv2d.json").read_text(encoding="utf-8")
    vectors = LayerVectors.model_validate_json(text)
    assert vectors.gemms[1].lhs.rounding.random_bits == 4
    assert vectors.gemms[0].mac.chunk == 2
    assert json.loads((tmp_path / "vectors.schema.json").read_text())["title"] == "LayerVectors"
    for gemm in json.loads(text)["gemms"]:
        check_gemm(gemm, json.loads(text))


def test_numerics_come_from_a_file_too(tmp_path):
    numerics = tmp_path / "mx.toml"
    numerics.write_text(
        'format = "mxfp8_e4m3"\nmac = { accumulator = "fp16", chunk = 8 }\n'
        'gradient_rounding = { mode = "stochastic", random_bits = 6 }\n'
    )
    invoke("--numerics", numerics, "--sizes", "2,3,40", "--out", tmp_path)
    file = json.loads((tmp_path / "linear.json").read_text(encoding="utf-8"))
    assert [g["block"] for g in file["gemms"]] == [32] * 3
    assert file["gemms"][0]["mac"]["accumulator"]["name"] == "fp16"
    assert file["gemms"][1]["lhs"]["rounding"]["random_bits"] == 6
    for gemm in file["gemms"]:
        check_gemm(gemm, file)


def test_a_layer_of_a_model_has_the_tensors_of_its_first_step(tmp_path):
    invoke("--profile", "tpu_v1", "--model", "mlp", "--layer", 5, "--trace", "none", "--out", tmp_path)
    vectors = LayerVectors.model_validate_json((tmp_path / "5.json").read_text(encoding="utf-8"))
    assert (vectors.gemms[0].M, vectors.gemms[0].N, vectors.gemms[0].K) == (1, 10, 128)
    # The gradient of a cross entropy over classes sums to zero; ReLU came before.
    assert abs(sum(map(real, vectors.grad_output.float32))) < 1e-6
    assert min(map(real, vectors.input.float32)) == 0


@pytest.mark.parametrize("spec", ["two samples", "mxfp8", "Mitchell's products"])
def test_memory_files_hold_the_lists_of_the_json_file(spec, tmp_path):
    vectors = layer_vectors(SAMPLES["linear"], SPECS[spec], trace="none")
    write_vectors(vectors, tmp_path, memh=True)
    expected = {}
    for gemm in vectors.gemms:
        name = f"linear_{gemm.role}_s{gemm.sample}" if spec == "two samples" else f"linear_{gemm.role}"
        for side, operand in (("lhs", gemm.lhs), ("rhs", gemm.rhs)):
            expected[f"{name}_{side}.hex"] = operand.matrices[0]
            if operand.matrix_scales is not None:
                expected[f"{name}_{side}_scales.hex"] = operand.matrix_scales[0]
        expected |= {f"{name}_sums.hex": gemm.sums[0], f"{name}_results.hex": gemm.results[0]}
    for key, table in vectors.product_tables.items():
        expected[f"products_{key[:16]}.hex"] = table.products
    assert {path.name: memh(path) for path in tmp_path.glob("*.hex")} == expected
    first = (tmp_path / sorted(expected)[0]).read_text().splitlines()[0]
    assert first.startswith("// 3 x 5, ") or first.startswith("// 3 x 4, ") or spec == "two samples"


def test_memory_files_of_groups_are_numbered(tmp_path):
    import torch

    from lowbit_sim.study.vectors.sample import Sample

    layer = torch.nn.Conv2d(2, 4, 3, groups=2, bias=False)
    x = torch.randn(1, 2, 3, 3)
    sample = Sample(name="grouped", layer=layer, x=x, grad_output=torch.randn(1, 4, 1, 1))
    vectors = layer_vectors(sample, SPECS["stochastic"])
    for gemm in (file := json.loads(vectors.model_dump_json()))["gemms"]:
        check_gemm(gemm, file)
    assert [a["offset"] for a in file["gemms"][0]["random"]] == [0, 1 << 40]
    write_vectors(vectors, tmp_path, memh=True)
    for group in range(2):
        assert memh(tmp_path / f"grouped_output_g{group}_sums.hex") == vectors.gemms[0].sums[group]


def test_the_command_writes_memory_files_on_demand(tmp_path):
    invoke("--format", "int8", "--out", tmp_path, "--memh")
    assert len(list(tmp_path.glob("linear_*.hex"))) == 3 * 4
    assert len(memh(tmp_path / "linear_output_lhs.hex")) == 2 * 4


def test_a_folder_that_can_not_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="can't write"):
        write_vectors(layer_vectors(SAMPLES["linear"], SPECS["int8"]), tmp_path / "file")
