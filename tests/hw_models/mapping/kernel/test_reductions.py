"""Tiles of K that are left out; that nothing better is among them, `test_search` holds against all of them."""

import numpy as np

from hw_models.mapping.kernel.inputs import candidate_numbers, gemm_numbers, machine_numbers
from hw_models.mapping.kernel.reductions import reductions, set_better
from hw_models.mapping.search import candidates
from tests.hw_models.mapping.problems import ONE_STAGE, array, convolution, gemm, geometry, problem


def better(one):
    """For each m, or alone, the next larger k that is never worse than each k in an untiled GEMM."""
    numbers, tiles = gemm_numbers(one, ONE_STAGE), candidate_numbers(candidates(one))
    known = reductions(numbers, machine_numbers(ONE_STAGE), tiles)
    set_better(numbers, tiles, np.array(one.sizes, dtype=float), np.zeros(3), known)
    return known.better, len(tiles.k)


def test_of_a_plain_gemm_the_largest_alone_is_tried():
    found, many = better(problem(gemm(8, 8, 32), array()))
    assert found[0].tolist() == list(range(1, many + 1))


def test_of_an_output_stationary_gemm_too_as_a_fold_has_no_least_cycles():
    found, many = better(problem(gemm(8, 8, 32), array(dataflow="os")))
    assert found[0].tolist() == list(range(1, many + 1))


def test_a_tile_that_ends_between_channels_is_no_substitute_for_one_that_does_not():
    """27 columns are 3 channels of a 3 x 3 window: tiles of 14 cover 2 + 2 channels, single columns 27."""
    one = problem(convolution("output", geometry(channels=3, size=5)), array(rows=1, columns=1))
    found, many = better(one)
    last = found[len(candidates(one)[0]) - 1]
    assert candidates(one)[2][-1] == 27
    assert last[many - 1] == many
    assert (last[: many - 1] <= many - 1).all()
