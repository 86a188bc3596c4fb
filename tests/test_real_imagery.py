"""The main job on real imagery, which is kept beside the project and never in it."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from bright_model import bright_model
from buildseg.evaluation.model_run import evaluate_model
from buildseg.evaluation.options import EvaluateOptions
from buildseg.footprints import ShapeOptions, VectorizeOptions
from buildseg.labels import read_labels
from buildseg.make_tiles import TileOptions, make_tiles
from buildseg.model_file import load_model
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.run import Outputs, predict
from buildseg.probability import NODATA
from buildseg.tiles import open_tiles
from buildseg.training.options import NetworkChoice, TrainOptions
from buildseg.training.run import train
from conftest import ROOT
from tiling import Scene

DATA = ROOT.parent / "shared" / "data"
FIXTURES = DATA / "fixtures"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real imagery at {DATA}")


def overlap(one, other):
    """Intersection over union of two masks."""
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize(
    ("name", "gsd", "kind"),
    [
        ("inria_austin_1000", 0.30, ("red", "green", "blue")),
        ("newbrunswick_aerial_1", 0.50, ("red", "green", "blue")),
        ("spacenet4_atlanta_rgb", 0.50, ("band1", "band2", "band3")),
        ("spacenet_atlanta_pan_uint16", 0.50, ("gray",)),
        ("spacenet_vegas_rgb", 0.27, ("red", "green", "blue")),
        ("zanzibar_drone_1000", 0.0775, ("red", "green", "blue")),
    ],
)
def test_scenes_are_read_as_they_are(name, gsd, kind):
    with Scene(FIXTURES / "images" / f"{name}.tif") as scene:
        assert scene.gsd == pytest.approx((gsd, gsd), rel=0.02)
        assert scene.band_names == kind


@pytest.mark.parametrize(
    ("labels", "where"),
    [
        ("newbrunswick_aerial_1.gpkg", "Niveau_3 = 'Building'"),
        ("spacenet_vegas_rgb.gpkg", None),
        ("zanzibar_drone_1000.geojson", None),
    ],
)
def test_chips_carry_the_published_masks(tmp_path, labels, where):
    name = Path(labels).stem
    image, mask = (FIXTURES / kind / f"{name}.tif" for kind in ("images", "masks"))
    buildings = read_labels(FIXTURES / "labels" / labels, where=where)
    make_tiles([image], buildings, tmp_path / "tiles", TileOptions(size=128))
    with rasterio.open(mask) as published:
        for chip in (tmp_path / "tiles").glob("*/masks/*.tif"):
            with rasterio.open(chip) as dataset:
                col, row = (round(value) for value in ~published.transform @ (dataset.transform.c, dataset.transform.f))
                window = rasterio.windows.Window(col, row, dataset.width, dataset.height)
                ours, theirs = dataset.read(1) > 0, published.read(1, window=window) > 0
            if theirs.mean() > 0.02:
                assert overlap(ours, theirs) > 0.95


def test_tile_train_predict(tmp_path):
    image, labels = (
        FIXTURES / "images" / "newbrunswick_aerial_1.tif",
        FIXTURES / "labels" / "newbrunswick_aerial_1.gpkg",
    )
    buildings = read_labels(labels, where="Niveau_3 = 'Building'")
    make_tiles([image], buildings, tmp_path / "tiles", TileOptions(size=128))
    choice = NetworkChoice(name="psa-unet", encoder="tu-resnet10t", encoder_weights="none")
    options = TrainOptions(epochs=2, batch_size=2, crop=128, workers=0, device="cpu")
    result = train(open_tiles([tmp_path / "tiles"]), tmp_path / "run", choice, options)
    assert result.scores["val_iou"] > 0
    outputs = Outputs(tmp_path / "b.gpkg", tmp_path / "p.tif")
    predict(
        image,
        outputs,
        load_model(result.model),
        PredictOptions(machine=Machine(device="cpu")),
        VectorizeOptions(crs="native"),
    )
    with rasterio.open(image) as scene, rasterio.open(tmp_path / "p.tif") as probability:
        assert probability.bounds == pytest.approx(scene.bounds)
        area = shapely.box(*scene.bounds).buffer(1)
    footprints = geopandas.read_file(tmp_path / "b.gpkg")
    assert footprints.geometry.is_valid.all()
    assert footprints.geometry.within(area).all()


def test_shipped_model_on_a_place_it_has_not_seen(tmp_path):
    image, mask = (FIXTURES / kind / "inria_austin_1000.tif" for kind in ("images", "masks"))
    predict(
        image,
        Outputs(tmp_path / "b.fgb", tmp_path / "p.tif"),
        load_model(),
        PredictOptions(machine=Machine(device="cpu")),
    )
    with rasterio.open(tmp_path / "p.tif") as probability, rasterio.open(mask) as truth:
        assert overlap(probability.read(1) >= 127, truth.read(1) > 0) > 0.3


@pytest.mark.parametrize("place", ["banepa", "kampala"])
def test_the_shipped_model_scores_what_its_card_says(place):
    card = (ROOT / "docs" / "model_card.md").read_text("utf-8").partition("## Scores")[2]
    row = next(line for line in card.splitlines() if line.startswith(f"| {place} |")).split("|")
    scores = evaluate_model(None, [DATA / place], EvaluateOptions(), device="cpu").scores.values
    said = {"iou": row[4], "f1": row[5], "object_f1": row[9]}
    assert {name: scores[name] for name in said} == pytest.approx(
        {name: float(cell.split()[0]) for name, cell in said.items()}, abs=2e-3
    )
    before = float(row[10].split()[0])
    assert scores["iou"] > before


def test_holes_of_a_scene_stay_holes(tmp_path):
    image = DATA / "massachusetts" / "train" / "images" / "22678915_15.tif"
    predict(
        image,
        Outputs(tmp_path / "b.gpkg", tmp_path / "p.tif"),
        bright_model(window=256),
        PredictOptions(machine=Machine(device="cpu")),
        VectorizeOptions(crs="native", min_area=0, shape=ShapeOptions(0)),
    )
    with rasterio.open(image) as scene, rasterio.open(tmp_path / "p.tif") as probability:
        empty = scene.dataset_mask() == 0
        np.testing.assert_array_equal(probability.read(1) == NODATA, empty)
        footprints = geopandas.read_file(tmp_path / "b.gpkg")
        drawn = rasterio.features.rasterize(footprints.geometry, empty.shape, transform=scene.transform)
    assert len(footprints) > 100
    assert not drawn[empty].any()
