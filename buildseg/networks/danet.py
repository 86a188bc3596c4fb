"""DANet: a dilated residual network under position and channel attention.

Source: Fu, Liu, Tian and others, "Dual Attention Network for Scene Segmentation", arXiv:1809.02983.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from torch import Tensor, nn

from buildseg.attention import ChannelAttention, PositionAttention
from buildseg.attention.dual import ChannelForm
from buildseg.networks.base import SegmentationNetwork, positive_numbers
from buildseg.networks.encoders import Encoder
from buildseg.networks.output import AuxiliaryLogits, NetworkOutput
from tiling.errors import OptionError

OUTPUT_STRIDE = 8


class DANet(SegmentationNetwork):
    """DANet at output stride 8, with three losses of equal weight in training."""

    stride = OUTPUT_STRIDE

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        *,
        multi_grid: Sequence[int] = (4, 8, 16),
        form: ChannelForm = "official",
        dropout: float = 0.1,
    ) -> None:
        """Make the network.

        Args:
            encoder: A ResNet of segmentation-models-pytorch; the article uses resnet50 and resnet101.
            classes: Channels of the logits.
            multi_grid: Dilations of the last stage's blocks, three of them (two for resnet18).
            form: Form of the channel attention, "paper" or "official".
            dropout: Share of channels dropped before each classifier in training, 0 to below 1.

        Raises:
            OptionError: The encoder is no ResNet, or an option's value is out of range.
            WeightsError: The encoder's weights cannot be had.
        """
        super().__init__()
        if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise OptionError(f"dropout is from 0 to below 1, not {dropout!r}")
        self.encoder = encoder.build(depth=5)
        _dilate(self.encoder, encoder.name, multi_grid)
        deepest = self.encoder.out_channels[-1]
        inner = deepest // 4
        self.position = _branch(deepest, inner, PositionAttention(inner))
        self.channel = _branch(deepest, inner, ChannelAttention(inner, form))
        self.heads = nn.ModuleList(nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(inner, classes, 1)) for _ in range(3))

    def predict(self, x: Tensor) -> NetworkOutput:
        """Compute logits.

        Args:
            x: Images, (N, in_channels, H, W), H and W multiples of 8.

        Returns:
            Logits, (N, classes, H, W); in training also those of each branch, of weight 1.
        """
        features = self.encoder(x)[-1]
        position, channel = self.position(features), self.channel(features)
        branches = [position + channel, position, channel] if self.training else [position + channel]
        logits, *auxiliary = (
            F.interpolate(head(branch), size=x.shape[2:], mode="bilinear", align_corners=False)
            for head, branch in zip(self.heads, branches, strict=False)
        )
        return NetworkOutput(logits, tuple(AuxiliaryLogits(a, 1.0) for a in auxiliary))


def _branch(channels: int, inner: int, attention: nn.Module) -> nn.Sequential:
    return nn.Sequential(*_conv3x3(channels, inner), attention, *_conv3x3(inner, inner))


def _conv3x3(channels: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def _dilate(encoder: nn.Module, name: str, multi_grid: Sequence[int]) -> None:
    """Turn the strides of the last two stages into dilations, in place."""
    if not isinstance(encoder, ResNetEncoder):
        raise OptionError(f"danet needs a ResNet such as resnet50 or resnet101 as encoder, not {name!r}")
    grid = positive_numbers("multi_grid", multi_grid, len(encoder.layer4), len(encoder.layer4))
    # The first block of a stage keeps the dilation of the stage before it, so that no sample is skipped.
    dilations = (1,) + (2,) * (len(encoder.layer3) - 1)
    for stage, rates in ((encoder.layer3, dilations), (encoder.layer4, grid)):
        for block, rate in zip(stage, rates, strict=True):
            for conv in block.modules():
                if isinstance(conv, nn.Conv2d):
                    conv.stride = (1, 1)
                    if conv.kernel_size == (3, 3):
                        conv.dilation = conv.padding = (rate, rate)
