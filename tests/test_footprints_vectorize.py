import math
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow.feather
import pyproj
import pytest
import rasterio
import scipy.ndimage
import shapely
from affine import Affine
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st

from buildseg.footprints import ShapeOptions, VectorizeOptions, vectorize, vectorized
from tiling.errors import OptionError, ProbabilityError

GSD = 0.3
UTM = "EPSG:32632"
NORTH_UP = Affine(GSD, 0, 300_000, 0, -GSD, 5_200_000)
COLUMNS = ["id", "confidence", "edge_width_m", "area_m2", "perimeter_m", "orientation_deg", "vertices", "status"]
COLUMNS += ["scene", "geometry"]
SMALL = np.full((20, 20), 254, np.uint8)
RAW = {"min_area": 0, "shape": ShapeOptions(0), "crs": "native"}


def write_raster(path: Path, samples, crs=UTM, transform=NORTH_UP, **changes) -> Path:
    scale = changes.pop("scale", 1 / 254)
    bands = np.atleast_3d(samples.T).T
    profile = {"dtype": bands.dtype, "count": len(bands), "nodata": 255, "crs": crs, "transform": transform}
    shape = {"height": bands.shape[1], "width": bands.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", **{**profile, **shape, **changes}) as dataset:
        dataset.scales = (scale,) * len(bands)
        dataset.write(bands)
    return path


def rectangle(shape, rows, cols, value=254):
    samples = np.zeros(shape, np.uint8)
    samples[slice(*rows), slice(*cols)] = value
    return samples


def true_area(planar, crs, x, y):
    """Planar area in a conformal or other projection, brought to the ellipsoid by the scale there."""
    projection = pyproj.Proj(crs)
    return planar / projection.get_factors(*projection(x, y, inverse=True)).areal_scale


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    rng = np.random.default_rng(5)
    rows, cols = np.indices((150, 170))
    wave = np.sin(rows / 5) * np.cos(cols / 7) * 140 + 110 + rng.normal(0, 12, rows.shape)
    samples = np.clip(wave, 0, 254).astype(np.uint8)
    samples[40:60, 100:140] = 255
    return write_raster(tmp_path_factory.mktemp("noisy") / "p.tif", samples), samples


# ---- the frame


def test_frame_has_the_columns_and_wgs84_by_default(noisy):
    frame = vectorize(noisy[0], VectorizeOptions())
    assert list(frame.columns) == COLUMNS
    assert frame.crs == "EPSG:4326"
    assert (frame.geom_type == "Polygon").all() and frame.is_valid.all()
    assert frame["id"].tolist() == list(range(1, len(frame) + 1))
    assert frame["area_m2"].min() >= 5
    assert np.array_equal(frame["area_m2"], frame["area_m2"].round(2))
    assert frame["confidence"].between(0.5, 1).all()
    west, south, east, north = frame.total_bounds
    assert 6.3 < west < east < 6.4 and 46.8 < south < north < 47


@pytest.mark.parametrize("crs", ["wgs84", "native"])
@pytest.mark.parametrize("block", [(11, 11), (37, 90), (64, 16)])
def test_frame_does_not_depend_on_the_block_size(noisy, block, crs):
    whole = vectorize(noisy[0], VectorizeOptions(min_area=1, crs=crs))
    parts = vectorize(noisy[0], VectorizeOptions(min_area=1, crs=crs, block=block))
    assert_geodataframe_equal(parts, whole)
    assert (whole.geometry.to_wkb() == parts.geometry.to_wkb()).all()


def test_ids_run_from_the_top_down(noisy):
    frame = vectorize(noisy[0], VectorizeOptions(**RAW))
    assert (np.diff(frame.bounds["maxy"]) <= 0).all()


def test_progress_counts_the_blocks(noisy):
    seen = []

    def track(items, label, total):
        assert total == 9
        for item in items:
            seen.append(label)
            yield item

    vectorize(noisy[0], VectorizeOptions(block=(64, 64)), track=track)
    assert len(seen) == 9


@pytest.mark.parametrize("value", [0, 255, 126])
def test_no_building_gives_an_empty_frame(tmp_path, value):
    frame = vectorize(write_raster(tmp_path / "p.tif", np.full((40, 30), value, np.uint8)), VectorizeOptions())
    assert len(frame) == 0
    assert list(frame.columns) == COLUMNS
    kinds = frame.dtypes.astype(str)
    assert (kinds[["id", "vertices"]] == "int64").all() and kinds["geometry"] == "geometry"
    assert (kinds[["confidence", "edge_width_m", "area_m2", "perimeter_m", "orientation_deg"]] == "float64").all()
    assert frame.crs == "EPSG:4326"


# ---- place and area


@pytest.mark.parametrize("degrees", [0, 30, 135])
@pytest.mark.parametrize("east", [300_000, 500_000, 800_000])
def test_known_rectangle_in_utm_has_its_place_and_its_area(tmp_path, degrees, east):
    transform = Affine.translation(east, 5_200_000) @ Affine.rotation(degrees) @ Affine.scale(GSD, -GSD)
    path = write_raster(tmp_path / "p.tif", rectangle((90, 140), (20, 70), (30, 130)), transform=transform)
    frame = vectorize(path, VectorizeOptions(shape=ShapeOptions(0), crs="native"))
    outline = shapely.Polygon([transform @ corner for corner in [(30, 20), (130, 20), (130, 70), (30, 70)]])
    assert len(frame) == 1
    assert frame.geometry[0].hausdorff_distance(outline) < GSD
    assert frame["area_m2"][0] == pytest.approx(true_area(outline.area, UTM, east, 5_200_000), rel=1e-3)
    wgs84 = vectorize(path, VectorizeOptions(shape=ShapeOptions(0)))
    assert wgs84["area_m2"][0] == pytest.approx(frame["area_m2"][0], rel=1e-3)
    assert wgs84.to_crs(UTM).geometry[0].hausdorff_distance(frame.geometry[0]) < 0.01


@pytest.mark.parametrize("latitude", [-75.0, 0.0, 60.0])
def test_known_rectangle_in_degrees_has_its_area(tmp_path, latitude):
    step = 2e-6
    transform = Affine(step, 0, 10, 0, -step, latitude)
    path = write_raster(tmp_path / "p.tif", rectangle((90, 140), (20, 70), (30, 130)), "EPSG:4326", transform)
    frame = vectorize(path, VectorizeOptions(shape=ShapeOptions(0)))
    ring = [transform @ corner for corner in [(30, 20), (130, 20), (130, 70), (30, 70)]]
    truth, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shapely.Polygon(ring))
    assert frame["area_m2"][0] == pytest.approx(abs(truth), rel=2e-3)


def test_hole_is_left_out_of_the_area(tmp_path):
    samples = rectangle((100, 100), (10, 90), (10, 90))
    samples[30:70, 30:70] = 0
    frame = vectorize(write_raster(tmp_path / "p.tif", samples), VectorizeOptions(shape=ShapeOptions(0)))
    planar = (80**2 - 40**2) * GSD**2
    assert len(frame.geometry[0].interiors) == 1
    assert frame["area_m2"][0] == pytest.approx(true_area(planar, UTM, 300_000, 5_200_000), rel=1e-3)


@pytest.mark.parametrize("crs", ["native", "EPSG:3857", "epsg:25832", "EPSG:4258"])
def test_crs_is_the_one_asked_for(noisy, crs):
    frame = vectorize(noisy[0], VectorizeOptions(crs=crs))
    assert frame.crs == (UTM if crs == "native" else crs.upper())
    reference = vectorize(noisy[0], VectorizeOptions(crs="native")).to_crs(frame.crs)
    assert frame.geom_equals_exact(reference, 1e-7 if frame.crs.is_geographic else 1e-3).all()
    assert frame.is_valid.all()


def test_building_on_the_antimeridian_is_cut_there(tmp_path):
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32760", always_xy=True).transform(180, -17)
    transform = Affine(GSD, 0, x - 30 * GSD, 0, -GSD, y)
    path = write_raster(tmp_path / "p.tif", rectangle((60, 80), (10, 50), (10, 60)), "EPSG:32760", transform)
    native = vectorize(path, VectorizeOptions(crs="native"))
    cut = vectorize(path, VectorizeOptions())
    assert len(native) == 1 and len(cut) == 2
    assert cut["area_m2"].sum() == pytest.approx(native["area_m2"].sum(), rel=1e-3)
    assert (cut.bounds["maxx"] - cut.bounds["minx"] < 1e-3).all()
    assert cut.total_bounds[0] == -180 and cut.total_bounds[2] == 180
    assert cut["id"].tolist() == [1, 2]


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:3395"])
def test_building_on_the_antimeridian_does_not_go_round_the_world(tmp_path, crs):
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32760", always_xy=True).transform(180, -17)
    transform = Affine(GSD, 0, x - 30 * GSD, 0, -GSD, y)
    path = write_raster(tmp_path / "p.tif", rectangle((60, 80), (10, 50), (10, 60)), "EPSG:32760", transform)
    native, cut = (vectorize(path, VectorizeOptions(crs=choice)) for choice in ("native", crs))
    assert len(cut) == 2
    assert (cut.bounds["maxx"] - cut.bounds["minx"] < 20).all()
    assert cut["area_m2"].sum() == pytest.approx(native["area_m2"].sum(), rel=1e-3)


# ---- options that shape footprints


def test_threshold_moves_the_outline(tmp_path):
    ramp = np.minimum(np.arange(0, 254, 2), 254).astype(np.uint8)
    path = write_raster(tmp_path / "p.tif", np.tile(ramp, (50, 1)))
    for threshold in (0.2, 0.5, 0.8):
        west = vectorize(path, VectorizeOptions(threshold, **RAW)).total_bounds[0]
        assert (west - NORTH_UP.c) / GSD == pytest.approx(threshold * 127 + 0.5, abs=0.5)


def test_threshold_takes_in_pixels_that_reach_it(tmp_path):
    path = write_raster(tmp_path / "p.tif", rectangle((30, 30), (5, 25), (5, 25), 127))
    assert len(vectorize(path, VectorizeOptions(0.5))) == 1
    assert len(vectorize(path, VectorizeOptions(0.501))) == 0


def test_min_area_counts_true_square_metres(tmp_path):
    step = 1e-5
    samples = rectangle((40, 60), (5, 15), (5, 15)) | rectangle((40, 60), (5, 35), (25, 55))
    path = write_raster(tmp_path / "p.tif", samples, "EPSG:4326", Affine(step, 0, 10, 0, -step, 60))
    areas = vectorize(path, VectorizeOptions(min_area=0, shape=ShapeOptions(0)))["area_m2"].tolist()
    assert areas == pytest.approx([10 * 10 * 0.6217, 30 * 30 * 0.6217], rel=0.01)
    assert vectorize(path, VectorizeOptions(min_area=70, shape=ShapeOptions(0)))["area_m2"].tolist() == areas[1:]
    assert vectorize(path, VectorizeOptions(min_area=1000)).empty


def test_simplifying_does_not_decide_whether_it_is_a_building(tmp_path):
    rows, cols = np.indices((40, 40)) - 20
    disc = np.clip(127 + 60 * (9 - np.hypot(rows, cols)), 0, 254).astype(np.uint8)
    path = write_raster(tmp_path / "p.tif", disc)
    (area,) = vectorize(path, VectorizeOptions(shape=ShapeOptions(0)))["area_m2"]
    simple = vectorize(path, VectorizeOptions(min_area=area - 1, shape=ShapeOptions(1.2)))
    assert len(simple) == 1 and simple["area_m2"][0] < area - 1
    assert vectorize(path, VectorizeOptions(min_area=area + 1, shape=ShapeOptions(1.2))).empty


@pytest.mark.parametrize("tolerance", [None, 0.05, 0.4, 1.5])
def test_simplified_outlines_stay_within_the_tolerance(noisy, tolerance):
    raw = vectorize(noisy[0], VectorizeOptions(**RAW))
    simple = vectorize(noisy[0], VectorizeOptions(min_area=0, shape=ShapeOptions(tolerance), crs="native"))
    bound = GSD / 2 if tolerance is None else tolerance
    assert len(simple) == len(raw)
    assert simple.is_valid.all()
    assert raw.boundary.hausdorff_distance(simple.boundary).max() <= bound * 1.01
    assert simple.count_coordinates().sum() < 0.9 * raw.count_coordinates().sum()


def test_simplify_is_in_metres_in_degrees_too(tmp_path):
    step = 3e-6
    rows, cols = np.indices((200, 300))
    ellipse = (254 * (np.hypot((rows - 100) / 80, (cols - 150) / 120) < 1)).astype(np.uint8)
    path = write_raster(tmp_path / "p.tif", ellipse, "EPSG:4326", Affine(step, 0, 9, 0, -step, 60))
    raw = vectorize(path, VectorizeOptions(shape=ShapeOptions(0))).to_crs(UTM)
    simple = vectorize(path, VectorizeOptions(shape=ShapeOptions(1.5))).to_crs(UTM)
    assert 1 < raw.boundary.hausdorff_distance(simple.boundary)[0] <= 1.52


def test_confidence_is_the_mean_probability_inside(noisy):
    path, samples = noisy
    frame = vectorize(path, VectorizeOptions(**RAW))
    shapes = zip(frame.geometry, frame["id"], strict=True)
    labels = rasterio.features.rasterize(shapes, samples.shape, transform=NORTH_UP)
    mean = np.bincount(labels.ravel(), samples.ravel()) / np.bincount(labels.ravel()) / 254
    assert frame["confidence"].tolist() == pytest.approx(mean[1:].tolist(), abs=6e-5)
    assert np.ptp(mean[1:]) > 0.2


def test_nothing_lies_on_nodata(noisy):
    path, samples = noisy
    frame = vectorize(path, VectorizeOptions(**RAW))
    rows, cols = np.nonzero(samples == 255)
    hole = geopandas.GeoSeries(shapely.box(*(NORTH_UP @ (cols, rows + 1)), *(NORTH_UP @ (cols + 1, rows))), crs=UTM)
    assert frame.intersection(hole.union_all()).area.sum() == pytest.approx(0, abs=1e-6)
    assert frame.distance(hole.union_all()).min() == pytest.approx(0, abs=1e-6)


def test_certain_buildings_reach_the_edge_of_the_raster_and_no_farther(tmp_path):
    frame = vectorize(write_raster(tmp_path / "p.tif", SMALL), VectorizeOptions(**RAW))
    reach = len(SMALL) * GSD
    expected = (NORTH_UP.c, NORTH_UP.f - reach, NORTH_UP.c + reach, NORTH_UP.f)
    assert frame.total_bounds.tolist() == pytest.approx(expected, abs=1e-9)


def test_a_core_is_asked_for_anywhere_in_the_footprint(tmp_path):
    samples = rectangle((60, 60), (5, 25), (5, 25), 150) | rectangle((60, 60), (35, 55), (5, 25), 150)
    samples[10, 10] = 200
    path = write_raster(tmp_path / "p.tif", samples)
    assert len(vectorize(path, VectorizeOptions(**RAW))) == 2
    sure = vectorize(path, VectorizeOptions(core=200 / 254, block=(7, 7), **RAW))
    assert len(sure) == 1 and sure["area_m2"][0] > 300 * GSD**2
    assert vectorize(path, VectorizeOptions(core=201 / 254, **RAW)).empty


def test_small_holes_are_filled_unless_a_footprint_stands_there(tmp_path):
    samples = np.zeros((60, 120), np.uint8)
    for left in (5, 65):
        samples[5:55, left : left + 50] = 254
        samples[15:35, left + 10 : left + 30] = 0
        samples[40:44, left + 40 : left + 44] = 0
    samples[22:28, 82:88] = 254
    path = write_raster(tmp_path / "p.tif", samples)

    def holes(smallest):
        found = vectorize(path, VectorizeOptions(min_area=1, shape=ShapeOptions(0, smallest), block=(16, 16)))
        return [len(shape.interiors) for shape in found.geometry]

    assert holes(0) == [2, 2, 0]
    assert holes(5) == [1, 1, 0]
    assert holes(50) == [0, 2, 0]


def test_measures_of_a_known_building(tmp_path):
    turned = Affine.translation(690_000, 5_340_000) @ Affine.rotation(-20) @ Affine.scale(GSD, -GSD)
    path = write_raster(tmp_path / "p.tif", rectangle((90, 140), (20, 70), (30, 130)), transform=turned)
    row = vectorize(path, VectorizeOptions(shape=ShapeOptions(0.1))).iloc[0]
    assert row["perimeter_m"] == pytest.approx(2 * (100 + 50) * GSD, rel=0.01)
    convergence = pyproj.Proj(UTM).get_factors(*pyproj.Proj(UTM)(690_000, 5_340_000, inverse=True)).meridian_convergence
    assert row["orientation_deg"] == pytest.approx(110 + convergence, abs=0.3)
    assert row["vertices"] == shapely.get_num_coordinates(row.geometry) - 1
    assert row["status"] == "contour"


def test_the_rim_is_wider_where_the_edge_is_less_sure(tmp_path):
    cols = np.abs(np.arange(60) - 29.5)
    widths = []
    for slope in (40, 20, 10):
        profile = np.clip(127 + slope * (15 - cols), 0, 254)
        path = write_raster(tmp_path / "p.tif", np.tile(profile, (400, 1)).astype(np.uint8))
        widths.append(vectorize(path, VectorizeOptions(**RAW))["edge_width_m"][0])
    # Half of what is left to certainty, along two long sides.
    assert widths == pytest.approx([63.5 / slope * GSD for slope in (40, 20, 10)], abs=0.8 * GSD)


NOISE = st.integers(0, 2**32 - 1)


@settings(max_examples=25)
@given(NOISE, st.sampled_from([None, 0.2, 0.7]), st.tuples(st.integers(8, 70), st.integers(8, 70)))
def test_footprints_do_not_overlap_and_do_not_depend_on_blocks(tmp_path_factory, seed, tolerance, block):
    rng = np.random.default_rng(seed)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(90, 60)), 1.2)
    samples = np.clip(127 + 400 * smooth, 0, 254).astype(np.uint8)
    path = write_raster(tmp_path_factory.mktemp("noise") / "p.tif", samples)
    shape = ShapeOptions(tolerance, 1.0)
    whole = vectorize(path, VectorizeOptions(min_area=0.2, shape=shape, crs="native"))
    parts = vectorize(path, VectorizeOptions(min_area=0.2, shape=shape, crs="native", block=block))
    assert_geodataframe_equal(parts, whole)
    assert whole.is_valid.all()
    polygons = whole.geometry.to_numpy()
    one, other = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    apart = one < other
    assert shapely.area(shapely.intersection(polygons[one[apart]], polygons[other[apart]])).sum() < 1e-9


def test_what_waits_on_disk_comes_back_as_it_was(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(1300, 90)), 2.5)
    path = write_raster(tmp_path / "p.tif", np.clip(127 + 900 * smooth, 0, 254).astype(np.uint8))
    options = VectorizeOptions(min_area=0.5, block=(100, 100))
    expected = vectorize(path, options)
    written = []
    for name in ("bands", "tables"):
        monkeypatch.setattr(f"buildseg.footprints.{name}._MOST_IN_MEMORY", 20)
    put = pyarrow.feather.write_feather
    monkeypatch.setattr(
        "pyarrow.feather.write_feather", lambda table, file, **how: [written.append(file), put(table, file, **how)]
    )
    with vectorized(path, options) as tables:
        frames = list(tables)
        assert [frame["id"].tolist() for frame in tables] == [frame["id"].tolist() for frame in frames]
        assert tables.count == sum(map(len, frames))
    assert_geodataframe_equal(pd.concat(frames, ignore_index=True), expected)
    kept = {Path(file).name.startswith("footprints") for file in written}
    assert kept == {True, False} and len(written) > 4
    assert not any(Path(file).exists() for file in written)


# ---- refusals


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"threshold": 0}, "--threshold"),
        ({"threshold": 1}, "--threshold"),
        ({"threshold": math.nan}, "--threshold"),
        ({"min_area": -1}, "--min-area"),
        ({"min_area": math.inf}, "--min-area"),
        ({"shape": {"simplify": -0.1}}, "--simplify"),
        ({"shape": {"simplify": math.nan}}, "--simplify"),
        ({"shape": {"min_hole": -1}}, "--min-hole"),
        ({"core": 0.4}, "--core"),
        ({"core": 1.0}, "--core"),
        ({"block": (512, 0)}, "block: 512 x 0"),
        ({"crs": "utm"}, "--crs"),
        ({"crs": "EPSG:1"}, "--crs"),
        ({"crs": "EPSG:4978"}, "--crs"),
        ({"crs": "EPSG:5773"}, "--crs"),
    ],
)
def test_option_out_of_range_names_its_flag(changes, flag):
    with pytest.raises(OptionError, match=f"^{flag} ") as caught:
        VectorizeOptions(
            **{name: ShapeOptions(**value) if name == "shape" else value for name, value in changes.items()}
        )
    assert "\n" not in str(caught.value)


ENGINEERING = 'LOCAL_CS["site",UNIT["metre",1],AXIS["X",EAST],AXIS["Y",NORTH]]'


@pytest.mark.parametrize(
    ("samples", "changes", "says"),
    [
        (np.stack([SMALL] * 3), {}, "3 bands"),
        (SMALL.astype(np.float32), {}, "float32"),
        (SMALL.astype(np.uint16), {}, "uint16"),
        (SMALL, {"crs": None}, "no CRS"),
        (SMALL, {"transform": Affine(1, 0, 0, 1, 0, 0)}, "no usable geotransform"),
        (SMALL, {"scale": 1.0}, "scale"),
        (SMALL, {"nodata": 0}, "nodata value 0"),
        (SMALL, {"crs": ENGINEERING}, "cannot be placed on earth"),
        (SMALL, {"crs": "EPSG:4326"}, "cannot be placed on earth"),
    ],
)
def test_raster_that_holds_no_probabilities_is_refused(tmp_path, samples, changes, says):
    path = write_raster(tmp_path / "p.tif", samples, **changes)
    with pytest.raises(ProbabilityError, match=says) as caught:
        vectorize(path, VectorizeOptions())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_raster_without_geotransform_is_refused(tmp_path):
    path = write_raster(tmp_path / "p.tif", SMALL, transform=None)
    with pytest.raises(ProbabilityError, match="no usable geotransform"):
        vectorize(path, VectorizeOptions())


def test_file_that_is_no_raster_is_refused(tmp_path):
    path = tmp_path / "p.tif"
    with pytest.raises(ProbabilityError, match="does not exist"):
        vectorize(path, VectorizeOptions())
    path.write_text("no raster")
    with pytest.raises(ProbabilityError, match="not a raster"):
        vectorize(path, VectorizeOptions())
    with pytest.raises(ProbabilityError, match="not a raster"):
        vectorize(tmp_path, VectorizeOptions())


def test_raster_cut_short_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (400, 400), np.uint8)
    path = write_raster(tmp_path / "p.tif", noise, compress="deflate")
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(ProbabilityError, match="damaged or cut short"):
        vectorize(path, VectorizeOptions())


def test_raster_that_reaches_out_of_the_target_is_refused(tmp_path):
    path = write_raster(tmp_path / "p.tif", SMALL, "EPSG:4326", Affine(1e-5, 0, 99, 0, -1e-5, 0))
    with pytest.raises(OptionError, match="--crs"):
        vectorize(path, VectorizeOptions(min_area=0, crs=UTM))
