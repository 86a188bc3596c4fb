"""What networks cost, and how they are listed."""

import json
import re

import pytest
import torch
from buildseg.cli.main import app
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from buildseg.networks import NETWORKS, SegmentationNetwork, build_network
from buildseg.networks.catalogue import CatalogueOptions, catalogue, network_options
from buildseg.networks.cost import measure_cost
from buildseg.networks.output import NetworkOutput
from network_rules import SMALL
from tiling.errors import OptionError


class Known(SegmentationNetwork):
    """A network whose cost is known by heart: 4 x 4 blocks to 8 channels, ReLU, and back to one channel."""

    stride = 4

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 1, 1)

    def predict(self, x):
        logits = self.up(self.down(x).relu())
        return NetworkOutput(nn.functional.interpolate(logits, x.shape[2:]))


def test_cost_is_counted_as_by_hand():
    cost = measure_cost(Known, (1, 3, 32, 32))
    positions = 8 * 8
    assert cost.parameters == 3 * 8 * 16 + 8 + 8 + 1
    assert cost.gflops * 1e9 == 2 * positions * (3 * 16 * 8 + 8)
    assert cost.output_stride == 4
    # Most is held either while ReLU reads and writes, or while the image's logits are made from the small ones.
    features, small, large = 8 * positions, positions, 32 * 32
    held = max(2 * features, features + small, small + large)
    assert cost.memory == 4 * (cost.parameters + held)


def test_cost_needs_neither_the_network_nor_the_time():
    cost = measure_cost(lambda: build_network("unet"), (1, 3, 20_000, 20_000))
    assert cost.memory > 100e9
    assert torch.empty(1).untyped_storage().nbytes() == 4  # tensors are real again


@pytest.mark.parametrize("name", ["psa-unet", "da-unet"])
def test_gflops_are_those_of_a_real_prediction(name):
    network = build_network(name, **SMALL).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as flops:
        network(torch.zeros(1, 3, 96, 64))
    cost = measure_cost(lambda: build_network(name, **SMALL), (1, 3, 96, 64))
    assert cost.gflops == pytest.approx(flops.get_total_flops() / 1e9)
    assert cost.parameters == sum(p.numel() for p in network.parameters())


def test_memory_counts_fused_attention_without_its_scores():
    danet = measure_cost(lambda: build_network("danet", encoder="resnet18"), (1, 3, 1024, 1024))
    scores = 4 * (1024 // 8) ** 4
    assert danet.memory < 0.6 * scores


def test_every_network_is_listed_with_its_source():
    entries = catalogue(CatalogueOptions(size=64))
    assert [entry.name for entry in entries] == list(NETWORKS)
    for entry in entries:
        assert re.search(r"arXiv:\d{4}\.\d{5}", entry.source)
        assert entry.cost.gflops > 0 and entry.cost.parameters > 1e5 and entry.cost.memory > 1e6
    assert {entry.name: entry.cost.output_stride for entry in entries}.items() >= {
        "unet": 32,
        "danet": 8,
        "ccnet": 8,
        "annnet": 8,
        "lraspp": 16,
        "hrnet-ocr-psa": 4,
    }.items()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_option_is_explained_and_taken_as_it_is_printed(name):
    from buildseg.cli.options import parse_network_options

    listed = CliRunner().invoke(app, ["models", name, "--size", "64"])
    assert listed.exit_code == 0, listed.output
    pairs = re.findall(r"--option (\S+)", listed.output)
    assert [pair.partition("=")[0] for pair in pairs] == [option.name for option in network_options(name)]
    assert all(len(option.meaning) > 20 for option in network_options(name))
    with FakeTensorMode():  # which fills no weights with random numbers
        again = build_network(name, **parse_network_options(pairs))
        assert again.architecture == build_network(name).architecture


def test_the_table_has_a_line_for_each_network():
    listed = CliRunner().invoke(app, ["models", "--size", "64"])
    assert listed.exit_code == 0
    header, *lines = listed.output.splitlines()
    assert header.split() == ["network", "encoder", "parameters", "GFLOPs", "at", "64", "stride", "memory", "source"]
    assert [line.split()[0] for line in lines] == list(NETWORKS)
    assert max(map(len, [header, *lines])) <= 120


def test_json_is_for_programs():
    listed = CliRunner().invoke(app, ["models", "unet", "--encoder", "tu-resnet10t", "--classes", "33", "--json"])
    (entry,) = json.loads(listed.output)
    network = build_network("unet", encoder="tu-resnet10t", classes=33)
    assert entry["encoder"] == "tu-resnet10t"
    assert entry["cost"]["parameters"] == sum(p.numel() for p in network.parameters())
    assert entry["options"][0]["name"] == "decoder_channels"


@pytest.mark.parametrize(
    ("options", "only", "message"),
    [
        ({"size": 0}, None, "--size 0"),
        ({"bands": 0}, None, "--bands 0"),
        ({"classes": -1}, None, "--classes -1"),
        ({}, "segmenter", "unknown network 'segmenter'"),
        ({"encoder": "resnet18"}, None, "name a network too"),
        ({"encoder": "resnet4"}, "unet", "unknown encoder"),
    ],
)
def test_what_cannot_be_listed_is_refused(options, only, message):
    with pytest.raises(OptionError, match=message):
        catalogue(CatalogueOptions(**options), only)
