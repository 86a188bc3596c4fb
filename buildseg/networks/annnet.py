"""ANNNet: a dilated residual network under asymmetric fusion and asymmetric pyramid attention.

Source: Zhu, Xu, Bai, Huang and Bai, "Asymmetric Non-local Neural Networks for Semantic Segmentation",
arXiv:1908.07678.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from buildseg.attention import AsymmetricFusionAttention, AsymmetricPyramidAttention
from buildseg.networks.base import SegmentationNetwork
from buildseg.networks.dilated_resnet import OUTPUT_STRIDE, dilated_resnet
from buildseg.networks.encoders import Encoder
from buildseg.networks.layers import conv_bn_relu, resized_logits
from buildseg.networks.output import AuxiliaryLogits, NetworkOutput
from buildseg.option_values import share

AUXILIARY_WEIGHT = 0.4


class ANNNet(SegmentationNetwork):
    """ANNNet at output stride 8, with an auxiliary loss on the last but one stage in training."""

    stride = OUTPUT_STRIDE

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        *,
        multi_grid: Sequence[int] = (2, 4, 4),
        dropout: float = 0.05,
    ) -> None:
        """Make the network.

        Args:
            encoder: A ResNet of segmentation-models-pytorch; the article uses resnet101.
            classes: Channels of the logits.
            multi_grid: Dilations of the last stage's three blocks; the default is the plain dilated ResNet.
            dropout: Share of channels dropped in training after each attention and before the auxiliary
                classifier, 0 to below 1.

        Raises:
            OptionError: The encoder is no ResNet, or an option's value is out of range.
            WeightsError: The encoder's weights cannot be had.
        """
        super().__init__()
        share("dropout", dropout)
        self.encoder = dilated_resnet(encoder, multi_grid, "annnet")
        low, high = self.encoder.out_channels[-2:]
        inner = high // 4
        self.fusion = AsymmetricFusionAttention(low, high, dropout=dropout)
        self.reduce = conv_bn_relu(high, inner, 3)
        self.pyramid = AsymmetricPyramidAttention(inner, dropout=dropout)
        self.classifier = nn.Conv2d(inner, classes, 1)
        self.auxiliary = nn.Sequential(
            conv_bn_relu(low, low // 2, 3), nn.Dropout2d(dropout), nn.Conv2d(low // 2, classes, 1)
        )

    def predict(self, x: Tensor) -> NetworkOutput:
        """Compute logits.

        Args:
            x: Images, (N, in_channels, H, W), H and W multiples of 8.

        Returns:
            Logits, (N, classes, H, W); in training also those of the last but one stage, of weight 0.4.
        """
        low, high = self.encoder(x)[-2:]
        features = self.pyramid(self.reduce(self.fusion(low, high)))
        logits = resized_logits(self.classifier(features), like=x)
        if not self.training:
            return NetworkOutput(logits)
        return NetworkOutput(logits, (AuxiliaryLogits(resized_logits(self.auxiliary(low), like=x), AUXILIARY_WEIGHT),))
