"""Which square of a chip becomes a training crop."""

from dataclasses import dataclass

import numpy as np
from rasterio.windows import Window

from buildseg.training.options import Preset

_SCALES: dict[Preset, tuple[float, float]] = {"none": (1.0, 1.0), "light": (0.9, 1.1), "strong": (0.7, 1.4)}


@dataclass(frozen=True, slots=True)
class Cut:
    """A square of a chip, in the chip's pixels; what of it lies beyond the chip is to be mirrored.

    Attributes:
        row: First row, below 0 where the square begins before the chip.
        col: First column, likewise.
        side: Length of a side.
    """

    row: int
    col: int
    side: int

    def inside(self, shape: tuple[int, int]) -> Window:
        """Give the part that lies in a chip of so many rows and columns."""
        (top, left), (bottom, right) = (
            [min(max(0, start + end), length) for start, length in zip((self.row, self.col), shape, strict=True)]
            for end in (0, self.side)
        )
        return Window(left, top, right - left, bottom - top)

    def beyond(self, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Give the pixels that lie beyond the chip's top, bottom, left and right."""
        rows, cols = shape
        ends = -self.row, self.row + self.side - rows, -self.col, self.col + self.side - cols
        top, bottom, left, right = (max(0, end) for end in ends)
        return top, bottom, left, right


def draw_cut(shape: tuple[int, int], side: float, preset: Preset, seed: int) -> Cut:
    """Draw a square of random place and, but for ``none``, random scale.

    Only a square that is larger than the chip reaches beyond it.

    Args:
        shape: Rows and columns of the chip.
        side: Pixels of the chip along a crop that is not scaled.
        preset: How much crops are changed.
        seed: Which alone decides.
    """
    random = np.random.default_rng(seed)
    length = max(1, round(side * random.uniform(*_SCALES[preset])))
    room = [extent - length for extent in shape]
    row, col = (int(random.integers(min(0, free), max(0, free), endpoint=True)) for free in room)
    return Cut(row, col, length)
