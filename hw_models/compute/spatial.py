"""A GEMM on a spatial array: adder trees that operands are broadcast to, without skew or fill.

`rows` multipliers take as many input channels, each `columns` trees another output channel, and that is there
`pixel_rows` x `pixel_columns` times for as many output pixels. Every position of the kernel is a step of its own, so
the unrolled reduction is over channels, not over the unfolded K:

    T  = images x ceil(P / pixel_rows) x ceil(Q / pixel_columns) x R S x ceil(channels / (rows packed))
    cf = ceil(filters / columns)                            cycles = groups x cf x T

By hand, for 3 channels, 5 filters, a 2 x 2 kernel and a 3 x 3 output on rows = 2, columns = 4, one pixel:
T = 9 x 4 x 2 = 72 and cf = 2, so 144 cycles for 540 multiply-accumulates: 47 % of 8 multipliers.

Groups of a convolution run one after another: in a depthwise one (of one input channel each) a single multiplier of
each pixel works. A machine with a depthwise mode (`depthwise_over_columns`) lays such groups over the columns. Of the
`rows` channels that are broadcast each tree then takes its own group's, and adds up what it takes one by one:

    side by side = min(floor(columns / filters), rows)
    T  = images x ceil(P / pixel_rows) x ceil(Q / pixel_columns) x R S x ceil(channels / packed)
    cycles = ceil(groups / side by side) x T

Which of the two is better, the memories decide too (`mapping.search`), as groups side by side share their room. By
hand, 8 groups of one filter, 3 x 3, with a 4 x 4 output on 8 x 8: one after another 8 x 16 x 9 = 1152 cycles, side by
side 1 x 16 x 9 = 144: an eighth of the multipliers works.

Some machines keep a unit of output in the array for several steps in a row (`steps_padded_to`): the kernel's
positions are padded to a multiple of it, or the steps over the channels at each position, whichever takes less. The
steps of padding read and write nothing.

NVIDIA's NVDLA is such an array (nvdla.org, "Unit Description", convolution MAC), and Arm's Ethos-U another, with
more than one pixel, a depthwise mode and units of four steps. What is read and written, in elements of a GEMM's
operands: the images, unfolded, once for each column fold; each weight once, since it stays in its multiplier while
the pixels pass; partial sums are written by every step's pass over the pixels and read back by every one but the
first.
"""

from __future__ import annotations

from hw_models.compute.convolution import Convolution, convolution_of, is_depthwise, unfolded_elements
from hw_models.compute.work import ArrayWork, ceil_div, empty_work
from hw_models.schema.array import Array
from lowbit_sim.trace import GemmEvent


def spatial_works(event: GemmEvent, array: Array, packed: int = 1) -> tuple[ArrayWork, ...]:
    """What an event asks of a spatial array: groups one after another, and side by side where they can be.

    Args:
        event: The GEMMs.
        array: The array; `dataflow` is "spatial".
        packed: Products along the reduction that a multiplier of the mode takes in a cycle.
    """
    if not event.macs:
        return (empty_work(event),)
    work = convolution_of(event)
    in_turn = _work(event, work, array, packed, channels_at_once=array.rows * packed, at_once=1)
    at_once = min(array.columns // work.filters, array.rows, event.count)
    if at_once < 2 or not array.depthwise_over_columns or not is_depthwise(event):
        return (in_turn,)
    side_by_side = _work(event, work, array, packed, channels_at_once=packed, at_once=at_once)
    return in_turn, side_by_side


def _work(
    event: GemmEvent, work: Convolution, array: Array, packed: int, *, channels_at_once: int, at_once: int
) -> ArrayWork:
    """The work where a tree adds up so many channels in a step, and so many groups run side by side."""
    inserted = work.inserted if array.skips_zeros else 1
    pixels = ceil_div(work.output_height, array.pixel_rows) * ceil_div(work.output_width, array.pixel_columns)
    positions, channels = work.kernel_height * work.kernel_width, ceil_div(work.channels, channels_at_once)
    time = ceil_div(work.images * pixels * _padded(positions, channels, array.steps_padded_to), inserted)
    passes = ceil_div(positions * channels, inserted)
    folds = ceil_div(work.filters, array.columns)
    macs = ceil_div(event.macs, inserted)
    images, filters = unfolded_elements(event, work)
    lhs_reads, rhs_reads = work.by_operand(image=folds * images, filter=filters)
    lanes = array.elements // array.arrays * packed
    return ArrayWork(
        macs=macs,
        count=event.count,
        at_once=at_once,
        column_folds=folds,
        time=time,
        lhs_reads=lhs_reads,
        rhs_reads=rhs_reads,
        result_writes=passes * event.M * event.N,
        partial_reads=(passes - 1) * event.M * event.N,
        mapping_efficiency=min(1.0, macs / (ceil_div(event.count, at_once) * folds * time * lanes)),
    )


def _padded(positions: int, channels: int, multiple: int) -> int:
    """Steps of a unit of output: positions or channels padded to a multiple."""
    padded_positions = ceil_div(positions, multiple) * multiple * channels
    return min(padded_positions, positions * ceil_div(channels, multiple) * multiple)
