"""The registry, the encoders, and the networks around U-Net and DANet."""

import http.server
import importlib
import json
import socket
import threading
import time
from pathlib import Path

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
import torchvision
from huggingface_hub import constants
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from buildseg.attention import ChannelAttention, PolarizedSelfAttention, PositionAttention
from buildseg.networks import NETWORKS, build_network
from network_rules import SMALL, Network, built, images
from tiling.errors import OptionError, WeightsError


class TestUNet(Network):
    name, options = "unet", SMALL


class TestPolarizedUNet(Network):
    name, options = "psa-unet", SMALL


class TestPolarizedUNetOfficialSerialEverywhere(Network):
    name = "psa-unet"
    options = SMALL | {"layout": "serial", "form": "official", "place": "both"}


class TestDualAttentionUNet(Network):
    name, options = "da-unet", SMALL


class TestDualAttentionUNetAlsoInItsDecoder(Network):
    name, options = "da-unet", SMALL | {"deepest_block": True}


class TestDANet(Network):
    name, options, auxiliary = "danet", {"encoder": "resnet18"}, (1.0, 1.0)


def test_every_network_is_under_test():
    for file in Path(__file__).parent.glob("test_networks*.py"):
        importlib.import_module(file.stem)
    assert {c.name for c in Network.__subclasses__()} == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_builds_with_nothing_but_its_name(name):
    with FakeTensorMode():  # which fills no weights with random numbers
        network = build_network(name)
    assert all(module.training for module in network.modules())
    assert network.architecture.encoder == NETWORKS[name].encoder
    assert json.dumps(network.architecture.options)


def test_the_architecture_writes_out_what_was_left_to_the_defaults():
    architecture = build_network("psa-unet", encoder="tu-resnet10t", layout="serial").architecture
    assert architecture.options == {
        "decoder_channels": [256, 128, 64, 32, 16],
        "layout": "serial",
        "form": "paper",
        "place": "decoder",
    }


def test_unet_is_that_of_segmentation_models_pytorch():
    ours = built("unet", classes=2, **SMALL).eval()
    options = {"encoder_weights": None, "classes": 2, "decoder_channels": SMALL["decoder_channels"]}
    theirs = smp.Unet("tu-resnet10t", **options).eval()
    theirs.load_state_dict(ours.state_dict())
    x = images(2, 3, 64, 96)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


@pytest.mark.parametrize("levels", [3, 4, 5])
def test_unet_is_as_deep_as_its_decoder_channels(levels):
    network = built("unet", encoder="tu-resnet10t", decoder_channels=(16,) * levels).eval()
    assert network.stride == 2**levels
    assert network(images(1, 3, 40, 56)).shape == (1, 1, 40, 56)


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "mit_b0", "vgg11", "tu-mobilenetv3_small_100", "tu-test_convnext"])
def test_encoders_of_every_kind_fit_the_unets(encoder):
    network = built("psa-unet", encoder=encoder, in_channels=4, decoder_channels=(16, 16, 16, 8, 8), place="both")
    assert network.eval()(images(1, 4, 33, 65)).shape == (1, 1, 33, 65)


def test_an_image_between_two_sizes_repeats_its_last_row_and_column():
    network = built("unet", **SMALL).eval()
    x = images(1, 3, 64, 64)
    x[..., 60:, :] = x[..., 59:60, :]
    x[..., 50:] = x[..., 49:50]
    torch.testing.assert_close(network(x[..., :60, :50]), network(x)[..., :60, :50], rtol=0, atol=0)


def test_untrained_dual_attention_unet_equals_unet():
    plain, attending = built("unet", **SMALL).eval(), build_network("da-unet", **SMALL).eval()
    missing, unexpected = attending.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(key.startswith("attention.") for key in missing)
    x = images(1, 3, 64, 64)
    torch.testing.assert_close(attending(x), plain(x), rtol=0, atol=1e-6)
    nn.init.ones_(attending.attention.position.gamma)
    assert (attending(x) - plain(x)).abs().max() > 1e-3


@pytest.mark.parametrize(("place", "count"), [("decoder", 5), ("bottleneck", 1), ("both", 6)])
def test_polarized_unet_with_gates_of_a_half_equals_unet(place, count):
    plain, attending = built("unet", **SMALL).eval(), build_network("psa-unet", **SMALL, place=place).eval()
    attending.load_state_dict(plain.state_dict(), strict=False)
    x = images(1, 3, 64, 64)
    assert (attending(x) - plain(x)).abs().max() > 1e-3
    modules = [m for m in attending.modules() if isinstance(m, PolarizedSelfAttention)]
    assert len(modules) == count
    for module in modules:
        nn.init.zeros_(module.channel_out[1].norm.weight)
        nn.init.zeros_(module.spatial_value.weight)
    torch.testing.assert_close(attending(x), plain(x), rtol=0, atol=1e-5)


def test_the_network_that_ships_is_small():
    network = built("psa-unet", encoder="tu-resnet10t", decoder_channels=(128, 64, 32, 32, 16))
    assert sum(p.numel() for p in network.parameters()) < 7.4e6


def test_untrained_danet_equals_itself_without_attention():
    network = built("danet", encoder="resnet18").eval()
    x = images(1, 3, 64, 64)
    with_attention = network(x)
    for branch, kind in ((network.position, PositionAttention), (network.channel, ChannelAttention)):
        (at,) = (i for i, layer in enumerate(branch) if isinstance(layer, kind))
        branch[at] = nn.Identity()
    torch.testing.assert_close(network(x), with_attention, rtol=0, atol=1e-6)


def test_danet_is_a_dilated_resnet_with_a_multi_grid():
    network = built("danet", encoder="resnet50").eval()
    dilated = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True])
    for ours, theirs in zip(network.encoder.layer3.modules(), dilated.layer3.modules(), strict=True):
        if isinstance(ours, nn.Conv2d):
            assert (ours.stride, ours.dilation) == (theirs.stride, theirs.dilation)
    assert [block.conv2.dilation for block in network.encoder.layer4] == [(4, 4), (8, 8), (16, 16)]
    assert network.encoder(images(1, 3, 64, 96))[-1].shape == (1, 2048, 8, 12)


def test_danet_on_a_resnet_of_two_blocks_per_stage_takes_the_first_two_dilations():
    network = built("danet", encoder="resnet18")
    assert [block.conv1.dilation for block in network.encoder.layer4] == [(4, 4), (8, 8)]


def test_danet_classifies_512_channels_before_it_upsamples():
    network = built("danet")
    seen = []
    for head in network.heads:
        head.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].shape, output.shape)))
    network(images(2, 3, 64, 64))
    assert seen == [((2, 512, 8, 8), (2, 1, 8, 8))] * 3
    seen.clear()
    network.eval()(images(1, 3, 64, 64))
    assert len(seen) == 1  # the auxiliary classifiers serve the loss alone


REFUSED = [
    ({"name": "nn-unet"}, "unknown network 'nn-unet': valid are unet, psa-unet, da-unet, danet"),
    ({"name": "unet", "layout": "serial"}, "unet has no option 'layout': valid are decoder_channels"),
    ({"name": "unet", "encoder": "resnet4"}, "unknown encoder 'resnet4': did you mean resnet34"),
    ({"name": "unet", "encoder": "tu-nothing"}, "unknown encoder 'tu-nothing'.*mobilenet_v2"),
    ({"name": "unet", "encoder": "tu-test_vit"}, "'tu-test_vit' cannot give 5 levels"),
    ({"name": "unet", "decoder_channels": [8, 8]}, r"decoder_channels takes 3 to 5 .* not \[8, 8\]"),
    ({"name": "unet", "decoder_channels": 8}, "decoder_channels takes 3 to 5 .* not 8"),
    ({"name": "unet", "in_channels": 0}, "at least 1, not 0 and 1"),
    ({"name": "unet", "classes": 0}, "at least 1, not 3 and 0"),
    ({"name": "unet", "classes": True}, "at least 1, not 3 and True"),
    ({"name": "unet", "in_channels": 2.0}, "at least 1, not 2.0 and 1"),
    ({"name": "unet", "encoder": ""}, "unknown encoder ''"),
    ({"name": "psa-unet", "place": "roof"}, "place 'roof' is none of decoder, bottleneck, both"),
    ({"name": "psa-unet", "layout": "both"}, "layout 'both' is none of parallel, serial"),
    ({"name": "da-unet", "form": "mine"}, "form 'mine' is none of paper, official"),
    ({"name": "danet", "encoder": "mobilenet_v2"}, "danet needs a ResNet .* not 'mobilenet_v2'"),
    ({"name": "danet", "multi_grid": [4, 8]}, r"multi_grid takes 3 .* not \[4, 8\]"),
    ({"name": "danet", "dropout": 1.0}, "dropout is from 0 to below 1, not 1.0"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_built_is_refused_in_one_line(arguments, message):
    with pytest.raises(OptionError, match=message) as caught:
        build_network(**arguments)
    assert "\n" not in str(caught.value)


def test_an_encoder_for_one_size_of_image_is_refused():
    with pytest.raises(OptionError, match="cannot give 5 levels"):
        build_network("unet", encoder="tu-swin_tiny_patch4_window7_224")


def only_loopback(monkeypatch, tmp_path, port: int) -> None:
    """Put the hub at a port of this machine, past any proxy, with an empty cache."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    template = f"http://127.0.0.1:{port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet10t"])
def test_without_a_hub_the_remedies_are_named_at_once(encoder, monkeypatch, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        only_loopback(monkeypatch, tmp_path, closed.getsockname()[1])
        start = time.monotonic()
        with pytest.raises(WeightsError, match=r"--encoder-weights none .* local \.safetensors") as caught:
            build_network("unet", encoder=encoder, encoder_weights="imagenet")
    assert time.monotonic() - start < 20  # the client's own retries take 27 s and more
    assert "\n" not in str(caught.value)
    assert constants.HF_HUB_OFFLINE is False


class Refuses(http.server.BaseHTTPRequestHandler):
    """A hub that answers and has nothing."""

    def do_HEAD(self):
        self.send_response(404)
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *args):
        pass


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet10t"])
def test_a_hub_without_the_weights_is_an_error_of_one_line(encoder, monkeypatch, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        only_loopback(monkeypatch, tmp_path, server.server_port)
        with pytest.raises(WeightsError, match="--encoder-weights none"):
            build_network("unet", encoder=encoder, encoder_weights="imagenet")
        server.shutdown()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet10t"])
def test_encoder_weights_come_from_a_local_file(encoder, suffix, tmp_path):
    source = built("unet", encoder=encoder)
    path = tmp_path / f"weights{suffix}"
    save = safetensors.torch.save_file if suffix == ".safetensors" else torch.save
    for prefix in ("", "encoder."):
        save({prefix + k: v.clone() for k, v in source.encoder.state_dict().items()}, path)
        network = build_network("psa-unet", encoder=encoder, encoder_weights=path)
        torch.testing.assert_close(network.encoder.state_dict(), source.encoder.state_dict(), rtol=0, atol=0)


def test_files_of_torchvision_and_timm_fit(tmp_path):
    import timm

    torch.save({"state_dict": torchvision.models.resnet18().state_dict()}, tmp_path / "torchvision.pth")
    build_network("unet", encoder="resnet18", encoder_weights=str(tmp_path / "torchvision.pth"))
    for name in ("resnet10t", "test_convnext"):
        safetensors.torch.save_file(timm.create_model(name).state_dict(), tmp_path / f"{name}.safetensors")
        build_network("unet", encoder=f"tu-{name}", encoder_weights=tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7])
def test_weights_for_three_bands_are_spread_over_others(bands, tmp_path):
    source = built("unet", encoder="resnet18")
    torch.save(source.encoder.state_dict(), tmp_path / "weights.pth")
    network = build_network("unet", encoder="resnet18", in_channels=bands, encoder_weights=tmp_path / "weights.pth")
    theirs = smp.encoders.get_encoder("resnet18", weights=None)
    theirs.load_state_dict(source.encoder.state_dict())
    theirs.set_in_channels(bands, pretrained=True)
    torch.testing.assert_close(network.encoder.conv1.weight, theirs.conv1.weight)


class Sneaky:
    """What a pickle could hold."""

    def __reduce__(self):
        return (print, ("unpickled",))


def test_files_that_are_no_encoder_weights_are_refused(tmp_path, capsys):
    weights = built("unet", encoder="resnet18").encoder.state_dict()
    torch.save({k: v for k, v in weights.items() if k != "layer1.0.conv1.weight"}, tmp_path / "lacking.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"conv1.weight": Sneaky()}, tmp_path / "sneaky.pth")
    (tmp_path / "garbage.pth").write_bytes(b"no weights at all")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "garbage.safetensors").write_bytes(b"no weights at all")
    whole = tmp_path / "whole.pth"
    torch.save(weights, whole)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:10_000])
    names = ["lacking.pth", "list.pth", "sneaky.pth", "garbage.pth", "empty.pth", "garbage.safetensors", "cut.pth"]
    for name in [*names, "absent.pth", "absent.safetensors", "instagram"]:
        with pytest.raises(WeightsError, match=r"--encoder-weights none .* local \.safetensors") as caught:
            build_network("unet", encoder="resnet18", encoder_weights=str(tmp_path / name))
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    assert capsys.readouterr().out == ""
