"""The sample scene and its labels: in step with their script, georeferenced, and fit to train on."""

import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.enums import ColorInterp
from rasterio.features import rasterize

FOLDER = Path(__file__).parents[1] / "sample_data"
SCENE, LABELS = FOLDER / "scene.tif", FOLDER / "labels.geojson"
AREA = (2048 * 0.3) ** 2


@pytest.fixture(scope="module")
def labels():
    return geopandas.read_file(LABELS)


@pytest.fixture(scope="module")
def roofs(labels):
    return labels.geometry.to_crs("EPSG:32632")


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample")
    script = [sys.executable, str(FOLDER / "make_sample.py"), "--out", str(out)]
    subprocess.run(script, check=True, capture_output=True, text=True, timeout=300)
    return out


def pixels(path):
    with rasterio.open(path) as scene:
        return scene.read()


def test_the_script_draws_the_committed_pixels(redrawn):
    difference = np.abs(pixels(redrawn / "scene.tif").astype(int) - pixels(SCENE))
    assert difference.mean() < 1
    assert np.percentile(difference, 99.9) <= 12


def test_the_script_writes_the_committed_labels(redrawn, labels):
    again = geopandas.read_file(redrawn / "labels.geojson")
    assert list(again["id"]) == list(labels["id"])
    assert list(again["kind"]) == list(labels["kind"])
    metres = again.geometry.to_crs("EPSG:32632").hausdorff_distance(labels.geometry.to_crs("EPSG:32632"))
    assert metres.max() < 0.01


def test_scene_is_a_small_tiled_rgb_raster_with_a_place_and_overviews():
    assert SCENE.stat().st_size < 4_000_000
    with rasterio.open(SCENE) as scene:
        assert (scene.width, scene.height, scene.count) == (2048, 2048, 3)
        assert scene.dtypes == ("uint8",) * 3
        assert scene.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert scene.crs.to_epsg() == 32632
        assert scene.transform.a == -scene.transform.e == 0.3
        assert scene.transform.b == scene.transform.d == 0
        assert scene.profile["tiled"]
        assert scene.overviews(1) == [2, 4, 8]


def test_labels_are_valid_polygons_with_an_id_and_a_kind(labels):
    assert labels.crs.to_epsg() == 4326
    assert set(labels.geom_type) == {"Polygon"}
    assert labels.is_valid.all()
    assert labels["id"].is_unique
    assert {"gable", "hip", "flat", "L", "T", "row", "hall"} <= set(labels["kind"])


def test_labels_follow_rfc_7946(labels):
    assert '"crs"' not in LABELS.read_text()
    west, south, east, north = labels.total_bounds
    assert -180 <= west < east <= 180
    assert -90 <= south < north <= 90
    assert shapely.is_ccw(shapely.get_exterior_ring(labels.geometry.values)).all()


def test_labels_do_not_overlap(roofs):
    assert roofs.area.sum() - shapely.union_all(roofs.values).area < 0.01


def test_labels_lie_on_the_scene_and_cover_a_believable_share(roofs):
    with rasterio.open(SCENE) as scene:
        frame = shapely.box(*scene.bounds).buffer(0.05)
    assert roofs.within(frame).all()
    assert 0.10 < roofs.area.sum() / AREA < 0.35


def test_no_lawn_lies_under_a_label_but_much_around(roofs):
    """Roofs are not green and gardens are: labels that were shifted by metres would mix the two."""
    with rasterio.open(SCENE) as scene:
        red, green, blue = scene.read().astype(int)
        inner, collar = roofs.buffer(-1), roofs.buffer(4).difference(roofs.buffer(1))
        inside, around = (
            rasterize(shapes[~shapes.is_empty], scene.shape, transform=scene.transform) == 1
            for shapes in (inner, collar)
        )
    leafy = 2 * green - red - blue > 20
    assert leafy[inside].mean() < 0.01
    assert leafy[around].mean() > 0.4
