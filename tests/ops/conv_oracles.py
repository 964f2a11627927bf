"""The integer sums of a convolution and of its two gradients, three times over.

`shifted_*`: int64, one kernel tap at a time: shift the image and add. `unfolded_*`: float64 unfold and fold around
a matrix product. `looped_*`: one Python list of terms for each result, in an explicit order, through the
reference accumulator; the only one that knows about order, chunks and overflow. None shares code with
`lowbit_sim.ops`. Tensors are [N, C, H, W], [O, C/groups, R, S] and gradients [N, O, OH, OW].
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lowbit_sim.arith.backends.reference import dot
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ops.im2col import Window

#: Where a term of a reduction lies (for example kernel row, kernel column, channel), and its two factors.
Term = tuple[tuple[int, int, int], int, int]
Order = Callable[[tuple[int, int, int]], tuple[int, ...]]


def in_order(position: tuple[int, int, int]) -> tuple[int, ...]:
    """The order of the contract: the position's own."""
    return position


def _padded(x: Tensor, window: Window) -> Tensor:
    top, bottom, left, right = window.padding
    return F.pad(x, (left, right, top, bottom))


def _cropped(x: Tensor, window: Window) -> Tensor:
    top, bottom, left, right = window.padding
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


def _taps(window: Window, size: Sequence[int]) -> Iterator[tuple[int, int, slice, slice]]:
    """Each kernel row and column with the padded rows and columns it meets."""
    for r, s in itertools.product(range(window.kernel[0]), range(window.kernel[1])):
        starts = r * window.dilation[0], s * window.dilation[1]
        rows, columns = (
            slice(start, start + (n - 1) * step + 1, step)
            for start, n, step in zip(starts, size, window.stride, strict=True)
        )
        yield r, s, rows, columns


def shifted_output(x: Tensor, w: Tensor, window: Window) -> Tensor:
    """int64 [N, O, OH, OW]."""
    size = window.output_size(x.shape[2], x.shape[3])
    padded, y = _padded(x.long(), window), torch.zeros(x.shape[0], w.shape[0], *size, dtype=torch.int64)
    for r, s, rows, columns in _taps(window, size):
        for c, o in itertools.product(range(x.shape[1]), range(w.shape[0])):
            if c // w.shape[1] == o // (w.shape[0] // window.groups):
                y[:, o] += padded[:, c, rows, columns] * w[o, c % w.shape[1], r, s].long()
    return y


def shifted_grad_input(g: Tensor, w: Tensor, x_shape: Sequence[int], window: Window) -> Tensor:
    """int64 [N, C, H, W]."""
    padded = _padded(torch.zeros(*x_shape, dtype=torch.int64), window)
    for r, s, rows, columns in _taps(window, g.shape[2:]):
        for c, o in itertools.product(range(x_shape[1]), range(w.shape[0])):
            if c // w.shape[1] == o // (w.shape[0] // window.groups):
                padded[:, c, rows, columns] += g[:, o].long() * w[o, c % w.shape[1], r, s].long()
    return _cropped(padded, window)


def shifted_grad_weight(g: Tensor, x: Tensor, w_shape: Sequence[int], window: Window) -> Tensor:
    """int64 [O, C/groups, R, S]."""
    padded, grad = _padded(x.long(), window), torch.zeros(*w_shape, dtype=torch.int64)
    for r, s, rows, columns in _taps(window, g.shape[2:]):
        for o, c in itertools.product(range(w_shape[0]), range(w_shape[1])):
            channel = o // (w_shape[0] // window.groups) * w_shape[1] + c
            grad[o, c, r, s] = (g[:, o].long() * padded[:, channel, rows, columns]).sum()
    return grad


def _unfolded(x: Tensor, window: Window) -> Tensor:
    """float64 [N, groups, C/groups R S, OH OW]."""
    columns = F.unfold(_padded(x.double(), window), window.kernel, window.dilation, 0, window.stride)
    return columns.unflatten(1, (window.groups, -1))


def unfolded_output(x: Tensor, w: Tensor, window: Window) -> Tensor:
    """float64 [N, O, OH, OW]."""
    kernels = w.double().unflatten(0, (window.groups, -1)).flatten(2)  # [groups, O/groups, C/groups R S]
    return (kernels @ _unfolded(x, window)).flatten(1, 2).unflatten(2, window.output_size(*x.shape[2:]))


def unfolded_grad_input(g: Tensor, w: Tensor, x_shape: Sequence[int], window: Window) -> Tensor:
    """float64 [N, C, H, W]."""
    kernels = w.double().unflatten(0, (window.groups, -1)).flatten(2)
    columns = kernels.transpose(1, 2) @ g.double().flatten(2).unflatten(1, (window.groups, -1))
    size = _padded(torch.empty(*x_shape), window).shape[2:]
    folded = F.fold(columns.flatten(1, 2), list(size), window.kernel, window.dilation, 0, window.stride)
    return _cropped(folded, window)


def unfolded_grad_weight(g: Tensor, x: Tensor, w_shape: Sequence[int], window: Window) -> Tensor:
    """float64 [O, C/groups, R, S]."""
    gradients = g.double().flatten(2).unflatten(1, (window.groups, -1))
    return (gradients @ _unfolded(x, window).transpose(2, 3)).sum(0).reshape(*w_shape)


def _sum(terms: list[Term], mac: MacUnit, order: Order) -> tuple[int, int]:
    ordered = sorted(terms, key=lambda term: order(term[0]))
    return dot([a for _, a, _ in ordered], [b for _, _, b in ordered], mac)


def _fill(
    shape: Sequence[int], mac: MacUnit, order: Order, terms: Callable[..., list[Term]]
) -> tuple[Tensor, int]:
    """Every result of a GEMM, and how many additions overflowed."""
    values, overflows = torch.zeros(*shape), 0
    for index in itertools.product(*map(range, shape)):
        values[index], count = _sum(terms(*index), mac, order)
        overflows += count
    return values, overflows


def _at(image: list, row: int, column: int) -> int:
    """An element, or the zero of the padding."""
    return image[row][column] if 0 <= row < len(image) and 0 <= column < len(image[0]) else 0


def _integers(x: Tensor) -> list:
    return x.detach().to(torch.int64).tolist()


def looped_output(
    x: Tensor, w: Tensor, window: Window, mac: MacUnit, order: Order = in_order
) -> tuple[Tensor, int]:
    """[N, O, OH, OW] and overflows; positions are (kernel row, kernel column, channel of the group)."""
    xs, ws, per_group = _integers(x), _integers(w), w.shape[0] // window.groups
    (sh, sw), (dh, dw), (top, _, left, _) = window.stride, window.dilation, window.padding

    def terms(n: int, o: int, row: int, column: int) -> list[Term]:
        first = o // per_group * w.shape[1]
        return [
            (
                (r, s, c),
                _at(xs[n][first + c], row * sh - top + r * dh, column * sw - left + s * dw),
                ws[o][c][r][s],
            )
            for c, r, s in itertools.product(*map(range, w.shape[1:]))
        ]

    return _fill((x.shape[0], w.shape[0], *window.output_size(*x.shape[2:])), mac, order, terms)


def looped_grad_input(
    g: Tensor, w: Tensor, x_shape: Sequence[int], window: Window, mac: MacUnit, order: Order = in_order
) -> tuple[Tensor, int]:
    """[N, C, H, W] and overflows; positions are (kernel row, kernel column, output channel of the group)."""
    gs, ws, per_group = _integers(g), _integers(w), w.shape[0] // window.groups
    (sh, sw), (dh, dw), (top, _, left, _) = window.stride, window.dilation, window.padding

    def terms(n: int, c: int, row: int, column: int) -> list[Term]:
        group, found = c // w.shape[1], []
        for r, s, o in itertools.product(range(w.shape[2]), range(w.shape[3]), range(per_group)):
            (y, off_y), (x, off_x) = divmod(row + top - r * dh, sh), divmod(column + left - s * dw, sw)
            channel = group * per_group + o
            value = 0 if off_y or off_x else _at(gs[n][channel], y, x)
            found.append(((r, s, o), value, ws[channel][c % w.shape[1]][r][s]))
        return found

    return _fill(x_shape, mac, order, terms)


def looped_grad_weight(
    g: Tensor, x: Tensor, w_shape: Sequence[int], window: Window, mac: MacUnit, order: Order = in_order
) -> tuple[Tensor, int]:
    """[O, C/groups, R, S] and overflows; positions are (sample, output row, output column)."""
    gs, xs = _integers(g), _integers(x)
    (sh, sw), (dh, dw), (top, _, left, _) = window.stride, window.dilation, window.padding

    def terms(o: int, c: int, r: int, s: int) -> list[Term]:
        channel = o // (w_shape[0] // window.groups) * w_shape[1] + c
        return [
            (
                (n, row, column),
                gs[n][o][row][column],
                _at(xs[n][channel], row * sh - top + r * dh, column * sw - left + s * dw),
            )
            for n, row, column in itertools.product(range(g.shape[0]), range(g.shape[2]), range(g.shape[3]))
        ]

    return _fill(w_shape, mac, order, terms)
