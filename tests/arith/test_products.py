import copy
import pickle

import numpy as np
import pytest
import torch

from lowbit_sim.arith.gemm import gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.products import ProductTable, load_product_table
from tests.arith.strategies import exact_table, random_table

# 2-bit products, all exact but 3 x 3 (or, of signed codes, -1 x -1).
SMALL = [[0, 0, 0, 0], [0, 1, 2, 3], [0, 2, 4, 6], [0, 3, 6, 7]]


def small(**fields):
    return ProductTable(**{"bits": 2, "signed": False, "table": SMALL, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 0}, "1 to 10 bits, got bits=0"),
        ({"bits": 11}, "1 to 10 bits, got bits=11"),
        ({"bits": 3}, r"8 x 8 products, got shape \[4, 4\]"),
        ({"table": [[1.5] * 4] * 4}, "whole numbers within int32, got 1.5 at row 0, column 0"),
        ({"table": [[1.0] * 4] * 3 + [[1, 1, float("nan"), 1]]}, "got nan at row 3, column 2"),
        ({"table": [[2**31] * 4] * 4}, "got 2147483648 at row 0"),
        ({"table": [["1"] * 4] * 4}, "whole numbers, got dtype"),
    ],
)
def test_bad_tables_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        small(**fields)


def test_codes_are_addressed_by_their_bit_pattern():
    unsigned, signed = small(), small(signed=True)
    assert unsigned.product(3, 3) == 7
    assert unsigned.code_range == (0, 3)
    assert signed.product(-1, -1) == 7
    assert signed.product(-2, 1) == 2
    assert signed.code_range == (-2, 1)
    assert signed.codes().tolist() == [0, 1, -2, -1]
    left_right = ProductTable(bits=1, signed=False, table=[[1, 2], [3, 4]])
    assert left_right.product(1, 0) == 3
    for table, code in ((unsigned, 4), (unsigned, -1), (signed, 2), (signed, -3)):
        with pytest.raises(ValueError, match=f"got {code}"):
            table.product(0, code)


def test_tables_are_values():
    table = small(name="one")
    assert table == small(name="another")
    assert hash(table) == hash(small())
    assert table != small(signed=True)
    assert table != small(table=np.zeros((4, 4)))
    assert table != SMALL
    assert pickle.loads(pickle.dumps(table)) == copy.deepcopy(table) == table
    assert len({MacUnit(products=table), MacUnit(products=small()), MacUnit()}) == 2
    assert str(table) == "one (2-bit unsigned)"
    assert repr(table) == repr(small(name="one"))


def test_a_table_does_not_change_with_its_source():
    rows = np.array(SMALL)
    table = small(table=rows)
    rows[:] = 0
    assert table.product(2, 3) == 6
    with pytest.raises(ValueError, match="read-only"):
        table.table[0, 0] = 1


def test_exactness_and_the_largest_product():
    assert not small().is_exact
    assert exact_table(4, True).is_exact
    assert exact_table(4, False).is_exact
    assert (small().largest, exact_table(4, True).largest) == (7, 64)
    assert small(table=-np.array(SMALL)).largest == 7


def test_error_statistics_by_hand():
    table = np.array(SMALL)
    table[0, 1] = 1
    statistics = small(table=table).error_statistics()
    assert statistics.error_rate == 2 / 16
    assert statistics.mean_error == (1 - 2) / 16
    assert statistics.mean_error_distance == 3 / 16
    assert statistics.worst_error_distance == 2
    assert statistics.mean_relative_error == pytest.approx(2 / 9 / 9)
    assert statistics.worst_relative_error == 2 / 9
    assert statistics.wrong_zeros == 1
    assert "error rate 12.50%" in str(statistics)
    assert exact_table(3, True).error_statistics().worst_error_distance == 0


@pytest.mark.parametrize("ending", ["npy", "csv"])
def test_tables_are_read_from_files(tmp_path, ending):
    table, path = random_table(4, True, 300, 0), tmp_path / f"mul.{ending}"
    if ending == "npy":
        np.save(path, table.table)
    else:
        np.savetxt(path, table.table, fmt="%d", delimiter=",")
    read = load_product_table(path, signed=True)
    assert read == table
    assert (read.bits, read.name, read.source) == (4, "mul", str(path))
    assert load_product_table(path, signed=True, name="other", source="paper").source == "paper"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.bin", "", r"read from .npy or .csv, got .bin"),
        ("t.npy", "1,2", "not a .npy file of numbers"),
        ("t.csv", "", r"2\^bits rows, got 0"),
        ("t.csv", "1,2,3\n1,2,3\n1,2,3", r"2\^bits rows, got 3"),
        ("t.csv", "1,2\n1,2,3", "line 2: 3 products in a table of 2 rows"),
        ("t.csv", "1,2\n1,x", "line 2: not whole numbers"),
        ("t.csv", "1,2\n1,99999999999", "got 99999999999 at row 1, column 1"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_product_table(path, signed=False)
    assert str(path) in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_product_table(tmp_path / "none.csv", signed=False)


def test_a_one_dimensional_array_is_no_table(tmp_path):
    np.save(tmp_path / "t.npy", np.zeros(4))
    with pytest.raises(ValueError, match=r"4 x 4 products, got shape \[4\]"):
        load_product_table(tmp_path / "t.npy", signed=False)


@pytest.mark.parametrize("backend", ["reference", "numba_cpu", None])
def test_a_gemm_looks_its_products_up(backend):
    a, b = torch.tensor([[3, 2], [1, 3]]), torch.tensor([[3, 0, 1], [3, 3, 2]])
    mac = MacUnit(products=small())
    assert gemm(a, b, mac, backend=backend).tolist() == [[7 + 6, 6, 3 + 4], [3 + 7, 7, 1 + 6]]


@pytest.mark.parametrize("backend", ["reference", "numba_cpu", "torch_exact", None])
@pytest.mark.parametrize("table", [small(), exact_table(2, False)], ids=str)
def test_codes_without_a_product_are_named(backend, table):
    good, bad = torch.tensor([[3]]), torch.tensor([[4]])
    mac = MacUnit(products=table)
    with pytest.raises(ValueError, match=r"operand b holds codes from 4 to 4; .* has codes 0 to 3"):
        gemm(good, bad, mac, backend=backend)
    with pytest.raises(ValueError, match="operand a holds codes from -1 to -1"):
        gemm(-torch.ones(1, 1, dtype=torch.int8), good, mac, backend=backend)


def test_the_library_runs_exact_tables_only():
    a = torch.ones(2, 2, dtype=torch.int8)
    assert gemm(a, a, MacUnit(products=exact_table(4, True)), explain=True)[1].backend == "torch_exact"
    assert gemm(a, a, MacUnit(products=random_table(4, True, 3, 0)), explain=True)[1].backend == "numba_cpu"
    with pytest.raises(ValueError, match="can't run this GEMM: products come from the table random0"):
        gemm(a, a, MacUnit(products=random_table(4, True, 3, 0)), backend="torch_exact")
