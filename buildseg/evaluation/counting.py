"""Counts pixels over ground of any size, piece by piece."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize

from buildseg.evaluation.outlines import Polygons
from buildseg.evaluation.pixels import Mask, count_boundary, count_levels, count_pixels
from buildseg.evaluation.place import MeasuringGrid, areal
from buildseg.evaluation.scores import PixelTallies
from buildseg.progress import Track, silent
from tiling import Block


class Surface(NamedTuple):
    """What a raster knows of a block.

    Attributes:
        valid: False where nothing is to be counted, shape (rows, cols).
        levels: Stored probabilities of valid pixels, uint8 of the same shape; None where footprints are drawn instead.
    """

    valid: Mask
    levels: NDArray[np.uint8] | None = None


Look = Callable[[Block], Surface]


def everything(block: Block) -> Surface:
    """Count every pixel: the `Look` of a comparison without a raster."""
    return Surface(np.ones((block.rows, block.cols), np.bool_))


class GroundSides(NamedTuple):
    """Both sides in the grid's pixels.

    Attributes:
        found: Footprints.
        truth: True buildings.
        area: What is compared.
    """

    found: Polygons
    truth: Polygons
    area: shapely.Geometry


class Counted(NamedTuple):
    """What was counted.

    Attributes:
        tallies: Pixels by block.
        found: Block of each footprint, -1 where it stands on pixels that are not counted.
        truth: The same of each building.
    """

    tallies: PixelTallies
    found: NDArray[np.intp]
    truth: NDArray[np.intp]


class Counter:
    """Counts pixels and looks up which buildings stand where pixels are counted.

    Args:
        grid: The pixels.
        sides: Both sides.
        look: Reads what is valid.
        distance: Of boundary IoU, in pixels.
        level: Stored probability from which a pixel is building.
    """

    def __init__(self, grid: MeasuringGrid, sides: GroundSides, look: Look, distance: int, level: float) -> None:
        self._grid, self._sides, self._look = grid, sides, look
        self._distance, self._level = distance, level
        self._found, self._truth = _Drawn(sides.found, grid), _Drawn(sides.truth, grid)
        shapely.prepare(sides.area)
        self._pixels = np.zeros((grid.blocks, 4), np.int64)
        self._boundary = np.zeros((grid.blocks, 2), np.int64)
        self._levels: NDArray[np.int64] | None = None

    def count(self, track: Track = silent) -> Counted:
        """Count everything.

        Args:
            track: Shows the pieces that are done.
        """
        for piece in track(self._grid.pieces(), "comparing", len(self._grid)):
            self._count(piece)
        return Counted(PixelTallies(self._pixels, self._boundary, self._levels), self._found.blocks, self._truth.blocks)

    def _count(self, piece: Block) -> None:
        around, inner = self._padded(piece)
        valid, levels = self._look(around)
        valid = valid & self._area_mask(around)
        truth = self._truth.mask(around) & valid
        found = (self._found.mask(around) if levels is None else levels > self._level) & valid
        block = int(self._grid.block_of(np.array(piece.row), np.array(piece.col)))
        self._pixels[block] += count_pixels(truth[inner], found[inner], valid[inner])
        self._boundary[block] += count_boundary(truth, found, self._distance, inner)
        if levels is not None:
            if self._levels is None:
                self._levels = np.zeros((self._grid.blocks, 255, 2), np.int64)
            self._levels[block] += count_levels(levels[inner], truth[inner], valid[inner])
        for drawn in (self._found, self._truth):
            drawn.look_up(piece, valid[inner], block)

    def _padded(self, piece: Block) -> tuple[Block, tuple[slice, slice]]:
        """A piece with what is near it, and where it lies in that."""
        top, left = max(0, piece.row - self._distance), max(0, piece.col - self._distance)
        bottom = min(self._grid.height, piece.row + piece.rows + self._distance)
        right = min(self._grid.width, piece.col + piece.cols + self._distance)
        row, col = piece.row - top, piece.col - left
        return (
            Block(top, left, bottom - top, right - left),
            (slice(row, row + piece.rows), slice(col, col + piece.cols)),
        )

    def _area_mask(self, block: Block) -> Mask:
        square = shapely.box(block.col, block.row, block.col + block.cols, block.row + block.rows)
        if shapely.contains(self._sides.area, square):
            return np.ones((block.rows, block.cols), np.bool_)
        return _burn(areal(np.array([shapely.intersection(self._sides.area, square)])), block)


class _Drawn:
    """Polygons that are drawn block by block.

    Attributes:
        blocks: Block of each, -1 until a valid pixel was seen below a point within it.
    """

    def __init__(self, polygons: Polygons, grid: MeasuringGrid) -> None:
        self._polygons = polygons
        self._tree = shapely.STRtree(polygons)
        points = shapely.get_coordinates(shapely.point_on_surface(polygons)).astype(np.intp)
        self._cols = points[:, 0].clip(0, grid.width - 1)
        self._rows = points[:, 1].clip(0, grid.height - 1)
        self._order = np.argsort(self._rows // grid.piece, kind="stable")
        self._lines = (self._rows // grid.piece)[self._order]
        self._piece = grid.piece
        self.blocks = np.full(len(polygons), -1, np.intp)

    def mask(self, block: Block) -> Mask:
        square = shapely.box(block.col, block.row, block.col + block.cols, block.row + block.rows)
        return _burn(self._polygons[np.sort(self._tree.query(square))], block)

    def look_up(self, piece: Block, valid: Mask, block: int) -> None:
        """Note the block of those that have their point on a valid pixel of a piece."""
        first, last = np.searchsorted(self._lines, (piece.row // self._piece, piece.row // self._piece + 1))
        line = self._order[first:last]
        here = line[(self._cols[line] >= piece.col) & (self._cols[line] < piece.col + piece.cols)]
        here = here[valid[self._rows[here] - piece.row, self._cols[here] - piece.col]]
        self.blocks[here] = block


def _burn(polygons: Polygons, block: Block) -> Mask:
    """Draw polygons: a pixel is building where its centre lies in one."""
    burnt = np.zeros((block.rows, block.cols), np.uint8)
    if shapes := _as_geojson(polygons):
        rasterize(shapes, out=burnt, transform=Affine.translation(block.col, block.row))
    return burnt.view(np.bool_)


def _as_geojson(polygons: Polygons) -> list[dict[str, object]]:
    """What rasterio burns; shapely's own conversion takes ten times as long."""
    parts = shapely.get_parts(polygons)
    parts = parts[~shapely.is_empty(parts)]
    if not len(parts):
        return []
    _, points, (rings, shells) = shapely.to_ragged_array(parts)
    corners, cuts = points.tolist(), rings.tolist()
    lines = [corners[a:b] for a, b in pairwise(cuts)]
    return [{"type": "Polygon", "coordinates": lines[a:b]} for a, b in pairwise(shells.tolist())]
