"""Which chips are shown in which order: a function of seed and epoch, so that a run can be repeated and resumed."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from buildseg.chip_file import ChipFile, read_mask
from buildseg.classes import BUILDING, IGNORE

_EDGES = (0.0, 0.05, 0.2)


class Draw(NamedTuple):
    """A crop to be shown.

    Attributes:
        place: Of its chip in the data set.
        seed: Of the changes that are made to it.
    """

    place: int
    seed: int


class EpochSampler(Sampler[Draw]):
    """Draws the crops of an epoch.

    Args:
        size: Crops in the data set.
        count: Crops of an epoch; where there are more than in the data set, they come repeatedly.
        seed: Of the order and of all changes.
        weights: How often each crop is drawn, relative to others; None shows all before one comes again.
        share: Number of this process, and how many there are to share each epoch, in turn.
    """

    def __init__(
        self,
        size: int,
        count: int,
        seed: int,
        weights: NDArray[np.float64] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._size, self._count, self._seed = size, count, seed
        self._chances = None if weights is None else weights / weights.sum()
        self._rank, self._processes = share
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is next, from 0; Lightning does."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count // self._processes

    def __iter__(self) -> Iterator[Draw]:
        return iter(self.draws(self._epoch))

    def draws(self, epoch: int) -> list[Draw]:
        """Give the crops of an epoch, from 0, in their order."""
        random = np.random.default_rng((self._seed, epoch))
        if self._chances is None:
            rounds = -(-self._count // self._size)
            places = np.concatenate([random.permutation(self._size) for _ in range(rounds)])[: self._count]
        else:
            places = random.choice(self._size, self._count, p=self._chances)
        seeds = random.integers(2**32, size=self._count)
        mine = slice(self._rank, len(self) * self._processes, self._processes)
        return [Draw(*pair) for pair in zip(places[mine].tolist(), seeds[mine].tolist(), strict=True)]


def balanced_weights(chips: Sequence[ChipFile]) -> NDArray[np.float64]:
    """Weigh chips so that those with no building, few (to 5%), some (to 20%) and many are drawn equally often.

    Args:
        chips: Their masks are read.

    Returns:
        A weight for each.
    """
    shares = {chip.mask: _building_share(chip) for chip in dict.fromkeys(chips)}
    groups = np.digitize([shares[chip.mask] for chip in chips], _EDGES, right=True)
    weights: NDArray[np.float64] = 1.0 / np.bincount(groups)[groups]
    return weights


def folder_weights(chips: Sequence[ChipFile], power: float) -> NDArray[np.float64]:
    """Weigh chips so that each folder of them is drawn in proportion to a power of the crops that fit it.

    Args:
        chips: One for each crop.
        power: 1 leaves folders their size, 0 draws all equally often.

    Returns:
        A weight for each.
    """
    _, places, sizes = np.unique([str(chip.image.parent) for chip in chips], return_inverse=True, return_counts=True)
    return np.asarray(sizes[places] ** (power - 1.0), np.float64)


def _building_share(chip: ChipFile) -> float:
    mask = read_mask(chip.mask, chip.classes)
    return float((mask == BUILDING).sum() / max(1, (mask != IGNORE).sum()))
