"""The stitcher: the naive sum over full arrays, in one band of windows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from buildseg.prediction.stitch import Stitcher
from tests.test_tiling_grid import grids
from tiling import BlendWeights, Grid


def naive(grid, weights, windows):
    """Sum everything into full arrays: the blended values and validity of (window, values, valid) triples."""
    height, width = max(grid.height, grid.size), max(grid.width, grid.size)
    values, valid = np.zeros((height, width)), np.zeros((height, width), bool)
    for window, pixels, known in windows:
        here = slice(window.row, window.row + grid.size), slice(window.col, window.col + grid.size)
        product = np.outer(weights.rows[window.row].astype(float), weights.cols[window.col].astype(float))
        values[here] += pixels * product
        valid[here] |= True if known is None else known
    return values[: grid.height, : grid.width], valid[: grid.height, : grid.width]


def stitched(stitcher, windows):
    strips = [stitcher.add(*item) for item in windows] + [stitcher.finish()]
    return [strip for strip in strips if strip is not None]


@st.composite
def predictions(draw):
    """A grid with random values and validity in random windows; the others are left out."""
    grid = draw(grids(longest=90, largest=30))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    shape = (grid.size, grid.size)
    return grid, [
        (window, random.random(shape, np.float32), random.random(shape) < 0.7 if random.random() < 0.8 else None)
        for window in grid
        if random.random() < share
    ]


@given(predictions())
def test_equals_the_naive_sum(case):
    grid, windows = case
    weights = BlendWeights.of(grid)
    strips = stitched(Stitcher(grid, weights), windows)
    values, valid = naive(grid, weights, windows)
    assert np.abs(np.concatenate([strip.values for strip in strips]) - values).max() <= 1e-6
    np.testing.assert_array_equal(np.concatenate([strip.valid for strip in strips]), valid)


@given(predictions())
def test_strips_follow_without_gaps_from_first_to_last_row(case):
    grid, windows = case
    row = 0
    for strip in stitched(Stitcher(grid, BlendWeights.of(grid)), windows):
        assert strip.row == row
        assert strip.values.shape == strip.valid.shape == (len(strip.values), grid.width)
        assert len(strip.values) > 0
        assert (strip.values.dtype, strip.valid.dtype) == (np.float32, np.bool_)
        row += len(strip.values)
    assert row == grid.height


@given(grids(longest=120, largest=30))
def test_rows_are_given_as_soon_as_no_later_window_covers_them(grid):
    stitcher = Stitcher(grid, BlendWeights.of(grid))
    given_out = 0
    for window in grid:
        strip = stitcher.add(window, np.ones((grid.size, grid.size), np.float32))
        given_out += 0 if strip is None else len(strip.values)
        assert given_out == window.row
    last = stitcher.finish()
    assert given_out + len(last.values) == grid.height
    assert stitcher.finish() is None


@given(predictions())
def test_holds_no_more_than_one_height_of_windows(case):
    grid, windows = case
    stitcher = Stitcher(grid, BlendWeights.of(grid))
    for item in windows:
        stitcher.add(*item)
        assert len(stitcher._values) == len(stitcher._valid) <= min(grid.size, grid.height)


def test_memory_grows_with_the_width_only():
    def measured(height):
        grid = Grid(height, 2000, 64, 16)
        ones = np.ones((64, 64), np.float32)
        tracemalloc.start()
        try:
            stitcher = Stitcher(grid, BlendWeights.of(grid))
            for window in grid:
                stitcher.add(window, ones)
            stitcher.finish()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert measured(4000) < 1.1 * measured(400)


@given(grids(longest=80, largest=40), st.floats(0, 1, width=32))
def test_a_constant_stays_that_constant(grid, constant):
    windows = [(window, np.full((grid.size, grid.size), constant, np.float32)) for window in grid]
    for strip in stitched(Stitcher(grid, BlendWeights.of(grid)), windows):
        assert np.abs(strip.values - constant).max() <= 1e-6
        assert strip.valid.all()


def test_given_strips_do_not_change_later():
    grid = Grid(40, 10, 10, 5)
    stitcher = Stitcher(grid, BlendWeights.of(grid))
    strips, copies = [], []
    for window in grid:
        strip = stitcher.add(window, np.full((10, 10), window.row, np.float32))
        if strip is not None:
            strips.append(strip)
            copies.append(strip.values.copy())
    stitcher.finish()
    for strip, copy in zip(strips, copies, strict=True):
        np.testing.assert_array_equal(strip.values, copy)


def test_rows_do_not_pile_up_where_windows_are_skipped():
    grid = Grid(1000, 50, 20, 5)
    stitcher = Stitcher(grid, BlendWeights.of(grid))
    strips = [strip for window in grid if (strip := stitcher.skip(window)) is not None]
    assert max(len(strip.values) for strip in strips) <= grid.size
    assert not any(strip.valid.any() for strip in strips)
