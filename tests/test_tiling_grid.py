"""The window grid covers every scene, from its corner to its far edges; blocks share it out."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiling import Block, Grid, Window, cut_blocks, overlap_pixels
from tiling.errors import OptionError


@st.composite
def grids(draw, longest=300, largest=80):
    size = draw(st.integers(1, largest))
    overlap = draw(st.integers(0, size - 1))
    return Grid(draw(st.integers(1, longest)), draw(st.integers(1, longest)), size, overlap)


@st.composite
def blocks_of(draw, grid):
    """A rectangle of the grid's scene."""
    row, col = draw(st.integers(0, grid.height - 1)), draw(st.integers(0, grid.width - 1))
    return Block(row, col, draw(st.integers(1, grid.height - row)), draw(st.integers(1, grid.width - col)))


def test_windows_of_a_known_grid():
    assert list(Grid(height=5, width=10, size=4, overlap=1)) == [
        Window(row, col, 4) for row in (0, 1) for col in (0, 3, 6)
    ]
    assert Grid(height=4, width=11, size=4, overlap=0).col_starts == (0, 4, 7)


@given(grids())
def test_every_pixel_is_covered(grid):
    covered = np.zeros((grid.height, grid.width), bool)
    for window in grid:
        covered[window.row : window.row + window.size, window.col : window.col + window.size] = True
    assert covered.all()


@given(grids())
def test_windows_stay_inside_and_end_flush(grid):
    for length, starts in ((grid.height, grid.row_starts), (grid.width, grid.col_starts)):
        assert starts[0] == 0
        assert starts[-1] == max(0, length - grid.size)
        if length < grid.size:
            assert starts == (0,)


@given(grids())
def test_neighbours_share_the_overlap_and_only_the_last_two_more(grid):
    for starts in (grid.row_starts, grid.col_starts):
        shared = [grid.size - step for step in np.diff(starts)]
        assert all(overlap == grid.overlap for overlap in shared[:-1])
        assert all(grid.overlap <= overlap < grid.size for overlap in shared[-1:])


@given(grids())
def test_order_and_number(grid):
    windows = list(grid)
    assert len(windows) == len(set(windows)) == len(grid)
    assert windows == sorted(windows, key=lambda window: (window.row, window.col))
    assert all(window.size == grid.size for window in windows)


def test_a_huge_grid_is_not_held_in_memory():
    grid = Grid(10**7, 10**7, 512, 128)
    assert len(grid) == 26042**2
    assert next(iter(grid)) == Window(0, 0, 512)


@given(grids(), st.data())
def test_the_windows_that_touch_a_block_are_those_that_share_a_pixel_with_it(grid, data):
    block = data.draw(blocks_of(grid))
    inside = np.zeros((grid.height, grid.width), bool)
    inside[block.row : block.row + block.rows, block.col : block.col + block.cols] = True
    rows, cols = grid.touching(block)
    assert [(row, col) for row in rows for col in cols] == [
        (one.row, one.col) for one in grid if inside[one.row : one.row + one.size, one.col : one.col + one.size].any()
    ]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 310), st.integers(1, 310))
def test_blocks_cover_every_pixel_once_and_are_no_larger_than_asked_for(height, width, rows, cols):
    blocks = cut_blocks(height, width, rows, cols)
    covered = np.zeros((height, width), int)
    for block in blocks:
        covered[block.row : block.row + block.rows, block.col : block.col + block.cols] += 1
        assert 1 <= block.rows <= rows
        assert 1 <= block.cols <= cols
    assert (covered == 1).all()
    assert sum(block.rows * block.cols for block in blocks) == height * width
    widths = {block.cols for block in blocks}
    assert max(widths) - min(widths) <= 1


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 310), st.integers(1, 310))
def test_blocks_come_column_by_column_and_from_the_top_down(height, width, rows, cols):
    blocks = cut_blocks(height, width, rows, cols)
    assert blocks == sorted(blocks, key=lambda block: (block.col, block.row))
    assert len({block.col for block in blocks}) == -(-width // cols)
    assert all(block.row % rows == 0 for block in blocks)
    assert all(block.rows == rows for block in blocks if block.row + block.rows < height)


def test_blocks_of_a_known_scene():
    assert cut_blocks(10, 9, rows=6, cols=4) == [
        Block(row, col, rows, 3) for col in (0, 3, 6) for row, rows in ((0, 6), (6, 4))
    ]


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Window(0, 0, 4).row = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        Grid(5, 5, 4, 0).size = 3


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 5, 4, 0), "at least 1"),
        ((5, 0, 4, 0), "at least 1"),
        ((5, 5, 0, 0), "at least 1"),
        ((5, 5, 4, 4), "choose from 0 to 3"),
        ((5, 5, 4, -1), "choose from 0 to 3"),
    ],
)
def test_numbers_out_of_range(numbers, message):
    with pytest.raises(OptionError, match=message):
        Grid(*numbers)


@given(st.integers(1, 2000), st.floats(0, 1, exclude_max=True))
def test_overlap_in_pixels_is_within_half_a_pixel_and_fits_a_grid(size, fraction):
    overlap = overlap_pixels(size, fraction)
    assert abs(overlap - size * fraction) <= (0.5 if overlap < size - 1 else 1)
    assert Grid(10, 10, size, overlap).overlap == overlap


@pytest.mark.parametrize("fraction", [-0.01, 1.0, 25, float("nan"), float("inf")])
def test_overlap_out_of_range(fraction):
    with pytest.raises(OptionError, match="--overlap"):
        overlap_pixels(512, fraction)
