"""A checker of files of vectors that knows nothing of this project: bits in, bits out."""

import math
from fractions import Fraction

from tests.study.vectors.numbers import (
    float32,
    float_of,
    quantized,
    random_word,
    real,
    same,
    signed,
    to_float,
    value_of,
)

#: accumulator, part, chunk, last_k, value, overflow
Step = tuple[str, str, int, int, float, bool]


# -- the units ---------------------------------------------------------------------------------------------


def fit(total: int, bits: int, rule: str) -> int:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if rule == "wrap":
        return (total - low) % (1 << bits) + low
    return max(low + (rule == "saturate_symmetric"), min(high, total))


def integer_sum(products: list[int], mac: dict) -> tuple[int, list[Step]]:
    """One result of an integer unit."""
    log: list[Step] = []
    chunk = mac["chunk"] or max(len(products), 1)
    outer = 0

    def add(kind: str, number: int, k: int, total: int) -> int:
        value = fit(total, mac["accumulator_bits" if kind == "inner" else "outer_bits"], mac["overflow"])
        log.append((kind, "sum", number, k, value, value != total))
        return value

    for number, start in enumerate(range(0, len(products), chunk)):
        part = list(enumerate(products))[start : start + chunk]
        end = part[-1][0]
        if mac["overflow_at"] != "addition":
            inner = sum(p for _, p in part)
            inner = add("inner", number, end, inner) if mac["overflow_at"] == "chunk" else inner
        elif mac["order"] == "tree":
            level = [(k, add("inner", number, k, p)) for k, p in part]
            while len(level) > 1:
                pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
                level = [
                    (p[1][0], add("inner", number, p[1][0], p[0][1] + p[1][1])) if len(p) == 2 else p[0]
                    for p in pairs
                ]
            inner = level[0][1]
        else:
            inner = 0
            for k, p in part:
                inner = add("inner", number, k, inner + p)
        moved = Fraction(inner, 1 << mac["truncated_bits"])
        if moved.denominator > 1:
            assert mac["truncation"] == "down"
        outer = add("outer", number, end, outer + moved.numerator // moved.denominator)
    return outer << mac["truncated_bits"], log


class FloatSum:
    """One result of a floating-point unit."""

    def __init__(self, mac: dict, address: dict | None, first: int) -> None:
        self.mac, self.address, self.element = mac, address, first
        self.log: list[Step] = []
        self.words: list[int] = []

    def add(self, kind: str, part: str, number: int, k: int, x: float, y: float) -> float:
        rule = self.mac["rounding"]
        f = self.mac["accumulator"] if kind == "inner" else self.mac["outer"]
        word = 0
        if rule["mode"] == "stochastic":
            assert self.address is not None
            word = random_word(self.address, self.element, rule["random_bits"])
            self.words.append(word)
        self.element += 1
        if math.isinf(x) or math.isinf(y) or x != x or y != y:
            value, over = to_float(x + y, f, rule)
        elif (total := Fraction(x) + Fraction(y)) == 0:
            opposite = math.copysign(1, x) != math.copysign(1, y)
            value, over = (-0.0 if opposite and rule["mode"] == "down" else x + y), False
        else:
            value, over = to_float(total, f, rule, word)
        self.log.append((kind, part, number, k, value, over))
        return value

    def tree(self, number: int, level: list[tuple[int, float]]) -> float:
        while len(level) > 1:
            above = []
            for i in range(0, len(level), 2):
                pair = level[i : i + 2]
                if len(pair) == 1:
                    above.append(pair[0])
                else:
                    (_, x), (k, y) = pair
                    above.append((k, self.add("inner", "sum", number, k, x, y)))
            level = above
        return self.add("inner", "sum", number, level[0][0], 0.0, level[0][1])

    def total(self, products: list[float]) -> float:
        mac = self.mac
        if mac["product"]:
            products = [to_float(p, mac["product"], mac["product_rounding"])[0] for p in products]
        chunk = mac["chunk"] or max(len(products), 1)
        outer = Running(self, "outer")
        inner = 0.0
        for number, start in enumerate(range(0, len(products), chunk)):
            part = list(enumerate(products))[start : start + chunk]
            inner = self.tree(number, part) if mac["order"] == "tree" else self.in_order(number, part)
            if mac["outer"]:
                outer.feed(number, part[-1][0], inner)
        return outer.total if mac["outer"] else inner

    def in_order(self, number: int, terms: list[tuple[int, float]]) -> float:
        inner = Running(self, "inner")
        for k, term in terms:
            inner.feed(number, k, term)
        return inner.total


class Running:
    """An accumulator that is fed term after term."""

    def __init__(self, unit: FloatSum, kind: str) -> None:
        self.unit, self.kind = unit, kind
        self.total = self.lost = 0.0

    def feed(self, number: int, k: int, term: float) -> None:
        def add(part: str, x: float, y: float) -> float:
            return self.unit.add(self.kind, part, number, k, x, y)

        if not self.unit.mac["kahan"]:
            self.total = add("sum", self.total, term)
            return
        corrected = add("corrected", term, -self.lost)
        new = add("sum", self.total, corrected)
        self.lost = add("correction", add("gained", new, -self.total), -corrected)
        self.total = new


def additions_of(mac: dict, length: int) -> int:
    """Additions of one result."""
    chunk = mac["chunk"] or max(length, 1)
    return (length + (-(-length // chunk) if mac["outer"] else 0)) * (4 if mac["kahan"] else 1)


# -- operands ----------------------------------------------------------------------------------------------


def check_operand(operand: dict, side: str, file: dict) -> None:
    for part in operand["quantized"]:
        real_values = part["float32"] or file[operand["tensor"]]["float32"]
        check_block_scales(part)
        check_codes(operand, part, [real(t) for t in real_values])
    if operand["block"]:
        check_block_layout(operand, side)


def scale_index(part: dict, block: int) -> list[int]:
    """Of each element the index of its scale."""
    indices = []
    for i in range(math.prod(part["shape"])):
        rest, place, stride = i, 0, 1
        for axis in reversed(range(len(part["shape"]))):
            rest, at = divmod(rest, part["shape"][axis])
            if block and axis == len(part["shape"]) - 1:
                at //= block
            place += stride * (at if part["scale_shape"][axis] > 1 else 0)
            stride *= part["scale_shape"][axis]
        indices.append(place)
    return indices


def check_block_scales(part: dict) -> None:
    scales = part["block_scales"]
    if scales is None:
        return
    whole = 1.0 if scales["tensor_scale"] is None else real(scales["tensor_scale"])
    for text, code in zip(part["scale"], scales["codes"], strict=True):
        value = value_of(int(code, 16), scales["format"])
        expected = max(float32(value * whole), 2.0**-126) if value else 1.0
        assert real(text) == (value if scales["format"]["kind"] == "exponent" else expected)


def check_codes(operand: dict, part: dict, x: list[float]) -> None:
    f, rule = operand["format"], operand["rounding"]
    index = scale_index(part, operand["block"])
    for i, (value, code) in enumerate(zip(x, part["codes"], strict=True)):
        s = index[i]
        word = 0
        if rule["mode"] == "stochastic":
            word = random_word(part["random"], i, rule["random_bits"])
            assert word == int(part["words"][i], 16)
        if (
            part["block_scales"]
            and value_of(int(part["block_scales"]["codes"][s], 16), part["block_scales"]["format"]) == 0
        ):
            value = 0.0
        zero_point = part["zero_point"][s] if part["zero_point"] else 0
        y = float32(value * float32(1 / real(part["scale"][s])))
        expected = quantized(y, f, rule, word, zero_point)
        assert value_of(int(code, 16), f) == expected, (i, value, code)


def check_block_layout(operand: dict, side: str) -> None:
    """The matrices are the quantised ones, transposed on the right."""
    unit = real(operand["unit"])
    for g, part in enumerate(operand["quantized"]):
        rows, columns = part["shape"]
        count = part["scale_shape"][1]
        for i in range(rows):
            for j in range(columns):
                k = i * columns + j if side == "lhs" else j * rows + i
                value = value_of(int(part["codes"][i * columns + j], 16), operand["format"])
                assert same(
                    multiplicands(operand, g)[k] * unit,
                    value + 0.0 if operand["multiplicand"] == "integer" else value,
                )
            for c in range(count):
                k = i * count + c if side == "lhs" else c * rows + i
                assert real(operand["matrix_scales"][g][k]) == real(part["scale"][i * count + c]) * unit


def multiplicands(operand: dict, group: int) -> list:
    digits = operand["matrices"][group]
    match operand["multiplicand"]:
        case "integer" if operand["multiplicand_signed"]:
            return [signed(t, operand["multiplicand_bits"]) for t in digits]
        case "integer":
            return [int(t, 16) for t in digits]
        case "float32":
            return [real(t) for t in digits]
    return [value_of(int(t, 16), operand["format"]) for t in digits]


# -- GEMMs -------------------------------------------------------------------------------------------------


class Checker:
    """One GEMM of a file."""

    def __init__(self, gemm: dict, file: dict) -> None:
        self.gemm, self.file, self.mac = gemm, file, gemm["mac"]
        self.results = gemm["M"] * gemm["N"]

    def products(self, a: list, b: list) -> list:
        table = self.file["product_tables"].get(self.mac.get("products"))
        if table is None:
            return [x * y for x, y in zip(a, b, strict=True)]
        mask = (1 << table["bits"]) - 1
        return [
            signed(table["products"][(x & mask) << table["bits"] | y & mask], table["product_bits"])
            for x, y in zip(a, b, strict=True)
        ]

    def summed(
        self, terms: list, mac: dict, address: dict | None, first: int
    ) -> tuple[float, list[Step], list]:
        if mac["kind"] == "integer":
            value, log = integer_sum(terms, mac)
            return value, log, [None] * len(log)
        unit = FloatSum(mac, address, first)
        value = unit.total(terms)
        return value, unit.log, unit.words or [None] * len(unit.log)

    def draws(self, mac: dict, length: int) -> int:
        return additions_of(mac, length) if mac["kind"] == "float" and mac["rounding"]["random_bits"] else 0

    def result(self, g: int, m: int, n: int, a: list, b: list) -> tuple[float, list, tuple]:
        gemm, index = self.gemm, m * self.gemm["N"] + n
        address = gemm["random"][g] if gemm["random"] else None
        products = self.products(a, b)
        if not gemm["block"]:
            found = self.summed(products, self.mac, address, index * self.draws(self.mac, len(a)))
            return found[0], [], found
        size, blocks, terms = gemm["block"], [], []
        per_block = self.results * self.draws(self.mac, size)
        starts = range(0, len(a), size)
        for c, start in enumerate(starts):
            part = products[start : start + size]
            first = c * per_block + index * self.draws(self.mac, len(part))
            value, log, words = self.summed(part, self.mac, address, first)
            scale = float32(
                self.block_scale("lhs", g, m * len(starts) + c)
                * self.block_scale("rhs", g, c * gemm["N"] + n)
            )
            terms.append(float32(float32(value) * scale))
            placed = [(*s[:3], s[3] + start, *s[4:]) for s in log]
            blocks.append((value, placed, words, terms[-1]))
        first = len(starts) * per_block + index * self.draws(gemm["across"], len(starts))
        found = self.summed(terms, gemm["across"], address, first)
        return found[0], blocks, found

    def block_scale(self, side: str, g: int, place: int) -> float:
        scales = self.gemm[side]["matrix_scales"]
        return real(scales[g][place]) if scales else 1.0

    def value(self, text: str, mac: dict, bits: int) -> float:
        if mac["kind"] == "integer":
            return signed(text, bits)
        assert len(text) == -(-bits // 4)
        return float_of(int(text, 16), mac["outer"] or mac["accumulator"])

    def check(self) -> dict:
        """Every code, sum and result; the logs of all results."""
        gemm = self.gemm
        check_operand(gemm["lhs"], "lhs", self.file)
        check_operand(gemm["rhs"], "rhs", self.file)
        self.check_scales()
        last = gemm["across"] or self.mac
        overflows, found = 0, {}
        for g in range(gemm["groups"]):
            a, b = multiplicands(gemm["lhs"], g), multiplicands(gemm["rhs"], g)
            scales = gemm["scale"][g] * (self.results if len(gemm["scale"][g]) == 1 else 1)
            for m in range(gemm["M"]):
                for n in range(gemm["N"]):
                    i = m * gemm["N"] + n
                    row, column = a[m * gemm["K"] : (m + 1) * gemm["K"]], b[n :: gemm["N"]]
                    value, blocks, end = self.result(g, m, n, row, column)
                    assert same(value, self.value(gemm["sums"][g][i], last, gemm["sum_bits"]))
                    assert same(float32(float32(value) * real(scales[i])), real(gemm["results"][g][i]))
                    overflows += sum(s[5] for log in [end[1], *(b[1] for b in blocks)] for s in log)
                    found[g, m, n] = blocks, end
        assert overflows == gemm["overflows"]
        for dot in gemm["traced"]:
            self.check_dot(dot, *found[dot["group"], dot["row"], dot["column"]])
        return found

    def check_scales(self) -> None:
        """Where each operand has one scale, or those of its blocks."""
        product = 1.0
        for side in ("lhs", "rhs"):
            operand = self.gemm[side]
            if operand["block"]:
                continue
            [part] = operand["quantized"]
            if len(part["scale"]) > 1:
                return
            product = float32(product * float32(real(part["scale"][0]) * real(operand["unit"])))
        assert all(len(s) == 1 and real(s[0]) == product for s in self.gemm["scale"])

    def check_dot(self, dot: dict, blocks: list, end: tuple) -> None:
        self.check_log(dot["additions"], self.gemm["across"] or self.mac, end[1], end[2])
        assert len(dot["blocks"]) == len(blocks)
        for shown, (value, log, words, term) in zip(dot["blocks"], blocks, strict=True):
            assert same(self.value(shown["sum"], self.mac, self.gemm["block_sum_bits"]), value)
            assert same(real(shown["term"]), term)
            self.check_log(shown["additions"], self.mac, log, words)

    def check_log(self, shown: list[dict], mac: dict, log: list[Step], words: list) -> None:
        for step, expected, word in zip(shown, log, words, strict=True):
            kind, part, chunk, k, value, over = expected
            assert (step["accumulator"], step["part"], step["chunk"], step["last_k"]) == (
                kind,
                part,
                chunk,
                k,
            )
            assert step["overflow"] == over
            assert word == (None if step["random"] is None else int(step["random"], 16))
            if mac["kind"] == "integer":
                bits = mac["accumulator_bits"] if kind == "inner" else mac["outer_bits"]
                assert signed(step["value"], bits) == value
            else:
                f = mac["accumulator"] if kind == "inner" else mac["outer"]
                assert same(float_of(int(step["value"], 16), f), value)
                assert same(real(step["float32"]), value)


def check_gemm(gemm: dict, file: dict) -> dict:
    return Checker(gemm, file).check()
