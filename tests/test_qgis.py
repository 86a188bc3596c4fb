"""Footprint files in the real QGIS: it opens them, finds nothing wrong, and draws them where they belong."""

import json
import os
import subprocess
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from matplotlib.image import imread
from rasterio.features import rasterize
from shapely.geometry import Polygon

from buildseg.footprints import InMemory, write_footprints, write_raster_style

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "sample_data"
SCENE = SAMPLE / "scene.tif"
PYTHON = Path("/usr/bin/python3")  # the one that Debian installs QGIS for


def qgis_check(*arguments):
    command = [PYTHON, HERE / "qgis_check.py", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PROJ_", "GDAL_"))}
    return subprocess.run(
        [str(part) for part in command], env=clean, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module", autouse=True)
def qgis():
    answer = qgis_check("--help") if PYTHON.exists() else None
    if answer is None or answer.returncode == 3:
        missing = f"QGIS is not installed for {PYTHON} (Debian: apt-get install python3-qgis)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture(scope="module")
def footprints():
    labels = geopandas.read_file(SAMPLE / "labels.geojson")
    metres = labels.to_crs("EPSG:32632").area
    return geopandas.GeoDataFrame(
        {"id": labels["id"], "area_m2": metres, "confidence": 0.9}, geometry=labels.geometry, crs=labels.crs
    )


@pytest.mark.parametrize(("name", "epsg"), [("a.geojson", 4326), ("a.gpkg", 32632)])
def test_qgis_opens_and_draws_footprints(footprints, tmp_path, name, epsg):
    write_footprints(InMemory(footprints.to_crs(epsg)), tmp_path / name)
    picture = tmp_path / "picture.png"
    answer = qgis_check(SCENE, tmp_path / name, picture, "--count", len(footprints), "--epsg", epsg)
    assert answer.returncode == 0, answer.stderr
    facts = json.loads(answer.stdout)
    assert facts["footprints"] == len(footprints)
    assert facts["crs"] == f"EPSG:{epsg}"
    assert facts["area_m2"] == pytest.approx(footprints["area_m2"].sum(), abs=0.1)
    assert_drawn(picture, footprints)
    assert not SCENE.with_suffix(".tif.aux.xml").exists()


def assert_drawn(picture, footprints):
    """The outlines, and nothing else, are magenta; below them lies the scene."""
    drawn = np.rint(imread(picture)[..., :3] * 255).astype(int)
    with rasterio.open(SCENE) as scene:
        pixels, transform = np.moveaxis(scene.read(), 0, -1).astype(int), scene.transform
    assert drawn.shape == pixels.shape
    magenta = (drawn[..., 0] > 200) & (drawn[..., 1] < 70) & (drawn[..., 2] > 200)
    walls = footprints.to_crs("EPSG:32632").boundary
    on_walls = rasterize(walls, magenta.shape, transform=transform) == 1
    near_walls = rasterize(walls.buffer(0.9), magenta.shape, transform=transform) == 1
    assert magenta[on_walls].mean() > 0.95
    assert not magenta[~near_walls].any()
    assert np.abs(drawn - pixels)[~near_walls].mean() < 2


FILLS = {0.55: (215, 48, 39), 0.65: (252, 141, 89), 0.75: (254, 224, 144), 0.85: (145, 191, 219), 0.95: (69, 117, 180)}
RAMP = {0: (0, 0, 4), 127: (188, 55, 84), 254: (252, 255, 164)}


@pytest.fixture
def probability(tmp_path):
    """A probability raster where the scene is: a third of it 0, a third 0.5 and a third 1, and its top nodata."""
    with rasterio.open(SCENE) as scene:
        profile = scene.profile | {
            "count": 1,
            "dtype": "uint8",
            "nodata": 255,
            "photometric": "minisblack",
            "compress": "deflate",
        }
        pixels = np.repeat(np.array([*RAMP], np.uint8), -(-scene.width // 3))[: scene.width]
    pixels = np.tile(pixels, (profile["height"], 1))
    pixels[:300] = 255
    with rasterio.open(tmp_path / "town.tif", "w", **profile) as raster:
        raster.write(pixels, 1)
        raster.scales = (1 / 254,)
    write_raster_style(tmp_path / "town.tif")
    return tmp_path / "town.tif", pixels


@pytest.mark.parametrize("suffix", [".geojson", ".geojsonl", ".gpkg", ".fgb", ".shp"])
def test_qgis_applies_the_styles_by_itself(footprints, probability, tmp_path, suffix):
    """One style beside both: the raster of the same stem gets its colours from it, too."""
    raster, pixels = probability
    confidence = np.resize([*FILLS], len(footprints))
    frame = footprints.assign(confidence=confidence, edge_width_m=0.5, status="kept")
    write_footprints(InMemory(frame), tmp_path / f"town{suffix}")
    picture = tmp_path / "picture.png"
    answer = qgis_check(raster, tmp_path / f"town{suffix}", picture, "--own-style")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["renderers"] == ["graduatedSymbol", "singlebandpseudocolor"]
    drawn = np.rint(imread(picture)[..., :3] * 255).astype(int)
    with rasterio.open(SCENE) as scene:
        shape, transform = (scene.height, scene.width), scene.transform
    frame = frame.to_crs("EPSG:32632")
    # Off the walls, as a line is 0.26 mm wide.
    far = rasterize(frame.buffer(1.5), shape, transform=transform) == 0
    below = np.full((*shape, 3), 255)
    for level, colour in RAMP.items():
        assert np.abs(drawn[far & (pixels == level)] - colour).max() <= 2
        below[pixels == level] = colour
    assert (drawn[far & (pixels == 255)] == 255).all()
    for sure, colour in FILLS.items():
        cores = frame[confidence == sure].buffer(-1.5)
        inside = rasterize(cores[~cores.is_empty], shape, transform=transform) == 1
        assert inside.sum() > 1000
        assert np.abs(drawn[inside] - (below[inside] + np.array(colour)) / 2).max() <= 3
    walls = rasterize(frame.boundary, shape, transform=transform) == 1
    # Where all else is light.
    assert (drawn[walls & (pixels == 255)].max(axis=-1) < 160).mean() > 0.7


def bow_tie(frame):
    x, y = frame.geometry.iloc[3].centroid.coords[0]
    crossed = Polygon([(x, y), (x + 1e-4, y + 1e-4), (x + 1e-4, y), (x, y + 1e-4)])
    return frame.set_geometry([*frame.geometry[:3], crossed, *frame.geometry[4:]], crs=frame.crs)


BROKEN = {
    "bow-tie": (bow_tie, "is not valid"),
    "a field less": (lambda frame: frame.drop(columns="confidence"), "field confidence is missing"),
    "a footprint less": (lambda frame: frame.iloc[1:], "4 footprints, not 5"),
    "another CRS": (lambda frame: frame.to_crs("EPSG:32632"), "CRS is EPSG:32632"),
    "confidence in per cent": (lambda frame: frame.assign(confidence=90.0), "has confidence 90"),
    "no geometry": (lambda frame: frame.set_geometry([None, *frame.geometry[1:]], crs=frame.crs), "no geometry"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_check_notices_a_fault(footprints, tmp_path, fault):
    spoil, reason = BROKEN[fault]
    spoil(footprints.head(5)).to_file(tmp_path / "broken.gpkg")
    arguments = (SCENE, tmp_path / "broken.gpkg", tmp_path / "picture.png", "--count", 5, "--epsg", 4326)
    answer = qgis_check(*arguments)
    assert answer.returncode == 1
    assert reason in answer.stderr.splitlines()[-1]
    assert answer.stdout == ""
    assert not (tmp_path / "picture.png").exists()


def test_the_check_notices_a_file_that_is_none(tmp_path):
    (tmp_path / "half.geojson").write_text('{"type": "FeatureCollection", "features": [{"type": "Fea')
    answer = qgis_check(SCENE, tmp_path / "half.geojson", tmp_path / "picture.png")
    assert answer.returncode == 1
    assert "QGIS cannot open it" in answer.stderr.splitlines()[-1]
