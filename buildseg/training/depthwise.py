"""Depthwise convolutions where their gradients are quick."""

import torch
from torch import Tensor, nn


class Float32Convolution(nn.Conv2d):
    """A convolution that half precision passes by."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """From (N, C_in, H, W) of any type to (N, C_out, H', W') in float32."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def keep_depthwise_precise(network: nn.Module) -> None:
    """Have depthwise convolutions, in place, compute in float32 whatever the precision of the rest.

    On CPUs oneDNN's gradients of depthwise convolutions take 4 to 7 times as long in bfloat16 as in float32.

    Args:
        network: To be trained in mixed precision on a CPU.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and module.groups == module.in_channels > 1:
            module.__class__ = Float32Convolution
