"""Networks made fast, shown in several ways, averaged, and short of memory: what they answer stays what it was."""

import copy
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bright_model import bright_model
from buildseg import devices
from buildseg.devices import fast_half_precision, resolve_precision
from buildseg.footprints import VectorizeOptions
from buildseg.model_file import Model, load_model
from buildseg.networks import NETWORKS
from buildseg.networks.layers import resized, resized_logits
from buildseg.networks.output import building_probability
from buildseg.prediction.folding import OneDnnConvolution, fold_batch_norm, hand_to_onednn, quicken_pooling
from buildseg.prediction.half_precision import precise_encoder, round_with_feedback, to_bfloat16
from buildseg.prediction.local import LocalPredictor
from buildseg.prediction.network import ORIENTATIONS, Arithmetic, Ensemble, TorchNetwork, View, views
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.run import Outputs, predict
from buildseg.prediction.stem import find_stems
from buildseg.probability import NODATA
from conftest import SAMPLE_DATA
from network_rules import SMALL, built, images
from scenes import write
from tiling.errors import OptionError

CPU = torch.device("cpu")
DILATED = {"encoder": "resnet18"}
CHEAP = {
    "unet": SMALL,
    "psa-unet": SMALL,
    "da-unet": SMALL,
    "danet": DILATED,
    "ccnet": DILATED | {"aspp": True, "weight_standardisation": True},
    "annnet": DILATED,
    "lraspp": {"encoder": "tu-mobilenetv3_small_100"},
    "bisenetv2": {},
    "hrnet-ocr-psa": {"encoder": "tu-hrnet_w18_small", "head_channels": 64},
}


def with_statistics(network):
    """Give every batch normalisation statistics and weights as training would, so that it does something."""
    random = torch.Generator().manual_seed(3)
    for norm in norms(network):
        norm.running_mean.copy_(0.3 * torch.randn(norm.num_features, generator=random))
        norm.running_var.copy_(0.5 + torch.rand(norm.num_features, generator=random))
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=random)
            nn.init.uniform_(norm.bias, -0.5, 0.5, generator=random)
    return network.eval()


def norms(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def hooks(network):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


def same_weights(network, state):
    return all(value.equal(state[name]) for name, value in network.state_dict().items())


def windows(count=2, size=64, bands=3):
    random = torch.Generator().manual_seed(7)
    pixels = torch.randint(0, 256, (count, bands, size, size), dtype=torch.uint8, generator=random)
    return pixels, torch.ones(count, size, size, dtype=torch.bool)


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def network(request):
    return with_statistics(built(request.param, **CHEAP[request.param]))


class TestFolding:
    def test_the_folded_network_answers_as_before(self, network):
        network = copy.deepcopy(network).double()
        state = {name: value.clone() for name, value in network.state_dict().items()}
        folded = fold_batch_norm(network, torch.zeros(1, 3, 2 * network.stride, 2 * network.stride).double())
        x = images(2, 3, 64, 96).double()
        with torch.inference_mode():
            wanted = network(x)
            assert (folded(x) - wanted).abs().max() < 1e-9 * wanted.abs().max()
        assert hooks(folded) == hooks(network) == 0
        assert len(norms(folded)) < 0.4 * len(norms(network))
        assert same_weights(network, state)

    @pytest.mark.parametrize(
        "module",
        [
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 5, 1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(inplace=True), nn.BatchNorm2d(4)),
            nn.Sequential(*[nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)] * 3),
            nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 3, groups=3), nn.BatchNorm2d(3)),
        ],
        ids=["without weights", "after a change in place", "several times", "of groups"],
    )
    def test_what_cannot_be_folded_is_left(self, module):
        module = with_statistics(module)
        x = images(2, 3, 20, 20)
        with torch.inference_mode():
            torch.testing.assert_close(fold_batch_norm(module, x[:1])(x), module(x), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("after", [lambda y: y, lambda y: y[:, :2].repeat(1, 2, 1, 1), torch.relu])
    def test_a_convolution_that_something_else_sees_as_well_is_left(self, after):
        class Skipping(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

            def forward(self, x):
                y = self.conv(x)
                return self.norm(y) + after(y)

        module = with_statistics(Skipping())
        x = images(2, 3, 20, 20)
        with torch.inference_mode():
            torch.testing.assert_close(fold_batch_norm(module, x[:1])(x), module(x), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("encoder", ["tu-efficientnet_lite0", "tu-mobilenetv3_small_100", "tu-regnetx_002"])
    def test_the_activation_that_is_part_of_a_normalisation_stays(self, encoder):
        network = with_statistics(built("unet", encoder=encoder, decoder_channels=[16, 16, 8, 8, 8])).double()
        folded = fold_batch_norm(network, torch.zeros(1, 3, 64, 64).double())
        x = images(1, 3, 64, 96).double()
        with torch.inference_mode():
            wanted = network(x)
            assert (folded(x) - wanted).abs().max() < 1e-9 * wanted.abs().max()
        assert not norms(folded)

    def test_features_taken_before_the_normalisation_are_left(self):
        encoder = {"encoder": "tu-ghostnet_100", "decoder_channels": [16, 16, 8, 8, 8]}
        network = with_statistics(built("unet", **encoder)).double()
        folded = fold_batch_norm(network, torch.zeros(1, 3, 64, 64).double())
        x = images(1, 3, 64, 96).double()
        with torch.inference_mode():
            assert (folded(x) - network(x)).abs().max() < 1e-9
        assert len(norms(folded)) == 1


class TestBfloat16:
    def test_every_network_answers_nearly_as_before_and_is_not_touched(self, network):
        state = {name: value.clone() for name, value in network.state_dict().items()}
        half = to_bfloat16(network)
        x = images(1, 3, 64, 96)
        with torch.inference_mode():
            wanted, answer = network(x), half(x.bfloat16())
        assert torch.bfloat16 in {value.dtype for value in half.parameters()}
        assert (answer.float() - wanted).abs().mean() < 0.05 * wanted.abs().mean() + 0.02
        assert {value.dtype for value in network.parameters()} == {torch.float32}
        assert same_weights(network, state)
        assert hooks(network) == 0

    def test_every_network_has_a_stem(self, network):
        assert find_stems(network, torch.zeros(1, 3, 2 * network.stride, 2 * network.stride))

    @given(
        outputs=st.integers(1, 6),
        inputs=st.integers(1, 300),
        scale=st.sampled_from([1e-4, 0.05, 3.0]),
        seed=st.integers(0, 2**31),
    )
    def test_the_sum_of_a_channel_stays(self, outputs, inputs, scale, seed):
        random = torch.Generator().manual_seed(seed)
        weight = scale * (torch.randn(outputs, inputs, 3, 3, generator=random) + 0.5)
        rounded = round_with_feedback(weight)
        assert (rounded.dtype, rounded.shape) == (torch.bfloat16, weight.shape)
        largest = weight.flatten(1).abs().amax(1)
        # Half a last place of 8 bits, for the last weight and what was carried into it; plainly rounded, it adds up.
        moved = (rounded.double() - weight.double()).flatten(1)
        assert (moved.sum(1).abs() <= 2**-7 * largest).all()
        assert (moved.abs().amax(1) <= 2**-7 * largest).all()

    def test_biases_stay_precise_where_onednn_adds_them(self):
        module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
        module[0].bias.data = torch.tensor([1.0 + 2**-12, 0.0])
        hand_to_onednn(module, torch.zeros(1, 3, 9, 9))
        half = to_bfloat16(module)
        assert half[0].convolution.bias.dtype == torch.float32
        assert torch.equal(half[0].convolution.bias, module[0].convolution.bias)
        assert half[0].convolution.weight.dtype == half(images(1, 3, 9, 9).bfloat16()).dtype == torch.bfloat16

    def test_weights_in_the_order_of_one_size_serve_others(self):
        convolution = nn.Conv2d(16, 24, 3, padding=1).eval()
        joined = OneDnnConvolution(convolution)
        with torch.inference_mode():
            for shape in ((2, 16, 32, 48), (1, 16, 7, 5), (2, 16, 32, 48), (3, 16, 1, 1)):
                x = images(*shape)
                assert (joined(x) - convolution(x)).abs().max() < 1e-5

    def test_logits_are_enlarged_in_single_precision(self):
        x = torch.tensor([[[[8.0, -8.0 - 2**-4]]]])
        like = torch.zeros(1, 1, 1, 16)
        assert torch.equal(resized_logits(x.bfloat16(), like), resized(x.bfloat16().float(), like))
        assert resized_logits(x.double(), like).dtype == torch.float64

    def test_an_encoder_of_inverted_bottlenecks_stays_precise(self):
        small = {"decoder_channels": [16, 16, 8, 8, 8]}
        network = with_statistics(built("unet", encoder="tu-efficientnet_lite0", **small))
        half, x = to_bfloat16(network), images(1, 3, 64, 96)
        features = {}
        for name, one in (("plain", network), ("half", half)):
            one.decoder.register_forward_pre_hook(lambda _, inputs, name=name: features.update({name: inputs[0]}))
            with torch.inference_mode():
                one(x)
        assert all(torch.equal(b, a.bfloat16()) for a, b in zip(features["plain"], features["half"], strict=True))
        assert {weight.dtype for weight in half.decoder.parameters() if weight.dim() == 4} == {torch.bfloat16}
        assert precise_encoder(network) is network.encoder
        assert precise_encoder(built("unet", **SMALL)) is None

    def test_the_shipped_model_finds_the_same_buildings(self, tmp_path):
        side, place = 576, (700, 500)
        with rasterio.open(SAMPLE_DATA / "scene.tif") as whole:
            pixels = whole.read(window=rasterio.windows.Window(*place, side, side))
            scene = write(
                tmp_path / "s.tif", pixels, crs=whole.crs, transform=whole.transform @ Affine.translation(*place)
            )
        found, levels = {}, {}
        for precision in ("fp32", "bf16"):
            outputs = Outputs(tmp_path / f"{precision}.gpkg", tmp_path / f"{precision}.tif")
            options = PredictOptions(window=320, machine=Machine("cpu", precision))
            predict(scene, outputs, load_model(), options, VectorizeOptions(crs="native"))
            found[precision] = geopandas.read_file(outputs.footprints).geometry
            with rasterio.open(outputs.probability) as raster:
                levels[precision] = raster.read(1).astype(int)
        assert (levels["fp32"] != NODATA).all()
        assert (np.abs(levels["bf16"] - levels["fp32"]) <= 2).mean() >= 0.999
        assert len(found["fp32"]) > 20
        assert f1(found["bf16"], found["fp32"]) >= 0.995


def f1(one, other):
    """Share of buildings that have a partner with more than half of their union in common."""
    first, second = shapely.STRtree(list(other)).query(list(one), predicate="intersects")
    pairs = [(one.iloc[a], other.iloc[b]) for a, b in zip(first, second, strict=True)]
    matched = sum(a.intersection(b).area > 0.5 * a.union(b).area for a, b in pairs)
    return 2 * matched / (len(one) + len(other))


class TestViews:
    @pytest.mark.parametrize("name", sorted(ORIENTATIONS))
    @given(size=st.integers(1, 20))
    @settings(max_examples=5)
    def test_undo_brings_back_what_was_shown(self, name, size):
        shown = torch.rand(2, 1, size, size)
        for view in views(name, [1.0]):
            assert view.undo(view.of(shown)[:, 0], size).equal(shown[:, 0])

    def test_all_orientations_are_others(self):
        image = torch.arange(9.0).reshape(1, 1, 3, 3)
        for name, count in (("none", 1), ("flips", 4), ("d4", 8)):
            seen = {tuple(view.of(image).flatten().tolist()) for view in views(name, [1.0])}
            assert len(seen) == count
            assert tuple(image.flatten().tolist()) in seen

    def test_scales_are_seen_finer_and_coarser_and_come_back_to_their_size(self):
        image = torch.rand(1, 3, 64, 64)
        for scale, side in ((1.5, 96), (0.5, 32), (2.0, 128), (0.1, 6), (0.77, 49)):
            shown = View(scale, turns=1).of(image)
            assert shown.shape == (1, 3, side, side)
            assert View(scale, turns=1).undo(shown[:, 0], 64).shape == (1, 64, 64)

    @pytest.mark.parametrize("name", sorted(ORIENTATIONS))
    def test_they_change_nothing_for_a_network_that_looks_at_single_pixels(self, name):
        pixels, valid = windows()
        valid[0, 10:30, :20] = False
        plain = TorchNetwork(bright_model(), CPU)(pixels, valid)
        shown = TorchNetwork(bright_model(), CPU, Arithmetic(shown=views(name, [1.0])))(pixels, valid)
        torch.testing.assert_close(shown, plain, rtol=0, atol=1e-6)

    def test_scales_change_little_for_it_where_the_image_is_smooth(self):
        rows, cols = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        smooth = 100 + 30 * torch.sin(rows / 10) * torch.cos(cols / 13)
        pixels, valid = smooth.expand(1, 3, 64, 64).clone(), torch.ones(1, 64, 64, dtype=torch.bool)
        plain = TorchNetwork(bright_model(), CPU)(pixels, valid)
        for scales in ((1.5,), (0.75, 1.0, 2.0)):
            shown = TorchNetwork(bright_model(), CPU, Arithmetic(shown=views("d4", scales)))(pixels, valid)
            assert (shown - plain).abs().max() < 0.05
            assert (shown - plain).abs().mean() < 0.005

    def test_the_answers_are_averaged(self):
        pixels, valid = windows()
        model = load_model()
        every = [TorchNetwork(model, CPU, Arithmetic(shown=(view,)))(pixels, valid) for view in views("d4", [1.0])]
        averaged = TorchNetwork(model, CPU, Arithmetic(shown=views("d4", [1.0])))(pixels, valid)
        torch.testing.assert_close(averaged, torch.stack(every).mean(0), rtol=0, atol=1e-6)
        assert (every[0] - every[3]).abs().max() > 0.01

    def test_turning_the_scene_turns_the_averaged_answer(self):
        pixels, valid = windows(1)
        averaging = TorchNetwork(load_model(), CPU, Arithmetic(shown=views("d4", [1.0])))
        turned = averaging(pixels.rot90(1, (-2, -1)).flip(-1), valid)
        torch.testing.assert_close(turned, averaging(pixels, valid).rot90(1, (-2, -1)).flip(-1), rtol=0, atol=1e-5)


class TestTorchNetwork:
    def test_gives_the_probability_of_the_model_on_scaled_pixels(self):
        model = load_model()
        pixels, valid = windows()
        scaled = torch.from_numpy(model.card.contract.scale(pixels.numpy()))
        with torch.inference_mode():
            wanted = building_probability(model.network(scaled))
        given = TorchNetwork(model, CPU)(pixels, valid)
        assert (given.dtype, given.shape) == (torch.float32, (2, 64, 64))
        torch.testing.assert_close(given, wanted, rtol=0, atol=1e-5)

    def test_scales_with_the_scenes_own_statistics_and_leaves_itself_as_it_is(self):
        model = load_model()
        pixels, valid = windows()
        network = TorchNetwork(model, CPU)
        before = network(pixels, valid)
        own = replace(model.card.contract, mean=(1000.0, 900.0, 800.0), std=(300.0, 200.0, 0.0))
        other = network.scaling(own)
        as_own = pixels.float() - torch.tensor(model.card.contract.mean)[:, None, None]
        as_own /= torch.tensor(model.card.contract.std)[:, None, None]
        # A band that is the same everywhere has no spread, and says nothing.
        as_own[:, 2] = 0
        raw = as_own * torch.tensor(own.std)[:, None, None] + torch.tensor(own.mean)[:, None, None]
        with torch.inference_mode():
            wanted = building_probability(model.network(as_own))
        torch.testing.assert_close(other(raw, valid), wanted, rtol=0, atol=1e-3)
        assert network(pixels, valid).equal(before)

    def test_what_holds_nothing_counts_as_the_mean(self):
        pixels, valid = windows()
        valid[:, :, 40:] = False
        garbage = pixels.clone()
        garbage[..., 40:] = 255 - garbage[..., 40:]
        network = TorchNetwork(load_model(), CPU)
        assert network(garbage, valid).equal(network(pixels, valid))
        assert not network(garbage, valid | True).equal(network(pixels, valid | True))

    def test_leaves_model_and_pixels_as_they_are(self):
        model = load_model()
        state = {name: value.clone() for name, value in model.network.state_dict().items()}
        pixels, valid = windows()
        floats = pixels.float()
        for precision in ("fp32", "bf16"):
            TorchNetwork(model, CPU, Arithmetic(precision))(floats, valid)
        assert floats.equal(pixels.float())
        assert same_weights(model.network, state)
        assert hooks(model.network) == 0
        assert norms(model.network)

    def test_an_ensemble_is_the_mean(self):
        pixels, valid = windows()
        networks = [TorchNetwork(model, CPU) for model in (bright_model(), load_model(), bright_model())]
        alone = [network(pixels, valid) for network in networks]
        torch.testing.assert_close(Ensemble(networks)(pixels, valid), torch.stack(alone).mean(0), rtol=0, atol=1e-6)
        for network, answer in zip(networks, alone, strict=True):
            assert network(pixels, valid).equal(answer)

    def test_an_error_of_another_kind_is_passed_on(self, caplog):
        pixels, valid = windows(bands=4)
        with pytest.raises(RuntimeError), caplog.at_level(logging.WARNING):
            TorchNetwork(load_model(), CPU)(pixels, valid)
        assert not caplog.text


SHORT_OF_MEMORY = """
import gc, logging, resource
import torch
from bright_model import Brightness, bright_model
from buildseg.model_file import Model, load_model
from buildseg.prediction.network import Arithmetic, TorchNetwork
from tiling.errors import OptionError

MEGABYTES = 2**20

class Greedy(Brightness):
    def predict(self, x):
        torch.ones(len(x), 64 * MEGABYTES // 4)
        return super().predict(x)

said = []
logging.getLogger("buildseg.prediction.network").addFilter(lambda record: said.append(record.getMessage()))

def limit(free):
    gc.collect()
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + free * MEGABYTES, resource.RLIM_INFINITY))

def lift():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)

card = bright_model().card
pixels = torch.randint(0, 256, (16, 3, 128, 128), dtype=torch.uint8)
valid = torch.ones(16, 128, 128, dtype=torch.bool)
wanted = TorchNetwork(bright_model(), torch.device("cpu"))(pixels, valid)

network = TorchNetwork(Model(Greedy(3).eval(), card), torch.device("cpu"))
network(pixels[:1], valid[:1])
limit(250)
assert network(pixels, valid).equal(wanted)
assert said[:2] == [f"{n} windows at once do not fit into memory: going on with {n // 2}" for n in (16, 8)], said
tries = len(said)
assert network(pixels, valid).equal(wanted)
assert len(said) == tries, "it has not learned from the first time"
limit(20)
try:
    network(pixels, valid)
    raise SystemExit("a window of 64 MB has fit into 20 MB")
except OptionError as error:
    assert "--window 128: not even one such window" in str(error), error
lift()

finished, model = 0, load_model()
networks = [TorchNetwork(model, torch.device("cpu"), Arithmetic(precision)) for precision in ("fp32", "bf16")]
answers = [network(pixels, valid) for network in networks]
for free in (160, 96, 48, 12, 3):
    for network, wanted in zip(networks, answers):
        limit(free)
        try:
            given = network.scaling(model.card.contract)(pixels, valid)
        except OptionError:
            continue
        finally:
            lift()
        finished += 1
        assert (given - wanted).abs().max() < 0.05
assert finished
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as on Linux")
def test_a_batch_that_does_not_fit_into_memory_is_halved(tmp_path):
    """A process that may take no more than some memory meets what a full memory would do, wherever it fills up."""
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


class TestPrecision:
    @pytest.mark.parametrize(
        ("name", "device", "fast", "chosen"),
        [
            ("fp32", "cpu", "bf16", "fp32"),
            ("bf16", "cpu", None, "bf16"),
            ("auto", "cpu", "bf16", "bf16"),
            ("auto", "cpu", None, "fp32"),
            ("auto", "cuda", "bf16", "fp16"),
            ("fp16", "cuda", "bf16", "fp16"),
            ("bf16", "cuda", "bf16", "bf16"),
            ("fp32", "cuda", "bf16", "fp32"),
            ("auto", "mps", None, "fp32"),
        ],
    )
    def test_chosen(self, monkeypatch, name, device, fast, chosen):
        monkeypatch.setattr(devices, "fast_half_precision", lambda device: fast)
        assert resolve_precision(name, torch.device(device)) == chosen

    @pytest.mark.parametrize(
        ("name", "device", "said"),
        [
            ("fp16", "cpu", "--precision fp16 needs a CUDA GPU; use auto, bf16 or fp32"),
            ("fp16", "mps", "--precision fp16 needs a CUDA GPU"),
            ("fp64", "cpu", "--precision fp64 is unknown; use auto, fp32, bf16 or fp16"),
            ("", "cuda", "--precision  is unknown"),
        ],
    )
    def test_refused(self, name, device, said):
        with pytest.raises(OptionError, match=said):
            resolve_precision(name, torch.device(device))

    @pytest.mark.parametrize(
        ("capabilities", "fast"),
        [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, None), ({}, None)],
    )
    def test_a_processor_is_asked_what_it_can(self, monkeypatch, capabilities, fast):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
        assert fast_half_precision(CPU) == fast


@pytest.mark.parametrize(("name", "windows_at_once"), [("lraspp", 6), ("bisenetv2", 1)])
def test_light_networks_take_more_windows_at_once(name, windows_at_once):
    model = Model(built(name, **CHEAP[name]).eval(), load_model().card)
    machine = Machine("cpu", "fp32")
    assert LocalPredictor([model], PredictOptions(machine=machine)).pace.batch_size == windows_at_once
    assert LocalPredictor([model, load_model()], PredictOptions(machine=machine)).pace.batch_size == 1
    assert LocalPredictor([model], PredictOptions(machine=replace(machine, batch_size=3))).pace.batch_size == 3


class TestQuickening:
    @pytest.mark.parametrize(
        "activation", [torch.nn.ReLU(inplace=True), torch.nn.ReLU(), torch.nn.ReLU6(), torch.nn.Hardswish()]
    )
    def test_activations_are_joined_where_nothing_else_uses_the_convolution(self, activation):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1, stride=2), activation).eval()
        image = 9 * torch.randn(2, 3, 33, 20)
        expected = network(image)
        hand_to_onednn(network, image[:1])
        assert [type(part).__name__ for part in network] == ["OneDnnConvolution", "Identity"]
        torch.testing.assert_close(network(image), expected)

    def test_a_convolution_that_is_used_twice_keeps_its_own_result(self):
        class Twice(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.act = torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU()

            def forward(self, x):
                features = self.conv(x)
                return features + self.act(features)

        network, image = Twice().eval(), torch.randn(1, 3, 9, 9)
        expected = network(image)
        hand_to_onednn(network, image)
        assert type(network.act) is torch.nn.ReLU
        torch.testing.assert_close(network(image), expected)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("shape", [(1, 5, 7, 3), (3, 40, 64, 64)])
    def test_pooling_by_a_product_is_the_mean(self, shape, dtype):
        network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1))
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        quicken_pooling(network)
        assert type(network[0]).__name__ == "GlobalAverage"
        expected = image.to(dtype).double().mean(dim=(2, 3), keepdim=True)
        torch.testing.assert_close(
            network(image.to(dtype)).double(), expected, rtol=8e-3 if dtype != torch.float32 else 1e-5, atol=0
        )

    def test_pooling_to_a_size_stays(self):
        network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2))
        quicken_pooling(network)
        assert type(network[0]) is torch.nn.AdaptiveAvgPool2d
