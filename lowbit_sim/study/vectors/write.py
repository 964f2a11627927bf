"""The vectors as files: one JSON file with its schema, and on demand plain lists of hex for `$readmemh`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.vectors import schema

SCHEMA_FILE = "vectors.schema.json"


def write_vectors(vectors: schema.LayerVectors, folder: Path | str, *, memh: bool = False) -> Path:
    """Write a layer's vectors and the schema into a folder, which is made; the vectors' file.

    Args:
        vectors: What is written.
        folder: Where to.
        memh: Whether to write `memh_files` too.

    Raises:
        StudyError: The files can't be written.
    """
    folder = Path(folder)
    path = folder / f"{vectors.layer.name}.json"
    texts = {path.name: vectors.model_dump_json() + "\n", SCHEMA_FILE: schema.json_schema()}
    if memh:
        texts |= dict(memh_files(vectors))
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"can't write {path}: {folder} is a file; expected a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StudyError(f"can't write {path}: {error.strerror or error}") from error
    return path


def memh_files(vectors: schema.LayerVectors) -> Iterator[tuple[str, str]]:
    """Names and texts of the files for Verilog's `$readmemh`: one number a line, row-major, as in the JSON file.

    LAYER_ROLE[_sS][_gG]_LIST.hex, with the sample S where there are several, the group G where there are several, and
    the lists lhs, rhs, sums and results, with blocks also lhs_scales and rhs_scales. Tables of products are
    products_HASH.hex, with the first 16 digits of the hash.
    """
    samples = 1 + max((gemm.sample for gemm in vectors.gemms), default=0)
    for gemm in vectors.gemms:
        for group in range(gemm.groups):
            parts = [vectors.layer.name, gemm.role]
            parts += [f"s{gemm.sample}"] if samples > 1 else []
            parts += [f"g{group}"] if gemm.groups > 1 else []
            for name, shape, bits, digits in _lists(gemm, group):
                yield "_".join([*parts, f"{name}.hex"]), _text(f"{shape}, {bits} bits", digits)
    for key, table in vectors.product_tables.items():
        comment = (
            f"{table.name}, address {{left, right}} of {table.bits} bits each, {table.product_bits} bits"
        )
        yield f"products_{key[:16]}.hex", _text(comment, table.products)


def _text(comment: str, digits: Sequence[str]) -> str:
    return "\n".join([f"// {comment}", *digits, ""])


def _lists(gemm: schema.Gemm, group: int) -> Iterator[tuple[str, str, int, Sequence[str]]]:
    """Name, shape, width and numbers of each list of a group."""
    result = f"{gemm.M} x {gemm.N}"
    yield "lhs", f"{gemm.M} x {gemm.K}", gemm.lhs.multiplicand_bits, gemm.lhs.matrices[group]
    yield "rhs", f"{gemm.K} x {gemm.N}", gemm.rhs.multiplicand_bits, gemm.rhs.matrices[group]
    blocks = -(-gemm.K // gemm.block) if gemm.block else 0
    if gemm.lhs.matrix_scales is not None:
        yield "lhs_scales", f"{gemm.M} x {blocks}", 32, gemm.lhs.matrix_scales[group]
    if gemm.rhs.matrix_scales is not None:
        yield "rhs_scales", f"{blocks} x {gemm.N}", 32, gemm.rhs.matrix_scales[group]
    yield "sums", result, gemm.sum_bits, gemm.sums[group]
    yield "results", result, 32, gemm.results[group]
