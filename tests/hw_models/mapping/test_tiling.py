from hypothesis import given
from hypothesis import strategies as st

from hw_models.mapping.tiling import ORDERS, parts, tile_sizes


def test_by_hand():
    assert tile_sizes(20, 4) == (4, 8, 12, 20)
    assert tile_sizes(7, 1) == (1, 2, 4, 7)
    assert tile_sizes(3, 16) == (3,)
    assert len(set(ORDERS)) == 6
    assert parts(10, 4) == [(4, 2), (2, 1)]
    assert parts(8, 4) == [(4, 2)]


@given(st.integers(1, 10**6), st.integers(1, 300))
def test_tiles_are_whole_steps_or_all(size, step):
    tiles = tile_sizes(size, step)
    assert tiles[-1] == size
    assert list(tiles) == sorted(set(tiles))
    assert all(t % step == 0 for t in tiles[:-1])


@given(st.integers(1, 10**6), st.integers(1, 300))
def test_twice_a_dimension_has_all_its_whole_tiles(size, step):
    assert {t for t in tile_sizes(size, step) if t % step == 0} <= set(tile_sizes(2 * size, step))


@given(st.integers(1, 10**6), st.integers(1, 300))
def test_the_smallest_tile_is_one_step(size, step):
    assert tile_sizes(size, step)[0] == min(size, step)
