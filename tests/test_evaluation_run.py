import logging
import math

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from shapely.affinity import translate

from buildseg.area_of_interest import AreaOfInterest
from buildseg.evaluation.intervals import LEAST_BLOCKS, draw_blocks, interval
from buildseg.evaluation.measures import KEYS
from buildseg.evaluation.options import EvaluateOptions
from buildseg.evaluation.place import MeasuringGrid, local_projection
from buildseg.evaluation.run import Prediction, Where, evaluate
from buildseg.footprints.measures import geodesic_sizes
from buildseg.labels import read_labels
from tiling.errors import LabelError, OptionError, ProbabilityError

UTM = "EPSG:32632"
CORNER = np.array([500_000.0, 5_300_000.0])
PLACE = Affine(0.5, 0, CORNER[0], 0, -0.5, CORNER[1] + 100)
HOUSES = [shapely.box(x, y, x + 12, y + 10) for x in range(5, 165, 20) for y in range(5, 95, 20)]


def write(path, polygons, crs=UTM, **columns):
    placed = [translate(polygon, *CORNER) for polygon in polygons]
    geopandas.GeoDataFrame(columns, geometry=placed, crs=UTM).to_crs(crs).to_file(path)
    return path


def raster(path, levels, crs=UTM, **profile):
    shape = {"height": levels.shape[-2], "width": levels.shape[-1], "dtype": "uint8", "crs": crs, "transform": PLACE}
    with rasterio.open(path, "w", driver="GTiff", **{"count": 1, "nodata": 255, **shape, **profile}) as dataset:
        dataset.write(levels.reshape(-1, *levels.shape[-2:]))
        if dataset.count == 1:
            dataset.scales = (1 / 254,)
    return path


def run(found, truth, where=None, **options):
    return evaluate(
        Prediction(found), read_labels(truth, may_be_empty=True), where or Where(), EvaluateOptions(**options)
    )


def shifted(by=0.0):
    return [translate(house, by) for house in HOUSES]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", UTM])
def test_equal_sides_are_perfect_in_any_crs(tmp_path, crs):
    found = write(tmp_path / "found.gpkg", HOUSES, crs, confidence=[0.9] * len(HOUSES))
    scores = run(found, write(tmp_path / "truth.gpkg", HOUSES)).scores
    assert set(scores.values) == set(KEYS)
    ones = [
        key for key in KEYS if key.startswith(("iou", "f1", "precision", "recall", "object", "ap", "boundary", "vert"))
    ]
    assert {key: scores.values[key] for key in ones} == pytest.approx(dict.fromkeys(ones, 1.0), abs=2e-3)
    assert scores.values["polis_m"] < 0.01 and scores.values["angle_error_deg"] < 0.1
    assert scores.values["truth_buildings"] == scores.values["matched"] == len(HOUSES)
    assert scores.values["truth_area_m2"] == pytest.approx(120 * len(HOUSES), rel=1e-3)


def test_scores_of_shifted_houses_are_what_they_must_be(tmp_path):
    found, truth = write(tmp_path / "found.gpkg", shifted(2)), write(tmp_path / "truth.gpkg", HOUSES)
    evaluation = run(found, truth, gsd=0.1)
    values = evaluation.scores.values
    assert values["iou"] == pytest.approx(100 / 140, abs=5e-3)
    assert values["precision"] == pytest.approx(100 / 120, abs=5e-3)
    assert values["object_f1"] == 1
    assert values["polis_m"] == pytest.approx(1.0, abs=1e-2)
    assert values["ap50"] is None and values["ece"] is None
    assert evaluation.about["gsd_m"] == 0.1
    assert evaluation.about["area"] == "the rectangle around the truth"


def test_each_side_is_read_once_it_is_repaired(tmp_path, caplog):
    bow_tie = shapely.Polygon([(300, 0), (310, 10), (310, 0), (300, 10)])
    truth = write(tmp_path / "truth.gpkg", [*HOUSES, translate(bow_tie, -150, 20)])
    with caplog.at_level(logging.WARNING):
        values = run(write(tmp_path / "found.gpkg", HOUSES), truth).scores.values
    assert "1 of 41 geometries were broken and are repaired" in caplog.text
    assert values["truth_buildings"] == 42 and values["matched"] == 40


@pytest.mark.parametrize(("ours", "theirs"), [(0, 40), (40, 0), (0, 0)])
def test_nothing_on_a_side_is_no_crash_and_no_score(tmp_path, ours, theirs):
    found = write(tmp_path / "found.geojson", HOUSES[:ours], "EPSG:4326", confidence=[0.5] * ours)
    truth = write(tmp_path / "truth.geojson", HOUSES[:theirs], "EPSG:4326")
    values = run(found, truth).scores.values
    assert values["iou"] == (0 if ours or theirs else None)
    assert values["precision"] == (0 if ours else None)
    assert values["object_recall"] == (0 if theirs else None)
    assert values["ap50"] == (0 if theirs else None)
    assert values["polis_m"] is None and values["best_threshold"] is None
    assert values["missed"] == theirs and values["false"] == ours


def test_sides_apart_are_refused(tmp_path):
    found = write(tmp_path / "found.gpkg", [translate(house, 5000) for house in HOUSES])
    truth = write(tmp_path / "truth.gpkg", HOUSES)
    with pytest.raises(LabelError, match="none of 40 footprints of the prediction lies where the truth does"):
        run(found, truth)
    levels = raster(tmp_path / "p.tif", np.zeros((200, 360), np.uint8))
    with pytest.raises(LabelError, match=r"p.tif lies outside its labels: none of 40 buildings"):
        run(levels, found)


def test_area_of_interest_cuts_both_sides(tmp_path):
    found, truth = write(tmp_path / "found.gpkg", shifted(2)), write(tmp_path / "truth.gpkg", HOUSES)
    aoi = AreaOfInterest.read(write(tmp_path / "aoi.geojson", [shapely.box(0, 0, 50, 100)], "EPSG:4326"))
    evaluation = run(found, truth, Where(aoi=aoi), gsd=0.2)
    assert evaluation.about["compared_km2"] == pytest.approx(50 * 100 / 1e6, rel=0.01)
    assert evaluation.about["area"] == "--aoi"
    assert evaluation.scores.values["truth_buildings"] == 15
    assert evaluation.scores.values["truth_area_m2"] == pytest.approx(10 * 120 + 5 * 5 * 10, rel=0.01)
    assert evaluation.scores.values["prediction_area_m2"] == pytest.approx(10 * 120 + 5 * 3 * 10, rel=0.01)
    beyond = AreaOfInterest.read(write(tmp_path / "b.geojson", [shapely.box(900, 0, 950, 100)], "EPSG:4326"))
    levels = raster(tmp_path / "p.tif", np.zeros((200, 360), np.uint8))
    with pytest.raises(OptionError, match="--aoi does not touch"):
        run(levels, truth, Where(aoi=beyond))
    with pytest.raises(OptionError, match="--aoi holds none of 40 footprints and 40 buildings"):
        run(found, truth, Where(aoi=beyond))


def test_coordinates_beyond_the_earth_are_refused(tmp_path):
    far = write(tmp_path / "far.gpkg", [translate(house, 1e12, 1e12) for house in HOUSES])
    with pytest.raises(LabelError, match="no place on earth in WGS 84 / UTM zone 32N; check the CRS"):
        run(far, far)


def test_truth_without_buildings_is_said(tmp_path, caplog):
    run(write(tmp_path / "found.gpkg", HOUSES), write(tmp_path / "truth.gpkg", HOUSES[:0]))
    assert "truth.gpkg holds no building: all that is found counts as false" in caplog.text


def test_only_valid_pixels_of_the_image_count(tmp_path):
    pixels = np.full((3, 200, 360), 90, np.uint8)
    pixels[:, :, :100] = 0
    image = raster(tmp_path / "image.tif", pixels, nodata=0, count=3)
    found, truth = write(tmp_path / "found.gpkg", shifted(2)), write(tmp_path / "truth.gpkg", HOUSES)
    evaluation = run(found, truth, Where(image=image))
    assert evaluation.about["compared_km2"] == pytest.approx(130 * 100 / 1e6, rel=1e-3)
    assert evaluation.scores.values["truth_buildings"] == len(HOUSES) - 10
    assert "valid pixels" in evaluation.about["area"]


def probability(tmp_path, by=0):
    """Houses whose probability is the higher the farther east they stand, in a raster of half metres."""
    levels = np.full((200, 360), 10, np.uint8)
    for house in HOUSES:
        left, bottom, right, top = (round(2 * value) for value in house.bounds)
        levels[200 - top : 200 - bottom, left + by : right + by] = 140 + left // 4
    levels[:, 340:] = 255
    return raster(tmp_path / "p.tif", levels), levels


def test_probabilities_are_compared_pixel_by_pixel(tmp_path):
    path, levels = probability(tmp_path, by=4)
    evaluation = run(path, write(tmp_path / "truth.geojson", HOUSES, "EPSG:4326"))
    values = evaluation.scores.values
    assert values["iou"] == pytest.approx(100 / 140)
    assert values["f1"] == pytest.approx(100 / 120)
    assert values["matched"] == values["prediction_buildings"] == len(HOUSES)
    assert values["ap50"] == pytest.approx(1)
    assert values["best_threshold"] < 0.6 and values["f1_at_best_threshold"] == pytest.approx(values["f1"])
    assert evaluation.about["compared_km2"] == pytest.approx(170 * 100 / 1e6, rel=1e-3)
    assert sum(each.number for each in evaluation.scores.reliability) == (levels != 255).sum()
    strict = run(path, tmp_path / "truth.geojson", threshold=0.7).scores.values
    assert 0 < strict["recall"] < values["recall"]


def test_empty_pixels_are_empty_where_the_file_does_not_say_so(tmp_path):
    path, levels = probability(tmp_path)
    raster(path, levels, nodata=None)
    assert run(path, write(tmp_path / "truth.gpkg", HOUSES)).about["compared_km2"] == pytest.approx(0.017, rel=1e-3)


def test_probability_rasters_only(tmp_path):
    truth = write(tmp_path / "truth.gpkg", HOUSES)
    raster(tmp_path / "image.tif", np.full((3, 200, 360), 90, np.uint8), count=3)
    with pytest.raises(ProbabilityError, match="3 bands"):
        run(tmp_path / "image.tif", truth)
    with pytest.raises(OptionError, match="--gsd: a probability raster is compared at its own resolution"):
        run(probability(tmp_path)[0], truth, gsd=0.3)


def test_confidences_are_checked(tmp_path):
    truth = write(tmp_path / "truth.gpkg", HOUSES)
    found = write(tmp_path / "found.gpkg", HOUSES, confidence=[90.0] * 40, sure=[0.9] * 40)
    with pytest.raises(LabelError, match="confidence holds values that are no confidence from 0 to 1"):
        run(found, truth)
    with pytest.raises(OptionError, match=r"--confidence: .* has no attribute 'shure'; check the name, or give none"):
        evaluate(Prediction(found, confidence="shure"), read_labels(truth), Where(), EvaluateOptions())
    without = evaluate(Prediction(found, confidence=None), read_labels(truth), Where(), EvaluateOptions())
    assert without.scores.values["ap50"] is None
    named = evaluate(Prediction(found, confidence="sure"), read_labels(truth), Where(), EvaluateOptions())
    assert named.scores.values["ap50"] == pytest.approx(1)
    assert named.scores.values["ece"] == pytest.approx(0.1, abs=0.002)


def test_intervals_hold_the_score_and_are_the_same_every_time(tmp_path):
    rng = np.random.default_rng(0)
    found = [translate(house, *rng.uniform(-3, 3, 2)) for house in HOUSES[::2]]
    found = write(tmp_path / "found.gpkg", found, confidence=rng.uniform(0, 1, len(found)))
    truth = write(tmp_path / "truth.gpkg", HOUSES)
    scores = run(found, truth, block=20).scores
    assert {"iou", "boundary_iou", "object_f1", "ap50_95", "polis_m", "ece"} <= set(scores.intervals)
    for key, (low, high) in scores.intervals.items():
        assert low <= scores.values[key] <= high
    low, high = scores.intervals["object_recall"]
    assert 0.05 < high - low < 0.5
    assert run(found, truth, block=20).scores.intervals == scores.intervals
    assert run(found, truth, block=20, seed=1).scores.intervals != scores.intervals
    assert run(found, truth, block=100).scores.intervals == {}


def test_blocks_are_drawn_with_replacement():
    draws = draw_blocks(20, 0)
    assert (draws.sum(axis=1) == 20).all()
    assert draws.mean(axis=0) == pytest.approx(np.ones(20), abs=0.15)
    assert draws.var() == pytest.approx(0.95, abs=0.05)
    assert draw_blocks(LEAST_BLOCKS - 1, 0).shape == (0, LEAST_BLOCKS - 1)
    assert interval(np.arange(1000) / 999) == pytest.approx((0.025, 0.975))
    assert interval(np.full(9, np.nan)) is None


@pytest.mark.parametrize("latitude", [-89.9, -45.0, 0.0, 60.0])
@pytest.mark.parametrize("longitude", [7.0, 179.99])
def test_areas_are_right_anywhere(latitude, longitude):
    step = 1e-3
    lon = (longitude + step * np.array([0, 30, 30, 0]) + 180) % 360 - 180
    points = np.column_stack([lon, latitude + step * np.array([0, 0, 30, 30])])
    wgs84 = pyproj.CRS.from_epsg(4326)
    metric = local_projection(points, wgs84)
    to_metres = pyproj.Transformer.from_crs(wgs84, metric, always_xy=True)
    square = shapely.Polygon(np.column_stack(to_metres.transform(*points.T)))
    assert square.area == pytest.approx(geodesic_sizes(np.array([square]), metric)[0][0], rel=1e-4)
    assert max(np.abs(square.bounds)) < 10_000


def test_areas_are_right_far_from_the_middle():
    wgs84 = pyproj.CRS.from_epsg(4326)
    metric = local_projection(np.array([[8.0, 44.0], [8.0, 56.0]]), wgs84)
    corner = pyproj.Transformer.from_crs(wgs84, metric, always_xy=True).transform(8.0, 56.0)
    square = shapely.box(*corner, *(np.array(corner) + 100))
    assert geodesic_sizes(np.array([square]), metric)[0][0] == pytest.approx(10_000, rel=1e-4)


def test_grid_blocks_have_the_side_that_was_asked_for():
    metric = local_projection(np.array([[8.0, 47.0]]), pyproj.CRS.from_epsg(4326))
    grid = MeasuringGrid.over(metric, Affine.identity(), (10_000, 9_000), 0.5, metric, 1500.0)
    assert grid.piece * grid.pieces_across == pytest.approx(3000, abs=2) and grid.piece <= 2048
    assert grid.blocks == 4 * 3
    assert len(list(grid.pieces())) == len(grid)
    default = MeasuringGrid.over(metric, Affine.identity(), (10_000, 10_000), 0.5, metric, None)
    assert default.blocks == 100
    with pytest.raises(OptionError, match="--block 20 makes 62,500 blocks"):
        MeasuringGrid.over(metric, Affine.identity(), (10_000, 10_000), 0.5, metric, 20.0)
    small = MeasuringGrid.over(metric, Affine.identity(), (400, 400), 0.5, metric, None)
    assert math.isclose(small.piece * small.gsd, 50)


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"threshold": 1.0}, "--threshold"),
        ({"min_area": -1.0}, "--min-area"),
        ({"boundary": 0.0}, "--boundary"),
        ({"gsd": -0.3}, "--gsd"),
        ({"block": math.inf}, "--block"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_options_out_of_range(options, flag):
    with pytest.raises(OptionError, match=flag):
        EvaluateOptions(**options)
