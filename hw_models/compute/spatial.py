"""A GEMM on a spatial array: adder trees that operands are broadcast to, without skew or fill.

`rows` multipliers take as many input channels, each `columns` trees another output channel, and that is there
`pixel_rows` x `pixel_columns` times for as many output pixels. Every position of the kernel is a step of its own, so
the unrolled reduction is over channels, not over the unfolded K:

    T  = images x ceil(P / pixel_rows) x ceil(Q / pixel_columns) x R S x ceil(channels / (rows packed))
    cf = ceil(filters / columns)                                   cycles = cf x T

By hand, for 3 channels, 5 filters, a 2 x 2 kernel and a 3 x 3 output on rows = 2, columns = 4, one pixel:
T = 9 x 4 x 2 = 72 and cf = 2, so 144 cycles for 540 multiply-accumulates: 47 % of 8 multipliers.

NVIDIA's NVDLA is such an array (nvdla.org, "Unit Description", convolution MAC), and Arm's Ethos-U another, with
more than one pixel. What is read and written, in elements of the GEMM's operands: the images, unfolded, once for
each column fold; each weight once, since it stays in its multiplier while the pixels pass; partial sums are written
by every step's pass over the pixels and read back by every one but the first.
"""

from __future__ import annotations

from hw_models.compute.convolution import Convolution, convolution_of
from hw_models.compute.work import ArrayWork, ceil_div
from hw_models.schema.array import Array
from lowbit_sim.trace import GemmEvent


def spatial_work(event: GemmEvent, array: Array, packed: int = 1) -> ArrayWork:
    """What an event asks of a spatial array.

    Args:
        event: The GEMMs.
        array: The array; `dataflow` is "spatial".
        packed: Products along the reduction that a multiplier of the mode takes in a cycle.
    """
    work = convolution_of(event)
    if not event.macs:
        return empty_work(event)
    pixels = ceil_div(work.output_height, array.pixel_rows) * ceil_div(work.output_width, array.pixel_columns)
    passes = work.kernel_height * work.kernel_width * ceil_div(work.channels, array.rows * packed)
    time = work.images * pixels * passes
    macs = event.macs
    if array.skips_zeros:
        time, macs = ceil_div(time, work.inserted), ceil_div(macs, work.inserted)
        passes = ceil_div(passes, work.inserted)
    folds = ceil_div(work.filters, array.columns)
    lanes = array.elements // array.arrays * packed
    lhs, rhs = event.M * event.K, event.K * event.N
    image, filters = (lhs, rhs) if work.image_operand == "lhs" else (rhs, lhs)
    lhs_reads, rhs_reads = by_operand(work, image=folds * image, filter=filters)
    return ArrayWork(
        macs=macs,
        count=event.count,
        row_folds=1,
        column_folds=folds,
        time=time,
        time_dimension="",
        row_dimension="",
        column_dimension="",
        row_step=1,
        column_step=1,
        fold_overhead=0,
        fold_minimum=0,
        lhs_reads=lhs_reads,
        rhs_reads=rhs_reads,
        result_writes=passes * event.M * event.N,
        partial_reads=(passes - 1) * event.M * event.N,
        stationary="",
        mapping_efficiency=min(1.0, macs / (event.count * folds * time * lanes)),
    )


def by_operand(work: Convolution, *, image: int, filter: int) -> tuple[int, int]:
    """What is read of the left and of the right operand, from what is read of the images and of the filters."""
    return (image, filter) if work.image_operand == "lhs" else (filter, image)


def empty_work(event: GemmEvent) -> ArrayWork:
    """The work of a GEMM of size zero."""
    return ArrayWork(
        macs=0,
        count=event.count,
        row_folds=0,
        column_folds=0,
        time=0,
        time_dimension="",
        row_dimension="",
        column_dimension="",
        row_step=1,
        column_step=1,
        fold_overhead=0,
        fold_minimum=0,
        lhs_reads=0,
        rhs_reads=0,
        result_writes=0,
        partial_reads=0,
        stationary="",
        mapping_efficiency=0.0,
    )
