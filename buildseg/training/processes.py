"""The processes that train together: what torchrun, or Lightning for ``--devices``, has told each of itself."""

import os
from dataclasses import dataclass


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


def processes(devices: int) -> Processes:
    """Say which processes train.

    Args:
        devices: How many on this machine, where nobody has started them yet.
    """
    told = os.environ
    rank = int(told.get("RANK", told.get("LOCAL_RANK", 0)))
    return Processes(rank, int(told.get("WORLD_SIZE", devices)), int(told.get("LOCAL_WORLD_SIZE", devices)))
