"""A tile of floating-point accumulators that stays in registers: machine code for `lanes_kernel`.

A tile is `ROWS` rows or one, of `COLUMNS` accumulators each. For one k after the other

    sums[r, :] = round(sums[r, :] + left[r, k] panel[k, :])

so that memory is read once for each `ROWS` x `COLUMNS` products, the left operand a number at a time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lowbit_sim.arith.lanes import BITS, COLUMNS, FLOATS, INTS, LANES, Format, Lanes
from lowbit_sim.arith.lanes_plan import (
    BEYOND,
    BY_MODE,
    DIRECT,
    DOWN,
    DRAWS_LOG,
    LARGEST,
    LEAST,
    MANTISSA_BITS,
    MODE,
    ON_GRID,
    ON_GRID_ODD,
    RANDOM_BITS,
    RANDOMLY,
    TO_MAGIC,
)

#: Rows of a tile: their chains of dependent instructions overlap.
ROWS = 4

_VECTORS = COLUMNS // LANES

_I32, _I64, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
_FLOAT_P, _I32_P, _I64_P = (t.as_pointer() for t in (_FLOAT, _I32, _I64))

#: sums, left, elements from one row of left to the next, panel, first k, past the last k, parameters, words, number
#: of the first addition in them, counts.
_SIGNATURE = ir.FunctionType(
    ir.VoidType(), [_FLOAT_P, _FLOAT_P, _I64, _FLOAT_P, _I64, _I64, _I32_P, _I32_P, _I64, _I64_P]
)


class _Tile:
    """Emits one function of `_SIGNATURE`."""

    def __init__(
        self, module: ir.Module, name: str, features: str, kind: int, checked: bool, rows: int
    ) -> None:
        self.kind, self.checked, self.rows = kind, checked, rows
        self.function = ir.Function(module, _SIGNATURE, name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.lanes = Lanes(
            builder=self.builder,
            rounded_additions="+avx512f" in features.split(","),
            fused="+fma" in features.split(","),
        )
        self._emit()

    def _emit(self) -> None:
        b = self.builder
        sums, left, stride, panel, start, stop, parameters, words, number, counts = self.function.args
        fmt = self._format(parameters)
        places = [(r, v) for r in range(self.rows) for v in range(_VECTORS)]
        sum_places = {(r, v): self._vector(sums, r * COLUMNS + v * LANES, FLOATS) for r, v in places}
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
        new, new_tallies = self._step(
            dict(zip(places, values, strict=True)),
            list(tallies),
            left,
            stride,
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
        if self.checked:
            for i, phi in enumerate(tallies):
                self._add_up(phi, b.gep(counts, [_I64(i)]))
        b.ret_void()

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

        return Format(
            least=word(LEAST),
            to_magic=word(TO_MAGIC),
            mantissa_bits=word(MANTISSA_BITS),
            largest=lanes.as_floats(word(LARGEST)),
            beyond=(word(BEYOND), word(BEYOND + 1)),
            mode=tuple(word(MODE + i) for i in range(6)),
            down=word(DOWN),
            random_bits=word(RANDOM_BITS),
        )

    def _step(
        self,
        sums: dict[Any, Any],
        tallies: list[Any],
        left: Any,
        stride: Any,
        panel: Any,
        k: Any,
        fmt: Format,
        draws: tuple[Any, Any, Any],
    ) -> tuple[dict[Any, Any], list[Any]]:
        """One product for every accumulator."""
        b, lanes = self.builder, self.lanes
        line = b.mul(k, _I64(COLUMNS))
        right = [
            b.load(self._vector(panel, b.add(line, _I64(v * LANES)), FLOATS), align=4)
            for v in range(_VECTORS)
        ]
        if self.kind == RANDOMLY:
            self._place_draws(draws, fmt)
        new: dict[Any, Any] = {}
        for v in range(_VECTORS):
            for r in range(self.rows):
                scalar = b.load(b.gep(left, [b.add(b.mul(stride, _I64(r)), k)]))
                new[r, v], found = self._add(sums[r, v], lanes.splat(scalar), right[v], (r, v), fmt)
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
        self.words, self.word = words, b.mul(b.lshr(number, wide), _I64(COLUMNS))
        self.shift = self.lanes.splat(shift)
        one = self.lanes.ints(1)
        self.mask = b.sub(b.shl(one, fmt.random_bits), one)

    def _random(self, r: int, v: int) -> Any:
        b = self.builder
        place = self._vector(self.words, b.add(self.word, _I64(r * 4 * COLUMNS + v * LANES)), INTS)
        return b.and_(b.lshr(b.load(place, align=4), self.shift), self.mask)

    def _add(
        self, x: Any, left: Any, right: Any, place: tuple[int, int], fmt: Format
    ) -> tuple[Any, tuple[Any, Any]]:
        b, lanes = self.builder, self.lanes
        if self.kind in (DIRECT, ON_GRID) and not self.checked:
            s = lanes.multiply_add(left, right, x)
            return (s if self.kind == DIRECT else lanes.on_grid(s, fmt)), (None, None)
        t = b.fmul(left, right)
        match self.kind:
            case k if k == DIRECT:
                s = r = b.fadd(x, t)
            case k if k == ON_GRID:
                s = b.fadd(x, t)
                r = lanes.on_grid(s, fmt)
            case k if k == ON_GRID_ODD:
                s = lanes.to_odd(x, t)
                r = lanes.on_grid(s, fmt)
            case k if k == BY_MODE:
                s = lanes.to_odd(x, t)
                r = lanes.by_mode(s, x, t, fmt)
            case _:
                s = lanes.toward_zero(x, t)
                r = lanes.randomly(s, self._random(*place), fmt)
        return self._check(x, t, s, r, fmt) if self.checked else (r, (None, None))

    def _check(self, x: Any, t: Any, s: Any, r: Any, fmt: Format) -> tuple[Any, tuple[Any, Any]]:
        """r, or what stands beyond the largest value; whether it overflowed; whether it lost x or t.

        An infinite x stays what it is, and neither counts. r is infinite or NaN where s is infinite.
        """
        b, lanes = self.builder, self.lanes
        finite = b.fcmp_ordered("<=", lanes.magnitude(x), fmt.largest)
        kept = b.fcmp_ordered("<=", lanes.magnitude(r), fmt.largest)
        zero = lanes.floats(0.0)
        swamped_t = b.and_(b.fcmp_ordered("==", r, x), b.fcmp_unordered("!=", t, zero))
        swamped_x = b.and_(b.fcmp_ordered("==", r, t), b.fcmp_unordered("!=", x, zero))
        lost = b.and_(b.or_(swamped_t, swamped_x), b.and_(finite, kept))
        over = b.and_(finite, b.xor(kept, ir.Constant(BITS, [1] * LANES)))
        sign = b.and_(lanes.as_ints(s), lanes.ints(0x80000000))
        negative = b.icmp_signed("<", lanes.as_ints(s), lanes.ints(0))
        beyond = b.or_(b.select(negative, fmt.beyond[1], fmt.beyond[0]), sign)
        return b.select(kept, r, lanes.as_floats(beyond)), (over, lost)


def variants(kind: int, checked: bool) -> tuple[int, int]:
    """Numbers of the functions for tiles of one row and of `ROWS` rows; the latter is -1 where there is none.

    What takes many instructions leaves no registers for more rows, and has enough of its own to overlap.
    """
    return 2 * kind + checked, -1 if checked or kind > ON_GRID_ODD else 2 * (RANDOMLY + 1) + kind


def _functions(module: ir.Module, features: str) -> list[ir.Function]:
    """All functions, by their numbers."""
    wanted = [(kind, checked, 1) for kind in range(RANDOMLY + 1) for checked in (False, True)]
    wanted += [(kind, False, ROWS) for kind in range(ON_GRID_ODD + 1)]
    functions = []
    for kind, checked, rows in wanted:
        name = f"lowbit_sim_tile_{kind}_{int(checked)}_{rows}"
        known = module.globals.get(name)
        functions.append(known or _Tile(module, name, features, kind, checked, rows).function)
    return functions


@intrinsic
def add_tile(
    _typing: Any,
    variant: Any,
    sums: Any,
    sums_first: Any,
    left: Any,
    left_first: Any,
    stride: Any,
    panel: Any,
    start: Any,
    stop: Any,
    parameters: Any,
    words: Any,
    number: Any,
    counts: Any,
    counts_first: Any,
) -> Any:
    """Add products start to stop - 1 to a tile; see the module.

    Args:
        variant: Of `variants`.
        sums: float32, the tile's rows of `COLUMNS` one after the other.
        sums_first: Where in sums.
        left: float32.
        left_first: Where in left k = 0 of the first row is.
        stride: Elements from one row of left to the next.
        panel: float32 [K, COLUMNS].
        start: First k.
        stop: Past the last k.
        parameters: int32 [`PARAMETERS`].
        words: uint32 [rows, 4, COLUMNS], the random words.
        number: Number of the first addition's draw in them.
        counts: int64, overflows and swamped additions are added to two of them.
        counts_first: Where in counts.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        features = context.codegen()._tm_features
        functions = _functions(builder.module, features)

        def data(i: int, kind: Any) -> Any:
            array = context.make_array(signature.args[i])(context, builder, arguments[i])
            return builder.bitcast(array.data, kind)

        values = [
            builder.gep(data(1, _FLOAT_P), [arguments[2]]),
            builder.gep(data(3, _FLOAT_P), [arguments[4]]),
            arguments[5],
            data(6, _FLOAT_P),
            arguments[7],
            arguments[8],
            data(9, _I32_P),
            data(10, _I32_P),
            arguments[11],
            builder.gep(data(12, _I64_P), [arguments[13]]),
        ]
        end = builder.append_basic_block("tile_done")
        switch = builder.switch(arguments[0], end)
        for i, function in enumerate(functions):
            block = builder.append_basic_block(f"tile_{i}")
            switch.add_case(_I64(i), block)
            with builder.goto_block(block):
                builder.call(function, values)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    whole = types.int64
    return types.none(
        whole, sums, whole, left, whole, whole, panel, whole, whole, parameters, words, whole, counts, whole
    ), generate
