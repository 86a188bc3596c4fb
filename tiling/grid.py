"""The windows of a scene: pure arithmetic on whole pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tiling.errors import OptionError


@dataclass(frozen=True, slots=True)
class Window:
    """One square of a grid, in pixels of the scene.

    A window of a scene that is smaller than the window reaches beyond the scene's right or lower edge.

    Attributes:
        row: First row.
        col: First column.
        size: Length of a side.
    """

    row: int
    col: int
    size: int


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of a scene, in its pixels: what one worker finishes.

    Attributes:
        row: First row.
        col: First column.
        rows: Number of rows.
        cols: Number of columns.
    """

    row: int
    col: int
    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows of one size and one overlap over a scene, the first at its upper left corner.

    The last window of a row or column stands flush with the scene's far edge, so it may overlap its
    neighbour by more than ``overlap``. The grid depends on nothing but these four numbers, however the work
    over it is divided.

    Attributes:
        height: Rows of the scene, at least 1.
        width: Columns of the scene, at least 1.
        size: Length of a window's side, at least 1.
        overlap: Pixels that neighbouring windows share, from 0 to ``size - 1``.

    Raises:
        OptionError: A number is out of its range.
    """

    height: int
    width: int
    size: int
    overlap: int

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.size) < 1:
            raise OptionError(
                f"a grid of {self.size}-pixel windows over {self.width} x {self.height} pixels is empty; "
                "every length must be at least 1"
            )
        if not 0 <= self.overlap < self.size:
            raise OptionError(
                f"an overlap of {self.overlap} pixels does not fit windows of {self.size}; "
                f"choose from 0 to {self.size - 1}"
            )

    @property
    def row_starts(self) -> tuple[int, ...]:
        """First row of each row of windows, ascending."""
        return axis_starts(self.height, self.size, self.overlap)

    @property
    def col_starts(self) -> tuple[int, ...]:
        """First column of each column of windows, ascending."""
        return axis_starts(self.width, self.size, self.overlap)

    def touching(self, block: Block) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Find the windows that share pixels with a block: every window whose values count in it.

        Args:
            block: A rectangle of the scene.

        Returns:
            First rows and first columns of those windows, ascending.
        """
        rows = tuple(row for row in self.row_starts if row < block.row + block.rows and row + self.size > block.row)
        cols = tuple(col for col in self.col_starts if col < block.col + block.cols and col + self.size > block.col)
        return rows, cols

    def __len__(self) -> int:
        return len(self.row_starts) * len(self.col_starts)

    def __iter__(self) -> Iterator[Window]:
        """Yield the windows in grid order: row by row, from left to right."""
        cols = self.col_starts
        for row in self.row_starts:
            for col in cols:
                yield Window(row, col, self.size)


def axis_starts(length: int, size: int, overlap: int) -> tuple[int, ...]:
    """Find where the windows along one axis start.

    Args:
        length: Pixels along the axis, at least 1.
        size: Window length, at least 1.
        overlap: Pixels shared by neighbours, from 0 to ``size - 1``.

    Returns:
        Ascending starts. The first is 0, the last is ``max(0, length - size)``.
    """
    last = max(0, length - size)
    return (*range(0, last, size - overlap), last)


def cut_blocks(height: int, width: int, rows: int, cols: int) -> list[Block]:
    """Cut a scene into blocks, column of blocks by column, each from the top down.

    Args:
        height: Rows of the scene.
        width: Its columns.
        rows: Rows of a block; the last of a column may have fewer.
        cols: Columns of a block at most; all columns of blocks are equally wide, to a pixel.

    Returns:
        The blocks. Together they cover every pixel once.
    """
    count = -(-width // cols)
    edges = [width * place // count for place in range(count + 1)]
    return [
        Block(row, left, min(rows, height - row), right - left)
        for left, right in pairwise(edges)
        for row in range(0, height, rows)
    ]


def overlap_pixels(size: int, fraction: float) -> int:
    """Turn an overlap given as a fraction of the window into whole pixels.

    Args:
        size: Window length in pixels.
        fraction: Overlap from 0 up to, but without, 1.

    Returns:
        Pixels from 0 to ``size - 1``.

    Raises:
        OptionError: The fraction is out of range.
    """
    if not 0 <= fraction < 1:
        raise OptionError(f"--overlap {fraction:g} is out of range; give a fraction of the window from 0 to 0.95")
    return min(round(size * fraction), size - 1)
