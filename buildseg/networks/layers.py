"""The small layers that several networks are made of."""

import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn_relu(
    channels: int, out: int, kernel: int = 1, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Make a convolution without bias, batch normalisation and ReLU; at stride 1 height and width stay.

    Args:
        channels: Channels of the input.
        out: Channels of the output.
        kernel: Side of the kernel, odd.
        stride: Step between samples of the output.
        dilation: Step between samples of the kernel.
        groups: Groups of channels that see nothing of each other.
    """
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Resample features bilinearly, (N, C, h, w), to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def resized_logits(x: Tensor, like: Tensor) -> Tensor:
    """Do the same to logits, half precision as float32: rounding anew would show, and on CPUs takes more time."""
    return resized(x.float() if x.dtype.itemsize < 4 else x, like)
