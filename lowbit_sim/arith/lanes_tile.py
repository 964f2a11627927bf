"""A tile of floating-point accumulators that stays in registers: machine code for `lanes_kernel`.

A tile is a few rows of a few vectors of accumulators. For one k after the other

    sums[r, :] = round(sums[r, :] + left[r, k] panel[k, :])

so that memory is read once for each tile of products, the left operand a number at a time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from lowbit_sim.arith.lanes import BITS, FLOATS, INTS, LANES, Format, Lanes
from lowbit_sim.arith.lanes_plan import (
    BEYOND,
    BY_MODE,
    COUNTS,
    DIRECT,
    DOWN,
    DRAWS_LOG,
    LARGEST,
    LEAST,
    MANTISSA_BITS,
    MODE,
    NORMAL_AWAY,
    NORMAL_CUT,
    NORMAL_DOWN,
    NORMAL_NEAREST,
    NORMAL_NEAREST_ODD,
    NORMAL_RANDOMLY,
    NORMAL_UP,
    NOTHING,
    ON_GRID,
    ON_GRID_ODD,
    RANDOM_BITS,
    RANDOMLY,
)

#: Most vectors of a tile's row, and its rows for each number of them.
MOST_VECTORS = 4
ROWS = {1: 8, 2: 8, 3: 5, 4: 4}

_ALL = 0xFFFFFFFF
_I32, _I64, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
_FLOAT_P, _I32_P, _I64_P = (t.as_pointer() for t in (_FLOAT, _I32, _I64))

#: sums, left, elements from one row of left to the next and from one k to the next, the last row that there is,
#: panel, first k, past the last k, parameters, words, number of the first addition in them, counts.
SIGNATURE = ir.FunctionType(
    ir.VoidType(),
    [_FLOAT_P, _FLOAT_P, _I64, _I64, _I64, _FLOAT_P, _I64, _I64, _I32_P, _I32_P, _I64, _I64_P],
)


class Tile:
    """Emits one function of `SIGNATURE`.

    Args:
        function: Empty yet.
        features: Of the processor, as LLVM names them.
        kind: Of addition.
        checks: `NOTHING`, `OVERFLOWS` or `COUNTS`.
        rows: Of the tile.
        vectors: Of a row.
    """

    def __init__(
        self, function: ir.Function, features: str, kind: int, checks: int, rows: int, vectors: int
    ) -> None:
        self.kind, self.checks, self.rows, self.vectors = kind, checks, rows, vectors
        self.columns = vectors * LANES
        self.function = function
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.lanes = Lanes(
            builder=self.builder,
            rounded_additions="+avx512f" in features.split(","),
            fused="+fma" in features.split(","),
        )
        self._emit()

    def _emit(self) -> None:
        b = self.builder
        sums, left, row_step, k_step, last_row, panel, start, stop = self.function.args[:8]
        parameters, words, number, counts = self.function.args[8:]
        fmt = self._format(parameters)
        places = [(r, v) for r in range(self.rows) for v in range(self.vectors)]
        sum_places = {(r, v): self._vector(sums, r * self.columns + v * LANES, FLOATS) for r, v in places}
        lefts = [self._row(left, r, row_step, last_row) for r in range(self.rows)]
        entry = b.block
        head, body, done = (self.function.append_basic_block(n) for n in ("head", "body", "done"))
        first = [b.load(sum_places[p], align=4) for p in places]
        zero = self.lanes.ints(0)
        b.branch(head)
        b.position_at_end(head)
        k = b.phi(_I64)
        k.add_incoming(start, entry)
        values = [b.phi(FLOATS) for _ in places]
        tallies = [b.phi(INTS) for _ in range(2)]
        for phi, value in zip(values, first, strict=True):
            phi.add_incoming(value, entry)
        for phi in tallies:
            phi.add_incoming(zero, entry)
        b.cbranch(b.icmp_signed("<", k, stop), body, done)
        b.position_at_end(body)
        along = b.mul(k, k_step)
        new, new_tallies = self._step(
            dict(zip(places, values, strict=True)),
            list(tallies),
            [b.load(b.gep(row, [along])) for row in lefts],
            panel,
            k,
            fmt,
            (words, b.add(number, b.sub(k, start)), parameters),
        )
        next_k = b.add(k, _I64(1))
        k.add_incoming(next_k, b.block)
        for phi, place in zip(values, places, strict=True):
            phi.add_incoming(new[place], b.block)
        for phi, value in zip(tallies, new_tallies, strict=True):
            phi.add_incoming(value, b.block)
        b.branch(head)
        b.position_at_end(done)
        for phi, place in zip(values, places, strict=True):
            b.store(phi, sum_places[place], align=4)
        if self.checks == COUNTS:
            for i, phi in enumerate(tallies):
                self._add_up(phi, b.gep(counts, [_I64(i)]))
        b.ret_void()

    def _row(self, left: Any, r: int, step: Any, last: Any) -> Any:
        """Where a row of the left operand starts; rows that are not there repeat the last one."""
        b = self.builder
        row = b.select(b.icmp_signed("<", last, _I64(r)), last, _I64(r))
        return b.gep(left, [b.mul(row, step)])

    def _vector(self, base: Any, offset: Any, kind: Any) -> Any:
        b = self.builder
        return b.bitcast(
            b.gep(base, [_I64(offset) if isinstance(offset, int) else offset]), kind.as_pointer()
        )

    def _add_up(self, tally: Any, place: Any) -> None:
        total = self.lanes.call("llvm.vector.reduce.add.v16i32", _I32, tally)
        b = self.builder
        b.store(b.add(b.load(place), b.sext(total, _I64)), place)

    def _format(self, parameters: Any) -> Format:
        b, lanes = self.builder, self.lanes

        def word(i: int) -> Any:
            return lanes.splat(b.load(b.gep(parameters, [_I64(i)])))

        mantissa_bits, random_bits = word(MANTISSA_BITS), word(RANDOM_BITS)
        below = b.sub(lanes.ints(23), mantissa_bits)
        kept = b.shl(lanes.ints(_ALL), below)
        rest = b.xor(kept, lanes.ints(_ALL))
        above = b.shl(b.add(below, lanes.ints(127)), lanes.ints(23))
        return Format(
            least=word(LEAST),
            mantissa_bits=mantissa_bits,
            largest=lanes.as_floats(word(LARGEST)),
            beyond=(word(BEYOND), word(BEYOND + 1)),
            mode=tuple(word(MODE + i) for i in range(6)),
            down=word(DOWN),
            random_bits=random_bits,
            above=lanes.as_floats(above),
            magic=lanes.as_floats(b.or_(above, lanes.ints(1 << 22))),
            kept=kept,
            half=b.lshr(b.shl(lanes.ints(1), below), lanes.ints(1)),
            randoms=b.xor(rest, b.lshr(rest, random_bits)),
        )

    def _step(
        self,
        sums: dict[Any, Any],
        tallies: list[Any],
        lefts: list[Any],
        panel: Any,
        k: Any,
        fmt: Format,
        draws: tuple[Any, Any, Any],
    ) -> tuple[dict[Any, Any], list[Any]]:
        """One product for every accumulator."""
        b, lanes = self.builder, self.lanes
        line = b.mul(k, _I64(self.columns))
        right = [
            b.load(self._vector(panel, b.add(line, _I64(v * LANES)), FLOATS), align=4)
            for v in range(self.vectors)
        ]
        if self.kind in (RANDOMLY, NORMAL_RANDOMLY):
            self._place_draws(draws, fmt)
        new: dict[Any, Any] = {}
        for r, scalar in enumerate(lefts):
            scalars = lanes.splat(scalar)
            for v in range(self.vectors):
                new[r, v], found = self._add(sums[r, v], (scalars, right[v]), (r, v), fmt)
                tallies = [
                    b.sub(t, b.sext(f, INTS)) if f is not None else t
                    for t, f in zip(tallies, found, strict=True)
                ]
        return new, tallies

    def _place_draws(self, draws: tuple[Any, Any, Any], fmt: Format) -> None:
        """Where this addition's random integers lie: word number >> log of each row's four, from some bit on."""
        b = self.builder
        words, number, parameters = draws
        log = b.load(b.gep(parameters, [_I64(DRAWS_LOG)]))
        wide = b.sext(log, _I64)
        piece = b.and_(number, b.sub(b.shl(_I64(1), wide), _I64(1)))
        shift = b.mul(b.trunc(piece, _I32), b.lshr(_I32(32), log))
        self.words = words
        self.word = b.mul(b.lshr(number, wide), _I64(self.rows * self.columns))
        self.shift = self.lanes.splat(shift)
        below = b.sub(b.sub(self.lanes.ints(23), fmt.mantissa_bits), fmt.random_bits)
        self.turn = b.sub(below, self.shift)
        one = self.lanes.ints(1)
        self.mask = b.sub(b.shl(one, fmt.random_bits), one)

    def _word(self, r: int, v: int) -> Any:
        place = self._vector(
            self.words, self.builder.add(self.word, _I64(r * self.columns + v * LANES)), INTS
        )
        return self.builder.load(place, align=4)

    def _random(self, r: int, v: int) -> Any:
        b = self.builder
        return b.and_(b.lshr(self._word(r, v), self.shift), self.mask)

    def _random_below(self, r: int, v: int, fmt: Format) -> Any:
        """The random integer as the bits below the format's last place."""
        word = self._word(r, v)
        turned = self.lanes.call("llvm.fshl.v16i32", INTS, word, word, self.turn)
        return self.builder.and_(turned, fmt.randoms)

    def _add(
        self, x: Any, term: tuple[Any, Any], place: tuple[int, int], fmt: Format
    ) -> tuple[Any, tuple[Any, Any]]:
        t = self.builder.fmul(*term)
        s = self._first_rounding(x, term)
        r = self._second_rounding(s, x, t, place, fmt)
        return (r, (None, None)) if self.checks == NOTHING else self._check(x, t, s, r, fmt)

    def _first_rounding(self, x: Any, term: tuple[Any, Any]) -> Any:
        """x + t as a float32; which way is told in `lanes`."""
        lanes = self.lanes
        if self.kind in (DIRECT, ON_GRID, NORMAL_NEAREST):
            return lanes.nearest(x, term)
        if self.kind in (NORMAL_CUT, NORMAL_AWAY, RANDOMLY, NORMAL_RANDOMLY):
            return lanes.toward_zero(x, term)
        if self.kind in (NORMAL_DOWN, NORMAL_UP) and lanes.rounded_additions:
            return lanes.directed(x, term, down=self.kind == NORMAL_DOWN)
        return lanes.to_odd(x, term)

    def _second_rounding(self, s: Any, x: Any, t: Any, place: tuple[int, int], fmt: Format) -> Any:
        """s in the format."""
        lanes = self.lanes
        match self.kind:
            case k if k == DIRECT:
                return s
            case k if k in (ON_GRID, ON_GRID_ODD):
                return lanes.on_grid(s, fmt)
            case k if k in (NORMAL_NEAREST, NORMAL_NEAREST_ODD):
                return lanes.near(s, fmt)
            case k if k == NORMAL_CUT:
                return lanes.cut(s, fmt)
            case k if k == NORMAL_AWAY:
                return lanes.cut(s, fmt, fmt.half)
            case k if k == NORMAL_RANDOMLY:
                return lanes.cut(s, fmt, self._random_below(*place, fmt))
            case k if k == RANDOMLY:
                return lanes.randomly(s, self._random(*place), fmt)
            case k if k in (NORMAL_DOWN, NORMAL_UP) and lanes.rounded_additions:
                return lanes.outward(s, fmt, negative=k == NORMAL_DOWN)
            case _:
                return lanes.by_mode(s, x, t, fmt)

    def _check(self, x: Any, t: Any, s: Any, r: Any, fmt: Format) -> tuple[Any, tuple[Any, Any]]:
        """r, or what stands beyond the largest value; whether it overflowed; whether it lost x or t.

        An infinite x stays what it is, and neither counts. r is infinite or NaN where s is infinite.
        """
        b, lanes = self.builder, self.lanes
        kept = b.fcmp_ordered("<=", lanes.magnitude(r), fmt.largest)
        sign = b.and_(lanes.as_ints(s), lanes.ints(0x80000000))
        negative = b.icmp_signed("<", lanes.as_ints(s), lanes.ints(0))
        beyond = b.or_(b.select(negative, fmt.beyond[1], fmt.beyond[0]), sign)
        value = b.select(kept, r, lanes.as_floats(beyond))
        if self.checks != COUNTS:
            return value, (None, None)
        finite = b.fcmp_ordered("<=", lanes.magnitude(x), fmt.largest)
        zero = lanes.floats(0.0)
        swamped_t = b.and_(b.fcmp_ordered("==", r, x), b.fcmp_unordered("!=", t, zero))
        swamped_x = b.and_(b.fcmp_ordered("==", r, t), b.fcmp_unordered("!=", x, zero))
        lost = b.and_(b.or_(swamped_t, swamped_x), b.and_(finite, kept))
        over = b.and_(finite, b.xor(kept, ir.Constant(BITS, [1] * LANES)))
        return value, (over, lost)


def shape(kind: int, checks: int, vectors: int) -> int:
    """The rows of a tile so many vectors wide: their chains of dependent instructions overlap.

    What takes many instructions leaves no registers for more rows, and has enough of its own to overlap.
    """
    return 1 if checks == COUNTS or kind in (BY_MODE, RANDOMLY) else ROWS[vectors]
