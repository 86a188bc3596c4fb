"""Going on from a model of other bands or classes: what it knew stays, and that is said in one line."""

import logging
from dataclasses import asdict, replace

import numpy as np
import pytest
import rasterio
import torch

from buildseg.contract import Contract
from buildseg.model_file import ModelCard, load_model, save_model
from buildseg.networks import build_network
from buildseg.networks.output import boundary_probability, building_probability
from buildseg.statistics import BandStatistics
from buildseg.tiles import Tiles, open_tiles
from buildseg.training.options import NetworkChoice, TrainOptions
from buildseg.training.start import make_contract, make_start
from network_rules import images
from test_prediction_network import CHEAP
from test_training import run, tiles_of
from tiling.errors import OptionError

RGB = ("red", "green", "blue")


def tiles_like(bands=RGB, classes=1, dtype="uint8", boundaries=False):
    number = len(bands)
    statistics = BandStatistics(9, (7.0,) * number, (3.0,) * number)
    return Tiles((), (), (), tuple(bands), dtype, statistics, classes, boundaries)


def saved(folder, name="unet", classes=1, boundary=False, **settings):
    torch.manual_seed(0)
    settings = settings or CHEAP[name]
    network = build_network(name, classes=classes, boundary=boundary, **settings)
    for module in network.modules():  # statistics that are not all zeros and ones
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
    contract = Contract(RGB, "uint8", (1.0, 2.0, 3.0), (0.1, 0.2, 0.3), 0.4, 256)
    path = folder / "start.safetensors"
    save_model(path, network, ModelCard(asdict(network.architecture), contract))
    return path, network.eval()


@pytest.mark.parametrize("name", sorted(CHEAP))
def test_a_new_band_changes_nothing_at_first(name, tmp_path, caplog):
    path, before = saved(tmp_path, name)
    caplog.set_level(logging.INFO, "buildseg")
    start = make_start(NetworkChoice(path), tiles_like(("blue", "nir", "red", "green")))
    (line,) = caplog.messages
    assert line == f"{path}: its first layer takes blue, nir, red, green instead of red, green, blue"
    x = images(1, 4, 64, 96)
    with torch.inference_mode():
        found, expected = start.network.eval()(x), before(x[:, [2, 3, 0]])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_weights_of_a_new_band_learn(tmp_path):
    path, _ = saved(tmp_path)
    network = make_start(NetworkChoice(path), tiles_like((*RGB, "nir"))).network.train()
    network(images(2, 4, 64, 64)).logits.square().sum().backward()
    first = next(p for p in network.parameters() if p.dim() == 4 and p.shape[1] == 4)
    assert (first[:, 3] == 0).all() and first.grad[:, 3].abs().sum() > 0


@pytest.mark.parametrize("bands", [("gray",), ("band1", "band2", "band3", "band4", "band5")])
def test_bands_of_other_names_share_the_weights(tmp_path, bands):
    path, before = saved(tmp_path)
    start = make_start(NetworkChoice(path), tiles_like(bands))
    old, new = (next(p for p in n.parameters() if p.dim() == 4) for n in (before, start.network))
    torch.testing.assert_close(new.sum(dim=1), old.sum(dim=1) if len(bands) == 1 else new.sum(dim=1))
    assert new.shape[1] == len(bands) and new.abs().sum() > 0


# Object context has a region for each class, so that with more of them it sees other things.
@pytest.mark.parametrize("name", sorted(CHEAP.keys() - {"hrnet-ocr-psa"}))
def test_odds_of_building_stay_among_more_classes(name, tmp_path, caplog):
    path, before = saved(tmp_path, name, boundary=True)
    caplog.set_level(logging.INFO, "buildseg")
    start = make_start(NetworkChoice(path), tiles_like(classes=4, boundaries=True))
    assert caplog.messages == [f"{path}: its last layer tells 4 instead of 1 classes apart"]
    x = images(1, 3, 64, 96)
    with torch.inference_mode():
        found, expected = start.network.eval()(x), before(x)
    torch.testing.assert_close(found[:, 1] - found[:, 0], expected[:, 0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(boundary_probability(found), boundary_probability(expected), rtol=1e-3, atol=1e-4)


def test_several_classes_become_one_and_others(tmp_path):
    path, before = saved(tmp_path, classes=3)
    x = images(1, 3, 64, 96)
    with torch.inference_mode():
        old = before(x)
        one = make_start(NetworkChoice(path), tiles_like()).network.eval()(x)
        five = make_start(NetworkChoice(path), tiles_like(classes=5)).network.eval()(x)
    torch.testing.assert_close(building_probability(one), building_probability(old[:, :2]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(five[:, :3], old, rtol=1e-4, atol=1e-5)


def test_scaling_stays_for_bands_that_were_known(tmp_path):
    path, _ = saved(tmp_path)
    tiles = tiles_like(("nir", "red"))
    contract = make_contract(tiles, TrainOptions(), make_start(NetworkChoice(path), tiles).card)
    assert contract == Contract(("nir", "red"), "uint8", (7.0, 1.0), (3.0, 0.1), 0.4, 256)
    other = tiles_like(("nir", "red"), dtype="uint16")
    contract = make_contract(other, TrainOptions(gsd=0.2), make_start(NetworkChoice(path), other).card)
    assert contract == Contract(("nir", "red"), "uint16", (7.0, 7.0), (3.0, 3.0), 0.2, 256)


def test_a_model_of_several_resolutions_keeps_them_unless_told(tmp_path):
    path, _ = saved(tmp_path)
    tiles = tiles_like(RGB)
    card = make_start(NetworkChoice(path), tiles).card
    wide = replace(card, contract=replace(card.contract, coarsest_gsd=1.0))

    def seen(start=None, **options):
        contract = make_contract(tiles, TrainOptions(**options), start)
        return contract.gsd, contract.coarsest_gsd

    assert seen(wide) == (0.4, 1.0)
    assert seen(wide, gsd=0.2) == (0.2, None)
    assert seen(wide, coarsest_gsd=0.8) == (0.4, 0.8)
    assert seen(card, gsd=0.2, coarsest_gsd=2) == (0.2, 2)
    assert wide.contract.resolution == "0.4 to 1 m per pixel"
    with pytest.raises(OptionError, match=r"--coarsest-gsd 0.3 is to be coarser than the finest, 0.4 m per pixel"):
        seen(card, coarsest_gsd=0.3)
    with pytest.raises(OptionError, match="name it with --gsd"):
        make_contract(replace(tiles, train=()), TrainOptions(coarsest_gsd=1))


def test_a_model_of_colours_goes_on_with_grey_tiles_of_several_classes(tmp_path):
    path, _ = saved(tmp_path)
    folder = tmp_path / "tiles"
    tiles_of(folder, 4, 1, bands=1)
    for mask in folder.glob("*/masks/*.tif"):
        with rasterio.open(mask, "r+") as dataset:
            dataset.write((dataset.read() > 0).astype(np.uint8) * 2)
    result = run(open_tiles([folder], classes=3), tmp_path / "run", NetworkChoice(path), gsd=0.5)
    card = load_model(result.model).card
    assert (card.architecture["in_channels"], card.architecture["classes"]) == (1, 3)
    assert card.contract.bands == ("gray",) and card.training["network"] == {"start": "start.safetensors"}
