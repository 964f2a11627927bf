from hypothesis import given
from hypothesis import strategies as st

from hw_models.compute.work import ceil_div
from hw_models.mapping.tiling import ORDERS, parts, tile_sizes

sizes, steps = st.integers(1, 10**6), st.integers(1, 300)


def test_by_hand():
    assert tile_sizes(20, 4) == (4, 8, 12, 20)
    assert tile_sizes(28, 8) == (8, 16, 28)
    assert tile_sizes(40, 6) == (6, 12, 18, 24, 40)
    assert tile_sizes(7, 1) == (1, 2, 4, 7)
    assert tile_sizes(3, 16) == (3,)
    assert len(set(ORDERS)) == 6
    assert parts(10, 4) == [(4, 2), (2, 1)]
    assert parts(8, 4) == [(4, 2)]


@given(sizes, steps)
def test_tiles_are_whole_steps_or_all(size, step):
    tiles = tile_sizes(size, step)
    assert tiles[-1] == size
    assert list(tiles) == sorted(set(tiles))
    assert all(tile % step == 0 for tile in tiles[:-1])


@given(sizes, steps)
def test_twice_a_dimension_has_all_its_whole_tiles(size, step):
    assert {t for t in tile_sizes(size, step) if t % step == 0} <= set(tile_sizes(2 * size, step))


@given(sizes, steps)
def test_a_tile_no_larger_than_the_dimension_cuts_twice_of_it_into_four_at_most(size, step):
    if size >= step:
        largest = max(tile for tile in tile_sizes(2 * size, step) if tile <= size)
        assert ceil_div(2 * size, largest) <= (2 if size % step == 0 else 4)


@given(sizes, steps)
def test_the_smallest_tile_is_one_step(size, step):
    assert tile_sizes(size, step)[0] == min(size, step)
