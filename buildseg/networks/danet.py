"""DANet: a dilated residual network under position and channel attention.

Source: Fu, Liu, Tian and others, "Dual Attention Network for Scene Segmentation", arXiv:1809.02983.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from buildseg.attention import ChannelAttention, PositionAttention
from buildseg.attention.dual import ChannelForm
from buildseg.networks.base import SegmentationNetwork
from buildseg.networks.dilated_resnet import OUTPUT_STRIDE, dilated_resnet
from buildseg.networks.encoders import Encoder
from buildseg.networks.layers import conv_bn_relu, resized_logits
from buildseg.networks.output import AuxiliaryLogits, NetworkOutput
from buildseg.option_values import share


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
            multi_grid: Dilations of the encoder's last three blocks.
            form: Formula of the channel attention: that of the "paper" or that of the authors' code, "official".
            dropout: Share of channels dropped before each classifier in training, 0 to below 1.

        Raises:
            OptionError: The encoder is no ResNet, or an option's value is out of range.
            WeightsError: The encoder's weights cannot be had.
        """
        super().__init__()
        share("dropout", dropout)
        self.encoder = dilated_resnet(encoder, multi_grid, "danet")
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
        logits, *auxiliary = (resized_logits(head(b), like=x) for head, b in zip(self.heads, branches, strict=False))
        return NetworkOutput(logits, tuple(AuxiliaryLogits(a, 1.0) for a in auxiliary))


def _branch(channels: int, inner: int, attention: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv_bn_relu(channels, inner, 3), attention, conv_bn_relu(inner, inner, 3))
