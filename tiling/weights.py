"""How much each window counts where windows overlap."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tiling.grid import Grid

Profile = Literal["flat", "linear", "cosine"]


def _flat(position: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones_like(position)


def _linear(position: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 - np.abs(2 * position - 1)


def _cosine(position: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sin(np.pi * position) ** 2


PROFILES: dict[Profile, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "flat": _flat,
    "linear": _linear,
    "cosine": _cosine,
}


@dataclass(frozen=True, slots=True, eq=False)
class BlendWeights:
    """Separable blend weights of every window of a grid; they sum to one on every pixel of the scene.

    The weight of pixel ``(y, x)`` of a window is ``rows[window.row][y] * cols[window.col][x]``.

    Attributes:
        rows: Weights along the rows, by the window's first row: float32 of shape (size,).
        cols: Weights along the columns, by the window's first column: float32 of shape (size,).
    """

    rows: dict[int, NDArray[np.float32]]
    cols: dict[int, NDArray[np.float32]]

    @classmethod
    def of(cls, grid: Grid, profile: Profile = "cosine") -> "BlendWeights":
        """Compute the weights of a grid.

        Args:
            grid: The windows.
            profile: Shape over a window: ``cosine`` is the Hann window, ``linear`` a triangle, ``flat`` one.
        """
        return cls(
            rows=axis_weights(grid.row_starts, grid.size, profile),
            cols=axis_weights(grid.col_starts, grid.size, profile),
        )


def axis_weights(starts: tuple[int, ...], size: int, profile: Profile = "cosine") -> dict[int, NDArray[np.float32]]:
    """Normalise a profile over the windows of one axis.

    The profile is taken at pixel centres, where it is above zero, so that every pixel has a weight.

    Args:
        starts: First pixel of each window.
        size: Window length.
        profile: See `PROFILES`.

    Returns:
        For each start the weights of its window, shape (size,); over all windows that cover a pixel they sum
        to one.
    """
    raw = PROFILES[profile]((np.arange(size) + 0.5) / size)
    total = np.zeros(starts[-1] + size)
    for start in starts:
        total[start : start + size] += raw
    return {start: (raw / total[start : start + size]).astype(np.float32) for start in starts}
