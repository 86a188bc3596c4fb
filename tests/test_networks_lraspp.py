"""LR-ASPP: that it is torchvision's, in both sizes, and where its encoder's weights come from."""

import copy
import socket
import time

import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from torch import nn
from torchvision.models import mobilenet_v3_large, mobilenet_v3_small
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights, lraspp_mobilenet_v3_large
from torchvision.models.segmentation.lraspp import _lraspp_mobilenetv3

from buildseg.networks import build_network
from network_rules import Network, built, images
from tiling.errors import OptionError, WeightsError

LARGE = "tu-mobilenetv3_large_100"
SMALL = "tu-mobilenetv3_small_100"
SIZES = {LARGE: mobilenet_v3_large, SMALL: mobilenet_v3_small}


class TestLRASPP(Network):
    name = "lraspp"


class TestSmallLRASPP(Network):
    name, options = "lraspp", {"encoder": SMALL}


class TestLRASPPWithReducedTail(Network):
    name, options = "lraspp", {"encoder": SMALL, "reduced_tail": True}


def scrambled(network: nn.Module) -> nn.Module:
    """The network in evaluation, its normalisations far from the identity."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, least in ((module.running_mean, -0.5), (module.running_var, 0.01), (module.weight, 0.5)):
                values.data.uniform_(least, least + 1, generator=generator)
    return network.eval()


def from_torchvision(weights: dict) -> dict:
    names = {"backbone.": "encoder.features.", "classifier.": ""}
    return {new + key.removeprefix(old): v for key, v in weights.items() for old, new in names.items() if old in key}


@pytest.mark.parametrize(("classes", "size"), [(21, (64, 64)), (1, (32, 208)), (1, (16, 16))])
def test_the_large_one_is_that_of_torchvision(classes, size):
    theirs = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)
    theirs = scrambled(theirs).double()
    ours = build_network("lraspp", classes=classes)
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    x = images(2, 3, *size).double()
    logits, expected = ours.double().eval()(x), theirs(x)["out"]
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(logits.square().mean(), ours.encoder.features[0][0].weight)
    (wanted,) = torch.autograd.grad(expected.square().mean(), theirs.backbone["0"][0].weight)
    torch.testing.assert_close(gradient, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("encoder", SIZES)
def test_every_size_and_tail_is_that_of_torchvision(encoder, reduced):
    theirs = _lraspp_mobilenetv3(SIZES[encoder](dilated=True, reduced_tail=reduced), 2)
    theirs = scrambled(theirs).double()
    ours = build_network("lraspp", classes=2, encoder=encoder, reduced_tail=reduced)
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    x = images(1, 3, 48, 80).double()
    torch.testing.assert_close(ours.double().eval()(x), theirs(x)["out"], rtol=1e-9, atol=1e-9)


def test_the_large_one_has_as_many_weights_as_torchvision_publishes():
    published = LRASPP_MobileNet_V3_Large_Weights.DEFAULT.meta["num_params"]
    assert sum(p.numel() for p in build_network("lraspp", classes=21).parameters()) == published == 3_221_538


@pytest.mark.parametrize(
    ("encoder", "reduced", "low", "high"),
    [(LARGE, False, 40, 960), (LARGE, True, 40, 480), (SMALL, False, 24, 576), (SMALL, True, 24, 288)],
)
def test_the_taps_are_at_an_eighth_and_at_a_sixteenth(encoder, reduced, low, high):
    network = built("lraspp", encoder=encoder, reduced_tail=reduced).eval()
    shapes = [features.shape for features in network.encoder(images(1, 3, 64, 96))]
    assert shapes == [(1, low, 8, 12), (1, high, 4, 6)]
    assert network.encoder.out_channels == (low, high)


@pytest.mark.parametrize("size", [(16, 16), (64, 96), (784, 80)])
def test_classified_first_it_is_as_if_upsampled_first(size):
    network = scrambled(built("lraspp", encoder=SMALL, classes=3))
    x = images(1, 3, *size)
    classified = []
    network.high_classifier.register_forward_hook(lambda module, inputs, output: classified.append(inputs[0].shape))
    logits = network(x)
    assert classified == [(1, 128, size[0] // 16, size[1] // 16)]
    low, high = network.encoder(x)
    gate = torch.sigmoid(F.conv2d(high.mean(dim=(2, 3), keepdim=True), network.scale[1].weight))
    fused = F.interpolate(network.cbr(high) * gate, size=low.shape[2:], mode="bilinear", align_corners=False)
    theirs = network.low_classifier(low) + network.high_classifier(fused)
    theirs = F.interpolate(theirs, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("encoder", SIZES)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_dilated_in_phases_it_answers_the_same(encoder, memory):
    network = scrambled(built("lraspp", encoder=encoder, classes=2)).double()
    phased = copy.deepcopy(network)
    phased.dilate_in_phases()
    assert phased.state_dict().keys() == network.state_dict().keys()
    x = images(2, 3, 64, 160).double().contiguous(memory_format=memory)
    logits = network(x)
    torch.testing.assert_close(phased(x), logits, rtol=1e-9, atol=1e-9 * logits.abs().max().item())
    assert logits.std() > 1e-3 and phased(images(1, 3, 45, 70).double()).shape == (1, 2, 45, 70)


def test_no_layer_forgets_what_it_saw_within_hundreds_of_steps():
    norms = [m for m in built("lraspp").modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}


def twin(encoder: str) -> nn.Module:
    """timm's MobileNetV3 at output stride 16, dilated like torchvision's, one stage after the other."""
    model = scrambled(timm.create_model(encoder.removeprefix("tu-"), features_only=True, output_stride=16))
    first = model.blocks[-2][0].conv_dw
    first.dilation, first.padding = (2, 2), (4, 4)
    return model


@pytest.mark.parametrize("encoder", SIZES)
def test_with_weights_of_timm_its_features_are_those_of_timm(encoder, tmp_path):
    theirs = twin(encoder)
    for norm in (m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_var[::3] = 1e-4  # beside it 1e-5 or 1e-3 makes a difference
        norm.weight.data[::3] /= 100
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    ours = build_network("lraspp", encoder=encoder, encoder_weights=tmp_path / "timm.safetensors").eval()
    x = images(1, 3, 64, 96).double()
    expected = theirs.double()(x)[-1]
    assert (ours.encoder.double()(x)[1] - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("reduced", [False, True])
def test_weights_of_torchvision_and_its_own_fit(reduced, tmp_path):
    theirs = scrambled(mobilenet_v3_small(reduced_tail=reduced))
    torch.save(theirs.state_dict(), tmp_path / "torchvision.pth")
    options = {"encoder": SMALL, "reduced_tail": reduced}
    ours = build_network("lraspp", **options, encoder_weights=tmp_path / "torchvision.pth")
    kept = {key: v for key, v in theirs.state_dict().items() if key.startswith("features.")}
    torch.testing.assert_close(ours.encoder.state_dict(), kept, rtol=0, atol=0)
    safetensors.torch.save_file(ours.state_dict(), tmp_path / "own.safetensors")
    again = build_network("lraspp", **options, encoder_weights=tmp_path / "own.safetensors")
    torch.testing.assert_close(again.encoder.state_dict(), kept, rtol=0, atol=0)


@pytest.mark.parametrize("source", [timm.models.mobilenetv3_small_100, mobilenet_v3_small])
def test_weights_for_three_bands_are_spread_over_others(source, tmp_path):
    stored = source().state_dict()
    torch.save(stored, tmp_path / "weights.pth")
    three = next(iter(stored.values()))
    for bands, expected in ((1, three.sum(dim=1, keepdim=True)), (4, three[:, [0, 1, 2, 0]] * 0.75)):
        options = {"in_channels": bands, "encoder": SMALL, "encoder_weights": tmp_path / "weights.pth"}
        network = build_network("lraspp", **options)
        torch.testing.assert_close(network.encoder.features[0][0].weight, expected)


def test_whole_weights_do_not_fit_a_reduced_tail(tmp_path):
    torch.save(mobilenet_v3_small().state_dict(), tmp_path / "whole.pth")
    for weights in ("imagenet", tmp_path / "whole.pth", tmp_path / "absent.pth"):
        with pytest.raises(WeightsError, match=r"--encoder-weights none .*or leave out reduced_tail") as caught:
            build_network("lraspp", encoder=SMALL, reduced_tail=True, encoder_weights=weights)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", ["absent.pth", "lacking.pth", "instagram"])
def test_files_that_are_no_encoder_weights_are_refused(weights, tmp_path):
    stored = mobilenet_v3_small().state_dict()
    torch.save({k: v for k, v in stored.items() if k != "features.3.block.0.0.weight"}, tmp_path / "lacking.pth")
    with pytest.raises(WeightsError, match=rf"{weights}'? .*--encoder-weights none .* local \.safetensors"):
        build_network("lraspp", encoder=SMALL, encoder_weights=str(tmp_path / weights))


def test_without_a_hub_the_remedies_are_named_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(WeightsError, match=r"--encoder-weights none .* local \.safetensors"):
            build_network("lraspp", encoder_weights="imagenet")
    assert time.monotonic() - start < 20


def test_a_tag_of_timm_chooses_among_weights():
    network = build_network("lraspp", encoder=f"{SMALL}.lamb_in1k")
    assert network.state_dict().keys() == build_network("lraspp", encoder=SMALL).state_dict().keys()
    assert network.architecture.encoder == f"{SMALL}.lamb_in1k"


REFUSED = [
    ({"encoder": "resnet18"}, "lraspp needs tu-mobilenetv3_large_100 or tu-mobilenetv3_small_100 as encoder"),
    ({"encoder": "tu-mobilenetv3_large_075"}, "lraspp needs .* not 'tu-mobilenetv3_large_075'"),
    ({"reduced_tail": 1}, "reduced_tail is true or false, not 1"),
    ({"pool": "global"}, "lraspp has no option 'pool': valid are reduced_tail"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_built_is_refused_in_one_line(arguments, message):
    with pytest.raises(OptionError, match=message) as caught:
        build_network("lraspp", **arguments)
    assert "\n" not in str(caught.value)
