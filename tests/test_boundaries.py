"""Boundaries between buildings: drawn by tile, learnt by every network, given by predict as a second band."""

import json
import math
import sys
from dataclasses import replace

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from buildseg.cli.main import run
from hypothesis import given, settings
from hypothesis import strategies as st

import scenes
from bright_model import bright_model
from buildseg.boundaries import draw_boundaries
from buildseg.classes import BAND_NAMES, IGNORE
from buildseg.describe import describe
from buildseg.footprints import ShapeOptions, SplitOptions
from buildseg.footprints.raster import has_boundary, opened_probability, read_block
from buildseg.footprints.vectorize import VectorizeOptions, vectorize
from buildseg.labels import Labels
from buildseg.make_tiles import TileOptions
from buildseg.model_file import load_model, read_card, shipped_model
from buildseg.networks import NETWORKS, build_network
from buildseg.networks.output import boundary_probability, building_probability
from buildseg.prediction.job import has_boundary as gives_boundaries
from buildseg.prediction.network import Arithmetic, Ensemble, TorchNetwork, views
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.run import Outputs, predict
from buildseg.tiles import open_tiles
from buildseg.training.dataset import Sample, TrainingCrops, WholeChips
from buildseg.training.losses import bce_dice_loss
from buildseg.training.module import SegmentationModule
from buildseg.training.options import NetworkChoice, TrainOptions
from buildseg.training.run import train
from buildseg.training.sampling import Draw
from network_rules import SMALL, images
from test_prediction_network import CHEAP
from tiling import Block, Chip
from tiling.errors import ContractError, ModelFileError, OptionError, ProbabilityError, TilesError

TINY = NetworkChoice(
    name="unet", encoder="tu-resnet10t", encoder_weights="none", options={"decoder_channels": [32, 16, 16, 8, 8]}
)
ON_CPU = ["--device", "cpu", "--precision", "fp32"]
SHORT = TrainOptions(epochs=1, batch_size=2, crop=64, workers=0, device="cpu", precision="fp32")
FP32 = PredictOptions(window=64, machine=Machine(device="cpu", precision="fp32"))


# ---- the label


def chip(side=40, transform=None, valid=None, houses=()):
    transform = transform or scenes.PLACE
    rows, cols = np.mgrid[:side, :side] + 0.5
    place = shapely.union_all(list(houses))
    return Chip(
        pixels=np.zeros((1, side, side), np.uint8),
        valid=np.ones((side, side), bool) if valid is None else valid,
        mask=np.where(shapely.contains_xy(place, *(transform @ (cols, rows))), 255, 0).astype(np.uint8),
        crs=scenes.UTM,
        transform=transform,
        band_names=("gray",),
    )


def on_ground(*shapes, transform=scenes.PLACE):
    """Shapes in pixels of a chip, on the ground."""
    return geopandas.GeoSeries(
        [shapely.transform(shape, lambda xy: np.column_stack(transform @ (xy[:, 0], xy[:, 1]))) for shape in shapes]
    )


def drawn(*shapes, width=0.5, side=40, transform=scenes.PLACE, gsd=(0.5, 0.5), valid=None):
    houses = on_ground(*shapes, transform=transform)
    return draw_boundaries(chip(side, transform, valid, houses), houses, gsd, width)


def test_a_shared_wall_is_a_line_of_both_houses():
    label = drawn(shapely.box(5, 5, 20, 30), shapely.box(20, 5, 35, 30))
    expected = np.zeros((40, 40), bool)
    expected[5:30, 5:35] = True
    expected[6:29, 6:19] = expected[6:29, 21:34] = False
    assert np.array_equal(label == 1, expected) and set(np.unique(label)) == {0, 1}


def test_one_house_has_no_line_within_and_none_outside():
    label = drawn(shapely.box(5, 5, 35, 30))
    expected = np.zeros((40, 40), bool)
    expected[5:30, 5:35] = True
    expected[6:29, 6:34] = False
    assert np.array_equal(label == 1, expected)


@pytest.mark.parametrize(("gap", "closed"), [(1, True), (1.9, True), (3, False), (6, False)])
def test_a_narrow_gap_is_a_contact_and_a_wide_one_is_not(gap, closed):
    label = drawn(shapely.box(5, 5, 15, 30), shapely.box(15 + gap, 5, 30, 30))
    assert (label[7:28, 15 : 15 + math.ceil(gap)] == closed).all()
    assert (label[[4, 30]] == 0).all()


def test_the_same_house_twice_is_one_house():
    house = shapely.box(5, 5, 35, 30)
    assert np.array_equal(drawn(house, house), drawn(house))


def test_a_house_beyond_the_edge_counts():
    beyond = drawn(shapely.box(5, 5, 20, 39), shapely.box(5, 41, 20, 60))
    alone = drawn(shapely.box(5, 5, 20, 39))
    assert (beyond[39, 6:19] == 1).all() and (alone[39, 6:19] == 0).all()


def test_without_data_there_is_no_label():
    valid = np.ones((40, 40), bool)
    valid[:, :20] = False
    label = drawn(shapely.box(5, 5, 20, 30), shapely.box(20, 5, 35, 30), valid=valid)
    assert (label[:, :20] == IGNORE).all() and (label[:, 20:] != IGNORE).all()


@given(
    angle=st.floats(0, 90),
    gsd=st.sampled_from([0.1, 0.3, 0.5, 1.0]),
    width=st.sampled_from([0.3, 0.5, 1.0]),
)
@settings(max_examples=40)
def test_what_is_drawn_lies_as_near_as_the_width_says(angle, gsd, width):
    """Against distances, computed pixel by pixel; pixels on an outline or at the very width may go either way."""
    side = 60
    house = shapely.affinity.rotate(shapely.box(15, 15, 40, 35), angle, origin="centroid")
    other = shapely.affinity.rotate(shapely.box(40.7, 15, 55, 35), angle, origin=house.centroid)
    place = Affine(gsd, 0, 690000, 0, -gsd, 5340000)
    label = drawn(house, other, width=width, side=side, transform=place, gsd=(gsd, gsd))
    rows, cols = np.mgrid[:side, :side] + 0.5
    points = shapely.points(cols, rows)
    near = [shapely.distance(one.boundary, points) * gsd for one in (house, other)]
    inside = [shapely.contains(one, points) for one in (house, other)]
    reach = max(width, gsd)
    rim = (inside[0] & (near[0] < reach)) | (inside[1] & (near[1] < reach))
    close = [(np.abs(distance - reach) < 0.08 * reach) | (distance < 0.01 * gsd) for distance in near]
    known = ~np.any(close, axis=0) & np.any(inside, axis=0)
    assert np.array_equal((label == 1)[known], rim[known])
    gap = ~np.any(inside, axis=0) & ~np.any(close, axis=0) & (label == 1)
    assert (np.maximum(*near)[gap] < 2 * reach).all()


def test_widths_are_metres_along_both_axes():
    """Pixels of 1 m by 0.5 m, as in degrees far from the equator."""
    place = Affine(1, 0, 690000, 0, -0.5, 5340000)
    label = drawn(shapely.box(5, 5, 35, 35), width=2.0, transform=place, gsd=(1.0, 0.5))
    inner = np.zeros((40, 40), bool)
    inner[9:31, 7:33] = True
    assert np.array_equal(label[5:35, 5:35] == 0, inner[5:35, 5:35])


# ---- tiles


SIDE = 256


def row_town(folder, seed=0):
    """A scene of terraces, and its labels: houses of 14 x 20 pixels wall to wall."""
    random = np.random.default_rng(seed)
    pixels = random.integers(40, 80, (3, SIDE, SIDE), np.uint8)
    houses = []
    for row in range(8, SIDE - 30, 40):
        for col in range(10, SIDE - 24, 14):
            pixels[:, row : row + 20, col : col + 14] += random.integers(70, 130, (3, 1, 1), np.uint8)
            houses.append(shapely.box(col, row, col + 14, row + 20))
    path = scenes.write(folder / "terraces.tif", pixels, photometric="rgb")
    return path, Labels("terraces.gpkg", geopandas.GeoDataFrame(geometry=on_ground(*houses), crs=scenes.UTM))


def buildseg(*arguments):
    """Run a command in this process."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(sys, "argv", ["buildseg", *map(str, arguments)])
        run()
    assert not stopped.value.code


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terraces")
    scene, labels = row_town(folder)
    labels.frame.to_file(folder / "terraces.gpkg")
    buildseg(
        "tile", scene, "--labels", folder / "terraces.gpkg", "--out", folder / "tiles", "--size", 64, "--boundaries"
    )
    return folder


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1), dataset.transform


def copied(town, tmp_path):
    """A plain folder with the chips of the town, to be spoilt."""
    folder = town
    for kind in ("images", "masks", "boundaries"):
        (tmp_path / "plain" / kind).mkdir(parents=True)
        for path in sorted((folder / "tiles" / "train" / kind).iterdir())[:4]:
            (tmp_path / "plain" / kind / path.name).write_bytes(path.read_bytes())
    return tmp_path / "plain"


def rewrite(path, values):
    with rasterio.open(path, "r+") as dataset:
        dataset.write(values.astype(np.uint8), 1)


def test_tile_writes_a_boundary_label_for_every_chip(town):
    folder = town
    record = json.loads((folder / "tiles" / "tiles.json").read_text())
    for split in ("train", "val"):
        names = [
            {path.name for path in (folder / "tiles" / split / kind).iterdir()} for kind in ("images", "boundaries")
        ]
        assert names[0] == names[1] and len(names[0]) == record["split"][split] > 0
    assert record["options"]["boundaries"] is True and record["options"]["boundary_width"] == 0.5


def test_labels_of_neighbouring_chips_fit_together(town):
    """Each is what a chip of the whole scene would have there."""
    folder = town
    with rasterio.open(folder / "terraces.tif") as dataset:
        shape = dataset.shape
    _, labels = row_town(folder)
    whole = draw_boundaries(chip(SIDE, houses=labels.frame.geometry), labels.frame.geometry, (0.5, 0.5), 0.5)
    assert whole.shape == shape
    for path in (folder / "tiles").glob("*/boundaries/*.tif"):
        label, transform = read(path)
        col, row = (round(number) for number in ~scenes.PLACE @ (transform.c, transform.f))
        assert np.array_equal(label, whole[row : row + 64, col : col + 64])


def test_tiles_say_whether_they_have_boundaries(town, tmp_path):
    folder = town
    tiles = open_tiles([folder / "tiles"])
    assert tiles.boundaries and all(one.boundary.is_file() for one in (*tiles.train, *tiles.val))
    bare = tiles.without_boundaries()
    assert not bare.boundaries and all(one.boundary is None for one in (*bare.train, *bare.val))
    plain = open_tiles([copied(town, tmp_path)])
    assert plain.boundaries and plain.val[0].boundary.parent.name == "boundaries"


def test_of_folders_with_and_without_none_is_used_and_that_is_said(town, tmp_path, caplog):
    folder = town
    plain = copied(town, tmp_path)
    for path in (plain / "boundaries").iterdir():
        path.unlink()
    (plain / "boundaries").rmdir()
    tiles = open_tiles([folder / "tiles", plain])
    assert not tiles.boundaries and all(one.boundary is None for one in tiles.train)
    assert f"{plain}: no boundaries/ in it" in caplog.text


def without_one(folder):
    sorted((folder / "boundaries").iterdir())[1].unlink()


def of_another_size(folder):
    path = sorted((folder / "boundaries").iterdir())[1]
    scenes.write(path, np.zeros((1, 32, 64), np.uint8))


def of_other_values(folder):
    path = sorted((folder / "boundaries").iterdir())[1]
    rewrite(path, read(path)[0] * 200)


def without_a_boundary(folder):
    for path in (folder / "boundaries").iterdir():
        rewrite(path, read(path)[0] * 0)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_one, r"has no boundary label of the same name in .*boundaries \(1 without one\)"),
        (of_another_size, r"is 64 x 64 pixels but .* is 64 x 32; image and boundary label must have the same size"),
        (of_other_values, r"holds 0, 200; boundary labels must hold 1 for boundary, 0 elsewhere and 255 for no label"),
        (without_a_boundary, r"no label to train on in boundaries/ holds a 1"),
    ],
)
def test_bad_boundary_labels_are_refused_in_a_line(town, tmp_path, spoil, said):
    plain = copied(town, tmp_path)
    spoil(plain)
    with pytest.raises(TilesError, match=said):
        open_tiles([plain])


@pytest.mark.parametrize("width", [0, -1, np.nan, np.inf])
def test_bad_widths_are_refused(width):
    with pytest.raises(OptionError, match="--boundary-width"):
        TileOptions(boundaries=True, boundary_width=width)


def test_crops_and_whole_chips_bring_the_label_along(town):
    """Bright roofs, whose edges the label follows through every change of place and scale."""
    folder = town
    tiles = open_tiles([folder / "tiles"])
    contract = contract_of(tiles)
    whole = WholeChips(tiles.train, contract)[0]
    assert np.array_equal(whole.boundary.numpy(), read(tiles.train[0].boundary)[0])
    assert np.array_equal(whole.target.numpy(), read(tiles.train[0].mask)[0] > 0)
    crops = TrainingCrops(tiles.train, contract, 64)
    for crop in (crops[Draw(number, 3 + number)] for number in range(6)):
        assert crop.boundary.shape == crop.target.shape == (64, 64) and crop.boundary.dtype == torch.uint8
        inner = crop.boundary[1:-1, 1:-1] == 1
        assert 0.03 < inner.float().mean() < 0.5
        assert (crop.target[1:-1, 1:-1][inner] == 1).float().mean() > 0.97
    bare = WholeChips(tiles.without_boundaries().train, contract)[0]
    assert bare.boundary.numel() == 0 and torch.equal(bare.target, whole.target)


def contract_of(tiles):
    from buildseg.training.start import make_contract

    return make_contract(tiles, SHORT)


# ---- networks and their loss


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_has_one_more_channel_for_boundaries(name):
    network = build_network(name, classes=3, boundary=True, **CHEAP[name])
    assert network.architecture.classes == 3 and network.architecture.boundary
    output = network(images(2, 3, 64, 64))
    assert output.logits.shape == (2, 4, 64, 64)
    batch = Sample(
        images(2, 3, 64, 64), torch.ones(2, 64, 64, dtype=torch.uint8), torch.zeros(2, 64, 64, dtype=torch.uint8)
    )
    loss = SegmentationModule(network, TrainOptions())._loss
    sum(loss(logits, batch) for logits in (output.logits, *(a.logits for a in output.auxiliary))).backward()
    last = [p.grad for p in network.parameters() if p.shape[:1] == (4,) and p.grad is not None]
    assert last and all(gradient[-1].abs().sum() > 0 for gradient in last)


def test_boundaries_and_classes_have_losses_of_their_own():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 16, 16, generator=random, requires_grad=True)
    target, boundary = torch.randint(0, 2, (2, 2, 16, 16), generator=random, dtype=torch.uint8)
    boundary[0, :8] = IGNORE
    network = build_network("unet", boundary=True, **SMALL)
    batch = Sample(torch.zeros(2, 3, 16, 16), target, boundary)
    module = SegmentationModule(network, TrainOptions.of({"boundary_weight": 0.25}))
    loss = module._loss(logits, batch)
    expected = bce_dice_loss(logits[:, :1], target) + 0.25 * bce_dice_loss(logits[:, 1:], boundary)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    assert (logits.grad[0, 1, :8] == 0).all() and (logits.grad[0, 1, 8:] != 0).all() and (logits.grad[:, 0] != 0).all()


def test_probabilities_are_read_off_their_own_channels():
    logits = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(building_probability(logits, boundary=True), logits[:, :3].softmax(1)[:, 1])
    torch.testing.assert_close(building_probability(logits[:, 2:], boundary=True), torch.sigmoid(logits[:, 2]))
    torch.testing.assert_close(boundary_probability(logits), torch.sigmoid(logits[:, 3]))


@pytest.mark.parametrize("weight", [0, -1, np.inf])
def test_bad_weights_are_refused(weight):
    with pytest.raises(OptionError, match="--boundary-weight"):
        TrainOptions.of({"boundary_weight": weight})


# ---- training


@pytest.fixture(scope="module")
def trained(town):
    folder = town
    network = ["--network", "unet", "--encoder", "tu-resnet10t", "--encoder-weights", "none"]
    network += ["--option", "decoder_channels=32,16,16,8,8"]
    options = ["--epochs", 3, "--learning-rate", 4e-3, "--batch-size", 2, "--crop", 64, "--workers", 0, *ON_CPU]
    buildseg("train", "--tiles", folder / "tiles", "--out", folder / "run", *network, *options)
    return folder / "run" / "best.safetensors"


def test_training_takes_boundaries_up_where_all_tiles_have_them(trained):
    card = read_card(trained)
    assert card.architecture["boundary"] is True and card.architecture["classes"] == 1
    assert 0 <= card.scores["val_boundary_f1"] <= 1
    folder = trained.parent
    assert (folder / "metrics.csv").read_text().splitlines()[0].endswith("val_recall,val_boundary_f1")
    assert (folder / "validation.png").exists() and (folder / "curves.png").exists()
    assert describe(trained)["classes"] == "building or not, and boundaries between buildings"


def test_the_boundary_output_learns(trained, town):
    folder = town
    model = load_model(trained)
    tiles = open_tiles([folder / "tiles"])
    loss = []
    torch.manual_seed(0)
    fresh = build_network("unet", boundary=True, encoder="tu-resnet10t", **TINY.options).eval()
    for network in (fresh, model.network):
        with torch.inference_mode():
            samples = [WholeChips(tiles.train, model.card.contract)[number] for number in range(4)]
            loss.append(
                np.mean([bce_dice_loss(network(one.image[None])[:, 1:], one.boundary[None]).item() for one in samples])
            )
    assert loss[1] < 0.85 * loss[0]


def test_boundaries_can_be_left_out_and_what_cannot_be_is_refused(town, trained, tmp_path, caplog):
    folder = town
    tiles = open_tiles([folder / "tiles"])
    bare = tiles.without_boundaries()
    with pytest.raises(OptionError, match="--boundaries: not all tiles have boundaries/"):
        train(bare, tmp_path / "a", replace(TINY, boundary=True), SHORT)
    with pytest.raises(OptionError, match="has an output for boundaries; give it tiles"):
        train(bare, tmp_path / "b", NetworkChoice(start=trained), SHORT)
    without = train(tiles, tmp_path / "c", replace(TINY, boundary=False), SHORT).model
    assert read_card(without).architecture["boundary"] is False
    assert "val_boundary_f1" not in read_card(without).scores
    with pytest.raises(OptionError, match="has no output for boundaries; leave out --boundaries"):
        train(tiles, tmp_path / "d", NetworkChoice(start=without, boundary=True), SHORT)
    again = train(tiles, tmp_path / "e", NetworkChoice(start=without), SHORT)
    assert "has no output for boundaries" in caplog.text
    assert read_card(again.model).architecture["boundary"] is False


def test_old_model_files_have_no_boundary_output(trained, tmp_path):
    """Their description does not speak of one."""
    with shipped_model() as path:
        new = path.read_bytes()
    named = b', \\"boundary\\": false'
    assert new.count(named) == 1
    old = tmp_path / "old.safetensors"
    old.write_bytes(new.replace(named, b" " * len(named)))
    assert "boundary" not in load_model(old).card.architecture
    assert load_model(old).network.architecture.boundary is False
    # One whose description forgot it does not fit its weights.
    spoilt = tmp_path / "spoilt.safetensors"
    spoilt.write_bytes(trained.read_bytes().replace(b'\\"boundary\\": true', b'\\"boundary\\":false'))
    with pytest.raises(ModelFileError, match="do not fit"):
        load_model(spoilt)


# ---- prediction


@pytest.fixture(scope="module")
def predicted(trained, town):
    """The town with a hole in it."""
    folder = town
    with rasterio.open(folder / "terraces.tif") as dataset:
        pixels = dataset.read()
    pixels[:, 100:180, 40:120] = 0
    scene = scenes.write(folder / "holed.tif", pixels, photometric="rgb", nodata=0)
    outputs = ["--out", folder / "two.geojson", "--probability", folder / "two.tif"]
    buildseg("predict", scene, "--model", trained, *outputs, "--window", 64, "--block", 64, *ON_CPU)
    return scene, load_model(trained), folder / "two.tif"


def test_the_raster_has_a_second_band_of_boundaries(predicted):
    _, _, path = predicted
    with rasterio.open(path) as dataset:
        assert dataset.descriptions == BAND_NAMES == ("building probability", "boundary probability")
        assert dataset.dtypes == ("uint8", "uint8") and dataset.nodatavals == (255, 255)
        assert dataset.scales == pytest.approx((1 / 254, 1 / 254))
        building, boundary = dataset.read()
    hole = np.zeros((SIDE, SIDE), bool)
    hole[100:180, 40:120] = True
    assert np.array_equal(building == 255, hole) and np.array_equal(boundary == 255, hole)
    assert not np.array_equal(building, boundary) and boundary[~hole].std() > 5


def test_bands_are_the_probabilities_of_the_windows(predicted):
    """One window, without overlap: what the network says, encoded."""
    scene, model, _ = predicted
    out = scene.with_name("one.tif")
    predict(scene, Outputs(None, out, overwrite=True), model, replace(FP32, window=SIDE, overlap=0.0))
    with rasterio.open(scene) as dataset:
        pixels, valid = dataset.read(), dataset.dataset_mask() > 0
    with torch.inference_mode():
        image = torch.from_numpy(model.card.contract.scale(pixels[None]) * valid)
        logits = model.network(image)
    expected = torch.sigmoid(logits[0]).numpy() * 254
    with rasterio.open(out) as dataset:
        assert np.abs(dataset.read().astype(float) - expected)[:, valid].max() <= 1.01


def test_footprints_are_those_of_the_first_band(predicted, tmp_path):
    _, _, path = predicted
    with rasterio.open(path) as dataset:
        profile = dataset.profile | {"count": 1, "interleave": "band"}
        with rasterio.open(tmp_path / "one.tif", "w", **profile) as alone:
            alone.write(dataset.read(1), 1)
            alone.scales = dataset.scales[:1]
    options = VectorizeOptions(shape=ShapeOptions(split=SplitOptions("none")))
    one, two = (vectorize(raster, options) for raster in (tmp_path / "one.tif", path))
    assert len(two) > 0 and one.drop(columns="scene").equals(two.drop(columns="scene"))


def test_the_reader_gives_both_bands_and_refuses_others(predicted, tmp_path):
    _, _, path = predicted
    with rasterio.open(path) as dataset:
        profile, pixels = dataset.profile, dataset.read()
    with opened_probability(path) as dataset:
        assert has_boundary(dataset)
        for band in (1, 2):
            samples = read_block(dataset, Block(-1, 30, 50, 60), band)
            assert np.array_equal(samples[1:], pixels[band - 1, :49, 30:90]) and (samples[0] == 255).all()
    for names in ((None, None), ("building probability", "height")):
        with rasterio.open(tmp_path / "other.tif", "w", **profile) as other:
            other.write(pixels)
            other.scales = (1 / 254, 1 / 254)
            other.descriptions = names
        with (
            pytest.raises(ProbabilityError, match=r"2 bands where .* or a second one called 'boundary probability'"),
            opened_probability(tmp_path / "other.tif"),
        ):
            pass


def test_blocks_resume_and_area_work_with_two_bands(predicted, tmp_path, monkeypatch):
    from buildseg.area_of_interest import REACH, AreaOfInterest
    from buildseg.prediction.parts import PartStore

    scene, model, whole = predicted
    keep = PartStore.keep

    def cut_off(self, block, content):
        if block.row > 100:
            raise KeyboardInterrupt
        keep(self, block, content)

    options = replace(FP32, block=64)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PartStore, "keep", cut_off)
        predict(scene, Outputs(None, tmp_path / "resumed.tif"), model, options)
    result = predict(scene, Outputs(None, tmp_path / "resumed.tif", resume=True), model, options)
    assert 0 < result.resumed < 1
    pixels = [rasterio.open(path).read() for path in (tmp_path / "resumed.tif", whole)]
    assert np.array_equal(*pixels)
    square = on_ground(shapely.box(150, 80, 180, 100))
    square.set_crs(scenes.UTM).to_file(tmp_path / "area.geojson")
    area = AreaOfInterest.read(tmp_path / "area.geojson")
    predict(scene, Outputs(None, tmp_path / "part.tif"), model, options, area=area)
    part = rasterio.open(tmp_path / "part.tif").read()
    wanted = part[0] != 255
    inside, around = np.zeros((2, *wanted.shape), np.bool_)
    inside[80:100, 150:180] = True
    around[80 - REACH - 1 : 100 + REACH + 1, 150 - REACH - 1 : 180 + REACH + 1] = True
    assert wanted[inside].all() and not wanted[~around].any() and np.array_equal(wanted, part[1] != 255)
    assert np.abs(part.astype(int) - pixels[1])[:, wanted].max() <= 1


@pytest.mark.parametrize(("augmentation", "scales"), [("d4", (1.0,)), ("none", (1.5,)), ("flips", (0.5, 1.0))])
def test_every_view_brings_both_channels_back(trained, augmentation, scales):
    model = load_model(trained)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    shown = views(augmentation, scales)
    both = TorchNetwork(model, torch.device("cpu"), Arithmetic(shown=shown))(pixels, valid)
    assert both.shape == (2, 2, 64, 64)
    image = torch.from_numpy(model.card.contract.scale(pixels.numpy()))
    with torch.inference_mode():
        seen = [[torch.sigmoid(model.network(view.of(image))[:, n].float()) for view in shown] for n in (0, 1)]
    for channel, ones in enumerate(seen):
        expected = torch.stack([view.undo(one, 64) for view, one in zip(shown, ones, strict=True)]).mean(0)
        assert (both[:, channel] - expected).abs().max() < 1e-4


def test_models_of_one_kind_are_averaged_and_others_refused(predicted, tmp_path):
    scene, model, whole = predicted
    network = TorchNetwork(model, torch.device("cpu"))
    assert Ensemble([network, network]).channels == network.channels == 2
    predict(scene, Outputs(None, tmp_path / "twice.tif"), [model, model], replace(FP32, block=64))
    assert np.array_equal(rasterio.open(tmp_path / "twice.tif").read(), rasterio.open(whole).read())
    bare = replace(model, network=build_network("unet", encoder="tu-resnet10t", **TINY.options).eval())
    with pytest.raises(ContractError, match="some of the models have an output for boundaries and some have none"):
        predict(scene, Outputs(None, tmp_path / "mixed.tif"), [model, bare], FP32)
    assert gives_boundaries([model, model]) and not gives_boundaries([bare, bright_model()])
