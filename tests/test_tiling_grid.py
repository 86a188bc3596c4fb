"""The window grid: it covers every scene, once started at a corner and flush with the far edge."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiling import Grid, Window, overlap_pixels
from tiling.errors import OptionError


@st.composite
def grids(draw, longest=300, largest=80):
    size = draw(st.integers(1, largest))
    overlap = draw(st.integers(0, size - 1))
    return Grid(draw(st.integers(1, longest)), draw(st.integers(1, longest)), size, overlap)


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
