"""The stitcher: the naive sum over full arrays, block by block, in one height of windows."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from buildseg.prediction.stitch import Stitcher
from test_tiling_grid import blocks_of, grids
from tiling import BlendWeights, Block, Grid

CPU = torch.device("cpu")


def naive(grid, windows):
    """Sum everything into full arrays: the blended values and validity of (window, values, valid) triples."""
    weights = BlendWeights.of(grid)
    height, width = max(grid.height, grid.size), max(grid.width, grid.size)
    values, valid = np.zeros((height, width)), np.zeros((height, width), bool)
    for window, pixels, known in windows:
        here = slice(window.row, window.row + grid.size), slice(window.col, window.col + grid.size)
        product = np.outer(weights.rows[window.row].astype(float), weights.cols[window.col].astype(float))
        values[here] += pixels.numpy() * product
        valid[here] |= True if known is None else known.numpy()
    return values[: grid.height, : grid.width], valid[: grid.height, : grid.width]


def whole(grid):
    return Block(0, 0, grid.height, grid.width)


def slices(block):
    return slice(block.row, block.row + block.rows), slice(block.col, block.col + block.cols)


def touching(grid, block, windows):
    rows, cols = grid.touching(block)
    return [item for item in windows if item[0].row in rows and item[0].col in cols]


def stitched(stitcher, windows):
    strips = [stitcher.add(*item) for item in windows] + [stitcher.finish()]
    return [strip for strip in strips if strip is not None]


def joined(strips):
    values, valid = torch.cat([strip.values for strip in strips], dim=-2), torch.cat([strip.valid for strip in strips])
    return (values[0] if len(values) == 1 else values).numpy(), valid.numpy()


@st.composite
def predictions(draw):
    """A grid, a block of it, and random values and validity in random windows; the others are left out."""
    grid = draw(grids(longest=90, largest=30))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    shape = (grid.size, grid.size)

    def validity():
        return torch.from_numpy(random.random(shape) < 0.7) if random.random() < 0.8 else None

    windows = [
        (window, torch.from_numpy(random.random(shape, np.float32)), validity())
        for window in grid
        if random.random() < share
    ]
    block = draw(st.one_of(st.just(whole(grid)), blocks_of(grid)))
    return grid, block, windows


@given(predictions())
def test_every_block_equals_its_part_of_the_naive_sum(case):
    grid, block, windows = case
    values, valid = joined(stitched(Stitcher(grid, block, CPU), touching(grid, block, windows)))
    all_values, all_valid = naive(grid, windows)
    assert np.abs(values - all_values[slices(block)]).max() <= 1e-6
    np.testing.assert_array_equal(valid, all_valid[slices(block)])


@given(predictions())
def test_a_block_has_the_very_values_of_the_whole(case):
    grid, block, windows = case
    part = joined(stitched(Stitcher(grid, block, CPU), touching(grid, block, windows)))
    scene = joined(stitched(Stitcher(grid, whole(grid), CPU), windows))
    for one, other in zip(part, scene, strict=True):
        np.testing.assert_array_equal(one, other[slices(block)])


@given(predictions())
def test_channels_are_blended_each_for_itself(case):
    grid, block, windows = case
    two = [(window, torch.stack([values, 1 - values]), known) for window, values, known in windows]
    both, valid = joined(stitched(Stitcher(grid, block, CPU, channels=2), touching(grid, block, two)))
    for channel in (0, 1):
        single = [(window, values[channel], known) for window, values, known in two]
        alone, known = joined(stitched(Stitcher(grid, block, CPU), touching(grid, block, single)))
        np.testing.assert_array_equal(both[channel], alone)
        np.testing.assert_array_equal(valid, known)


@given(predictions(), st.booleans())
def test_strips_follow_without_gaps_from_first_to_last_row(case, skipping):
    grid, block, windows = case
    stitcher, by_window = Stitcher(grid, block, CPU), {item[0]: item for item in windows}
    rows, cols = grid.touching(block)
    row = block.row
    strips = []
    for window in (window for window in grid if window.row in rows and window.col in cols):
        if window in by_window:
            strips.append(stitcher.add(*by_window[window]))
        elif skipping:
            strips.append(stitcher.skip(window))
    for strip in filter(None, [*strips, stitcher.finish()]):
        assert strip.row == row
        assert strip.values.shape == (1, *strip.valid.shape) and strip.valid.shape[1] == block.cols
        assert len(strip.valid) > 0
        assert (strip.values.dtype, strip.valid.dtype) == (torch.float32, torch.bool)
        row += len(strip.valid)
    assert row == block.row + block.rows


@given(grids(longest=120, largest=30), st.data())
def test_rows_are_given_as_soon_as_no_later_window_covers_them(grid, data):
    block = data.draw(blocks_of(grid))
    stitcher = Stitcher(grid, block, CPU)
    reached = block.row
    for window, *_ in touching(grid, block, [(window,) for window in grid]):
        strip = stitcher.add(window, torch.ones(grid.size, grid.size))
        reached += 0 if strip is None else len(strip.valid)
        assert reached == max(window.row, block.row)
    last = stitcher.finish()
    assert reached + len(last.valid) == block.row + block.rows
    assert stitcher.finish() is None


@given(predictions())
def test_holds_no_more_than_one_height_of_windows(case):
    grid, block, windows = case
    stitcher = Stitcher(grid, block, CPU)
    for item in touching(grid, block, windows):
        stitcher.add(*item)
        for held in (stitcher._values, stitcher._valid):
            assert held.shape[-2:] == (min(grid.size, block.rows), block.cols)
            assert held.untyped_storage().nbytes() == held.numel() * held.itemsize


@given(grids(longest=80, largest=40), st.floats(0, 1, width=32))
def test_a_constant_stays_that_constant(grid, constant):
    windows = [(window, torch.full((grid.size, grid.size), constant)) for window in grid]
    for strip in stitched(Stitcher(grid, whole(grid), CPU), windows):
        assert (strip.values - constant).abs().max() <= 1e-6
        assert strip.valid.all()


def test_given_strips_do_not_change_later():
    grid = Grid(40, 10, 10, 5)
    stitcher = Stitcher(grid, whole(grid), CPU)
    strips, copies = [], []
    for window in grid:
        strip = stitcher.add(window, torch.full((10, 10), float(window.row)))
        if strip is not None:
            strips.append(strip)
            copies.append((strip.values.clone(), strip.valid.clone()))
    stitcher.finish()
    for strip, (values, valid) in zip(strips, copies, strict=True):
        assert strip.values.equal(values)
        assert strip.valid.equal(valid)


def test_what_is_given_does_not_change():
    values, valid = torch.rand(10, 10), torch.rand(10, 10) < 0.5
    before = values.clone(), valid.clone()
    grid = Grid(15, 15, 10, 5)
    joined(stitched(Stitcher(grid, whole(grid), CPU), [(window, values, valid) for window in grid]))
    assert values.equal(before[0])
    assert valid.equal(before[1])


@settings(max_examples=20)
@given(grids(longest=400, largest=30))
def test_rows_do_not_pile_up_where_windows_are_skipped(grid):
    stitcher = Stitcher(grid, whole(grid), CPU)
    strips = [strip for window in grid if (strip := stitcher.skip(window)) is not None]
    assert max((len(strip.valid) for strip in strips), default=0) <= grid.size
    assert not any(strip.valid.any() or strip.values.any() for strip in strips)
