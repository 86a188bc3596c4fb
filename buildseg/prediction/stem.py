"""The first convolution of a bfloat16 network, computed as if in float32.

What is rounded there spreads over all that follows. A number is nearly the sum of two bfloat16 numbers (Henry et al.
2019, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations"), so a convolution
over more channels gives the products that count, summed up in float32. Images have few bands and fast instructions take
many, so this costs next to nothing.
"""

import copy
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from buildseg.contract import Contract
from buildseg.prediction.folding import OneDnnConvolution, count_uses, replace_module


class PreciseStem(nn.Module):
    """A convolution over images, in float32 or, less the middle of a contract, as exact bfloat16.

    Args:
        stem: A convolution of one group, float32, alone or with an activation.
        contract: Mean and spread of pixels that come as bfloat16.
    """

    def __init__(self, stem: nn.Module, contract: Contract) -> None:
        super().__init__()
        weight, bias = _inner(stem).weight.data, _inner(stem).bias
        high = weight.bfloat16().float()
        self.scaled = _widened(stem, [high, high, weight - high], bias)
        shift = (middle(contract) - torch.tensor(contract.mean)[:, None, None]) / spread(contract)
        moved = (weight * shift).sum((1, 2, 3))
        weight = weight / spread(contract)
        high = weight.bfloat16().float()
        low = weight - high
        # Of weights that were fitted (see `buildseg.prediction.fitting`) nothing is left to speak of.
        parts = [high, low] if low.abs().max() > 2**-10 * high.abs().max() else [high]
        self.raw = _widened(stem, parts, moved if bias is None else bias + moved)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve images.

        Args:
            x: (N, bands, H, W): float32, scaled as the network wants it; or bfloat16, whole numbers up to 256 from
                the `middle` of the contract.

        Returns:
            bfloat16, (N, C, H', W').
        """
        if x.dtype == torch.bfloat16:
            parts, convolution = [x] * (_inner(self.raw).in_channels // x.shape[1]), self.raw
        else:
            high = x.bfloat16()
            parts, convolution = [high, (x - high).bfloat16(), high], self.scaled
        result: Tensor = convolution(_side_by_side(parts))
        return result


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Join images along their bands, in channels-last memory, in half the time that `torch.cat` takes."""
    if len(parts) == 1:
        return parts[0].contiguous(memory_format=torch.channels_last)
    count, bands, rows, cols = parts[0].shape
    wide = parts[0].new_empty(count, rows, cols, len(parts) * bands).permute(0, 3, 1, 2)
    for number, part in enumerate(parts):
        wide[:, number * bands : (number + 1) * bands] = part
    return wide


def middle(contract: Contract) -> Tensor:
    """Give the whole numbers next to the means of a contract, (bands, 1, 1)."""
    return torch.tensor(contract.mean).round()[:, None, None]


def spread(contract: Contract) -> Tensor:
    """Give what a contract divides pixels by, (bands, 1, 1)."""
    return torch.tensor(contract.std).clamp_min(1e-6)[:, None, None]


def from_middle(pixels: Tensor, centre: Tensor) -> Tensor:
    """Give pixels as `PreciseStem` scales them itself, in channels-last memory.

    Args:
        pixels: uint8, (N, bands, H, W).
        centre: From `middle`, of the contract that the stem was made for.

    Returns:
        bfloat16, same shape.
    """
    count, bands, rows, cols = pixels.shape
    whole = np.empty((count, rows, cols, bands), np.int16)
    planes = pixels.cpu().numpy()
    for band, value in enumerate(centre.flatten().tolist()):  # PyTorch takes two to four times as long for any of it
        np.subtract(planes[:, band], np.int16(value), out=whole[..., band])
    return torch.from_numpy(whole).to(pixels.device, torch.bfloat16).permute(0, 3, 1, 2)


def make_stems_precise(network: nn.Module, names: Sequence[str], contract: Contract) -> None:
    """Replace convolutions by precise ones, in place.

    Args:
        network: In float32; activations may have been joined to its convolutions.
        names: From `find_stems`.
        contract: See `PreciseStem`.
    """
    for name in names:
        replace_module(network, name, PreciseStem(network.get_submodule(name), contract))


def find_stems(network: nn.Module, image: Tensor) -> list[str]:
    """Name the convolutions that take the image itself.

    Args:
        network: In float32 and evaluation mode.
        image: Something to run it on, (1, bands, H, W), of a size that its stride divides.

    Returns:
        Nothing, too, if anything else takes the image.
    """
    stems: list[str] = []
    with torch.enable_grad():
        image = image.clone().requires_grad_().clone()

        def looks(name: str, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].grad_fn is image.grad_fn:
                stems.append(name)

        hooks = [
            module.register_forward_pre_hook(lambda _, inputs, name=name: looks(name, inputs))
            for name, module in network.named_modules()
            if type(module) is nn.Conv2d and module.groups == 1
        ]
        uses = count_uses(network(image))
    for hook in hooks:
        hook.remove()
    return stems if uses[image.grad_fn] == len(stems) == len(set(stems)) else []


def _widened(module: nn.Module, parts: Sequence[Tensor], bias: Tensor | None) -> nn.Module:
    """A copy that takes as many images side by side as there are weights."""
    module = copy.deepcopy(module)
    convolution = _inner(module)
    convolution.weight = nn.Parameter(torch.cat(list(parts), 1))
    convolution.in_channels = convolution.weight.shape[1]
    convolution.bias = None if bias is None else nn.Parameter(bias)
    return module


def _inner(module: nn.Module) -> nn.Conv2d:
    return cast(nn.Conv2d, module.convolution if isinstance(module, OneDnnConvolution) else module)
