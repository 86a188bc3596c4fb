"""BiSeNetV2: against an independent form from the article's table and figures, and what exists in training only."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buildseg.networks import build_network
from buildseg.networks.bisenetv2 import ContextEmbedding, PooledNorm
from network_rules import Network, built, images
from tiling.errors import OptionError

BOOSTERS = (1.0, 1.0, 1.0, 1.0)
NARROW = {"width": 0.5, "head_channels": 64}


class TestBiSeNetV2(Network):
    name, auxiliary = "bisenetv2", BOOSTERS


class TestNarrowBiSeNetV2(Network):
    name, options, auxiliary = "bisenetv2", NARROW, BOOSTERS


class Reference:
    """The network of the article's table 1 and figures 4 to 7, its weights drawn in the order of definition."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def layers(self, part: str) -> list[nn.Module]:
        found = self.network.get_submodule(part).modules()
        return [m for m in found if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]

    def run(self, x: Tensor, part: str, *recipe: tuple[int, int, str]) -> Tensor:
        """Convolution after convolution: (stride, groups, "" or "n" for normalised or "nr" for rectified as well)."""
        layers = iter(self.layers(part))
        for stride, groups, then in recipe:
            conv = next(layers)
            padding = conv.weight.shape[2] // 2
            x = F.conv2d(x, conv.weight, conv.bias, stride, padding, 1, groups)
            if "n" in then:
                norm = next(layers)
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                x = (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
            if "r" in then:
                x = x.clamp(min=0)
        assert next(layers, None) is None
        return x

    def gather_expansion(self, x: Tensor, part: str, stride: int) -> Tensor:
        channels = x.shape[1]
        expanding = [(stride, channels, "n")] + [(1, 6 * channels, "n")] * (stride == 2)
        body = self.run(x, f"{part}.body", (1, 1, "nr"), *expanding, (1, 1, "n"))
        if stride == 2:
            x = self.run(x, f"{part}.shortcut", (2, channels, "n"), (1, 1, "n"))
        return (body + x).clamp(min=0)

    def semantic(self, x: Tensor) -> list[Tensor]:
        halved = self.run(x, "stem.first", (2, 1, "nr"))
        left = self.run(halved, "stem.convolved", (1, 1, "nr"), (2, 1, "nr"))
        right = F.max_pool2d(halved, 3, 2, 1)
        features = [self.run(torch.cat([left, right], 1), "stem.fuse", (1, 1, "nr"))]
        for stage, layers in enumerate((2, 2, 4)):
            out = features[-1]
            for layer in range(layers):
                out = self.gather_expansion(out, f"stages.{stage}.{layer}", 2 if layer == 0 else 1)
            features.append(out)
        return features

    def context(self, x: Tensor) -> Tensor:
        norm, conv, after = self.layers("context.pooled")
        pooled = F.batch_norm(x.mean((2, 3)), norm.running_mean, norm.running_var)
        pooled = pooled @ conv.weight[:, :, 0, 0].T
        pooled = F.batch_norm(pooled, after.running_mean, after.running_var, after.weight, after.bias)
        return self.run(pooled.clamp(min=0)[:, :, None, None] + x, "context.fuse", (1, 1, ""))

    def aggregation(self, detail: Tensor, semantic: Tensor) -> Tensor:
        def up(x: Tensor) -> Tensor:
            return F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)

        channels = detail.shape[1]
        separable = ((1, channels, "n"), (1, 1, ""))
        fine = self.run(detail, "aggregation.keep", *separable)
        fine = fine * torch.sigmoid(up(self.run(semantic, "aggregation.widen", (1, 1, "n"))))
        coarse = F.avg_pool2d(self.run(detail, "aggregation.shrink", (2, 1, "n")), 3, 2, 1)
        coarse = coarse * torch.sigmoid(self.run(semantic, "aggregation.guide", *separable))
        return self.run(fine + up(coarse), "aggregation.conv", (1, 1, "n"))

    def logits(self, features: Tensor, part: str, size: torch.Size) -> Tensor:
        logits = self.run(features, part, (1, 1, "nr"), (1, 1, ""))
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The logits, then those of the boosters."""
        detail = self.run(x, "detail", *([(2, 1, "nr"), (1, 1, "nr")] + [(2, 1, "nr"), *[(1, 1, "nr")] * 2] * 2))
        semantic = self.semantic(x)
        aggregated = self.aggregation(detail, self.context(semantic[-1]))
        boosted = [self.logits(f, f"boosters.{i}", x.shape[2:]) for i, f in enumerate(semantic)]
        return [self.logits(aggregated, "head", x.shape[2:]), *boosted]


def scrambled(**options) -> nn.Module:
    network = built("bisenetv2", classes=3, **options).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
            for parameter in module.parameters():
                parameter.data.uniform_(0.5, 1.5)
    return network


@pytest.mark.parametrize("options", [{}, {"width": 0.25, "head_channels": 7}])
def test_it_is_that_of_the_article(options):
    network = scrambled(**options)
    x = images(2, 3, 64, 96).double()
    logits, *boosted = Reference(network)(x)
    torch.testing.assert_close(network(x), logits, rtol=1e-9, atol=1e-9)
    network.train()
    for module in network.modules():
        module.training = module is network  # the boosters, without batch statistics
    output = network(x)
    torch.testing.assert_close([a.logits for a in output.auxiliary], boosted, rtol=1e-9, atol=1e-9)


def test_its_channels_are_those_of_the_table():
    network = built("bisenetv2").eval()
    x = images(1, 3, 64, 96)
    semantic = [network.stem(x)]
    for stage in network.stages:
        semantic.append(stage(semantic[-1]))
    assert [tuple(f.shape[1:]) for f in semantic] == [(16, 16, 24), (32, 8, 12), (64, 4, 6), (128, 2, 3)]
    assert network.detail(x).shape == (1, 128, 8, 12)
    assert [m.out_channels for m in network.detail.modules() if isinstance(m, nn.Conv2d)] == [64] * 5 + [128] * 3
    assert [len(stage) for stage in network.stages] == [2, 2, 4]
    assert network.head[0][0].out_channels == 1024
    assert [booster[0][0].out_channels for booster in network.boosters] == [128] * 4
    assert (network.stride, network.output_stride) == (32, 8)


def test_it_has_as_many_weights_as_the_known_reimplementations():
    network = build_network("bisenetv2", classes=19)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    # Of the layers in mmsegmentation and in CoinCheung's BiSeNet: 3,358,627, where in the context embedding the
    # first normalisation has weights (256), and the last convolution has one (256) after it and no bias (128).
    assert sum(counts.values()) - counts["boosters"] == 3_358_627 - 256 - 256 + 128
    assert counts["detail"] == 519_232


def test_boosters_compute_nothing_in_evaluation():
    network = built("bisenetv2", **NARROW)
    seen = []
    for booster in network.boosters:
        booster.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2:]))
    network(images(2, 3, 64, 96))
    assert seen == [(16, 24), (8, 12), (4, 6), (2, 3)]
    seen.clear()
    network.eval()(images(1, 3, 64, 96))
    assert seen == []
    for parameter in network.boosters.parameters():
        parameter.data.fill_(float("nan"))
    assert network(images(1, 3, 64, 96)).isfinite().all()


@pytest.mark.parametrize("width", [0.25, 0.3, 1, 2.0])
def test_width_widens_both_branches(width):
    network = built("bisenetv2", width=width, head_channels=8)
    convs = [m for m in network.detail.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [round(64 * width)] * 5 + [round(128 * width)] * 3
    assert [stage[0].body[0][0].in_channels for stage in network.stages] == [round(c * width) for c in (16, 32, 64)]
    assert network.eval()(images(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_pooled_normalisation_is_batch_normalisation_but_for_a_single_image():
    ours, theirs = PooledNorm(6), nn.BatchNorm2d(6)
    for batch in (5, 2):
        x = 3 * images(batch, 6, 1, 1) + 1
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    single = images(1, 6, 1, 1)
    torch.testing.assert_close(ours(single), theirs.eval()(single), rtol=0, atol=0)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(ours.eval()(single), theirs(single), rtol=0, atol=0)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        theirs.train()(single)


def test_a_single_image_trains_the_context_embedding():
    module = ContextEmbedding(8)
    x = images(1, 8, 3, 3).requires_grad_()
    module(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert module.pooled[2].weight.grad.any()


@pytest.mark.parametrize("size", [(64, 64), (65, 71)])
def test_a_single_small_image_is_learned(size):
    network = built("bisenetv2", **NARROW)
    x = images(1, 3, *size)
    truth = (F.avg_pool2d(x[:, :1], 17, 1, 8) > 0).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        output = network(x)
        parts = [output.logits, *(a.logits for a in output.auxiliary)]
        loss = sum(F.binary_cross_entropy_with_logits(part, truth) for part in parts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


REFUSED = [
    ({"width": 0}, "width is from 0.25 to 4.0, not 0"),
    ({"width": 8}, "width is from 0.25 to 4.0, not 8"),
    ({"width": float("nan")}, "width is from 0.25 to 4.0, not nan"),
    ({"width": "wide"}, "width is from 0.25 to 4.0, not 'wide'"),
    ({"width": True}, "width is from 0.25 to 4.0, not True"),
    ({"head_channels": 0}, "head_channels is a whole number, 1 or more, not 0"),
    ({"encoder": "resnet18"}, "bisenetv2 has no encoder to choose"),
    ({"encoder_weights": "imagenet"}, "bisenetv2 has no encoder to choose"),
    ({"boosters": False}, "bisenetv2 has no option 'boosters': valid are width, head_channels"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_built_is_refused_in_one_line(arguments, message):
    with pytest.raises(OptionError, match=message) as caught:
        build_network("bisenetv2", **arguments)
    assert "\n" not in str(caught.value)
