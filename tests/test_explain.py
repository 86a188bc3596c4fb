"""A model's attention over a scene: the right place, the right maps, and a picture that shows them."""

import dataclasses
import logging
import re
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from buildseg.cli.main import run
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from pyproj import Transformer
from torch import nn

import attention_reference as reference
import scenes
from buildseg.attention import ChannelAttention, PositionAttention
from buildseg.attention.looking import attention_modules
from buildseg.contract import Contract
from buildseg.explaining.maps import ModuleMaps, choose_modules, look, recorded
from buildseg.explaining.picture import View, _grid, draw
from buildseg.explaining.place import Place, find_pixel
from buildseg.explaining.run import MOST_MODULES, ExplainOptions, explain
from buildseg.model_file import Model, ModelCard, load_model, save_model
from buildseg.networks import NETWORKS, Architecture, NetworkOutput, SegmentationNetwork, build_network
from buildseg.prediction.conform import InputOptions
from tiling import Scene, SceneOptions
from tiling.errors import ContractError, OptionError, OutputError, SceneError

RGB = ("red", "green", "blue")
SMALLER = {"hrnet-ocr-psa": "tu-hrnet_w18_small"}
BLUE, RED = (20, 20, 200), (200, 20, 20)
NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 5_200_000)
TO_DEGREES = Transformer.from_crs(scenes.UTM, "EPSG:4326", always_xy=True)


def contract(window=64, gsd=None):
    return Contract(RGB, "uint8", (100.0, 100.0, 100.0), (50.0, 50.0, 50.0), gsd, window)


def saved(path, name, window=64, **options):
    """A real model file; attention that starts as the identity is given a part."""
    torch.manual_seed(2)
    network = build_network(name, **options)
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if key.endswith(("gamma", "beta")):
                parameter.fill_(0.7)
        network(torch.randn(4, 3, 64, 64))
    card = ModelCard(dataclasses.asdict(network.architecture), contract(window, 0.3))
    save_model(path, network.eval(), card)
    return path


@pytest.fixture(scope="module")
def danet(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("danet") / "danet.safetensors", "danet", 72, encoder="resnet18")


@pytest.fixture(scope="module")
def psa(tmp_path_factory):
    path = tmp_path_factory.mktemp("psa") / "psa.safetensors"
    return saved(path, "psa-unet", encoder="tu-resnet10t", decoder_channels=[16, 16, 8, 8])


class LikeToLike(SegmentationNetwork):
    """Red attends to red and blue to blue: known by construction."""

    stride = 8

    def __init__(self, times):
        super().__init__()
        self.attention = nn.Sequential(*(PositionAttention(3) for _ in range(times)))
        self.architecture = Architecture("like-to-like", 3, 1, None)
        with torch.no_grad():
            for attention in self.attention:
                for parameter in attention.parameters():
                    parameter.zero_()
                attention.query.weight[0, 0] = 10
                attention.key.weight[0, 0] = 1

    def predict(self, x):
        seen = self.attention(nn.functional.avg_pool2d(x, 8))
        return NetworkOutput(nn.functional.interpolate(seen[:, :1], scale_factor=8))


def like_to_like(window=64, times=1):
    return Model(LikeToLike(times).eval(), ModelCard({"name": "like-to-like"}, contract(window)))


def painted(path, height, width, *spots, transform=NORTH_UP, **creation):
    """A blue scene with red squares of 8 x 8 pixels, by the row and column of their first pixel."""
    pixels = np.empty((3, height, width), np.uint8)
    pixels[:] = np.array(BLUE)[:, None, None]
    for row, col in spots:
        pixels[:, row : row + 8, col : col + 8] = np.array(RED)[:, None, None]
    return scenes.write(path, pixels, transform=transform, **creation)


# ---- the point


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """Scenes by the degrees that they are turned by."""
    folder = tmp_path_factory.mktemp("turned")
    return {
        angle: scenes.write(folder / f"{angle}.tif", scenes.picture(), transform=NORTH_UP @ Affine.rotation(angle))
        for angle in (0, 33, 180)
    }


@given(
    row=st.integers(0, 149),
    col=st.integers(0, 219),
    angle=st.sampled_from([0, 33, 180]),
    inside=st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
)
def test_coordinates_name_the_pixel_that_they_lie_in(turned, row, col, angle, inside):
    with Scene(turned[angle]) as scene:
        x, y = NORTH_UP @ Affine.rotation(angle) @ (col + inside[1], row + inside[0])
        assert find_pixel(scene, Place(x, y)) == (row, col)
        assert find_pixel(scene, Place(col, row, pixel=True)) == (row, col)
        lon, lat = TO_DEGREES.transform(x, y)
        assert find_pixel(scene, Place(lon, lat, "EPSG:4326")) == (row, col)


def test_a_point_stays_where_it_is_when_the_scene_is_resampled(tmp_path):
    path = scenes.write(tmp_path / "s.tif", scenes.picture(), transform=NORTH_UP)
    with Scene(path, SceneOptions(gsd=0.25)) as fine, Scene(path, SceneOptions(gsd=1.0)) as coarse:
        for place in (Place(100, 40, pixel=True), Place(*(NORTH_UP @ (100.5, 40.5)))):
            assert find_pixel(fine, place) in {(80, 200), (81, 200), (80, 201), (81, 201)}
            assert find_pixel(coarse, place) == (20, 50)
        assert find_pixel(coarse, Place(219, 149, pixel=True)) == (74, 109)
        with pytest.raises(OptionError, match=r"column 220, row 0 lies outside .*0 to 219 and rows 0 to 149"):
            find_pixel(coarse, Place(220, 0, pixel=True))


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (Place(499_999, 5_199_990), r"--at 499999,5199990 lies outside .*X 500000.0 to 500110.0 and Y 5199925.0 to"),
        (Place(500_010, 5_200_001), r"5200000.0 \(WGS 84 / UTM zone 32N\); .*--at-crs.*--pixel"),
        (Place(8, 46, "EPSG:4326"), r"8,46 \(EPSG:4326\) lies .*longitude 9.000000 to 9.001\d+ and latitude 46.95\d+"),
        (Place(46.952, 9.0005, "EPSG:4326"), "longitude 9"),
        (Place(float("nan"), 0), "lies outside"),
        (Place(1e300, float("inf")), "lies outside"),
        (Place(0, -1, pixel=True), r"column 0, row -1 lies outside"),
        (Place(220, 0, pixel=True), r"columns are 0 to 219 and rows 0 to 149"),
        (Place(float("nan"), 0, pixel=True), "lies outside"),
    ],
)
def test_points_outside_are_told_where_the_scene_is(tmp_path, place, says):
    path = scenes.write(tmp_path / "s.tif", scenes.picture(), transform=NORTH_UP)
    with Scene(path) as scene, pytest.raises(OptionError, match=says) as caught:
        find_pixel(scene, place)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("crs", "pixel", "says"),
    [
        ("EPSG:4326", True, "leave out --pixel or --at-crs"),
        ("EPSG:99", False, "--at-crs EPSG:99 is not known to PROJ; give a code"),
        ("here", False, "--at-crs here is not known"),
        ("EPSG:4978", False, "no CRS for maps"),
    ],
)
def test_a_crs_that_makes_no_point(crs, pixel, says):
    with pytest.raises(OptionError, match=says):
        Place(1, 2, crs, pixel)


# ---- the maps


def looked_at(network, x, share, wanted=()):
    modules = choose_modules(network, wanted)
    with torch.no_grad(), recorded(modules) as inputs:
        network(x)
    return inputs, [look(name, modules[name], inputs[name], share, 3) for name in inputs]


def test_a_position_map_of_a_real_network_is_the_textbook_softmax(danet):
    network = load_model(danet).network
    x = torch.randn(1, 3, 72, 64, generator=torch.Generator().manual_seed(1))
    inputs, maps = looked_at(network, x, (0.5, 0.9))
    assert [m.name for m in maps] == ["position.1", "channel.1"]
    position, channel = maps
    assert position.position.shape == (9, 8) and position.position.sum() == pytest.approx(1)
    module = attention_modules(network)["position.1"].double()
    row = reference.position_row(module, inputs["position.1"][0][0].double(), 4, 7)
    np.testing.assert_allclose(position.position, row.detach().numpy(), rtol=1e-4)
    assert not position.gated and position.channels == ()
    assert channel.position is None and len(channel.channels) == 3


def test_the_strongest_channels_stand_out_most_at_the_pixel(danet, psa):
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for path, name in ((danet, "channel.1"), (psa, "decoder.blocks.1.attention2")):
        network = load_model(path).network
        inputs, (maps,) = looked_at(network, x, (0.3, 0.6), (name,))
        module = attention_modules(network)[name]
        features = module(inputs[name][0])[0].detach().numpy()
        row, col = int(0.3 * features.shape[1]), int(0.6 * features.shape[2])
        with np.errstate(invalid="ignore", divide="ignore"):
            above = (features[:, row, col] - features.mean(axis=(1, 2))) / features.std(axis=(1, 2))
        best = np.argsort(-np.nan_to_num(above))[:3]
        assert [c.number for c in maps.channels] == best.tolist()
        np.testing.assert_allclose([c.deviations for c in maps.channels], above[best], rtol=1e-3)
        np.testing.assert_allclose(maps.channels[0].values, features[best[0]], rtol=1e-5)
        if name == "channel.1":
            weights = module.weights(inputs[name][0])[0, best[0]]
            assert maps.channels[0].weight == f"attends to channel {weights.argmax()} ({weights.max():.0%})"
        else:
            gate = module.channel_gate(inputs[name][0])[0, best[0]].item()
            assert maps.gated and maps.channels[0].weight == f"gate {gate:.2f}"


class Twice(nn.Module):
    """Calls one attention twice, another in between, and changes what it was given in place."""

    def __init__(self):
        super().__init__()
        self.twice, self.between = PositionAttention(3), PositionAttention(3)

    def forward(self, x):
        for attention in (self.twice, self.between, self.twice):
            attention(x)
            x.add_(1)
        return x


def test_the_last_call_counts_as_it_was_given():
    torch.manual_seed(0)
    network, x = Twice().eval(), torch.randn(1, 3, 4, 4)
    before = x.clone()
    inputs, maps = looked_at(network, x, (0, 0))
    assert [m.name for m in maps] == ["between", "twice"]
    assert torch.equal(inputs["twice"][0], before + 1 + 1)
    assert not network.twice._forward_pre_hooks


def test_a_channel_that_is_low_at_the_pixel_does_not_respond():
    x = torch.randn(1, 5, 8, 8, generator=torch.Generator().manual_seed(1))
    x[0, :, 6, 2] = torch.tensor([-50.0, 3.0, -40.0, 5.0, 4.0])
    maps = look("a", ChannelAttention(5), (x,), (0.8, 0.3), 3)
    assert [channel.number for channel in maps.channels] == [3, 4, 1]


def test_modules_are_chosen_by_name_or_by_the_part_they_are_in(psa):
    network = load_model(psa).network
    every = [f"decoder.blocks.{n}.attention2" for n in range(4)]
    assert list(choose_modules(network, ())) == every
    assert list(choose_modules(network, ["decoder.blocks.3", every[1]])) == [every[1], every[3]]
    with pytest.raises(OptionError, match=r"--module decoder.blo is no .*it has decoder.blocks.0.attention2, decoder"):
        choose_modules(network, [every[1], "decoder.blo"])


def test_networks_without_attention_name_those_that_have_it():
    torch.manual_seed(0)
    network = build_network("unet", encoder="tu-resnet10t")
    with pytest.raises(OptionError, match="no attention to look at; networks that have") as caught:
        choose_modules(network, ())
    named = str(caught.value).rpartition(": ")[2].split(", ")
    with torch.device("meta"):  # without weights, so that it takes a moment only
        built = {name: build_network(name, encoder=SMALLER.get(name)) for name in NETWORKS}
    able = [name for name, network in built.items() if attention_modules(network)]
    assert named == able and {"psa-unet", "da-unet", "danet"} <= set(able) and "unet" not in able


# ---- the picture


def colour(value, over):
    """The colour of attention over a grey, as the picture blends them."""
    grey = (over + 0.4) / 1.4
    return 0.65 * np.array(matplotlib.colormaps["inferno"](value)[:3]) + 0.35 * grey


def found(picture, wanted, box):
    """Rows and columns of the picture that have a colour, within first and last row and column."""
    top, bottom, left, right = box
    close = np.abs(picture[top:bottom, left:right, :3] - np.array(wanted)) < 0.02
    rows, cols = np.nonzero(close.all(axis=2))
    return rows + top, cols + left


def panel(picture, background, left, right):
    """First and last row and column of the panel on this background, between two shares of the picture's width."""
    height, width = picture.shape[:2]
    lines = found(picture, background, (0, height, int(left * width), int(right * width)))
    box = []
    for axis in lines:
        counts = np.bincount(axis)
        filled = np.flatnonzero(counts > counts.max() / 2)  # and not the shades of a letter
        box += [filled[0], filled[-1] + 1]
    return box


def middle(picture, wanted, box, drawn):
    """Where the middle of what has a colour in a panel is, in pixels of what is drawn in it."""
    rows, cols = found(picture, wanted, box)
    return [
        ((axis.min() + axis.max() + 1) / 2 - first) / (last - first) * length
        for axis, first, last, length in zip((rows, cols), box[::2], box[1::2], drawn, strict=True)
    ]


@pytest.mark.parametrize(
    ("shape", "window", "asked", "origin", "spots"),
    [
        ((200, 300), 64, (104, 208), (72, 176), ((104, 208), (80, 184))),
        ((200, 300), 64, (4, 294), (0, 236), ((0, 292), (40, 252))),
        ((200, 300), 64, (195, 290), (136, 236), ((192, 284), (152, 244))),
        ((40, 56), 64, (10, 40), (0, 0), ((8, 40), (16, 8))),
        ((200, 300), 60, (104, 208), (74, 178), ((98, 202), (82, 218))),
    ],
    ids=["inside", "upper right", "lower right", "scene smaller than a window", "window that the network pads"],
)
def test_the_ring_is_on_the_pixel_and_the_map_peaks_where_it_must(tmp_path, shape, window, asked, origin, spots):
    path = painted(tmp_path / "s.tif", *shape, *spots)
    place = Place(asked[1], asked[0], pixel=True)
    result = explain(path, tmp_path / "map.png", like_to_like(window), place, ExplainOptions(device="cpu"))
    assert (result.row, result.col, result.modules) == (*asked, ("attention.0",))
    picture = imread(tmp_path / "map.png")
    drawn = tuple(min(window, length) for length in shape)
    ring = [at - start + 0.5 for at, start in zip(asked, origin, strict=True)]
    target = [(one + other) / 2 + 4 - start for one, other, start in zip(*spots, origin, strict=True)]

    image = panel(picture, (0, 0, 1), 0, 1 / 3)
    assert (image[1] - image[0]) / (image[3] - image[2]) == pytest.approx(drawn[0] / drawn[1], rel=0.02)
    assert middle(picture, (1, 1, 1), image, drawn) == pytest.approx(ring, abs=0.4)
    assert middle(picture, (1, 0, 0), image, drawn) == pytest.approx(target, abs=0.4)

    attention = panel(picture, colour(0.0, 1 / 3), 0.6, 1)
    assert middle(picture, (1, 1, 1), attention, drawn) == pytest.approx(ring, abs=0.4)
    assert middle(picture, colour(1.0, 1 / 3), attention, drawn) == pytest.approx(target, abs=0.4)


def view(side=64):
    grey = np.full((side, side), 0.5, np.float32)
    return View("first line\nsecond line", np.stack([grey] * 3, axis=2), grey, side // 2, side // 2, side)


def test_titles_and_bars_have_room(psa, danet):
    for path in (psa, danet):
        x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        _, maps = looked_at(load_model(path).network, x, (0.5, 0.5))
        maps[-1] = dataclasses.replace(maps[-1], name="encoder.model.stage4.0.branches.3.1.and.still.deeper.attention")
        figure = draw(view(), maps)
        figure.draw_without_rendering()
        texts = [figure._suptitle, figure._supxlabel]
        for axes in figure.axes:
            texts += [axes.title, *(bar.yaxis.label for bar in axes.child_axes)]
            texts += [label for bar in axes.child_axes for label in bar.get_yticklabels()]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        panels = [axes.get_window_extent() for axes in figure.axes]
        assert len(boxes) > 30 and len(panels) == 2 + sum((m.position is not None) + len(m.channels) for m in maps)
        for index, box in enumerate(boxes):
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, texts[index]
            assert not any(box.overlaps(other) for other in [*boxes[:index], *panels]), texts[index]
        assert min(panel.width for panel in panels) > 0.6 * figure.bbox.width / 4


@pytest.mark.parametrize(
    ("low", "high", "gated"),
    [
        (0, 1, False),
        (0, 2.44e-3, False),
        (0, 3.9e-6, False),
        (0.49996, 0.50011, True),
        (0.12, 0.95, True),
        (0.5, 0.5, True),
    ],
)
def test_bars_are_marked_with_the_values_of_the_map(low, high, gated):
    values = np.linspace(low, high, 16, dtype=np.float32).reshape(4, 4)
    figure = draw(view(), [ModuleMaps("a", "attention", gated, values, ())])
    figure.draw_without_rendering()
    *_, axes = figure.axes
    (bar,) = axes.child_axes
    label = bar.yaxis.label.get_text()
    assert label.startswith("spatial gate" if gated else "weight")
    power = re.search(r"10\^\{(-\d+)\}", label)
    unit = 10.0 ** int(power[1]) if power else 1.0
    ticks, texts = bar.get_yticks(), [text.get_text() for text in bar.get_yticklabels()]
    assert len(ticks) >= 2 and max(map(len, texts)) <= 7
    np.testing.assert_allclose([float(text) * unit for text in texts], ticks, atol=1e-3 * (high - low) + 1e-12)
    assert bar.get_ylim() == pytest.approx((low, high if high > low else low + 1))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=9))
def test_the_panels_of_a_module_stay_in_a_row(sizes):
    columns, places = _grid(sizes)
    assert columns <= max(4, *sizes)
    assert len(set(places)) == len(places) == sum(sizes) and places == sorted(places)
    assert all(0 <= column < columns for _, column in places)
    starts = np.cumsum([0, *sizes])
    for start, stop in pairwise(starts):
        assert len({row for row, _ in places[start:stop]}) == 1
    assert {row for row, _ in places} == set(range(places[-1][0] + 1))


def test_the_place_and_the_probability_are_the_same_however_the_point_is_named(tmp_path, danet, sample_scene):
    model, options = load_model(danet), ExplainOptions(("position",), "cpu")
    x, y = 401280 + 1024.5 * 0.3, 5318640 - 700.5 * 0.3
    lon, lat = TO_DEGREES.transform(x, y)
    places = (Place(x, y), Place(lon, lat, "EPSG:4326"), Place(1024, 700, pixel=True))
    results = {
        explain(sample_scene, tmp_path / f"{number}.png", model, place, options) for number, place in enumerate(places)
    }
    (result,) = results
    assert (result.row, result.col, result.modules) == (700, 1024, ("position.1",))
    pixels = rasterio.open(sample_scene).read(window=rasterio.windows.Window(1024 - 36, 700 - 36, 72, 72))
    scaled = torch.from_numpy(model.card.contract.scale(pixels[None]))
    with torch.inference_mode():
        probability = model.network(scaled).sigmoid()[0, 0, 36, 36].item()
    assert result.probability == pytest.approx(probability, abs=1e-5)


def test_nodata_counts_for_nothing_and_cannot_be_looked_at(tmp_path):
    valid = np.ones((64, 64), bool)
    valid[:32] = False
    path = scenes.with_nodata(tmp_path / "s.tif", scenes.picture(3, 64, 64), valid, 0)
    seen = []
    model = like_to_like()
    model.network.attention.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    explain(path, tmp_path / "map.png", model, Place(10, 40, pixel=True), ExplainOptions(device="cpu"))
    assert not seen[0][0, :, :4].any() and seen[0][0, :, 4:].all()
    with pytest.raises(OptionError, match=r"--at column 10, row 20: .*s.tif holds no data there; choose"):
        explain(path, tmp_path / "no.png", model, Place(10, 20, pixel=True))
    path = scenes.with_nodata(tmp_path / "t.tif", scenes.picture(3, 64, 64), valid, 9, declared=False)
    explain(path, tmp_path / "yes.png", model, Place(10, 20, pixel=True))
    with pytest.raises(OptionError, match="holds no data there"):
        options = ExplainOptions(input=InputOptions(nodata=9))
        explain(path, tmp_path / "no.png", model, Place(10, 20, pixel=True), options)
    assert not (tmp_path / "no.png").exists()


def test_of_many_modules_the_last_are_drawn_and_it_is_said(tmp_path, caplog):
    path = painted(tmp_path / "s.tif", 64, 64, (8, 8))
    model = like_to_like(times=MOST_MODULES + 5)
    place = Place(30, 30, pixel=True)
    with caplog.at_level(logging.INFO):
        result = explain(path, tmp_path / "map.png", model, place, ExplainOptions(device="cpu"))
    assert result.modules == tuple(f"attention.{n}" for n in range(5, MOST_MODULES + 5))
    assert "11 attention modules: the last 6 are drawn; choose with --module" in caplog.text
    assert "attention.0, attention.1, attention.2, ..., attention.8, attention.9, attention.10" in caplog.text
    options = ExplainOptions(("attention",), "cpu")
    assert len(explain(path, tmp_path / "all.png", model, place, options).modules) == MOST_MODULES + 5


def test_the_picture_is_whole_or_not_there(tmp_path):
    path = painted(tmp_path / "s.tif", 64, 64)
    place, model = Place(30, 30, pixel=True), like_to_like()
    out = tmp_path / "map.png"
    out.write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        explain(path, out, model, place)
    with pytest.raises(OutputError, match="--overwrite"):  # before any work
        explain(tmp_path / "missing.tif", out, model, place)
    with pytest.raises(OutputError, match="does not exist; create it"):
        explain(path, tmp_path / "no" / "map.png", model, place)
    with pytest.raises(OptionError, match=r"--out .*map.jpg: the picture is a PNG; give a name that ends in .png"):
        explain(path, tmp_path / "map.jpg", model, place)
    with pytest.raises(OptionError, match="lies outside"):
        explain(path, out, model, Place(64, 30, pixel=True), overwrite=True)
    with pytest.raises(ContractError, match="--bands names 2"):
        explain(path, out, model, place, ExplainOptions(input=InputOptions((1, 2))), overwrite=True)
    with pytest.raises(SceneError, match="does not exist"):
        explain(tmp_path / "missing.tif", out, model, place, overwrite=True)
    with pytest.raises(OptionError, match="--device abacus"):
        explain(path, out, model, place, ExplainOptions(device="abacus"), overwrite=True)
    assert out.read_text() == "mine"
    scene = path.rename(tmp_path / "scene.png")
    with pytest.raises(OutputError, match="would be lost"):
        explain(scene, scene, model, place, overwrite=True)
    explain(scene, out, model, place, ExplainOptions(device="cpu"), overwrite=True)
    assert imread(out).ndim == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.png", "scene.png"]


# ---- the command


@pytest.fixture
def buildseg(capsys, monkeypatch):
    """Runs `buildseg explain` in this process: its exit code, its output and the lines on standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["buildseg", "explain", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err.splitlines()

    return call


@pytest.fixture(scope="module")
def new_york(tmp_path_factory):
    """0.3 m per pixel, west of Greenwich."""
    path = tmp_path_factory.mktemp("new_york") / "s.tif"
    return scenes.write(path, scenes.picture(), crs="EPSG:4326", transform=Affine(3.55e-6, 0, -74, 0, -2.7e-6, 40.7))


@pytest.mark.parametrize(
    "point",
    [("--at", "-73.9998,40.6999"), ("--at=-73.9998,40.6999",), ("--at", " -73.9998, 40.6999 ")],
    ids=" ".join,
)
def test_the_command_takes_negative_coordinates_and_says_what_it_drew(tmp_path, buildseg, danet, new_york, point):
    out = tmp_path / "map.png"
    code, said, lines = buildseg(new_york, *point, "--model", danet, "--out", out, "--device", "cpu")
    assert (code, lines) == (0, [])
    assert re.fullmatch(rf"{out}: probability of building [01]\.\d\d at -73.9998,40.6999, 2 attention modules\n", said)
    assert imread(out).shape[0] > 500


def test_the_command_looks_into_the_shipped_model(tmp_path, buildseg, sample_scene):
    out = tmp_path / "map.png"
    options = ("--pixel", "--module", "decoder.blocks.2", "--device", "cpu")
    code, said, _ = buildseg(sample_scene, "--at", "1024,1024", "--out", out, *options)
    assert code == 0 and "at column 1024, row 1024, 1 attention module\n" in said
    assert imread(out).shape[0] > 500


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--at", "10"), "--at 10 is no point; give X,Y"),
        (("--at", "10;20"), "--at 10;20 is no point"),
        (("--at", "nan,20"), "--at nan,20 is no point"),
        (("--at", "1,2,3"), "--at 1,2,3 is no point"),
        (("--at", "-1,0", "--pixel"), "columns are 0 to 219 and rows 0 to 149"),
        (("--at", "40.6999,-73.9998"), "longitude -74.000000 to -73.999219 and latitude 40.699595 to 40.700000"),
        (("--at", "1,2", "--at-crs", "nowhere"), "--at-crs nowhere is not known"),
        (("--at", "1,2", "--pixel", "--module", "decoder"), "it has position.1, channel.1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_drawn_is_said_in_a_line(tmp_path, buildseg, danet, new_york, arguments, says):
    code, said, lines = buildseg(new_york, *arguments, "--model", danet, "--out", tmp_path / "map.png")
    assert (code, said, len(lines)) == (2, "", 1)
    assert lines[0].startswith("error: ") and says in lines[0]
    assert list(tmp_path.iterdir()) == []
