"""Footprints that touch, from the raster on: parted, simplified and made regular together."""

import numpy as np
import pytest
import rasterio
import scipy.ndimage
import shapely
from affine import Affine
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st

from buildseg.classes import BAND_NAMES
from buildseg.footprints import ShapeOptions, SplitOptions, VectorizeOptions, vectorize
from tiling.errors import OptionError

GSD = 0.3
HOUSES = 5
PLACE = Affine(GSD, 0, 300_000, 0, -GSD, 5_200_000)


def write(path, bands):
    shape = {"count": len(bands), "height": bands[0].shape[0], "width": bands[0].shape[1]}
    kind = {"dtype": "uint8", "nodata": 255, "crs": "EPSG:32632", "transform": PLACE}
    with rasterio.open(path, "w", driver="GTiff", **shape, **kind) as dataset:
        dataset.scales = (1 / 254,) * len(bands)
        dataset.descriptions = BAND_NAMES[: len(bands)]
        dataset.write(np.stack(bands))
    return path


def row_houses(degrees=23.0, seed=0):
    """A row of five houses of 30 x 40 pixels, turned, and the probability of walls between them and around."""
    rows, cols = np.mgrid[:260, :260] - 130.0
    turn = np.radians(degrees)
    along, across = cols * np.cos(turn) + rows * np.sin(turn), rows * np.cos(turn) - cols * np.sin(turn)
    inside = np.maximum(np.abs(along) - 15 * HOUSES, np.abs(across) - 20)
    party = np.abs((along + 15 * HOUSES) % 30 - 15) - 15
    wall = np.minimum(np.abs(inside), np.where(inside < 0, -party, 99))
    noise = np.random.default_rng(seed).normal(0, 6, (2, *rows.shape))
    building = np.clip(127 - 60 * inside + noise[0], 0, 254)
    return building.astype(np.uint8), np.clip(254 * np.exp(-((wall / 1.5) ** 2)) + noise[1], 0, 254).astype(np.uint8)


def footprints(path, split="auto", block=(512, 512), **shape):
    options = ShapeOptions(split=SplitOptions(split), **shape)
    return vectorize(path, VectorizeOptions(crs="native", shape=options, block=block))


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    return write(tmp_path_factory.mktemp("row") / "p.tif", row_houses())


SHAPES = [{"simplify": 0}, {}, {"simplify": 0.6}, {"regularize": True}, {"regularize": True, "max_deviation": 0.5}]


@pytest.mark.parametrize("shape", SHAPES)
def test_row_houses_are_told_apart_and_share_their_walls(row, shape):
    houses = footprints(row, **shape)
    assert len(houses) == HOUSES
    assert houses["area_m2"].to_numpy() == pytest.approx(np.full(HOUSES, 30 * 40 * GSD**2), rel=0.08)
    assert shapely.coverage_is_valid(houses.geometry.to_numpy())
    assert houses.union_all().geom_type == "Polygon"
    assert houses["confidence"].min() > 0.9
    if shape == {"regularize": True}:
        assert (houses["vertices"] == 4).all() and (houses["status"] == "regularized").all()
    elif "regularize" not in shape:
        assert (houses["status"] == "contour").all()


@pytest.mark.parametrize("shape", SHAPES)
def test_row_houses_do_not_depend_on_blocks(row, shape):
    assert_geodataframe_equal(footprints(row, block=(37, 37), **shape), footprints(row, **shape))


def test_sums_of_parts_are_those_of_the_whole(row):
    whole, parts = footprints(row, "none", simplify=0), footprints(row, simplify=0)
    assert len(whole) == 1
    assert parts["area_m2"].sum() == pytest.approx(whole["area_m2"][0], abs=0.05)
    weighted = (parts["confidence"] * parts["area_m2"]).sum() / parts["area_m2"].sum()
    assert weighted == pytest.approx(whole["confidence"][0], abs=2e-3)


def test_without_boundaries_only_necks_part_and_only_when_asked(tmp_path):
    building = np.zeros((80, 160), np.uint8)
    building[20:60, 10:70] = building[20:60, 80:150] = building[35:42, 60:90] = 254
    path = write(tmp_path / "p.tif", [building])
    assert len(footprints(path)) == 1
    assert len(footprints(path, "distance")) == 2
    with pytest.raises(OptionError, match="--split boundary"):
        footprints(path, "boundary")


def test_boundaries_that_are_not_there_are_refused_before_any_work(tmp_path):
    path = write(tmp_path / "p.tif", [np.zeros((80, 160), np.uint8)])
    assert footprints(path).empty
    with pytest.raises(OptionError, match="--split boundary"):
        footprints(path, "boundary")


def test_outlines_that_are_too_large_to_be_read_at_once_stay_whole(row, monkeypatch):
    monkeypatch.setattr("buildseg.footprints.parting._LARGEST", 100)
    assert len(footprints(row)) == 1


def test_regular_parts_stay_valid_on_the_ground(tmp_path):
    smooth = scipy.ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(2, 500, 500)), (0, 2, 2))
    path = write(tmp_path / "p.tif", list(np.clip(127 + 600 * smooth, 0, 254).astype(np.uint8)))
    for split in ("distance", "boundary"):
        houses = footprints(path, split, regularize=True)
        assert houses.is_valid.all() and shapely.coverage_is_valid(houses.geometry.to_numpy())


def test_a_turned_house_becomes_a_rectangle_within_the_bound(row):
    contour = footprints(row, "none", simplify=0).geometry[0]
    regular = footprints(row, "none", regularize=True).iloc[0]
    assert regular["vertices"] == 4
    assert regular["orientation_deg"] == pytest.approx(113, abs=2)
    assert regular.geometry.boundary.hausdorff_distance(contour.boundary) <= 4 * GSD


def test_the_bound_goes_with_regularizing():
    with pytest.raises(OptionError, match="--max-deviation"):
        ShapeOptions(max_deviation=1.0)
    with pytest.raises(OptionError, match="--max-deviation"):
        ShapeOptions(regularize=True, max_deviation=0.0)


@settings(max_examples=20)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(8, 70), st.integers(8, 70)),
    st.sampled_from(["none", "distance", "boundary"]),
    st.booleans(),
)
def test_noise_never_overlaps_and_does_not_depend_on_blocks(tmp_path_factory, seed, block, split, regularize):
    rng = np.random.default_rng(seed)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(2, 80, 60)), (0, 1.6, 1.6))
    bands = np.clip(127 + 600 * smooth, 0, 254).astype(np.uint8)
    path = write(tmp_path_factory.mktemp("noise") / "p.tif", list(bands))
    whole = footprints(path, split, regularize=regularize)
    assert_geodataframe_equal(footprints(path, split, block, regularize=regularize), whole)
    assert whole.is_valid.all()
    polygons = whole.geometry.to_numpy()
    one, other = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    pairs = one < other
    assert shapely.area(shapely.intersection(polygons[one[pairs]], polygons[other[pairs]])).sum() < 1e-6
