"""LR-ASPP: a dilated MobileNetV3 under the lightest of heads.

Source: Howard, Sandler, Chu and others, "Searching for MobileNetV3", arXiv:1905.02244, section 6.4 and figure 10.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large, mobilenet_v3_small  # type: ignore[import-untyped]

from buildseg.networks.base import SegmentationNetwork
from buildseg.networks.encoders import REMEDY, Encoder, load_encoder_weights
from buildseg.networks.layers import conv_bn_relu, resized_logits
from buildseg.networks.output import NetworkOutput
from buildseg.option_values import flag
from tiling.errors import OptionError, WeightsError

HEAD_CHANNELS = 128

# For each encoder its builder, and which of its layers is the first at an eighth of the image.
_BACKBONES = {
    "tu-mobilenetv3_large_100": (mobilenet_v3_large, 4),
    "tu-mobilenetv3_small_100": (mobilenet_v3_small, 2),
}


class LRASPP(SegmentationNetwork):
    """LR-ASPP at output stride 16; with the large encoder it is torchvision's `lraspp_mobilenet_v3_large`.

    logits = high_classifier(cbr(high) * scale(high)) + low_classifier(low), high at a sixteenth of the image and
    low at an eighth, where the first summand is brought before they are added up.

    torchvision brings the 128 channels to an eighth and classifies them there. A 1x1 convolution and bilinear
    resampling, whose weights add up to one, commute: here the few logits are resampled, with the same result.
    The article pools over windows of 49 x 49 features, which takes images of 784 pixels and more; here and in
    torchvision the pool is global.
    """

    stride = 16

    def __init__(self, encoder: Encoder, classes: int, *, reduced_tail: bool = False) -> None:
        """Make the network.

        Args:
            encoder: tu-mobilenetv3_large_100 or tu-mobilenetv3_small_100.
            classes: Channels of the logits.
            reduced_tail: Whether the encoder's last stage has half of its channels; no imagenet weights fit it.

        Raises:
            OptionError: The encoder is another, or an option's value is out of range.
            WeightsError: The encoder's weights cannot be had, or do not fit a reduced tail.
        """
        super().__init__()
        self.encoder = DilatedMobileNetV3(encoder, flag("reduced_tail", reduced_tail))
        low, high = self.encoder.out_channels
        self.cbr = conv_bn_relu(high, HEAD_CHANNELS)
        gate = nn.Conv2d(high, HEAD_CHANNELS, 1, bias=False)
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), gate, nn.Sigmoid())
        self.low_classifier = nn.Conv2d(low, classes, 1)
        self.high_classifier = nn.Conv2d(HEAD_CHANNELS, classes, 1)

    def predict(self, x: Tensor) -> NetworkOutput:
        """Compute logits.

        Args:
            x: Images, (N, in_channels, H, W), H and W multiples of 16.

        Returns:
            Logits, (N, classes, H, W).
        """
        low, high = self.encoder(x)
        coarse = self.high_classifier(self.cbr(high) * self.scale(high))
        logits = resized_logits(coarse, like=low) + self.low_classifier(low)
        return NetworkOutput(resized_logits(logits, like=x))


class DilatedMobileNetV3(nn.Module):
    """torchvision's MobileNetV3 whose last stage, from its first layer on, is dilated by two instead of strided.

    Its weights can be those of timm's MobileNetV3, which has the same layers in the same order, of torchvision's,
    or its own. It takes any number of bands, and its running statistics follow the last tens of steps (momentum
    0.1) where torchvision's follow the last hundreds (0.01), more than training on one's own imagery may last:
    after 200 steps from random weights those found no building.

    Attributes:
        out_channels: Channels of the low and of the high features.
    """

    def __init__(self, encoder: Encoder, reduced_tail: bool) -> None:
        """Make the encoder.

        Args:
            encoder: Which, for how many bands, with which weights.
            reduced_tail: Whether the last stage has half of its channels.

        Raises:
            OptionError: The encoder is no MobileNetV3 of the two.
            WeightsError: The weights cannot be had, or do not fit a reduced tail.
        """
        super().__init__()
        architecture = encoder.name.partition(".")[0]  # timm puts a tag of the weights behind it
        if architecture not in _BACKBONES:
            raise OptionError(f"lraspp needs {' or '.join(_BACKBONES)} as encoder, not {encoder.name!r}")
        build, self._low = _BACKBONES[architecture]
        norm = partial(nn.BatchNorm2d, eps=1e-3)
        self.features = build(dilated=True, reduced_tail=reduced_tail, norm_layer=norm).features
        if encoder.in_channels != 3:
            self.features[0][0] = _first_convolution(encoder.in_channels, self.features[0].out_channels)
        self.out_channels = (self.features[self._low].out_channels, self.features[-1].out_channels)
        if encoder.weights is not None and encoder.weights != "none":
            self._load(encoder, reduced_tail)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features.

        Args:
            x: Images, (N, bands, H, W).

        Returns:
            The low features, (N, 40 or 24, H/8, W/8), and the high ones, (N, 960 or 576, H/16, W/16); with a
            reduced tail half as many high ones.
        """
        low = x
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index == self._low:
                low = x
        return low, x

    def _load(self, encoder: Encoder, reduced_tail: bool) -> None:
        whole = "or leave out reduced_tail, which halves layers that such weights hold whole"
        if encoder.weights == "imagenet":
            if reduced_tail:
                raise WeightsError(f"no imagenet weights fit a reduced tail: {REMEDY}, {whole}")
        else:
            try:
                load_encoder_weights(self, Path(str(encoder.weights)), encoder.in_channels)
            except WeightsError as error:
                if reduced_tail:
                    raise WeightsError(f"{error}, {whole}") from error
            else:
                return
        self._copy(encoder.build())

    @torch.no_grad()
    def _copy(self, twin: nn.Module) -> None:
        """Copy the weights of timm's MobileNetV3, so that each layer computes what it does there."""
        for ours, theirs in zip(self.state_dict().values(), twin.state_dict().values(), strict=True):
            ours.copy_(theirs)
        for norm, other in zip(_norms(self), _norms(twin), strict=True):
            # timm adds 1e-5 to the variance, not 1e-3: left alone, channels that hardly vary would fade.
            variance = norm.get_buffer("running_var")
            norm.weight.mul_(torch.sqrt((variance + norm.eps) / (variance + other.eps)))


def _first_convolution(bands: int, channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(bands, channels, 3, 2, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return conv


def _norms(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    return (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
