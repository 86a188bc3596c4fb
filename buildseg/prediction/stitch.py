"""Joins the probabilities of overlapping windows into rows of a block, one height of windows at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tiling import BlendWeights, Block, Grid, Window

_KNOWN_WEIGHTS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Finished rows of a block.

    Attributes:
        row: First row, of the scene.
        values: Blended values, float32 of shape (channels, rows, block's cols).
        valid: Which pixels some window knew to be valid, bool of shape (rows, block's cols).
    """

    row: int
    values: Tensor
    valid: Tensor


class Stitcher:
    """Blends windows that come in grid order, on the device they are on; holds one height of windows and no more.

    What of a window lies outside the block is left out. Windows may be left out too: where none came, values are 0
    and nothing is valid.

    Args:
        grid: The windows to expect.
        block: The rectangle of the scene to fill.
        device: Where the windows' values are.
        channels: How many values a pixel has.
    """

    def __init__(self, grid: Grid, block: Block, device: torch.device, channels: int = 1) -> None:
        self._block = block
        self._weights = _DeviceWeights(grid, device)
        shape = (min(grid.size, block.rows), block.cols)
        self._values = torch.zeros((channels, *shape), dtype=torch.float32, device=device)
        self._valid = torch.zeros(shape, dtype=torch.bool, device=device)
        self._first = block.row

    def add(self, window: Window, values: Tensor, valid: Tensor | None = None) -> Strip | None:
        """Take the next window.

        Args:
            window: A window of the grid that touches the block, not before the last one in grid order.
            values: float32 of shape (channels, size, size); of one channel also (size, size).
            valid: bool of shape (size, size); all of it where left out.

        Returns:
            The rows that no later window can change, or None.
        """
        block = self._block
        strip = self.skip(window)
        top, left = self._first, max(window.col, block.col)
        bottom = min(window.row + window.size, block.row + block.rows)
        right = min(window.col + window.size, block.col + block.cols)
        here = (slice(0, bottom - top), slice(left - block.col, right - block.col))
        rows, cols = slice(top - window.row, bottom - window.row), slice(left - window.col, right - window.col)
        self._values[(..., *here)].addcmul_(values[..., rows, cols], self._weights.of(window)[rows, cols])
        self._valid[here] |= True if valid is None else valid[rows, cols]
        return strip

    def skip(self, window: Window) -> Strip | None:
        """Pass over a window that is left out, so that rows do not pile up where nothing comes.

        Args:
            window: As for `add`.

        Returns:
            The rows that no later window can change, or None.
        """
        return self._advance(max(window.row, self._first))

    def finish(self) -> Strip | None:
        """Give the last rows; the stitcher is done with.

        Returns:
            All rows that have not been given yet, or None if there are none.
        """
        return self._advance(self._block.row + self._block.rows)

    def _advance(self, row: int) -> Strip | None:
        finished = row - self._first
        if finished == 0:
            return None
        strip = Strip(self._first, _taken(self._values, finished), _taken(self._valid, finished))
        self._first = row
        return strip


def _taken(buffer: Tensor, rows: int) -> Tensor:
    """Take the first rows out of a buffer: the others move up, zeros come behind them."""
    *channels, height, width = buffer.shape
    if rows > height:
        taken = torch.cat([buffer, buffer.new_zeros((*channels, rows - height, width))], dim=-2)
    else:
        taken = buffer[..., :rows, :].clone()
    kept = max(0, height - rows)
    buffer[..., :kept, :] = buffer[..., rows:, :].clone()
    buffer[..., kept:, :] = 0
    return taken


class _DeviceWeights:
    """The blend weights of whole windows; most windows of a grid have the same."""

    def __init__(self, grid: Grid, device: torch.device) -> None:
        weights = BlendWeights.of(grid)
        self._rows = {start: weight.tobytes() for start, weight in weights.rows.items()}
        self._cols = {start: weight.tobytes() for start, weight in weights.cols.items()}
        self._device = device
        self._known: dict[tuple[bytes, bytes], Tensor] = {}

    def of(self, window: Window) -> Tensor:
        """Give the weights of a window, (size, size)."""
        key = (self._rows[window.row], self._cols[window.col])
        if key not in self._known:
            if len(self._known) == _KNOWN_WEIGHTS:  # windows that overlap by nearly all have many
                self._known.clear()
            rows, cols = (torch.frombuffer(bytearray(axis), dtype=torch.float32) for axis in key)
            self._known[key] = torch.outer(rows, cols).to(self._device)
        return self._known[key]
