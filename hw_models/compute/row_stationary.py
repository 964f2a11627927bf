"""A convolution on a row-stationary array: Chen et al., "Eyeriss", ISCA 2016 and JSSC 2017.

A processing element convolves one row of a filter with one row of the input into one row of partial sums. R of them
in a column add up to an output row, and neighbouring columns work on neighbouring output rows: a set of R rows x e
columns. An output higher than the array is wide is cut into segments of at most `columns` rows, and sets are
repeated over the array as often as they fit, for other filters, channels, segments or images:

    segments = ceil(E / columns)             e = min(E, columns)
    parts    = ceil(R / rows)                r = min(R, rows)
    copies   = floor(rows / r) floor(columns / e)
    cycles   = ceil(images x filters x channels x segments x parts / copies) x F ceil(S / packed)

By hand, one image of 2 channels, 3 filters of 2 x 2 and a 3 x 3 output on 4 x 3 elements: a set takes 2 x 3, two of
them fit, so ceil(1 x 3 x 2 / 2) = 3 rounds of 3 x 2 cycles are 18 cycles for 216 multiply-accumulates, all 12 busy.

AlexNet on 12 x 14: CONV1 has R = 11, so that 11 x 14 = 154 work; CONV2 two sets of 5 rows with 14 and 13 columns,
135; CONV3 to CONV5 four sets of 3 x 13, 156. These are the published numbers of active processing elements.

What is read and written, in elements. An element's scratchpads (Eyeriss: 12 inputs, 224 weights, 24 partial sums)
let it work on q = floor(12 / S) channels of p = min(24, floor(224 / (q S))) filters in turn, and the copies work on
other filters with the same inputs:

    images   once for each ceil(filters / (p copies))
    filters  once for each image and segment
    results  written once for each ceil(channels / q) x parts, and read back but for the first time

The schedule by which a chip shares copies between filters and channels, and overlaps images, is its compiler's; these
counts are of the first order (`hw_models.validation.eyeriss` compares them).
"""

from __future__ import annotations

from hw_models.compute.convolution import Convolution, convolution_of, unfolded_elements
from hw_models.compute.work import ArrayWork, ceil_div, empty_work
from hw_models.schema.array import Array
from lowbit_sim.trace import GemmEvent

#: Words of the scratchpads of one processing element, Chen et al., JSSC 2017.
INPUT_WORDS = 12
FILTER_WORDS = 224
SUM_WORDS = 24


def active_elements(event: GemmEvent, array: Array) -> int:
    """Processing elements that hold work: the rows of a set times the output rows of the copies."""
    work = convolution_of(event)
    rows = min(work.kernel_height, array.rows)
    stacked = array.rows // rows
    columns = min(work.output_height, array.columns)
    if columns < array.columns or stacked < 2:
        return rows * columns * stacked * (array.columns // columns)
    # Segments of one output lie over one another; the last one is narrower.
    segments = ceil_div(work.output_height, array.columns)
    widths = [min(columns, work.output_height - i * columns) for i in range(segments)]
    return rows * sum(widths[i % segments] for i in range(stacked))


def row_stationary_work(event: GemmEvent, array: Array, packed: int = 1) -> ArrayWork:
    """What an event asks of a row-stationary array.

    Args:
        event: The GEMMs.
        array: The array; `dataflow` is "rs".
        packed: Products along the reduction that a processing element takes in a cycle.
    """
    if not event.macs:
        return empty_work(event)
    work = convolution_of(event)
    inserted = work.inserted if array.skips_zeros else 1
    copies = _copies(work, array)
    segments = ceil_div(work.output_height, array.columns)
    parts = ceil_div(work.kernel_height, array.rows)
    sets = work.images * work.filters * work.channels * segments * parts
    row_time = work.output_width * ceil_div(work.kernel_width, packed)
    time = ceil_div(ceil_div(sets, copies) * row_time, inserted)
    macs = ceil_div(event.macs, inserted)
    channels_at_once, filters_at_once = _held(work)
    passes = ceil_div(work.channels, channels_at_once) * parts
    _, filters = unfolded_elements(event, work)
    lhs_reads, rhs_reads = work.by_operand(
        image=work.image_elements * ceil_div(work.filters, filters_at_once * copies),
        filter=filters * segments * work.images,
    )
    return ArrayWork(
        macs=macs,
        count=event.count,
        time=time,
        lhs_reads=lhs_reads,
        rhs_reads=rhs_reads,
        result_writes=passes * event.M * event.N,
        partial_reads=(passes - 1) * event.M * event.N,
        mapping_efficiency=min(1.0, macs / (event.count * time * array.rows * array.columns * packed)),
    )


def _copies(work: Convolution, array: Array) -> int:
    rows, columns = min(work.kernel_height, array.rows), min(work.output_height, array.columns)
    return (array.rows // rows) * (array.columns // columns)


def _held(work: Convolution) -> tuple[int, int]:
    """Channels and filters that a processing element works on in turn."""
    channels = max(1, INPUT_WORDS // work.kernel_width)
    return channels, max(1, min(SUM_WORDS, FILTER_WORDS // (channels * work.kernel_width)))
