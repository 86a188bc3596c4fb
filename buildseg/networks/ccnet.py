"""CCNet: a dilated residual network under recurrent criss-cross attention.

Source: Huang, Wang, Wei and others, "CCNet: Criss-Cross Attention for Semantic Segmentation", arXiv:1811.11721.
Options: atrous spatial pyramid pooling, Chen and others, arXiv:1706.05587; weight standardisation, Qiao and
others, arXiv:1903.10520.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from buildseg.attention import RecurrentCrissCrossAttention
from buildseg.networks.base import SegmentationNetwork
from buildseg.networks.dilated_resnet import OUTPUT_STRIDE, dilated_resnet
from buildseg.networks.encoders import Encoder
from buildseg.networks.layers import resized_logits
from buildseg.networks.output import AuxiliaryLogits, Embedding, NetworkOutput
from buildseg.option_values import flag

AUXILIARY_WEIGHT = 0.4
DROPOUT = 0.1
EMBEDDING_CHANNELS = 16
RATES = (6, 12, 18)


class CCNet(SegmentationNetwork):
    """CCNet at output stride 8, with an auxiliary loss on the last stage but one in training."""

    stride = OUTPUT_STRIDE

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        *,
        multi_grid: Sequence[int] = (4, 4, 4),
        recurrence: int = 2,
        aspp: bool = False,
        weight_standardisation: bool = False,
        category_consistent: bool = False,
    ) -> None:
        """Make the network.

        Args:
            encoder: A ResNet of segmentation-models-pytorch; the article uses resnet101.
            classes: Channels of the logits.
            multi_grid: Dilations of the last stage's three blocks.
            recurrence: Passes of the criss-cross attention: 1, 2 or 3.
            aspp: Whether atrous spatial pyramid pooling stands beside the attention.
            weight_standardisation: Whether the weights of the head's normalised convolutions are standardised.
            category_consistent: Whether training gets an embedding for the category-consistent loss.

        Raises:
            OptionError: The encoder is no ResNet, or an option's value is out of range.
            WeightsError: The encoder's weights cannot be had.
        """
        super().__init__()
        conv = StandardizedConv2d if flag("weight_standardisation", weight_standardisation) else nn.Conv2d
        self.encoder = dilated_resnet(encoder, multi_grid, "ccnet")
        middle, deepest = self.encoder.out_channels[-2:]
        inner = deepest // 4
        self.reduce = _normed(conv(deepest, inner, 3, padding=1, bias=False))
        self.attention = RecurrentCrissCrossAttention(inner, recurrence)
        self.refine = _normed(conv(inner, inner, 3, padding=1, bias=False))
        self.aspp = PyramidPooling(deepest, inner // 2, conv) if flag("aspp", aspp) else None
        fused = deepest + inner + (inner // 2 if aspp else 0)
        self.fuse = _normed(conv(fused, inner, 3, padding=1, bias=False))
        self.classify = nn.Sequential(nn.Dropout2d(DROPOUT), nn.Conv2d(inner, classes, 1))
        self.auxiliary = nn.Sequential(
            _normed(nn.Conv2d(middle, middle // 2, 3, padding=1, bias=False)),
            nn.Dropout2d(DROPOUT),
            nn.Conv2d(middle // 2, classes, 1),
        )
        embeds = flag("category_consistent", category_consistent)
        self.embed = nn.Conv2d(inner, EMBEDDING_CHANNELS, 1) if embeds else None

    def predict(self, x: Tensor) -> NetworkOutput:
        """Compute logits.

        Args:
            x: Images, (N, in_channels, H, W), H and W multiples of 8.

        Returns:
            Logits, (N, classes, H, W); in training also those of the last stage but one, of weight 0.4, and, if
            asked for, 16 channels of the attended features, of weight 1.
        """
        middle, deepest = self.encoder(x)[-2:]
        attended = self.attention(self.reduce(deepest))
        branches = [deepest, self.refine(attended)]
        if self.aspp is not None:
            branches.append(self.aspp(deepest))
        logits = resized_logits(self.classify(self.fuse(torch.cat(branches, dim=1))), like=x)
        if not self.training:
            return NetworkOutput(logits)
        auxiliary = AuxiliaryLogits(resized_logits(self.auxiliary(middle), like=x), AUXILIARY_WEIGHT)
        embedding = None if self.embed is None else Embedding(self.embed(attended), self.stride, 1.0)
        return NetworkOutput(logits, (auxiliary,), embedding)


class PyramidPooling(nn.Module):
    """Atrous spatial pyramid pooling, ASPP (arXiv:1706.05587, section 3.3).

    A 1x1 convolution, three 3x3 ones of dilation 6, 12 and 18, and the mean of the whole map, concatenated and
    reduced by a 1x1. The mean is a single position: it is normalised over its channels, since there is no
    batch statistic of one position of one image.
    """

    def __init__(self, channels: int, out: int, conv: type[nn.Conv2d] = nn.Conv2d) -> None:
        """Make the module.

        Args:
            channels: Channels of the input.
            out: Channels of each branch and of the output.
            conv: The class of the convolutions.
        """
        super().__init__()
        dilated = (_normed(conv(channels, out, 3, padding=rate, dilation=rate, bias=False)) for rate in RATES)
        self.local = nn.ModuleList([_normed(conv(channels, out, 1, bias=False)), *dilated])
        self.whole = nn.Sequential(conv(channels, out, 1, bias=False), nn.GroupNorm(1, out), nn.LeakyReLU(0.01))
        self.project = _normed(conv((len(RATES) + 2) * out, out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Look at several distances.

        Args:
            x: Features, (N, channels, H, W).

        Returns:
            Features, (N, out, H, W).
        """
        whole = self.whole(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        out: Tensor = self.project(torch.cat([*(branch(x) for branch in self.local), whole], dim=1))
        return out


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose weights are standardised (arXiv:1903.10520, equation 7).

    Per output channel they have mean 0 and variance 1, divided by the fan-in as in arXiv:2101.08692: the
    normalisation that follows takes no notice of that, and features keep their size on the way to it. The small
    number in the root keeps weights that are all alike at 0, a single one included.
    """

    EPSILON = 1e-8

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: Features, (N, in_channels, H, W).

        Returns:
            Features, (N, out_channels, H', W').
        """
        weight = self.weight.to(torch.promote_types(self.weight.dtype, torch.float32))
        centred = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
        variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)
        scale = ((variance + self.EPSILON) * weight[0].numel()).rsqrt()
        out: Tensor = self._conv_forward(x, (centred * scale).to(self.weight.dtype), self.bias)
        return out


def _normed(conv: nn.Conv2d) -> nn.Sequential:
    """A convolution, batch normalisation and leaky ReLU."""
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.LeakyReLU(0.01, inplace=True))
