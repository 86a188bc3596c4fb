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
        if self.encoder.phased:
            coarse = _from_phases(coarse)
        logits = resized_logits(coarse, like=low) + self.low_classifier(low)
        return NetworkOutput(resized_logits(logits, like=x))

    def dilate_in_phases(self) -> None:
        """From now on dilate by what is quicker, with the same result: see `DilatedMobileNetV3`.

        Images are then filled up to multiples of 32.
        """
        self.stride = 32
        self.encoder.dilate_in_phases()


class DilatedMobileNetV3(nn.Module):
    """torchvision's MobileNetV3 whose last stage, from its first layer on, is dilated by two instead of strided.

    Its weights can be those of timm's MobileNetV3, which has the same layers in the same order, of torchvision's,
    or its own. It takes any number of bands, and its running statistics follow the last tens of steps (momentum
    0.1) where torchvision's follow the last hundreds (0.01), more than training on one's own imagery may last:
    after 200 steps from random weights those found no building.

    A convolution dilated by two is one that is not, on each of the four images of every second row and column (Chen
    and others, "DeepLab", arXiv:1606.00915, section 3.1). Layers between such convolutions look at single positions or
    at all, so that the phases can stay apart from the first to the head: `dilate_in_phases`.

    Attributes:
        low: Which of the layers gives the low features.
        out_channels: Channels of the low and of the high features.
        phased: Whether the high features are the four phases, one below the other.
    """

    phased = False

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
        build, self.low = _BACKBONES[architecture]
        norm = partial(nn.BatchNorm2d, eps=1e-3)
        self.features = build(dilated=True, reduced_tail=reduced_tail, norm_layer=norm).features
        if encoder.in_channels != 3:
            self.features[0][0] = _first_convolution(encoder.in_channels, self.features[0].out_channels)
        self._dilated = [index for index, layer in enumerate(self.features) if _dilated_in(layer)]
        self.out_channels = (self.features[self.low].out_channels, self.features[-1].out_channels)
        if encoder.weights is not None and encoder.weights != "none":
            self._load(encoder, reduced_tail)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features.

        Args:
            x: Images, (N, bands, H, W).

        Returns:
            The low features, (N, 40 or 24, H/8, W/8), and the high ones, (N, 960 or 576, H/16, W/16); with a
            reduced tail half as many high ones. In phases the latter are (N, ..., H/8, W/32), H and W multiples of 32.
        """
        low = x
        for index, layer in enumerate(self.features):
            if self.phased and index == self._dilated[0]:
                x = _to_phases(x)
            x = layer(x)
            if index == self.low:
                low = x
        return low, x

    def dilate_in_phases(self) -> None:
        """From now on take the phases apart where the dilation begins, and leave them so."""
        self.phased = True
        for index in self._dilated:
            block = self.features[index].block
            for place, part in enumerate(block):
                for convolution in _dilated_in(part):
                    above, beside = (int(side) // 2 for side in convolution.padding)
                    convolution.padding, convolution.dilation = (above, beside), (1, 1)
                    block[place] = _OnPhases(*part)

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


class _OnPhases(nn.Sequential):
    """Layers that look at each phase alone."""

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, H, W), four phases one below the other, to the same."""
        count, channels, rows, cols = x.shape
        apart = x.permute(0, 2, 3, 1).reshape(4 * count, rows // 4, cols, channels).permute(0, 3, 1, 2)
        for layer in self:
            apart = layer(apart)
        return apart.permute(0, 2, 3, 1).reshape(count, rows, cols, -1).permute(0, 3, 1, 2)


def _to_phases(x: Tensor) -> Tensor:
    """From (N, C, H, W) to (N, C, 2H, W/2)."""
    count, channels, rows, cols = x.shape
    split = x.reshape(count, channels, rows // 2, 2, cols // 2, 2)
    return split.permute(0, 3, 5, 2, 4, 1).reshape(count, 2 * rows, cols // 2, channels).permute(0, 3, 1, 2)


def _from_phases(x: Tensor) -> Tensor:
    """From (N, C, 2H, W/2) to (N, C, H, W)."""
    count, channels, rows, cols = x.shape
    split = x.reshape(count, channels, 2, 2, rows // 4, cols)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(count, channels, rows // 2, 2 * cols)


def _dilated_in(layer: nn.Module) -> list[nn.Conv2d]:
    return [part for part in layer.modules() if isinstance(part, nn.Conv2d) and part.dilation != (1, 1)]


def _first_convolution(bands: int, channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(bands, channels, 3, 2, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return conv


def _norms(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    return (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
