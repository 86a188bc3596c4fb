"""Several classes, and more bands than three: from masks to the footprints of one of the classes."""

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from buildseg.cli.main import app
from rasterio.enums import ColorInterp
from typer.testing import CliRunner

import scenes
from buildseg.chip_file import read_mask
from buildseg.classes import BUILDING, IGNORE
from buildseg.describe import describe
from buildseg.model_file import load_model
from buildseg.networks.output import building_probability
from buildseg.tiles import open_tiles
from buildseg.training.losses import bce_dice_loss, cross_entropy_dice_loss, segmentation_loss
from buildseg.training.options import NetworkChoice, TrainOptions
from buildseg.training.run import train
from tiling.errors import OptionError, TilesError

CLASSES = 4
SIDE = 128
FOUR_BANDS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
TINY = NetworkChoice(
    name="unet", encoder="tu-resnet10t", encoder_weights="none", options={"decoder_channels": [32, 16, 16, 8, 8]}
)


def fields(seed, side=SIDE):
    """Four bands in which each class shines in a band of its own, and the classes: squares of 32 on background."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, CLASSES, (side // 32, side // 32)).repeat(32, 0).repeat(32, 1).astype(np.uint8)
    shine = 120 * (classes == np.arange(4)[:, None, None])
    return (40 + shine + random.integers(0, 40, (4, side, side))).astype(np.uint8), classes


def tiles_folder(folder):
    for split, seeds in (("train", range(6)), ("val", range(100, 102))):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for seed in seeds:
            pixels, classes = fields(seed)
            classes[:8, :8] = IGNORE
            place = {"transform": Affine(0.5, 0, 690000 + seed * SIDE, 0, -0.5, 5340000)}
            scenes.write(folder / split / "images" / f"{seed}.tif", pixels, colours=FOUR_BANDS, **place)
            scenes.write(folder / split / "masks" / f"{seed}.tif", classes[None], **place)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on four bands and four classes, with its folder."""
    folder = tmp_path_factory.mktemp("classes")
    tiles = open_tiles([tiles_folder(folder / "tiles")], classes=CLASSES)
    options = TrainOptions(epochs=20, batch_size=4, crop=64, workers=0, device="cpu", precision="fp32", window=128)
    return folder, train(tiles, folder / "run", TINY, options)


def test_masks_of_classes_keep_their_numbers(tmp_path):
    tiles = open_tiles([tiles_folder(tmp_path)], classes=CLASSES)
    target = read_mask(tiles.train[0].mask, CLASSES)
    expected = fields(0)[1]
    expected[:8, :8] = IGNORE
    assert np.array_equal(target, expected)


def test_four_bands_and_four_classes_are_learnt(trained):
    _, result = trained
    assert result.scores["val_iou"] > 0.8
    network = load_model(result.model).network
    assert (network.architecture.in_channels, network.architecture.classes) == (4, CLASSES)


def test_only_building_becomes_footprints(trained, tmp_path):
    _, result = trained
    pixels, classes = fields(7, 256)
    scenes.write(tmp_path / "scene.tif", pixels, colours=FOUR_BANDS)
    command = ["predict", str(tmp_path / "scene.tif"), "--model", str(result.model), "--device", "cpu"]
    command += ["--out", str(tmp_path / "b.gpkg"), "--probability", str(tmp_path / "p.tif")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "p.tif") as raster:
        found = raster.read(1) > 127
    truth = classes == BUILDING
    assert (found & truth).sum() / (found | truth).sum() > 0.8
    footprints = geopandas.read_file(tmp_path / "b.gpkg")
    assert footprints["area_m2"].sum() == pytest.approx(truth.sum() * 0.25, rel=0.25)


def test_info_says_the_classes(trained):
    assert describe(trained[1].model)["classes"] == "4, of which number 1 is building"


def test_training_goes_on_with_the_same_classes(trained, tmp_path):
    folder, result = trained
    start = NetworkChoice(result.model)
    options = TrainOptions(epochs=1, batch_size=4, crop=64, workers=0, device="cpu", precision="fp32")
    again = train(open_tiles([folder / "tiles"], classes=CLASSES), tmp_path / "four", start, options)
    assert again.scores["val_iou"] > 0.6


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (1, r"holds 0, 1, 2, 3, 255; masks must hold 0 .* --classes"),
        (3, r"holds 0, 1, 2, 3, 255; with --classes 3 masks hold 0 to 2, or 255"),
    ],
)
def test_masks_of_other_classes_are_refused(tmp_path, classes, message):
    with pytest.raises(TilesError, match=message):
        open_tiles([tiles_folder(tmp_path)], classes=classes)


def test_masks_of_building_or_not_are_no_masks_of_classes(tmp_path):
    folder = tiles_folder(tmp_path)
    for mask in folder.glob("*/masks/*.tif"):
        with rasterio.open(mask, "r+") as dataset:
            dataset.write(np.where(dataset.read() == BUILDING, 255, 0).astype(np.uint8))
    assert open_tiles([folder]).classes == 1
    with pytest.raises(TilesError, match=r"holds a class from 1 to 2, .* leave out --classes"):
        open_tiles([folder], classes=3)


def test_a_class_that_never_occurs_is_warned_of(tmp_path, caplog):
    open_tiles([tiles_folder(tmp_path)], classes=CLASSES)
    assert not caplog.records
    open_tiles([tmp_path], classes=CLASSES + 2)
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}: no mask to train on holds class 4, 5"]


@pytest.mark.parametrize("classes", [0, -1, 256])
def test_a_wrong_number_of_classes_is_refused(tmp_path, classes):
    with pytest.raises(OptionError, match=f"--classes {classes}"):
        open_tiles([tmp_path], classes=classes)


def numpys_loss(logits, target):
    """Cross-entropy + Dice by loops over the labelled pixels, in double precision."""
    entropy, probabilities, truths = 0.0, [], []
    for image, row, col in np.argwhere(target != IGNORE):
        scores = np.exp(logits[image, :, row, col].astype(float))
        probabilities.append(scores / scores.sum())
        truths.append(int(target[image, row, col]))
        entropy -= np.log(probabilities[-1][truths[-1]])
    dice = []
    for each in sorted(set(truths)):
        chance = np.array([p[each] for p in probabilities])
        wanted = np.array([t == each for t in truths])
        dice.append(1 - (2 * (chance * wanted).sum() + 1) / (chance.sum() + wanted.sum() + 1))
    return entropy / len(truths) + np.mean(dice)


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_of_several_classes_is_its_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 6, 7, generator=generator)
    target = torch.randint(0, 4, (2, 6, 7), generator=generator, dtype=torch.uint8)  # class 4 does not occur
    target[torch.rand(target.shape, generator=generator) < 0.3] = IGNORE
    expected = numpys_loss(logits.numpy(), target.numpy())
    assert cross_entropy_dice_loss(logits, target).item() == pytest.approx(expected, rel=1e-5)
    assert segmentation_loss(logits, target) == cross_entropy_dice_loss(logits, target)
    assert segmentation_loss(logits[:, :1], target.clamp(max=1)) == bce_dice_loss(logits[:, :1], target.clamp(max=1))


def test_the_loss_without_a_label_is_zero():
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    loss = cross_entropy_dice_loss(logits, torch.full((2, 8, 8), IGNORE, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_probability_of_building_is_that_of_its_class():
    logits = torch.randn(2, 3, 4, 5)
    expected = logits.exp()[:, 1] / logits.exp().sum(1)
    torch.testing.assert_close(building_probability(logits), expected)
    torch.testing.assert_close(building_probability(logits[:, :1]), 1 / (1 + (-logits[:, 0]).exp()))
