"""Joins polygons over the borders of blocks as the blocks come."""

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.footprints.contours import Contours, concatenate, join
from tiling import Block


class Joiner:
    """Collects what blocks share; gives a polygon as soon as all blocks that it reaches into have come.

    Args:
        blocks: From `cut_blocks`; they may come in any order.

    Attributes:
        across: How many of them are side by side.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._number = {block: number for number, block in enumerate(blocks)}
        self.across = sum(block.row == blocks[0].row for block in blocks)
        self._tops = np.array([block.row for block in blocks])
        self._missing = np.ones(len(blocks), np.bool_)
        self._parts: list[Contours] = []
        self._reach: list[set[int]] = []

    def add(self, block: Block, contours: Contours, goes_on: NDArray[np.bool_]) -> Contours:
        """Take what was traced in a block.

        Args:
            block: Which.
            contours: From `trace`.
            goes_on: Likewise.

        Returns:
            The polygons that lie in the block.
        """
        number = self._number[block]
        self._missing[number] = False
        shared = np.asarray(goes_on.any(axis=1))
        if shared.any():
            self._parts.append(contours.where(shared))
            beside = number + np.array([-1, -self.across, 1, self.across])
            self._reach += [set(beside[sides].tolist()) for sides in goes_on[shared]]
        return contours.where(~shared)

    def ready(self) -> Contours:
        """Join what can be joined.

        Returns:
            The polygons that no block to come can change.
        """
        if not self._parts:
            return concatenate([])
        joined, home = join(concatenate(self._parts))
        reach: list[set[int]] = [set() for _ in range(len(joined))]
        for whole, blocks in zip(home.tolist(), self._reach, strict=True):
            reach[whole] |= {block for block in blocks if self._missing[block]}
        waits = np.array([bool(blocks) for blocks in reach])
        self._parts, self._reach = [joined.where(waits)] if waits.any() else [], [blocks for blocks in reach if blocks]
        return joined.where(~waits)

    @property
    def finished_to(self) -> float:
        """The row above which nothing can come any more."""
        waiting = (shapely.bounds(parts.polygons)[:, 1] for parts in self._parts)
        return float(np.concatenate([[np.inf], self._tops[self._missing], *waiting]).min())
