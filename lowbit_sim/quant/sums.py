"""Sums of rows in float64 whose bits do not depend on the device, the number of threads or the library.

The right half of a row is added to the left one until a single element is left; a row of odd length has a zero behind
it. The order of the additions is that of a balanced tree, so that the error grows with the logarithm of the length
(Higham, "The accuracy of floating point summation", SIAM J. Sci. Comput. 14, 1993).
"""

from __future__ import annotations

import torch
from torch import Tensor


def row_sums(x: Tensor) -> Tensor:
    """float64 [rows] of a matrix [rows, n]; 0 where n is 0."""
    total = x.double()
    if not total.shape[1]:
        return total.sum(1)
    while (length := total.shape[1]) > 1:
        if length % 2:
            total = torch.nn.functional.pad(total, (0, 1))
        left, right = total.chunk(2, dim=1)
        total = left + right
    return total[:, 0]


def row_means(x: Tensor) -> Tensor:
    """float64 [rows]: the sums divided by n."""
    sums = row_sums(x)
    # By a tensor: a GPU multiplies by the reciprocal of a number.
    return sums / torch.full_like(sums, x.shape[1])
