"""Joins the values of overlapping windows into rows of the scene, one band of windows at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiling.grid import Grid, Window
from tiling.weights import BlendWeights


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Finished rows of a scene.

    Attributes:
        row: First row.
        values: Blended values, float32 of shape (rows, width).
        valid: Which pixels some window knew to be valid, bool of shape (rows, width).
    """

    row: int
    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


class Stitcher:
    """Blends windows that come in grid order; holds one window's height of rows and no more.

    Windows may be left out: where no window came, values are 0 and nothing is valid.

    Args:
        grid: The windows to expect.
        weights: Their blend weights.
    """

    def __init__(self, grid: Grid, weights: BlendWeights) -> None:
        self._grid = grid
        self._weights = weights
        rows = min(grid.size, grid.height)
        self._values = np.zeros((rows, grid.width), np.float32)
        self._valid = np.zeros((rows, grid.width), np.bool_)
        self._first = 0

    def add(self, window: Window, values: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> Strip | None:
        """Take the next window.

        Args:
            window: A window of the grid, not before the last one in grid order.
            values: Shape (size, size).
            valid: Shape (size, size); all of it where left out.

        Returns:
            The rows that no later window can change, or None.
        """
        strip = self._advance(window.row)
        rows = min(window.size, self._grid.height)
        cols = min(window.size, self._grid.width)
        here = (slice(0, rows), slice(window.col, window.col + cols))
        self._values[here] += self._weights.apply(window, values)[:rows, :cols]
        self._valid[here] |= True if valid is None else valid[:rows, :cols]
        return strip

    def skip(self, window: Window) -> Strip | None:
        """Pass over a window that is left out, so that rows do not pile up where nothing comes.

        Args:
            window: A window of the grid, not before the last one in grid order.

        Returns:
            The rows that no later window can change, or None.
        """
        return self._advance(window.row)

    def finish(self) -> Strip | None:
        """Give the last rows; the stitcher is done with.

        Returns:
            All rows that have not been given yet, or None if there are none.
        """
        return self._advance(self._grid.height)

    def _advance(self, row: int) -> Strip | None:
        finished = row - self._first
        if finished <= 0:
            return None
        kept = max(0, len(self._values) - finished)
        values = np.zeros((finished, self._grid.width), np.float32)
        valid = np.zeros((finished, self._grid.width), np.bool_)
        known = min(finished, len(self._values))
        for source, target in ((self._values, values), (self._valid, valid)):
            target[:known] = source[:known]
            source[:kept] = source[finished:].copy()
            source[kept:] = 0
        strip = Strip(self._first, values, valid)
        self._first = row
        return strip
