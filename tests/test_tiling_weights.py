"""Blend weights: a partition of unity for every grid and every profile."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_tiling_grid import grids
from tiling import BlendWeights, Grid
from tiling.weights import PROFILES, axis_weights

profiles = st.sampled_from(sorted(PROFILES))


@given(grids(longest=150, largest=60), profiles)
def test_sum_to_one_on_every_pixel(grid, profile):
    weights = BlendWeights.of(grid, profile)
    total = np.zeros((grid.height + grid.size, grid.width + grid.size))
    for window in grid:
        here = slice(window.row, window.row + grid.size), slice(window.col, window.col + grid.size)
        total[here] += np.outer(weights.rows[window.row], weights.cols[window.col])
    assert np.abs(total[: grid.height, : grid.width] - 1).max() <= 1e-6


@given(st.integers(1, 5000), st.integers(1, 600), st.floats(0, 0.99), profiles)
def test_sum_to_one_along_long_axes(length, size, fraction, profile):
    grid = Grid(length, 1, size, int(size * fraction))
    total = np.zeros(length + size)
    for start, values in axis_weights(grid.row_starts, size, profile).items():
        assert values.dtype == np.float32
        assert values.shape == (size,)
        assert values.min() > 0
        total[start : start + size] += values
    assert np.abs(total[:length] - 1).max() <= 1e-6


@given(grids(), profiles)
def test_every_window_has_weights(grid, profile):
    weights = BlendWeights.of(grid, profile)
    assert tuple(weights.rows) == grid.row_starts
    assert tuple(weights.cols) == grid.col_starts


def test_cosine_is_the_default_and_the_hann_window():
    size = 64
    grid = Grid(32 * 9 + 32, size, size, 32)
    middle = BlendWeights.of(grid).rows[96]
    centres = (np.arange(size) + 0.5) / size
    np.testing.assert_allclose(middle, 0.5 - 0.5 * np.cos(2 * np.pi * centres), atol=1e-6)


def test_linear_is_a_triangle_and_flat_is_a_mean():
    grid = Grid(160, 32, 32, 16)
    triangle = 1 - np.abs(2 * (np.arange(32) + 0.5) / 32 - 1)
    np.testing.assert_allclose(BlendWeights.of(grid, "linear").rows[32], triangle, atol=1e-6)
    np.testing.assert_allclose(BlendWeights.of(grid, "flat").rows[32], np.full(32, 0.5), atol=1e-6)


@pytest.mark.parametrize("profile", ["cosine", "linear"])
def test_a_window_counts_more_the_nearer_its_middle(profile):
    values = BlendWeights.of(Grid(512, 512, 128, 32), profile).rows[96]
    assert (np.diff(values[:32]) > 0).all()
    np.testing.assert_allclose(values[32:96], 1, atol=1e-6)
    assert (np.diff(values[96:]) < 0).all()


def test_one_window_alone_counts_fully_up_to_the_edge():
    weights = BlendWeights.of(Grid(40, 40, 64, 32))
    np.testing.assert_array_equal(weights.rows[0], np.ones(64, np.float32))
    np.testing.assert_array_equal(weights.cols[0], np.ones(64, np.float32))
