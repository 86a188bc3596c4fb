"""LR-ASPP in the form that is quicker: what it answers stays what it was."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidual
from torchvision.ops.misc import SqueezeExcitation

from buildseg.networks import build_network
from buildseg.prediction.bottlenecks import GatedBottleneck, InPairs, gate_weights, pair_images
from buildseg.prediction.folding import JoinedResidual, fold_batch_norm, hand_to_onednn
from buildseg.prediction.half_precision import to_bfloat16
from network_rules import images
from test_networks_lraspp import LARGE, SMALL, scrambled


@pytest.fixture(params=[LARGE, SMALL])
def network(request):
    torch.manual_seed(0)
    plain = scrambled(build_network("lraspp", encoder=request.param, classes=2))
    return fold_batch_norm(plain, torch.zeros(1, 3, 64, 64))


def kinds(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


@torch.inference_mode()
@pytest.mark.parametrize("size", [(64, 96), (48, 80), (33, 50)])
def test_gates_may_multiply_weights_instead_of_features(network, size):
    network = network.double()
    x = images(2, 3, *size).double()
    wanted, gated = (
        network(x),
        sum(block.block[-2].__class__.__name__ == "SqueezeExcitation" for block in blocks(network)),
    )
    gate_weights(network)
    assert len(kinds(network, GatedBottleneck)) == gated > 4
    for gate in (bottleneck.gate for bottleneck in kinds(network, GatedBottleneck)):
        gate.float()  # they are computed in single precision
    assert (network(x) - wanted).abs().max() < 1e-5 * wanted.abs().max()


def blocks(network):
    return kinds(network, InvertedResidual)


@torch.inference_mode()
def test_residual_sums_join_the_convolution_before_them(network):
    x = images(2, 3, 64, 96)
    wanted, residual = network(x), sum(block.use_res_connect for block in blocks(network))
    with torch.inference_mode(False):
        hand_to_onednn(network, torch.zeros(1, 3, 64, 64))
    assert len(kinds(network, JoinedResidual)) == residual > 4
    assert (network(x) - wanted).abs().max() < 1e-5 * wanted.abs().max()


@torch.inference_mode()
@pytest.mark.parametrize(("offset", "kept"), [(0.0, torch.bfloat16), (2**-10, torch.float32)])
def test_the_bias_of_a_joined_sum_is_rounded_only_if_that_takes_nothing(network, offset, kept):
    with torch.inference_mode(False):
        hand_to_onednn(network, torch.zeros(1, 3, 64, 64))
    for joined in kinds(network, JoinedResidual):
        joined.last.convolution.bias.data = torch.ones_like(joined.last.convolution.bias) + offset
    half = to_bfloat16(network)
    assert {joined.last.convolution.bias.dtype for joined in kinds(half, JoinedResidual)} == {kept}
    x = images(1, 3, 64, 96)
    wanted = network(x)
    assert (half(x.bfloat16()).float() - wanted).abs().mean() < 0.03 * wanted.abs().mean()


def test_gates_stay_in_single_precision(network):
    gate_weights(network)
    half = to_bfloat16(network)
    for bottleneck in kinds(half, GatedBottleneck):
        assert {parameter.dtype for parameter in bottleneck.gate.parameters()} == {torch.float32}
        assert bottleneck.weight.dtype == torch.bfloat16


@torch.inference_mode()
def test_all_of_it_together_in_phases(network):
    network, x = network.double(), images(2, 3, 64, 96).double()
    quick = copy.deepcopy(network)
    quick.dilate_in_phases()
    gate_weights(quick)
    for gate in (bottleneck.gate for bottleneck in kinds(quick, GatedBottleneck)):
        gate.float()
    wanted = network(x)
    assert (quick(x) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert not [part for part in kinds(quick, nn.Conv2d) if part.dilation != (1, 1)]
    assert quick(images(1, 3, 40, 50).double()).shape == (1, 2, 40, 50)


@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 2, 5])
def test_layers_of_large_images_are_shown_two_at_a_time(network, count):
    network, x = network.double(), images(count, 3, 64, 96).double()
    wanted = network(x)
    pair_images(network)
    (pairs,) = kinds(network, InPairs)
    shown = []
    for layer in pairs.layers:
        layer.register_forward_hook(lambda _, inputs, output: shown.append((len(output), 64 // output.shape[2])))
    assert (network(x) - wanted).abs().max() < 1e-12 * wanted.abs().max()
    assert max(count for count, _ in shown) == min(count, 2)
    assert max(stride for _, stride in shown) == 4


class Bottleneck(nn.Module):
    """What a gated bottleneck is made from, with layers before the gate that pass on what they are given."""

    def __init__(self, channels):
        super().__init__()
        project = nn.Sequential(nn.Conv2d(channels, 8, 1))
        self.block = nn.Sequential(
            nn.Identity(), SqueezeExcitation(channels, 8, scale_activation=nn.Hardsigmoid), project
        )
        self.use_res_connect = False


@torch.inference_mode()
@pytest.mark.parametrize(("channels", "precise"), [(16, True), (96, True), (104, False)])
def test_of_few_channels_the_gated_weights_are_of_twice_the_precision(channels, precise):
    torch.manual_seed(0)
    gated = to_bfloat16(GatedBottleneck(Bottleneck(channels)))
    x = (1 + torch.rand(1, channels, 4, 4)).bfloat16().contiguous(memory_format=torch.channels_last)
    gate = gated.gate(x)
    # Sums that nearly vanish, so that what is rounded off the weights shows beside the rounding of the sum itself.
    gated.weight.data[:] = torch.randn(8, channels).bfloat16()
    gated.weight.data -= (gated.weight.data.float() * gate).mean(1, keepdim=True).bfloat16() / gate.mean().bfloat16()
    exact = torch.einsum("nchw,oc->nohw", x.double(), gated.weight.double() * gate.double())
    error = (gated(x).double() - exact).abs() - 2**-7 * exact.abs()
    assert (error.max() < 2e-3) == precise
