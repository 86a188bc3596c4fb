"""HRNet with polarized self-attention in its residual blocks, under a head of object context.

Sources: HRNet, Wang and others, "Deep High-Resolution Representation Learning for Visual Recognition",
arXiv:1908.07919, the segmentation network HRNetV2; the head, Yuan and others, arXiv:1909.11065; the attention and
its place, Liu, Liu, Fan and Huang, "Polarized Self-Attention", arXiv:2107.00782, and its authors' code.
"""

from dataclasses import replace

import torch
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from buildseg.attention import PolarizedSelfAttention
from buildseg.attention.polarized import Form, Layout
from buildseg.networks.base import SegmentationNetwork
from buildseg.networks.encoders import Encoder, FeatureEncoder
from buildseg.networks.layers import resized, resized_logits
from buildseg.networks.object_context import ObjectContextHead
from buildseg.networks.output import AuxiliaryLogits, NetworkOutput
from buildseg.option_values import share, whole_number
from tiling.errors import OptionError

AUXILIARY_WEIGHT = 0.4
BRANCHES = 4


class HRNetOCRPSA(SegmentationNetwork):
    """HRNet-OCR with PSA; by default as behind the 86.95 mIoU on Cityscapes val that PSA's authors report.

    That figure is HRNet-W48's, with the parallel layout of the authors' code, pretrained on Mapillary; their
    training also weighs several scales of the image against each other, which is no part of this network.
    """

    stride = 32

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        *,
        layout: Layout = "parallel",
        form: Form = "official",
        head_channels: int = 512,
        dropout: float = 0.05,
    ) -> None:
        """Make the network.

        Args:
            encoder: An HRNet of timm, such as tu-hrnet_w48.
            classes: Channels of the logits.
            layout: Whether the channel gate and the spatial gate act in "parallel" or in "serial".
            form: Formula of the gates: that of the "paper" or that of the authors' code, "official".
            head_channels: Channels of the features that attend to regions, at least 2; queries have half of them.
            dropout: Share of channels dropped before the classifier in training, 0 to below 1.

        Raises:
            OptionError: The encoder is no HRNet, or an option's value is out of range.
            WeightsError: The encoder's weights cannot be had.
        """
        super().__init__()
        share("dropout", dropout)
        whole_number("head_channels", head_channels, 2)
        self.encoder = _segmentation_hrnet(encoder)
        for block in [m for m in self.encoder.modules() if isinstance(m, BasicBlock)]:
            # timm calls this place, empty in HRNet, after the anti-aliasing that it is for in other networks.
            block.aa = PolarizedSelfAttention(block.conv1.out_channels, layout, form)
        channels = sum(self.encoder.out_channels[-BRANCHES:])
        self.head = ObjectContextHead(channels, classes, head_channels, dropout)

    @property
    def output_stride(self) -> int:
        """The head starts from features at a quarter of the image's size."""
        return 4

    def predict(self, x: Tensor) -> NetworkOutput:
        """Compute logits.

        Args:
            x: Images, (N, in_channels, H, W), H and W multiples of 32.

        Returns:
            Logits, (N, classes, H, W); in training also the coarse ones behind the regions, of weight 0.4.
        """
        finest, *coarser = self.encoder(x)[-BRANCHES:]
        features = torch.cat([finest, *(resized(branch, like=finest) for branch in coarser)], dim=1)
        logits, coarse = (resized_logits(values, like=x) for values in self.head(features))
        auxiliary = (AuxiliaryLogits(coarse, AUXILIARY_WEIGHT),) if self.training else ()
        return NetworkOutput(logits, auxiliary)


def _segmentation_hrnet(encoder: Encoder) -> FeatureEncoder:
    if not encoder.name.startswith("tu-hrnet_"):
        raise OptionError(f"hrnet-ocr-psa needs an HRNet such as tu-hrnet_w48 as encoder, not {encoder.name!r}")
    # With an empty location the features are HRNet's branches, without the layers of timm's classifier behind them.
    hrnet = replace(encoder, settings={"feature_location": ""}).build()
    for layer in hrnet.modules():
        if isinstance(layer, nn.Upsample):
            # The classification network repeats samples of coarser branches; the segmentation network interpolates.
            layer.mode, layer.align_corners = "bilinear", False
    return hrnet
