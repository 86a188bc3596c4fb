"""The processes that train together: what torchrun, or Lightning for ``--devices``, has told each of itself."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a run, each on a device of its own.

    Attributes:
        rank: Number of this one, from 0.
        count: How many there are.
        here: How many of them are on this machine.
    """

    rank: int
    count: int
    here: int

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """How many machines there are."""
        return self.count // self.here

    def share(self, chips: int) -> Sequence[int]:
        """Give the places of the chips that this process validates, of so many.

        Where there are fewer chips than processes, each validates all: that way each chip counts as often as another,
        and no process stands idle, which Lightning does not allow.
        """
        return range(chips) if chips < self.count else range(self.rank, chips, self.count)

    def normalise_together(self, network: nn.Module, device: torch.device) -> None:
        """Let batch normalisation see the batches of all GPUs, each of them small; on CPUs torch cannot do that."""
        if self.count > 1 and device.type == "cuda":
            convert_sync_batchnorm(network)  # torch's own would lose the activations in timm's layers


def processes(devices: int) -> Processes:
    """Say which processes train.

    Args:
        devices: How many on this machine, where nobody has started them yet.
    """
    told = os.environ
    rank = int(told.get("RANK", told.get("LOCAL_RANK", 0)))
    return Processes(rank, int(told.get("WORLD_SIZE", devices)), int(told.get("LOCAL_WORLD_SIZE", devices)))
