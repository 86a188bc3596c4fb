"""ANNNet."""

import pytest
import torch
import torchvision
from torch import nn

from buildseg.networks import build_network
from network_rules import Network, built, images
from tiling.errors import OptionError

SMALL = {"encoder": "resnet18"}


class TestANNNet(Network):
    name, options, auxiliary = "annnet", SMALL, (0.4,)


def shapes_of_convolutions(module: nn.Module) -> list[tuple[int, int, int]]:
    convs = (m for m in module.modules() if isinstance(m, nn.Conv2d))
    return [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convs]


def test_it_is_a_plain_dilated_resnet_of_output_stride_8():
    # The article's code has replace_stride_with_dilation=[1, 2, 4], three truths: output stride 4.
    network = built("annnet").eval()
    dilated = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True])
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        pairs = zip(getattr(network.encoder, stage).modules(), getattr(dilated, stage).modules(), strict=True)
        for ours, theirs in pairs:
            if isinstance(ours, nn.Conv2d):
                assert (ours.stride, ours.dilation, ours.padding) == (theirs.stride, theirs.dilation, theirs.padding)
    features = network.encoder(images(1, 3, 64, 96))
    assert [f.shape for f in features[-2:]] == [(1, 1024, 8, 12), (1, 2048, 8, 12)]
    other = built("annnet", multi_grid=(4, 8, 16))
    assert [block.conv2.dilation for block in other.encoder.layer4] == [(4, 4), (8, 8), (16, 16)]


def test_its_head_has_the_widths_of_the_article():
    network = built("annnet", classes=7)
    assert sorted(shapes_of_convolutions(network.fusion)) == sorted(
        [(2048, 256, 1), (1024, 256, 1), (1024, 256, 1), (256, 2048, 1), (4096, 2048, 1)]
    )
    assert shapes_of_convolutions(network.reduce) == [(2048, 512, 3)]
    assert sorted(shapes_of_convolutions(network.pyramid)) == sorted(
        [(512, 256, 1), (512, 256, 1), (256, 512, 1), (1024, 512, 1)]
    )
    assert shapes_of_convolutions(network.classifier) == [(512, 7, 1)]
    assert shapes_of_convolutions(network.auxiliary) == [(1024, 512, 3), (512, 7, 1)]
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout2d)] == [0.05] * 3
    dropped = built("annnet", **SMALL, dropout=0.2)
    assert [m.p for m in dropped.modules() if isinstance(m, nn.Dropout2d)] == [0.2] * 3


class WithoutContext(nn.Module):
    """An attention of the network without the attention: its last convolution sees the features alone."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.fuse, self.finish = attention.fuse, attention.finish

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        high = inputs[-1]
        return self.finish(nn.functional.conv2d(high, self.fuse.weight[:, high.shape[1] :]))


def test_untrained_it_equals_itself_without_attention():
    network = built("annnet", **SMALL, dropout=0.0)
    x = images(2, 3, 64, 96)
    for training in (True, False):
        network.train(training)
        full = network.predict(x).logits
        plain = built("annnet", **SMALL, dropout=0.0)
        plain.load_state_dict(network.state_dict())
        plain.fusion, plain.pyramid = WithoutContext(plain.fusion), WithoutContext(plain.pyramid)
        torch.testing.assert_close(plain.train(training).predict(x).logits, full, rtol=1e-4, atol=1e-5)
    nn.init.normal_(network.pyramid.out.weight)
    assert (network.predict(x).logits - full).abs().max() > 1e-2


def test_the_backbone_learns_from_the_main_loss_while_w_is_still_zero():
    # The article's code leaves the features out of the last convolution: all of these gradients are zero there.
    network = built("annnet", **SMALL)
    network(images(2, 3, 64, 64)).logits.square().mean().backward()
    still = [n for n, p in network.encoder.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert still == []
    for attention in (network.fusion, network.pyramid):
        assert not attention.out.weight.any()
        assert attention.out.weight.grad.any()


def test_the_auxiliary_head_judges_the_last_stage_but_one_in_training_alone():
    network = built("annnet", **SMALL, dropout=0.0)
    x = images(2, 3, 64, 64)
    before = network(x)
    for parameter in network.encoder.layer4.parameters():
        nn.init.normal_(parameter)
    after = network(x)
    torch.testing.assert_close(after.auxiliary[0].logits, before.auxiliary[0].logits)
    assert (after.logits - before.logits).abs().max() > 1e-2
    called = []
    network.auxiliary.register_forward_hook(lambda *_: called.append(True))
    network.eval()(x)
    assert called == []


def test_four_bands_and_several_classes_train():
    network = built("annnet", **SMALL, in_channels=4, classes=3)
    output = network(images(2, 4, 41, 57))
    assert output.logits.shape == output.auxiliary[0].logits.shape == (2, 3, 41, 57)


def test_one_small_image_trains():
    assert built("annnet", **SMALL)(images(1, 3, 9, 3)).logits.shape == (1, 1, 9, 3)


REFUSED = [
    ({"encoder": "mobilenet_v2"}, "annnet needs a ResNet .* not 'mobilenet_v2'"),
    ({"multi_grid": [4, 8]}, r"multi_grid takes 3 .* not \[4, 8\]"),
    ({"dropout": 1.0}, "dropout is from 0 to below 1, not 1.0"),
    ({"dropout": "0.1"}, "dropout is from 0 to below 1, not '0.1'"),
    ({"form": "paper"}, "annnet has no option 'form': valid are multi_grid, dropout"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_be_built_is_refused_by_name(options, message):
    with pytest.raises(OptionError, match=message):
        build_network("annnet", **(SMALL | options))
