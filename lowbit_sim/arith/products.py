"""Products from a table: the function of any multiplier of two b-bit codes, exact or not.

An approximate multiplier is given by its 2^b x 2^b products. Rows and columns are addressed as a circuit's inputs
are: by a code's bit pattern, so that of a signed table row 2^b - 1 belongs to the code -1.

The error figures are those of the approximate-multiplier literature (J. Liang, J. Han, F. Lombardi, "New metrics
for the reliability of approximate and probabilistic adders", IEEE Trans. Computers 2013), over all pairs of codes.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from lowbit_sim.numerics.whole import is_whole

#: Widest codes: a table of 2^10 x 2^10 int32 takes 4 MiB.
MAX_TABLE_BITS = 10


@dataclass(frozen=True, kw_only=True)
class ErrorStatistics:
    """How far a table is from the exact product, over all pairs of codes.

    Attributes:
        error_rate: Share of the pairs whose product is wrong.
        mean_error: Mean of product - exact (the bias).
        mean_error_distance: Mean of |product - exact|.
        worst_error_distance: Largest |product - exact|.
        mean_relative_error: Mean of |product - exact| / |exact| over the pairs with exact != 0.
        worst_relative_error: Largest such ratio.
        wrong_zeros: Pairs with exact = 0 and another product; they have no relative error.
    """

    error_rate: float
    mean_error: float
    mean_error_distance: float
    worst_error_distance: int
    mean_relative_error: float
    worst_relative_error: float
    wrong_zeros: int

    def __str__(self) -> str:
        return (
            f"error rate {self.error_rate:.2%}, mean error {self.mean_error:.4g}, "
            f"mean error distance {self.mean_error_distance:.4g} (worst {self.worst_error_distance}), "
            f"mean relative error {self.mean_relative_error:.2%} (worst {self.worst_relative_error:.2%})"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ProductTable:
    """The product of every two codes. Two tables are equal if their width, sign and products are.

    Args:
        bits: Width of both codes, 1 to 10.
        signed: Whether codes are two's complement, -2^(bits-1) .. 2^(bits-1) - 1, or 0 .. 2^bits - 1.
        table: Whole numbers [2^bits, 2^bits] within int32: the product of left code i and right code j at
            [i mod 2^bits, j mod 2^bits]. Kept as a read-only int32 copy.
        name: What the multiplier is called.
        source: Where it was published, or the file that it was read from.

    Raises:
        ValueError: A width outside 1 to 10, a table of another shape or with an entry that is not a whole
            number within int32.
    """

    bits: int
    signed: bool
    table: np.ndarray
    name: str = "table"
    source: str = ""
    _digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not is_whole(self.bits, 1, MAX_TABLE_BITS):
            raise ValueError(f"a product table has codes of 1 to {MAX_TABLE_BITS} bits, got bits={self.bits}")
        table = _whole_numbers(self.table, 1 << self.bits, self.name)
        digest = hashlib.sha256(f"{self.bits} {self.signed}".encode() + table.tobytes()).digest()
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "_digest", digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProductTable) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __str__(self) -> str:
        return f"{self.name} ({self.bits}-bit {'signed' if self.signed else 'unsigned'})"

    def __repr__(self) -> str:
        return f"ProductTable({self}, {self._digest.hex()[:8]})"

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code."""
        half = 1 << (self.bits - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def codes(self) -> np.ndarray:
        """The codes of the rows, and of the columns: int64 [2^bits]."""
        patterns = np.arange(1 << self.bits, dtype=np.int64)
        return patterns - ((patterns >> (self.bits - 1)) << self.bits) if self.signed else patterns

    @functools.cached_property
    def largest(self) -> int:
        """The largest magnitude of a product."""
        return max(int(self.table.max()), -int(self.table.min()))

    @functools.cached_property
    def is_exact(self) -> bool:
        """Whether every product is the exact one."""
        codes = self.codes()
        return bool(np.array_equal(self.table, codes[:, None] * codes))

    def product(self, left: int, right: int) -> int:
        """The product of two codes.

        Raises:
            ValueError: A code outside `code_range`.
        """
        low, high = self.code_range
        for code in (left, right):
            if not low <= code <= high:
                raise ValueError(f"the table {self} has codes {low} to {high}, got {code}")
        mask = (1 << self.bits) - 1
        return int(self.table[left & mask, right & mask])

    def error_statistics(self) -> ErrorStatistics:
        """The distance from the exact product, over all pairs of codes."""
        codes = self.codes()
        exact = codes[:, None] * codes
        error = self.table - exact
        distance = np.abs(error)
        relative = distance[exact != 0] / np.abs(exact[exact != 0])
        return ErrorStatistics(
            error_rate=float(np.mean(distance != 0)),
            mean_error=float(error.mean()),
            mean_error_distance=float(distance.mean()),
            worst_error_distance=int(distance.max()),
            mean_relative_error=float(relative.mean()) if relative.size else 0.0,
            worst_relative_error=float(relative.max(initial=0.0)),
            wrong_zeros=int(np.count_nonzero(distance[exact == 0])),
        )


def _whole_numbers(values: ArrayLike, side: int, name: str) -> np.ndarray:
    table = np.asarray(values)
    if table.shape != (side, side):
        raise ValueError(f"the table {name!r} has {side} x {side} products, got shape {list(table.shape)}")
    if table.dtype.kind not in "iuf":
        raise ValueError(f"the table {name!r} holds whole numbers, got dtype {table.dtype}")
    limits = np.iinfo(np.int32)
    wrong = ~((table >= limits.min) & (table <= limits.max) & (table == np.floor(table)))
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"the table {name!r} holds whole numbers within int32, got {table[row, column]} "
            f"at row {row}, column {column}"
        )
    table = np.array(table, dtype=np.int32, order="C")
    table.flags.writeable = False
    return table


def load_product_table(
    path: str | Path, *, signed: bool, name: str | None = None, source: str | None = None
) -> ProductTable:
    """Read a table of products from a file; its size gives the width of the codes.

    Args:
        path: A .npy file of a whole-number array, or a .csv file of whole numbers separated by commas, a row a
            line; [2^bits, 2^bits], addressed by bit pattern as in `ProductTable`.
        signed: Whether codes are two's complement.
        name: What the multiplier is called; by default the file's name without its ending.
        source: Where it was published; by default the file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another ending, an unreadable file, a table that is not square with a power of two of rows,
            or an entry that is not a whole number within int32.
    """
    path = Path(path)
    rows = _read_rows(path)
    side = len(rows)
    bits = max(side.bit_length() - 1, 0)
    if side < 2 or side != 1 << bits:
        raise ValueError(f"{path}: a product table has 2^bits rows, got {side}")
    try:
        return ProductTable(
            bits=bits, signed=signed, table=rows, name=name or path.stem, source=source or str(path)
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_rows(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        try:
            return np.atleast_1d(np.load(path, allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path}: not a .npy file of numbers: {error}") from None
    if path.suffix == ".csv":
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        return _parse_rows(path, lines)
    raise ValueError(f"{path}: a product table is read from .npy or .csv, got {path.suffix or 'no ending'}")


def _parse_rows(path: Path, lines: Sequence[str]) -> np.ndarray:
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append([int(cell) for cell in line.split(",")])
        except ValueError:
            raise ValueError(f"{path}, line {number}: not whole numbers separated by commas") from None
        if len(rows[-1]) != len(lines):
            raise ValueError(
                f"{path}, line {number}: {len(rows[-1])} products in a table of {len(lines)} rows"
            )
    return np.array(rows, dtype=np.int64)
