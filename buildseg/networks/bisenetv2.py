"""BiSeNetV2: a wide and shallow branch for details, a narrow and deep one for semantics, each gating the other.

Source: Yu, Gao, Wang, Yu, Shen and Sang, "BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time
Semantic Segmentation", arXiv:2004.02147, table 1 and figures 3 to 7. As in the figures, depthwise convolutions and
the sum of the aggregation are normalised and not rectified (of the known re-implementations PaddleSeg's keeps to
that, others add a ReLU).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buildseg.networks.base import SegmentationNetwork
from buildseg.networks.layers import conv_bn_relu, resized, resized_logits
from buildseg.networks.output import AuxiliaryLogits, NetworkOutput
from buildseg.option_values import whole_number
from tiling.errors import OptionError

DETAIL = (64, 64, 128)
SEMANTIC = (16, 32, 64, 128)
LAYERS = (2, 2, 4)
EXPANSION = 6
BOOSTER_CHANNELS = 128
BOOSTER_WEIGHT = 1.0
WIDTHS = (0.25, 4.0)


class BiSeNetV2(SegmentationNetwork):
    """BiSeNetV2, with a booster head on each stage of the semantic branch in training and in training only."""

    stride = 32

    def __init__(self, in_channels: int, classes: int, *, width: float = 1.0, head_channels: int = 1024) -> None:
        """Make the network.

        Args:
            in_channels: Bands of the input.
            classes: Channels of the logits.
            width: Factor of the channels of both branches, the article's alpha, 0.25 to 4; its large network has 2.
            head_channels: Channels between the two convolutions of the head; the article leaves them open.

        Raises:
            OptionError: An option's value is out of range.
        """
        super().__init__()
        detail, semantic = _widened(DETAIL, width), _widened(SEMANTIC, width)
        inner = whole_number("head_channels", head_channels)
        self.detail = _detail_branch(in_channels, detail)
        self.stem = Stem(in_channels, semantic[0])
        self.stages = nn.ModuleList(
            _stage(channels, out, layers) for (channels, out), layers in zip(pairwise(semantic), LAYERS, strict=True)
        )
        self.context = ContextEmbedding(semantic[-1])
        self.aggregation = GuidedAggregation(detail[-1])
        self.head = _head(detail[-1], inner, classes)
        self.boosters = nn.ModuleList(_head(channels, BOOSTER_CHANNELS, classes) for channels in semantic)

    @property
    def output_stride(self) -> int:
        """How many times coarser than the image the features are that the network's head starts from."""
        return 8

    def predict(self, x: Tensor) -> NetworkOutput:
        """Compute logits.

        Args:
            x: Images, (N, in_channels, H, W), H and W multiples of 32.

        Returns:
            Logits, (N, classes, H, W); in training also those of the four boosters, of weight 1.
        """
        semantic = [self.stem(x)]
        for stage in self.stages:
            semantic.append(stage(semantic[-1]))
        logits = self.head(self.aggregation(self.detail(x), self.context(semantic[-1])))
        boosted = (
            [head(features) for head, features in zip(self.boosters, semantic, strict=True)] if self.training else []
        )
        auxiliary = (AuxiliaryLogits(resized_logits(b, like=x), BOOSTER_WEIGHT) for b in boosted)
        return NetworkOutput(resized_logits(logits, like=x), tuple(auxiliary))


class Stem(nn.Module):
    """Start of the semantic branch: a quarter of the image by a convolution and by a pool (figure 4a)."""

    def __init__(self, channels: int, out: int) -> None:
        """Make the module.

        Args:
            channels: Channels of the input.
            out: Channels of the output.
        """
        super().__init__()
        self.first = conv_bn_relu(channels, out, 3, stride=2)
        self.convolved = nn.Sequential(conv_bn_relu(out, out // 2), conv_bn_relu(out // 2, out, 3, stride=2))
        self.pooled = nn.MaxPool2d(3, 2, 1)
        self.fuse = conv_bn_relu(2 * out, out, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Compute features.

        Args:
            x: Images, (N, channels, H, W).

        Returns:
            Features, (N, out, H/4, W/4).
        """
        halved = self.first(x)
        fused: Tensor = self.fuse(torch.cat([self.convolved(halved), self.pooled(halved)], dim=1))
        return fused


class GatherExpansion(nn.Module):
    """Gather-and-expansion layer: a convolution, a depthwise one to six times the channels, 1x1 back (figure 5)."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        """Make the module.

        Args:
            channels: Channels of the input.
            out: Channels of the output; at stride 1 those of the input.
            stride: 1 or 2; at 2 a second depthwise convolution follows, and the shortcut is a separable one.
        """
        super().__init__()
        wide = EXPANSION * channels
        expand = [_conv_bn(channels, wide, 3, stride=stride, groups=channels)]
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            expand.append(_conv_bn(wide, wide, 3, groups=wide))
            depthwise = _conv_bn(channels, channels, 3, stride=stride, groups=channels)
            self.shortcut = nn.Sequential(depthwise, _conv_bn(channels, out))
        self.body = nn.Sequential(conv_bn_relu(channels, channels, 3), *expand, _conv_bn(wide, out))

    def forward(self, x: Tensor) -> Tensor:
        """Compute features.

        Args:
            x: Features, (N, channels, H, W).

        Returns:
            Features, (N, out, H / stride, W / stride).
        """
        return F.relu(self.body(x) + self.shortcut(x))


class ContextEmbedding(nn.Module):
    """End of the semantic branch: what the whole image looks like is added to every position (figure 4b).

    The first normalisation has no weights of its own: the convolution after it takes up any scale, and the
    second normalisation cancels any shift, so that one would never learn.
    """

    def __init__(self, channels: int) -> None:
        """Make the module.

        Args:
            channels: Channels of the input and of the output.
        """
        super().__init__()
        self.pooled = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            PooledNorm(channels, affine=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            PooledNorm(channels),
            nn.ReLU(inplace=True),
        )
        self.fuse = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Add the context.

        Args:
            x: Features, (N, channels, H, W).

        Returns:
            Features, (N, channels, H, W).
        """
        fused: Tensor = self.fuse(self.pooled(x) + x)
        return fused


class PooledNorm(nn.BatchNorm2d):
    """Batch normalisation of features that were pooled to one position.

    A single image has no variance there, which batch normalisation refuses to train on. Its features are
    normalised with the running statistics, as in evaluation, and leave these as they are; all other batches, and
    evaluation, are those of `BatchNorm2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise features.

        Args:
            x: Features, (N, C, 1, 1).

        Returns:
            Features, (N, C, 1, 1).
        """
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class GuidedAggregation(nn.Module):
    """Bilateral guided aggregation: the details gated by the semantics, and the other way round (figure 6).

    out = conv(keep(d) * sigmoid(up(widen(s))) + up(shrink(d) * sigmoid(guide(s)))), where d are the details at an
    eighth of the image, s the semantics at a thirty-second, and up resamples bilinearly from s to d.
    """

    def __init__(self, channels: int) -> None:
        """Make the module.

        Args:
            channels: Channels of both inputs and of the output.
        """
        super().__init__()
        self.keep = _separable(channels)
        self.shrink = nn.Sequential(_conv_bn(channels, channels, 3, stride=2), nn.AvgPool2d(3, 2, 1))
        self.widen = _conv_bn(channels, channels, 3)
        self.guide = _separable(channels)
        self.conv = _conv_bn(channels, channels, 3)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        """Bring both branches together.

        Args:
            detail: Features, (N, channels, H/8, W/8).
            semantic: Features, (N, channels, H/32, W/32).

        Returns:
            Features, (N, channels, H/8, W/8).
        """
        fine = self.keep(detail) * resized(self.widen(semantic), like=detail).sigmoid()
        coarse = self.shrink(detail) * self.guide(semantic).sigmoid()
        aggregated: Tensor = self.conv(fine + resized(coarse, like=detail))
        return aggregated


def _widened(channels: Sequence[int], width: float) -> list[int]:
    least, most = WIDTHS
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not least <= width <= most:
        raise OptionError(f"width is from {least} to {most}, not {width!r}")
    return [round(count * width) for count in channels]


def _detail_branch(bands: int, channels: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for out, count in zip(channels, (2, 3, 3), strict=True):
        layers += [conv_bn_relu(bands, out, 3, stride=2), *(conv_bn_relu(out, out, 3) for _ in range(1, count))]
        bands = out
    return nn.Sequential(*layers)


def _stage(channels: int, out: int, layers: int) -> nn.Sequential:
    return nn.Sequential(
        GatherExpansion(channels, out, stride=2), *(GatherExpansion(out, out) for _ in range(1, layers))
    )


def _head(channels: int, inner: int, classes: int) -> nn.Sequential:
    return nn.Sequential(conv_bn_relu(channels, inner, 3), nn.Conv2d(inner, classes, 1))


def _separable(channels: int) -> nn.Sequential:
    depthwise = _conv_bn(channels, channels, 3, groups=channels)
    return nn.Sequential(depthwise, nn.Conv2d(channels, channels, 1, bias=False))


def _conv_bn(channels: int, out: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv, norm, _ = conv_bn_relu(channels, out, kernel, stride=stride, groups=groups)
    return nn.Sequential(conv, norm)
