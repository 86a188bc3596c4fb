"""Networks in bfloat16 that answer nearly as they do in float32.

A bfloat16 keeps 8 bits of a number, so rounding the weights moves every output by some part of its input's mean. Models
that are trained here are kept with nothing left to round (see `buildseg.prediction.fitting`). In others the error of a
weight is carried into the next one of the same output channel (error feedback, as in dithering: Floyd and Steinberg
1976), so that the errors of a channel add up to next to nothing. Normalisation, attention, and biases that oneDNN adds
and that rounding would change, cost little and stay in float32, as do some encoders; for the first convolutions see
`buildseg.prediction.stem`.
"""

import copy

import torch
from timm.models._efficientnet_blocks import InvertedResidual
from torch import Tensor, nn

from buildseg.attention.looking import attention_modules, attention_parts
from buildseg.networks import SegmentationNetwork
from buildseg.prediction.bottlenecks import GatedBottleneck
from buildseg.prediction.folding import OneDnnConvolution

WEIGHED = (nn.Conv2d, nn.Linear)
"""The modules whose weights are rounded."""
_NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


def to_bfloat16(network: SegmentationNetwork) -> SegmentationNetwork:
    """Make a copy of a network that computes in bfloat16.

    Attention stays in float32, and so does a `precise_encoder`.

    Args:
        network: In float32.

    Returns:
        The copy; its output is bfloat16, and its input but where the encoder stays precise.
    """
    network = copy.deepcopy(network)
    precise = precise_modules(network)
    if encoder := precise_encoder(network):
        encoder.register_forward_hook(_all_to_bfloat16)
    convolutions = [module.convolution for module in network.modules() if isinstance(module, OneDnnConvolution)]
    biases = {id(each.bias) for each in convolutions if each.bias is not None and not _exact(each.bias)}
    for module in network.modules():
        if module not in precise and not isinstance(module, _NORMS):
            if isinstance(module, WEIGHED):
                module.weight.data = round_with_feedback(module.weight.data)
            _cast_own(module, but=biases)
    for attention in attention_modules(network).values():
        attention.register_forward_pre_hook(_to_float32)
        attention.register_forward_hook(_to_bfloat16)
    return network


def precise_encoder(network: nn.Module) -> nn.Module | None:
    """Give the encoder of a network if it must not be rounded to bfloat16: one of timm's inverted bottlenecks.

    Between their blocks few channels hold all there is, with no activation that would cut errors off, and what each
    block adds is rounded again. With the model that comes along, 3% of the probabilities were more than two steps of
    254 off, and none is with a precise encoder, which costs a quarter more time.

    Args:
        network: Any; that of LR-ASPP, from torchvision, loses less and is rounded.
    """
    encoder: nn.Module | None = getattr(network, "encoder", None)
    bottlenecks = encoder is not None and any(isinstance(module, InvertedResidual) for module in encoder.modules())
    return encoder if bottlenecks else None


def precise_modules(network: nn.Module) -> set[nn.Module]:
    """Give what stays in float32."""
    precise = set(attention_parts(network))
    for module in network.modules():
        if isinstance(module, GatedBottleneck):
            precise |= set(module.gate.modules())
    if encoder := precise_encoder(network):
        precise |= set(encoder.modules())
    return precise


def round_with_feedback(weight: Tensor) -> Tensor:
    """Round weights to bfloat16, carrying each error into the next weight of the same output channel.

    The weights of an input channel follow one another from the largest to the smallest, whose error is the least, so
    that what is alike at neighbouring positions is weighed exactly. Weights of single positions are just rounded: what
    they weigh are channels, which need not be alike.

    Args:
        weight: float32, (outputs, inputs, ...).

    Returns:
        bfloat16, same shape.
    """
    taps = weight.flatten(2) if weight.dim() > 2 else weight[..., None]
    if taps.shape[2] == 1:
        return weight.bfloat16()
    order = taps.abs().argsort(2, descending=True)
    columns = taps.gather(2, order).flatten(1).T.contiguous()
    rounded = torch.empty_like(columns, dtype=torch.bfloat16)
    error = torch.zeros_like(columns[0])
    for column, target in zip(columns, rounded, strict=True):
        wanted = column + error
        target.copy_(wanted)
        error = wanted - target
    return (
        torch.empty_like(taps, dtype=torch.bfloat16)
        .scatter_(2, order, rounded.T.reshape(taps.shape))
        .reshape(weight.shape)
    )


def _exact(bias: Tensor) -> bool:
    """Say whether bfloat16 holds numbers as they are, but for a trifle."""
    return bool((bias - bias.bfloat16()).abs().max() <= 2**-14 * bias.abs().max())


def _cast_own(module: nn.Module, *, but: set[int]) -> None:
    for parameter in module.parameters(recurse=False):
        if id(parameter) not in but:
            parameter.data = parameter.data.bfloat16()
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point():
            setattr(module, name, buffer.bfloat16())


def _all_to_bfloat16(module: nn.Module, inputs: tuple[Tensor, ...], outputs: list[Tensor]) -> list[Tensor]:
    return [output.bfloat16() for output in outputs]


def _to_float32(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.float() for value in inputs)


def _to_bfloat16(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.bfloat16()
