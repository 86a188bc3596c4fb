"""U-Net, and U-Nets with polarized or dual attention.

Sources: Ronneberger, Fischer and Brox, arXiv:1505.04597; polarized self-attention arXiv:2107.00782; dual
attention arXiv:1809.02983. The encoders and the decoder are those of segmentation-models-pytorch.
"""

from collections.abc import Sequence
from typing import Literal, get_args

from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor

from buildseg.attention import DualAttention, PolarizedSelfAttention
from buildseg.attention.dual import ChannelForm
from buildseg.attention.polarized import Form, Layout
from buildseg.networks.base import SegmentationNetwork
from buildseg.networks.encoders import Encoder
from buildseg.networks.output import NetworkOutput
from buildseg.option_values import flag, one_of, positive_numbers

Place = Literal["decoder", "bottleneck", "both"]
CHANNELS = (256, 128, 64, 32, 16)


class UNet(SegmentationNetwork):
    """U-Net: its weights and its result are those of segmentation-models-pytorch's `Unet`."""

    def __init__(self, encoder: Encoder, classes: int, *, decoder_channels: Sequence[int] = CHANNELS) -> None:
        """Make the network.

        Args:
            encoder: Which encoder.
            classes: Channels of the logits.
            decoder_channels: Channels after each of the decoder's blocks, deepest first; as many blocks, 3 to
                5, as times the encoder halves the image.

        Raises:
            OptionError: The encoder is unknown or the channels are no 3 to 5 positive numbers.
            WeightsError: The encoder's weights cannot be had.
        """
        super().__init__()
        channels = positive_numbers("decoder_channels", decoder_channels, 3, 5)
        self.stride = 2 ** len(channels)
        self.encoder = encoder.build(depth=len(channels))
        self.decoder = UnetDecoder(
            encoder_channels=self.encoder.out_channels,
            decoder_channels=channels,
            n_blocks=len(channels),
            add_center_block=encoder.name.startswith("vgg"),
        )
        self.segmentation_head = SegmentationHead(channels[-1], classes)
        initialize_decoder(self.decoder)
        initialize_head(self.segmentation_head)

    def predict(self, x: Tensor) -> NetworkOutput:
        """Compute logits.

        Args:
            x: Images, (N, in_channels, H, W), H and W multiples of the stride.

        Returns:
            Logits, (N, classes, H, W).
        """
        features = self.encoder(x)
        features[-1] = self.bottleneck(features[-1])
        return NetworkOutput(self.segmentation_head(self.decoder(features)))

    def bottleneck(self, x: Tensor) -> Tensor:
        """What happens to the deepest features, (N, C, H / stride, W / stride): here nothing."""
        return x


class PolarizedUNet(UNet):
    """U-Net with polarized self-attention after every decoder block, at the bottleneck, or both."""

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        *,
        decoder_channels: Sequence[int] = CHANNELS,
        layout: Layout = "parallel",
        form: Form = "paper",
        place: Place = "decoder",
    ) -> None:
        """Make the network.

        Args:
            encoder: Which encoder.
            classes: Channels of the logits.
            decoder_channels: Channels after each of the decoder's blocks, deepest first, 3 to 5 of them.
            layout: Whether the channel gate and the spatial gate act in "parallel" or in "serial".
            form: Formula of the gates: that of the "paper" or that of the authors' code, "official".
            place: Where the attention is: "decoder", "bottleneck" or "both".

        Raises:
            OptionError: The encoder or an option's value is unknown.
            WeightsError: The encoder's weights cannot be had.
        """
        super().__init__(encoder, classes, decoder_channels=decoder_channels)
        one_of("place", place, get_args(Place))
        self.attention = None
        if place != "decoder":
            self.attention = PolarizedSelfAttention(self.encoder.out_channels[-1], layout, form)
        if place != "bottleneck":
            for block, channels in zip(self.decoder.blocks, decoder_channels, strict=True):
                block.attention2 = PolarizedSelfAttention(channels, layout, form)

    def bottleneck(self, x: Tensor) -> Tensor:
        """Polarized self-attention on the deepest features, where it was asked for."""
        return x if self.attention is None else self.attention(x)


class DualAttentionUNet(UNet):
    """U-Net with dual attention (position and channel) at the bottleneck, and in the decoder if asked."""

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        *,
        decoder_channels: Sequence[int] = CHANNELS,
        form: ChannelForm = "official",
        deepest_block: bool = False,
    ) -> None:
        """Make the network.

        Args:
            encoder: Which encoder.
            classes: Channels of the logits.
            decoder_channels: Channels after each of the decoder's blocks, deepest first, 3 to 5 of them.
            form: Formula of the channel attention: that of the "paper" or that of the authors' code, "official".
            deepest_block: Whether the deepest decoder block ends in dual attention too.

        Raises:
            OptionError: The encoder or an option's value is unknown.
            WeightsError: The encoder's weights cannot be had.
        """
        super().__init__(encoder, classes, decoder_channels=decoder_channels)
        self.attention = DualAttention(self.encoder.out_channels[-1], form)
        if flag("deepest_block", deepest_block):
            self.decoder.blocks[0].attention2 = DualAttention(decoder_channels[0], form)

    def bottleneck(self, x: Tensor) -> Tensor:
        """Dual attention on the deepest features."""
        attended: Tensor = self.attention(x)
        return attended
