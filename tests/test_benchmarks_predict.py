"""The peers of `buildseg predict` in its benchmark: each does the work that it is measured by."""

import sys
from functools import partial

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from rasterio.features import rasterize

from bright_model import bright_model
from buildseg.contract import Contract
from buildseg.model_file import Model, ModelCard
from buildseg.networks import build_network
from scenes import write

WINDOW = 64


@pytest.fixture
def peers(load_benchmark):
    return load_benchmark("predict_peers")


@pytest.fixture
def town(peers, tmp_path):
    """A drawn scene whose side no window's step divides."""
    path = tmp_path / "scene.tif"
    peers.drawn_scene(path, 152, seed=4)
    return path


@pytest.fixture
def model():
    torch.manual_seed(3)
    network = build_network("lraspp", encoder="tu-mobilenetv3_small_100", reduced_tail=True).eval()
    contract = Contract(("red", "green", "blue"), "uint8", (127.0,) * 3, (45.0,) * 3, 0.3, WINDOW)
    return Model(network, ModelCard({"name": "lraspp"}, contract))


def directly(model, pixels):
    """Probability of a scene of 152 x 152, one window after the other, in float64."""
    hann = np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW) ** 2
    total, weights = np.zeros((2, 152, 152))
    for row in (0, 48, 88):
        for col in (0, 48, 88):
            place = np.s_[row : row + WINDOW, col : col + WINDOW]
            with torch.inference_mode():
                logits = model.network(torch.from_numpy(model.card.contract.scale(pixels[(slice(None), *place)]))[None])
            total[place] += torch.sigmoid(logits)[0, 0].double().numpy() * np.outer(hann, hann)
            weights[place] += np.outer(hann, hann)
    return total / weights


def test_the_textbook_loop_is_the_network_window_by_window(peers, town, model, tmp_path, monkeypatch):
    with rasterio.open(town) as dataset:
        pixels, transform = dataset.read(), dataset.transform
    expected = directly(model, pixels)
    monkeypatch.setattr(peers, "THRESHOLD", float(np.median(expected)))
    out = tmp_path / "out.geojson"
    assert peers.textbook(town, model, out) > 0
    found = gpd.read_file(out)
    assert found.crs == "EPSG:4326"
    built = rasterize(found.to_crs("EPSG:32632").geometry, expected.shape, transform=transform)
    # Pixels on the very threshold may fall to either side.
    assert (built != (expected >= np.median(expected))).mean() < 0.002
    assert peers.built_share(town, out) == pytest.approx(0.5, abs=0.01)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize(("peer", "name"), [("monai", "out.tif"), ("geodeep", "out.geojson")])
def test_a_peer_finds_what_is_bright(peers, tmp_path, peer, name):
    if not peers.installed(peer):
        pytest.skip(f"{peer} is not installed: pip install .[benchmarks]")
    pixels = np.full((3, 152, 152), 40, np.uint8)
    pixels[:, 10:60, 30:140] = pixels[:, 90:150, 50:90] = 210
    scene = write(tmp_path / "scene.tif", pixels, photometric="rgb")
    assert getattr(peers, peer)(scene, bright_model(), tmp_path / name) > 0
    assert peers.built_share(scene, tmp_path / name) == pytest.approx((pixels[0] > 100).mean(), abs=0.002)


def test_a_drawn_scene_is_of_its_seed(peers, town, tmp_path):
    again, other = tmp_path / "again.tif", tmp_path / "other.tif"
    peers.drawn_scene(again, 152, seed=4)
    peers.drawn_scene(other, 152, seed=5)
    assert again.read_bytes() == town.read_bytes() != other.read_bytes()
    with rasterio.open(town) as dataset:
        assert (dataset.crs, dataset.res, dataset.count, dataset.dtypes[0]) == ("EPSG:32632", (0.3, 0.3), 3, "uint8")


def hold(size):
    return int(np.ones(size, np.uint8)[::4096].sum())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured as Linux reports it")
def test_peak_memory_is_that_of_the_function_alone(peers):
    ballast = np.ones(1_100_000_000, np.uint8)
    result, peak = peers.peak_memory(partial(hold, 100_000_000))
    assert result == 100_000_000 // 4096 + 1
    assert 100_000_000 < peak < ballast.nbytes
