import numpy as np
import pytest
import shapely
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS
from torchmetrics.functional.classification import binary_calibration_error, binary_f1_score, binary_stat_scores

from buildseg.evaluation.calibration import best_threshold, calibration_error, reliability
from buildseg.evaluation.counting import Counter, GroundSides, Surface, everything
from buildseg.evaluation.pixels import count_boundary, count_levels, count_pixels
from buildseg.evaluation.place import MeasuringGrid
from tiling import rasterize_labels

WHOLE = (slice(None), slice(None))
METRES = CRS.from_user_input("+proj=laea +lat_0=47 +lon_0=8 +datum=WGS84")


def masks(seed, shape=(60, 80)):
    rng = np.random.default_rng(seed)
    coarse = rng.random((2, shape[0] // 4, shape[1] // 4)) < 0.4
    truth, found = np.kron(coarse, np.ones((4, 4), bool)).astype(bool)
    return truth, found ^ (rng.random(shape) < 0.05), rng.random(shape) < 0.9


@given(st.integers(0, 1000))
def test_pixels_are_counted_as_torchmetrics_counts_them(seed):
    truth, found, valid = masks(seed)
    target = torch.where(torch.from_numpy(valid), torch.from_numpy(truth).long(), 255)
    hit, false, right, missed, _ = binary_stat_scores(torch.from_numpy(found), target, ignore_index=255).tolist()
    assert count_pixels(truth, found, valid).tolist() == [hit, false, missed, right]


def slow_rim(mask, distance):
    """Pixels of the mask from which a square of the distance reaches out of it."""
    padded = np.pad(mask, distance)
    shifts = range(2 * distance + 1)
    kept = np.ones_like(mask)
    for down in shifts:
        for across in shifts:
            kept &= padded[down : down + mask.shape[0], across : across + mask.shape[1]]
    return mask & ~kept


@given(st.integers(0, 1000), st.integers(1, 4))
def test_boundary_pixels_are_those_of_the_definition(seed, distance):
    truth, found, _ = masks(seed, (24, 32))
    ours, theirs = slow_rim(found, distance), slow_rim(truth, distance)
    expected = [(ours & theirs).sum(), (ours | theirs).sum()]
    assert count_boundary(truth, found, distance, WHOLE).tolist() == expected


def town(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-5, 95, (2, 25, 2))
    return [shapely.box(*side.T, *(side + rng.uniform(2, 25, side.shape)).T) for side in corners]


def grid(piece, shape=(90, 100), across=1):
    return MeasuringGrid(METRES, Affine(0.5, 0, -20, 0, -0.5, 30), *shape, 0.5, METRES, piece, across)


@settings(max_examples=30)
@given(st.integers(0, 200), st.integers(23, 120))
def test_counts_do_not_depend_on_the_pieces(seed, piece):
    found, truth = town(seed)
    area = shapely.Point(50, 45).buffer(60)
    _, _, valid = masks(seed, (92, 100))

    def look(block):
        return Surface(valid[block.row : block.row + block.rows, block.col : block.col + block.cols])

    counted = Counter(grid(piece), GroundSides(found, truth, area), look, 2, 0).count()
    drawn = [rasterize_labels(side, (90, 100), Affine.identity()) > 0 for side in (truth, found, [area])]
    inside = valid[:90] & drawn[2]
    assert counted.tallies.pixels.sum(axis=0).tolist() == count_pixels(*drawn[:2], inside).tolist()
    expected = count_boundary(drawn[0] & inside, drawn[1] & inside, 2, WHOLE)
    assert counted.tallies.boundary.sum(axis=0).tolist() == expected.tolist()
    for blocks, side in ((counted.found, found), (counted.truth, truth)):
        rows, cols = shapely.get_coordinates(shapely.point_on_surface(side)).astype(int).T[::-1]
        cols, rows = cols.clip(0, 99), rows.clip(0, 89)
        expected = np.where(inside[rows, cols], rows // piece * -(-100 // piece) + cols // piece, -1)
        assert blocks.tolist() == expected.tolist()


def test_several_pieces_make_a_block():
    sides = GroundSides(*town(3), shapely.box(0, 0, 100, 90))
    fine = Counter(grid(10, across=3), sides, everything, 1, 0).count()
    coarse = Counter(grid(30), sides, everything, 1, 0).count()
    assert fine.tallies.pixels.tolist() == coarse.tallies.pixels.tolist()
    assert fine.truth.tolist() == coarse.truth.tolist()
    assert len(fine.tallies.pixels) == 3 * 4


def probabilities(seed):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 255, (40, 50)).astype(np.uint8)
    return levels, rng.random(levels.shape) < (levels / 254) ** 1.5, rng.random(levels.shape) < 0.8


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_is_that_of_torchmetrics(seed):
    levels, truth, valid = probabilities(seed)
    counted = count_levels(levels, truth, valid)
    expected = binary_calibration_error(
        torch.from_numpy(levels[valid] / 254.0), torch.from_numpy(truth[valid]).long(), n_bins=15, norm="l1"
    )
    assert calibration_error(counted[None])[0] == pytest.approx(float(expected), abs=1e-6)
    bars = reliability(counted)
    assert sum(each.number for each in bars) == valid.sum()
    error = sum(each.number * abs(each.probability - each.frequency) for each in bars) / valid.sum()
    assert error == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_best_threshold_is_the_best_of_all(seed):
    levels, truth, valid = probabilities(seed)
    target = torch.from_numpy(truth[valid])
    scores = [float(binary_f1_score(torch.from_numpy(levels[valid] >= least), target)) for least in range(1, 255)]
    counted = count_levels(levels, truth, valid)
    threshold, best = best_threshold(counted, int(counted[:, 1].sum()))
    assert best == pytest.approx(max(scores), abs=1e-6)
    assert threshold == pytest.approx((np.argmax(scores) + 0.5) / 254)


def test_nothing_to_calibrate():
    nothing = np.zeros((255, 2), np.int64)
    assert np.isnan(calibration_error(nothing[None])).all()
    assert reliability(nothing) == []
    assert best_threshold(nothing, 0) is None
    assert best_threshold(nothing, 5) is None
