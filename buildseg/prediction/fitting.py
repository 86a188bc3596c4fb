"""Weights that are the same in bfloat16.

Batch normalisation is folded into convolutions before they are rounded, so which weights a bfloat16 holds as they are
is known only then: here each is moved to the place from where folding takes it to such a number.
"""

from dataclasses import asdict

import torch
from torch import Tensor, nn

from buildseg.contract import Contract
from buildseg.networks import SegmentationNetwork, build_again
from buildseg.networks.base import smallest_image
from buildseg.prediction.folding import normalised
from buildseg.prediction.half_precision import WEIGHED, precise_modules, round_with_feedback
from buildseg.prediction.stem import find_stems, spread


@torch.no_grad()
def fitted_to_bfloat16(network: SegmentationNetwork, contract: Contract) -> SegmentationNetwork:
    """Move weights to where bfloat16 holds them as they are, once batch normalisations are folded into them.

    `to_bfloat16` then has next to nothing to round, and what is left of the difference to float32 comes from
    activations. Weights move as far as that would round them; those that stay in float32 do not.

    Args:
        network: As trained; it is left as it is.
        contract: Of its pixels, as the stem scales them itself.

    Returns:
        A copy, on the CPU and in evaluation mode.
    """
    fitted = build_again(asdict(network.architecture)).eval()
    fitted.load_state_dict(network.state_dict())
    image = smallest_image(fitted)
    norms = dict(normalised(fitted, image))
    stems, precise = find_stems(fitted, image), precise_modules(fitted)
    for name, module in fitted.named_modules():
        if isinstance(module, WEIGHED) and module not in precise:
            norm = norms.get(module) if isinstance(module, nn.Conv2d) else None
            gain = torch.ones(len(module.weight)) if norm is None else _gain(norm)
            _fit_weight(module.weight, gain, spread(contract) if name in stems else torch.ones(1))
            if norm is not None:
                own = 0 if module.bias is None else module.bias
                shift = norm.bias + (own - norm.get_buffer("running_mean")) * gain
                norm.bias.add_(shift.bfloat16() - shift)
            elif module.bias is not None:
                module.bias.copy_(module.bias.bfloat16())
    return fitted


def _gain(norm: nn.BatchNorm2d) -> Tensor:
    return norm.weight * torch.rsqrt(norm.get_buffer("running_var") + norm.eps)


def _fit_weight(weight: Tensor, gain: Tensor, scale: Tensor) -> None:
    factor = gain.reshape(-1, *[1] * (weight.dim() - 1)) / scale
    weight.copy_(torch.where(factor == 0, weight, round_with_feedback(weight * factor).float() / factor))
