"""CCNet."""

import pytest
import torch
import torchvision
from torch import nn

from buildseg.attention import CrissCrossAttention
from buildseg.networks import build_network
from buildseg.networks.ccnet import PyramidPooling, StandardizedConv2d
from network_rules import Network, built, images
from tiling.errors import OptionError

SMALL = {"encoder": "resnet18"}
EVERYTHING = {"aspp": True, "weight_standardisation": True, "category_consistent": True}


class TestCCNet(Network):
    name, options, auxiliary = "ccnet", SMALL, (0.4,)


class TestCCNetWithAllOptions(Network):
    name, options, auxiliary = "ccnet", SMALL | EVERYTHING, (0.4,)


class TestCCNetOfOnePass(Network):
    name, options, auxiliary = "ccnet", SMALL | {"recurrence": 1}, (0.4,)


def test_it_is_a_dilated_resnet_of_output_stride_8_without_a_multi_grid():
    network = built("ccnet", encoder="resnet50").eval()
    dilated = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True])
    for ours, theirs in zip(network.encoder.layer3.modules(), dilated.layer3.modules(), strict=True):
        if isinstance(ours, nn.Conv2d):
            assert (ours.stride, ours.dilation) == (theirs.stride, theirs.dilation)
    assert [block.conv2.dilation for block in network.encoder.layer4] == [(4, 4)] * 3
    assert network.encoder(images(1, 3, 64, 96))[-1].shape == (1, 2048, 8, 12)
    other = built("ccnet", multi_grid=(4, 8, 16))
    assert [block.conv2.dilation for block in other.encoder.layer4] == [(4, 4), (8, 8), (16, 16)]


def shapes_of_convolutions(module: nn.Module) -> list[tuple[int, int, int]]:
    convs = (m for m in module.modules() if isinstance(m, nn.Conv2d))
    return [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convs]


def test_its_head_has_the_widths_of_the_article():
    network = built("ccnet", encoder="resnet50", classes=7)
    assert shapes_of_convolutions(network.reduce) == [(2048, 512, 3)]
    assert shapes_of_convolutions(network.attention) == [(512, 64, 1), (512, 64, 1), (512, 512, 1)]
    assert shapes_of_convolutions(network.refine) == [(512, 512, 3)]
    assert shapes_of_convolutions(network.fuse) == [(2560, 512, 3)]
    assert shapes_of_convolutions(network.classify) == [(512, 7, 1)]
    assert shapes_of_convolutions(network.auxiliary) == [(1024, 512, 3), (512, 7, 1)]
    for part in (network.reduce, network.refine, network.fuse, network.auxiliary):
        assert [m.negative_slope for m in part.modules() if isinstance(m, nn.LeakyReLU)] == [0.01]
    dropouts = [m.p for m in network.modules() if isinstance(m, nn.Dropout2d)]
    assert dropouts == [0.1, 0.1]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}


def test_pyramid_pooling_stands_beside_the_attention():
    network = built("ccnet", encoder="resnet50", aspp=True)
    local = [(2048, 256, 1), *[(2048, 256, 3)] * 3]
    assert shapes_of_convolutions(network.aspp) == [*local, (2048, 256, 1), (1280, 256, 1)]
    assert [branch[0].dilation[0] for branch in network.aspp.local] == [1, 6, 12, 18]
    assert shapes_of_convolutions(network.fuse) == [(2816, 512, 3)]
    x = images(2, 2048, 5, 7)
    assert network.aspp(x).shape == (2, 256, 5, 7)


@pytest.mark.parametrize("conv", [nn.Conv2d, StandardizedConv2d])
def test_pooling_to_one_position_trains_with_one_image_as_with_several(conv):
    torch.manual_seed(0)
    module = PyramidPooling(16, 8, conv)
    x = images(2, 16, 6, 6)
    whole = module.whole(x.mean(dim=(2, 3), keepdim=True))
    alone = module.whole(x[:1].mean(dim=(2, 3), keepdim=True))
    torch.testing.assert_close(alone, whole[:1])
    assert whole.std() > 0.1
    module(x[:1]).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_untrained_it_equals_itself_without_attention():
    network = built("ccnet", **SMALL).eval()
    x = images(1, 3, 64, 64)
    with_attention = network(x)
    nn.init.ones_(network.attention.attention.gamma)
    assert (network(x) - with_attention).abs().max() > 1e-4
    network.attention = nn.Identity()
    torch.testing.assert_close(network(x), with_attention, rtol=0, atol=0)


def test_all_passes_are_of_one_module():
    networks = [built("ccnet", recurrence=recurrence, **SMALL) for recurrence in (1, 2, 3)]
    states = [network.state_dict() for network in networks]
    assert states[0].keys() == states[1].keys() == states[2].keys()
    assert build_network("ccnet", **SMALL).architecture.options["recurrence"] == 2
    for recurrence, network in enumerate(networks, start=1):
        calls = []
        (attention,) = (m for m in network.modules() if isinstance(m, CrissCrossAttention))
        attention.register_forward_hook(lambda *_: calls.append(1))  # noqa: B023 - called in this turn
        network.eval()(images(1, 3, 32, 32))
        assert len(calls) == recurrence


def test_the_auxiliary_head_is_one_of_its_own_and_serves_training_alone():
    network = built("ccnet", **SMALL)
    x = images(2, 3, 64, 64)
    output = network(x)
    (extra,) = output.auxiliary
    network.zero_grad()
    extra.logits.sum().backward()
    assert network.auxiliary[2].weight.grad.any()
    assert network.classify[1].weight.grad is None
    assert network.encoder.layer4[0].conv1.weight.grad is None
    expected = network.eval()(x)
    network.auxiliary = None
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)


def test_training_gets_an_embedding_of_the_attended_features_if_asked_for():
    assert built("ccnet", **SMALL)(images(2, 3, 64, 64)).embedding is None
    network = built("ccnet", category_consistent=True, **SMALL)
    embedding = network(images(2, 3, 65, 71)).embedding
    assert embedding.features.shape == (2, 16, 9, 9)
    assert (embedding.stride, embedding.weight) == (8, 1.0)
    network.zero_grad()
    embedding.features.square().sum().backward()
    assert network.attention.attention.gamma.grad.any()
    assert network.refine[0].weight.grad is None
    assert isinstance(network.eval()(images(1, 3, 64, 64)), torch.Tensor)


def test_weight_standardisation_is_of_the_head_and_its_pyramid_alone():
    network = built("ccnet", aspp=True, weight_standardisation=True, **SMALL)
    standardized = [name for name, m in network.named_modules() if isinstance(m, StandardizedConv2d)]
    pyramid = [*(f"aspp.local.{i}.0" for i in range(4)), "aspp.whole.0", "aspp.project.0"]
    assert standardized == ["reduce.0", "refine.0", *pyramid, "fuse.0"]
    assert not any(isinstance(m, StandardizedConv2d) for m in built("ccnet", aspp=True, **SMALL).modules())


def test_standardized_weights_have_mean_0_and_a_sum_of_squares_of_1_whatever_their_scale():
    conv = StandardizedConv2d(6, 4, 3, padding=1, dilation=1).double()
    x = images(2, 6, 7, 9).double()
    expected = []
    for weight, bias in zip(conv.weight, conv.bias, strict=True):
        standard = (weight - weight.mean()) / (weight - weight.mean()).norm()
        expected.append(nn.functional.conv2d(x, standard[None], bias[None], padding=1))
    torch.testing.assert_close(conv(x), torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)
    once = conv(x)
    conv.weight.data = 3 * conv.weight.data - 2
    torch.testing.assert_close(conv(x), once, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("conv", [StandardizedConv2d(1, 4, 1), StandardizedConv2d(4, 4, 1, groups=4)])
def test_standardized_weights_are_finite_where_there_is_but_one(conv, dtype):
    x = images(2, conv.in_channels, 5, 5).to(dtype)
    out = conv.to(dtype)(x)
    out.float().sum().backward()
    assert out.isfinite().all()
    assert conv.weight.grad.isfinite().all()


def test_standardized_weights_are_finite_where_all_are_alike():
    conv = StandardizedConv2d(6, 4, 3)
    nn.init.constant_(conv.weight, 0.3)
    out = conv(images(2, 6, 7, 9))
    out.square().sum().backward()
    assert out.isfinite().all()
    assert conv.weight.grad.isfinite().all()


REFUSED = [
    ({"encoder": "mobilenet_v2"}, "ccnet needs a ResNet .* not 'mobilenet_v2'"),
    ({"multi_grid": [4, 4]}, r"multi_grid takes 3 .* not \[4, 4\]"),
    ({"recurrence": 0}, "recurrence is 1, 2 or 3, not 0"),
    ({"aspp": "yes"}, "aspp is true or false, not 'yes'"),
    ({"weight_standardisation": 1}, "weight_standardisation is true or false, not 1"),
    ({"category_consistent": None}, "category_consistent is true or false, not None"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_options_that_make_no_network_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        build_network("ccnet", **(SMALL | options))
