"""A GEMM event as the convolution that it is: what spatial and row-stationary arrays lay out.

Each role of a layer's three GEMMs is a convolution with the same seven dimensions; for one group of it:

| role          | images     | filters N | channels   | kernel  | output  | image operand | filter operand |
|---------------|------------|-----------|------------|---------|---------|---------------|----------------|
| output        | batch      | O / g     | C / g      | R x S   | P x Q   | lhs: inputs   | rhs: weights   |
| grad_input    | batch      | C / g     | O / g      | R x S   | H x W   | lhs: gradient | rhs: weights   |
| grad_weight   | C / g      | O / g     | batch      | P x Q   | R x S   | rhs: inputs   | lhs: gradient  |

In grad_weight the output's gradient, P x Q in size, slides over the input and leaves one result for each position
of the kernel; the samples are what is summed over beside it. A GEMM without a convolution behind it is a 1 x 1
convolution over an image of M rows and one column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lowbit_sim.trace import ConvGeometry, GemmEvent

#: The roles whose GEMMs are convolutions.
ROLES = ("output", "grad_input", "grad_weight")


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """One group's convolution of one role; see the module.

    Attributes:
        images, filters, channels: Counts; each image is convolved with each filter, summed over channels.
        kernel_height, kernel_width: Positions of a filter.
        output_height, output_width: Positions of a result.
        image_operand: The GEMM's operand that the images are.
        image_elements: Elements of the images as a tensor, before they are unfolded.
        inserted: Inputs, the zeros that a stride inserts included, for each that is none.
    """

    images: int
    filters: int
    channels: int
    kernel_height: int
    kernel_width: int
    output_height: int
    output_width: int
    image_operand: Literal["lhs", "rhs"]
    image_elements: int
    inserted: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one group, zeros included."""
        kernel, output = self.kernel_height * self.kernel_width, self.output_height * self.output_width
        return self.images * self.filters * self.channels * kernel * output

    def by_operand(self, *, image: int, filter: int) -> tuple[int, int]:
        """(lhs, rhs) of what is counted for the images and for the filters."""
        return (image, filter) if self.image_operand == "lhs" else (filter, image)


def unfolded_elements(event: GemmEvent, work: Convolution) -> tuple[int, int]:
    """(images, filters): elements of the GEMM's operand that is either, the images unfolded."""
    lhs, rhs = event.M * event.K, event.K * event.N
    return (lhs, rhs) if work.image_operand == "lhs" else (rhs, lhs)


def is_depthwise(event: GemmEvent) -> bool:
    """Whether an event's GEMMs are the groups of a depthwise convolution: one input channel each."""
    conv = event.conv
    if conv is None or event.role not in ROLES or event.count != conv.groups:
        return False
    return 1 < conv.groups == conv.in_channels


def convolution_of(event: GemmEvent) -> Convolution:
    """The convolution of one of an event's GEMMs."""
    conv = event.conv
    if conv is None or event.role not in ROLES:
        return _pointwise(event)
    return _grad_weight(conv) if event.role == "grad_weight" else _sliding(conv, event.role == "output")


def _pointwise(event: GemmEvent) -> Convolution:
    return Convolution(
        images=1,
        filters=event.N,
        channels=event.K,
        kernel_height=1,
        kernel_width=1,
        output_height=event.M,
        output_width=1,
        image_operand="lhs",
        image_elements=event.M * event.K,
    )


def _sliding(conv: ConvGeometry, forward: bool) -> Convolution:
    ins, outs = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    source, result = (conv.in_height, conv.in_width), (conv.out_height, conv.out_width)
    if not forward:
        ins, outs, source, result = outs, ins, result, source
    return Convolution(
        images=conv.batch,
        filters=outs,
        channels=ins,
        kernel_height=conv.kernel_height,
        kernel_width=conv.kernel_width,
        output_height=result[0],
        output_width=result[1],
        image_operand="lhs",
        image_elements=conv.batch * ins * source[0] * source[1],
        inserted=1 if forward else conv.stride[0] * conv.stride[1],
    )


def _grad_weight(conv: ConvGeometry) -> Convolution:
    ins = conv.in_channels // conv.groups
    return Convolution(
        images=ins,
        filters=conv.out_channels // conv.groups,
        channels=conv.batch,
        kernel_height=conv.out_height,
        kernel_width=conv.out_width,
        output_height=conv.kernel_height,
        output_width=conv.kernel_width,
        image_operand="rhs",
        image_elements=conv.batch * ins * conv.in_height * conv.in_width,
    )
