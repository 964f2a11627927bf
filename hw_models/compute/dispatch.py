"""From an event to what it asks of a machine's array, by the array's dataflow."""

from __future__ import annotations

from dataclasses import replace

from hw_models.compute.convolution import convolution_of
from hw_models.compute.row_stationary import row_stationary_work
from hw_models.compute.spatial import spatial_works
from hw_models.compute.systolic import systolic_work
from hw_models.compute.work import ArrayWork, ceil_div
from hw_models.schema.array import Array, Mode
from lowbit_sim.trace import GemmEvent


def array_work(event: GemmEvent, array: Array, mode: Mode) -> ArrayWork:
    """What an event's GEMMs ask of an array in the way that takes it the fewest cycles; see `array_works`."""
    return min(array_works(event, array, mode), key=lambda work: work.cycles(arrays=array.arrays))


def array_works(event: GemmEvent, array: Array, mode: Mode) -> tuple[ArrayWork, ...]:
    """What an event's GEMMs ask of an array, in each way in which it can take them.

    An array that skips the zeros which a stride inserts into grad_input's operand has a reduction that is shorter by
    the stride: the product of both directions, as each output pixel meets that share of the kernel's positions on
    average.

    Args:
        event: The GEMMs; sizes may be 0.
        array: The array.
        mode: The mode that they run in.
    """
    packed = mode.macs_per_pe_per_cycle
    if array.dataflow == "spatial":
        return spatial_works(event, array, packed)
    if array.dataflow == "rs":
        return (row_stationary_work(event, array, packed),)
    inserted = convolution_of(event).inserted if array.skips_zeros else 1
    work = systolic_work(
        event.M,
        event.N,
        ceil_div(event.K, inserted),
        rows=array.rows,
        cols=array.columns,
        dataflow=array.dataflow,
        loading=array.loading,
        packed=packed,
        count=event.count,
    )
    return (replace(work, macs=ceil_div(event.macs, inserted)) if inserted > 1 else work,)
