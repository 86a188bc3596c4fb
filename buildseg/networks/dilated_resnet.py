"""Residual networks whose last two stages are dilated, so that their features stay at an eighth of the image.

Source: Chen, Papandreou, Schroff and Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation",
arXiv:1706.05587, sections 3.1 and 3.2 (multi-grid).
"""

from collections.abc import Sequence

from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from torch import nn

from buildseg.networks.encoders import Encoder, FeatureEncoder
from buildseg.option_values import positive_numbers
from tiling.errors import OptionError

OUTPUT_STRIDE = 8


def dilated_resnet(encoder: Encoder, multi_grid: Sequence[int], network: str) -> FeatureEncoder:
    """Make a ResNet of output stride 8: the strides of its last two stages become dilations.

    Args:
        encoder: A ResNet of segmentation-models-pytorch, such as resnet50 or resnet101.
        multi_grid: Dilations of the last stage's blocks, in order; those too many for the encoder are not
            used (resnet18 has two blocks there).
        network: Name of the network it is for, for the message of an error.

    Returns:
        The encoder. Its last two features are at an eighth of the image's size.

    Raises:
        OptionError: The encoder is no ResNet, or the dilations are no 3 positive numbers.
        WeightsError: The encoder's weights cannot be had.
    """
    grid = positive_numbers("multi_grid", multi_grid, 3, 3)
    built = resnet = encoder.build(depth=5)
    if not isinstance(resnet, ResNetEncoder):
        raise OptionError(f"{network} needs a ResNet such as resnet50 or resnet101 as encoder, not {encoder.name!r}")
    # The first block of a stage keeps the dilation of the stage before it, so that no sample is skipped.
    _dilate(resnet.layer3, (1,) + (2,) * (len(resnet.layer3) - 1))
    _dilate(resnet.layer4, grid[: len(resnet.layer4)])
    return built


def _dilate(stage: nn.Sequential, rates: Sequence[int]) -> None:
    for block, rate in zip(stage, rates, strict=True):
        for conv in block.modules():
            if isinstance(conv, nn.Conv2d):
                conv.stride = (1, 1)
                if conv.kernel_size == (3, 3):
                    conv.dilation = conv.padding = (rate, rate)
