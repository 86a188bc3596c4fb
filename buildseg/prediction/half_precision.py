"""Networks in bfloat16 that answer nearly as they do in float32.

A bfloat16 keeps 8 bits of a number, so rounding the weights moves every output by some part of its input's mean. Here
the error of each weight is carried into the next one of the same output channel (error feedback, as in dithering: Floyd
and Steinberg 1976), so that the errors of a channel add up to next to nothing. Normalisation and attention, which cost
little and amplify errors, stay in float32.
"""

import copy

import torch
from torch import Tensor, nn

from buildseg.attention.looking import attention_modules
from buildseg.networks import SegmentationNetwork

_WEIGHED = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


def to_bfloat16(network: SegmentationNetwork) -> SegmentationNetwork:
    """Make a copy of a network that computes in bfloat16.

    Args:
        network: In float32.

    Returns:
        The copy; its input and output are bfloat16.
    """
    network = copy.deepcopy(network)
    precise = {id(part) for attention in attention_modules(network).values() for part in attention.modules()}
    for module in network.modules():
        if id(module) not in precise and not isinstance(module, _NORMS):
            if isinstance(module, _WEIGHED):
                module.weight.data = round_with_feedback(module.weight.data)
            _cast_own(module)
    for attention in attention_modules(network).values():
        attention.register_forward_pre_hook(_to_float32)
        attention.register_forward_hook(_to_bfloat16)
    return network


def round_with_feedback(weight: Tensor) -> Tensor:
    """Round weights to bfloat16, carrying each error into the next weight of the same output channel.

    Args:
        weight: float32, (outputs, ...).

    Returns:
        bfloat16, same shape; every output channel sums up to what it did, but for the last weight's rounding.
    """
    columns = weight.flatten(1).T.contiguous()
    rounded = torch.empty_like(columns, dtype=torch.bfloat16)
    error = torch.zeros_like(columns[0])
    for column, target in zip(columns, rounded, strict=True):
        wanted = column + error
        target.copy_(wanted)
        error = wanted - target
    return rounded.T.reshape(weight.shape)


def _cast_own(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.data.bfloat16()
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point():
            setattr(module, name, buffer.bfloat16())


def _to_float32(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.float() for value in inputs)


def _to_bfloat16(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.bfloat16()
