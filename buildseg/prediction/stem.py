"""The first convolution of a bfloat16 network, computed as if in float32.

What is rounded there spreads over all that follows. A number is nearly the sum of two bfloat16 numbers (Henry et al.
2019, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations"), so a convolution
over more channels gives the products that count, summed up in float32. Images have few bands and fast instructions take
many, so this costs next to nothing.
"""

import copy
from collections.abc import Sequence
from typing import cast

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
        spread = torch.tensor(contract.std).clamp_min(1e-6)[:, None, None]
        shift = (middle(contract) - torch.tensor(contract.mean)[:, None, None]) / spread
        moved = (weight * shift).sum((1, 2, 3))
        weight = weight / spread
        high = weight.bfloat16().float()
        self.raw = _widened(stem, [high, weight - high], moved if bias is None else bias + moved)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve images.

        Args:
            x: (N, bands, H, W): float32, scaled as the network wants it; or bfloat16, whole numbers up to 256 from
                the `middle` of the contract.

        Returns:
            bfloat16, (N, C, H', W').
        """
        if x.dtype == torch.bfloat16:
            parts, convolution = [x, x], self.raw
        else:
            high = x.bfloat16()
            parts, convolution = [high, (x - high).bfloat16(), high], self.scaled
        count, bands, rows, cols = x.shape
        wide = x.new_empty(count, rows, cols, len(parts) * bands, dtype=torch.bfloat16).permute(0, 3, 1, 2)
        for number, part in enumerate(parts):  # in half the time that `torch.cat` takes
            wide[:, number * bands : (number + 1) * bands] = part
        result: Tensor = convolution(wide)
        return result


def middle(contract: Contract) -> Tensor:
    """Give the whole numbers next to the means of a contract, (bands, 1, 1)."""
    return torch.tensor(contract.mean).round()[:, None, None]


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
