"""A run that is confined to an area gives what the whole run gives there, and does nothing elsewhere."""

from concurrent.futures import ThreadPoolExecutor

import geopandas
import numpy as np
import pytest
import rasterio
import scipy.ndimage
import shapely
from pyproj import Geod

import scenes
from bright_model import bright_model
from buildseg.area_of_interest import REACH, AreaOfInterest, SceneArea
from buildseg.footprints import ShapeOptions, VectorizeOptions
from buildseg.prediction.options import PredictOptions
from buildseg.prediction.run import Outputs, predict
from buildseg.probability import NODATA
from range_server import serving
from tiling import Scene, Window
from tiling.errors import OptionError

SHAPE = (320, 480)
BUILDINGS = {
    "inside": (slice(60, 90), slice(70, 130)),
    "hidden by the hole": (slice(122, 138), slice(112, 128)),
    "across the edge": (slice(150, 190), slice(170, 240)),
    "outside": (slice(250, 290), slice(350, 420)),
    "next to it": (slice(40, 80), slice(260, 300)),
}
# In pixels: a slanting edge through one of the buildings, and a hole around another.
WANTED = shapely.Polygon(
    [(30, 20), (220, 31), (190, 220), (40, 200)], [[(100, 110), (140, 110), (140, 150), (100, 150)]]
)
WINDOW = 64
NATIVE = VectorizeOptions(crs="native", shape=ShapeOptions(0))


def on_ground(shape):
    return shapely.transform(shape, lambda points: np.column_stack(scenes.PLACE @ (points[:, 0], points[:, 1])))


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    pixels = np.full((3, *SHAPE), 20, np.uint8)
    for place in BUILDINGS.values():
        pixels[(slice(None), *place)] = 200
    return scenes.tiled(tmp_path_factory.mktemp("town") / "town.tif", pixels)


def run(scene, folder, area=None, *, polygons=NATIVE, model=None, options=None):
    """Footprints and probabilities."""
    folder.mkdir()
    outputs = Outputs(folder / "found.gpkg", folder / "found.tif")
    predict(scene, outputs, model or bright_model(), options or PredictOptions(window=WINDOW), polygons, area=area)
    with rasterio.open(outputs.probability) as dataset:
        return geopandas.read_file(outputs.footprints), dataset.read(1)


@pytest.fixture(scope="module")
def whole(town, tmp_path_factory):
    return run(town, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def area():
    return AreaOfInterest(on_ground(WANTED), rasterio.crs.CRS.from_string(scenes.UTM).to_wkt())


def test_footprints_are_those_of_the_whole_run_cut_to_the_area(town, whole, area, tmp_path):
    found, _ = run(town, tmp_path / "part", area)
    assert len(whole[0]) == 5
    assert len(found) == 2
    expected = whole[0].geometry.intersection(area.geometry)
    expected = expected[~expected.is_empty]
    for one, other in zip(found.geometry, expected, strict=True):
        assert one.symmetric_difference(other).area < 1e-9 * other.area
    far = whole[0].geometry[whole[0].within(area.geometry)]
    assert len(far) == 1
    assert found.geometry.iloc[0].normalize().equals(far.iloc[0].normalize())
    assert found.geometry.difference(area.geometry.buffer(1e-3)).is_empty.all()


@pytest.mark.parametrize("shape", [ShapeOptions(0), ShapeOptions(), ShapeOptions(2.0), ShapeOptions(regularize=True)])
@pytest.mark.parametrize("edge", [(200, 200), (200.5, 200.5), (190.25, 214)], ids=str)
def test_neighbouring_areas_lose_nothing_between_them(town, tmp_path, edge, shape):
    top, bottom = edge
    left = shapely.Polygon([(0, 0), (top, 0), (bottom, SHAPE[0]), (0, SHAPE[0])])
    sides = [left, shapely.box(0, 0, SHAPE[1], SHAPE[0]).difference(left)]
    crs, polygons = rasterio.crs.CRS.from_string(scenes.UTM).to_wkt(), VectorizeOptions(crs="native", shape=shape)
    halves = [
        run(town, tmp_path / str(number), AreaOfInterest(on_ground(side), crs), polygons=polygons)[0]
        for number, side in enumerate(sides)
    ]
    assert [len(half) for half in halves] == [3, 3]
    for half, side in zip(halves, sides, strict=True):
        assert half.union_all().difference(on_ground(side)).area < 1e-6
    whole = run(town, tmp_path / "whole", polygons=polygons)[0].union_all()
    parts = shapely.union_all([piece for half in halves for piece in half.geometry], grid_size=1e-6)
    assert parts.symmetric_difference(whole).area < 1e-3


def test_areas_are_those_of_the_pieces(town, area, tmp_path):
    found, _ = run(town, tmp_path / "part", area, polygons=VectorizeOptions(shape=ShapeOptions(0)))
    truth = [abs(Geod(ellps="WGS84").geometry_area_perimeter(shape)[0]) for shape in found.geometry]
    np.testing.assert_allclose(found.area_m2, truth, atol=0.02)
    assert found.area_m2.iloc[0] == pytest.approx(30 * 60 / 4, rel=0.1)
    assert found.area_m2.iloc[1] < 0.8 * 40 * 70 / 4


def test_probabilities_are_those_of_the_whole_run_and_nodata_far_from_it(town, whole, area, tmp_path):
    _, levels = run(town, tmp_path / "part", area)
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    squares = shapely.box(cols, rows, cols + 1, rows + 1)
    shared = shapely.area(shapely.intersection(WANTED, squares))
    around = np.ones((2 * REACH + 1, 2 * REACH + 1))
    needed = scipy.ndimage.binary_dilation(shared > 1e-3, around)
    np.testing.assert_array_equal(levels[needed], whole[1][needed])
    beyond = ~scipy.ndimage.binary_dilation(shapely.intersects(WANTED, squares), around)
    assert beyond.sum() > 20_000
    assert (levels[beyond] == NODATA).all()
    assert (whole[1] != NODATA).all()


def test_the_result_does_not_depend_on_the_blocks(town, area, tmp_path):
    first, levels = run(town, tmp_path / "one", area)
    for block in (64, 97):
        options = PredictOptions(window=WINDOW, block=block)
        other, other_levels = run(town, tmp_path / str(block), area, options=options)
        assert [shape.normalize() for shape in first.geometry] == [shape.normalize() for shape in other.geometry]
        np.testing.assert_array_equal(levels, other_levels)


def test_windows_outside_are_neither_read_nor_predicted(town, area, tmp_path, monkeypatch):
    model, read, seen = bright_model(), [], []
    read_block, compute = Scene.read_block, model.network.predict
    monkeypatch.setattr(Scene, "read_block", lambda scene, block: (read.append(block), read_block(scene, block))[1])
    monkeypatch.setattr(model.network, "predict", lambda x: (seen.append(x.shape), compute(x))[1])
    run(town, tmp_path / "part", area, model=model, options=PredictOptions(window=WINDOW, overlap=0))
    squares = [shapely.box(block.col, block.row, block.col + block.cols, block.row + block.rows) for block in read]
    assert all(square.distance(WANTED) < 2**0.5 * REACH for square in squares)
    expected = sum(
        shapely.box(col - REACH, row - REACH, col + WINDOW + REACH, row + WINDOW + REACH).intersects(WANTED)
        for row in range(0, SHAPE[0], WINDOW)
        for col in (*range(0, SHAPE[1] - WINDOW, WINDOW), SHAPE[1] - WINDOW)
    )
    assert len(read) == expected < 28
    # The network is also tried out on something smaller while it is made ready.
    assert sum(shape[0] for shape in seen if shape[-1] == WINDOW) == expected


def test_threads_may_ask_at_once():
    """What GEOS prepares of a shape when it is first asked is not safe to share: the process used to crash."""
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    shape = shapely.Polygon(np.column_stack([500 + 300 * np.cos(angles), 500 + 300 * np.sin(angles)]))
    windows = [Window(row, col, 64) for row in range(0, 1000, 100) for col in range(0, 1000, 100)]
    ends = [shapely.box(w.col - REACH, w.row - REACH, w.col + 64 + REACH, w.row + 64 + REACH) for w in windows]
    expected = [shape.intersection(end).area > 0 for end in ends]
    for _ in range(40):
        area = SceneArea(shapely.from_wkb(shapely.to_wkb(shape)))
        with ThreadPoolExecutor(4) as pool:
            needed = list(pool.map(area.needs, windows))
            masks = list(pool.map(area.needed, *zip(*[(w.row, w.col, 64, 64) for w in windows[::10]], strict=True)))
        assert needed == expected
        assert [mask.any() for mask in masks] == expected[::10]


def test_an_area_in_degrees(town, whole, tmp_path):
    there = geopandas.GeoSeries([on_ground(WANTED)], crs=scenes.UTM).to_crs(4326)
    there.to_file(tmp_path / "area.geojson")
    found, _ = run(town, tmp_path / "part", AreaOfInterest.read(tmp_path / "area.geojson"))
    assert len(found) == 2
    assert found.geometry.iloc[0].equals(whole[0].geometry[whole[0].within(on_ground(WANTED))].iloc[0])


def test_an_area_elsewhere(town, area, tmp_path):
    far = AreaOfInterest(shapely.transform(area.geometry, lambda points: points + 5000), area.crs)
    with pytest.raises(OptionError, match=r"^--aoi: the area does not touch .*town.tif; check its CRS and place$"):
        run(town, tmp_path / "part", far)
    assert not list((tmp_path / "part").iterdir())


def test_little_of_a_remote_scene_is_moved(area, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = tmp_path / "served"
    served.mkdir()
    path = scenes.tiled(served / "large.tif", scenes.picture(3, 2048, 2048))
    with serving(served) as server:
        run(f"{server.url}/large.tif", tmp_path / "part", area)
        assert server.sent() < 0.25 * path.stat().st_size
