"""What it takes for attention to be looked at."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from buildseg.attention.dual import ChannelAttention


@runtime_checkable
class PositionMapped(Protocol):
    """An attention module that tells what a position attends to."""

    @property
    def position_map(self) -> Callable[..., Tensor]:
        """From what `forward` is given, of one image, and the row and column of a position to (H, W).

        The position is one of the last features given; the map is over the first: how much the position attends
        to each there. These are weights of sum 1, or in a `Gated` module the gate of each position, 0..1.
        """


@runtime_checkable
class Gated(Protocol):
    """An attention module that multiplies features by a gate for each channel and one for each position."""

    def channel_gate(self, x: Tensor) -> Tensor:
        """The weight of each channel, 0..1: from (N, C, H, W) to (N, C, 1, 1)."""

    def spatial_gate(self, x: Tensor) -> Tensor:
        """The weight of each position, 0..1: from (N, C, H, W) to (N, 1, H, W)."""


def attention_modules(network: nn.Module) -> dict[str, nn.Module]:
    """Find the attention modules of a network that can be looked at.

    One inside another, as the single pass of a recurrent module is, belongs to the outer one and is left out.

    Args:
        network: Where to look.

    Returns:
        Those that are `PositionMapped` and those that attend to channels, by name, in the order of definition.
    """
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        shows = isinstance(module, PositionMapped | ChannelAttention)
        if shows and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def attention_parts(network: nn.Module) -> set[nn.Module]:
    """Find all modules that attention modules are made of, themselves included.

    Args:
        network: Where to look.
    """
    return {part for attention in attention_modules(network).values() for part in attention.modules()}
