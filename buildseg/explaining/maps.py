"""What the attention modules of a network make of one pixel."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from buildseg.attention import ChannelAttention
from buildseg.attention.looking import Gated, PositionMapped, attention_modules
from buildseg.networks import NETWORKS
from tiling.errors import OptionError

Inputs = tuple[Tensor, ...]
_MOST_NAMES = 10


@dataclass(frozen=True, slots=True, eq=False)
class ChannelMap:
    """A channel of the features that a module gives.

    Attributes:
        number: Which channel, from 0.
        values: The features, (h, w).
        deviations: How far it is above its mean at the pixel, in its standard deviations over the window.
        weight: What the module says of it, in words.
    """

    number: int
    values: NDArray[np.float32]
    deviations: float
    weight: str


@dataclass(frozen=True, slots=True, eq=False)
class ModuleMaps:
    """What one attention module makes of the pixel.

    Attributes:
        name: The module's name in its network.
        kind: What it is, in words.
        gated: Whether `position` holds gates of 0..1 and not weights of sum 1.
        position: How much the pixel attends to each position, (h, w); None if the module attends to channels.
        channels: The channels that respond most at the pixel, the strongest first; empty if the module attends
            to positions alone.
    """

    name: str
    kind: str
    gated: bool
    position: NDArray[np.float32] | None
    channels: tuple[ChannelMap, ...]


def choose_modules(network: nn.Module, wanted: Sequence[str]) -> dict[str, nn.Module]:
    """Find the attention modules to look at.

    Args:
        network: What they are part of.
        wanted: Their names, or those of parts of the network that hold them; empty takes all.

    Returns:
        The modules by name.

    Raises:
        OptionError: The network has no attention, or none of a name.
    """
    found = attention_modules(network)
    if not found:
        able = ", ".join(name for name, entry in NETWORKS.items() if entry.attends)
        raise OptionError(f"the model's network has no attention to look at; networks that have: {able}")
    for part in wanted:
        if not any(_within(name, part) for name in found):
            raise OptionError(f"--module {part} is no attention module of the model; it has {listed(tuple(found))}")
    return {name: m for name, m in found.items() if not wanted or any(_within(name, part) for part in wanted)}


def listed(names: Sequence[str]) -> str:
    """Write names in a row, of many the first and the last."""
    return ", ".join(names if len(names) <= _MOST_NAMES else [*names[:3], "...", *names[-3:]])


@contextmanager
def recorded(modules: Mapping[str, nn.Module]) -> Iterator[Mapping[str, Inputs]]:
    """Keep what modules are given while a network runs in the with block.

    Args:
        modules: Whose inputs to keep.

    Yields:
        Inputs of each module's last call, in the order of these calls.
    """
    inputs: dict[str, Inputs] = {}

    def record(name: str) -> Callable[[nn.Module, Inputs], None]:
        def keep(module: nn.Module, given: Inputs) -> None:
            inputs.pop(name, None)
            inputs[name] = tuple(tensor.clone() for tensor in given)  # the next layer may work in place

        return keep

    hooks = [module.register_forward_pre_hook(record(name)) for name, module in modules.items()]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def look(name: str, module: nn.Module, inputs: Inputs, share: tuple[float, float], channels: int) -> ModuleMaps:
    """Compute what an attention module makes of a pixel.

    Args:
        name: The module's name.
        module: In evaluation mode.
        inputs: What it was given, each (1, C, h, w).
        share: Where the pixel's centre is in the window, down and across, 0 to below 1.
        channels: How many channels to show at most.

    Returns:
        The maps; their first axis goes down the window and their second across.
    """
    height, width = inputs[-1].shape[2:]
    row, column = int(share[0] * height), int(share[1] * width)
    with torch.inference_mode():
        position = None
        if isinstance(module, PositionMapped):
            position = _array(module.position_map(*inputs, row=row, column=column))
        weights = _channel_weights(module, inputs[-1])
        strongest = _strongest(module(*inputs)[0], weights, (row, column), channels) if weights else ()
    return ModuleMaps(name, _kind(module), isinstance(module, Gated), position, strongest)


def _channel_weights(module: nn.Module, x: Tensor) -> list[str]:
    """What the module says of each channel; nothing if it does not tell them apart."""
    if isinstance(module, Gated):
        return [f"gate {gate:.2f}" for gate in module.channel_gate(x).flatten().tolist()]
    if isinstance(module, ChannelAttention):
        weights, others = module.weights(x)[0].max(dim=1)
        return [f"attends to channel {o} ({w:.0%})" for w, o in zip(weights.tolist(), others.tolist(), strict=True)]
    return []


def _strongest(features: Tensor, weights: Sequence[str], at: tuple[int, int], count: int) -> tuple[ChannelMap, ...]:
    spread, mean = torch.std_mean(features.flatten(1), dim=1, correction=0)
    deviations = (features[:, at[0], at[1]] - mean) / spread.clamp_min(torch.finfo(spread.dtype).tiny)
    return tuple(
        ChannelMap(number, _array(features[number]), deviation, weights[number])
        for deviation, number in zip(
            *(best.tolist() for best in deviations.topk(min(count, len(weights)))), strict=True
        )
    )


def _within(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def _kind(module: nn.Module) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(module).__name__).lower()


def _array(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
