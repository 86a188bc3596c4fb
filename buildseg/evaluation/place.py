"""Where two sides are compared: one local metric projection for buildings, one grid of pixels for masks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray

from buildseg.evaluation.outlines import Polygons
from buildseg.footprints.measures import WGS84, transformer
from tiling import Block
from tiling.errors import LabelError, OptionError

Geometry = TypeVar("Geometry", shapely.Geometry, NDArray[np.object_])

_PIECE = 2048
_STEPS = 100
_SMALLEST_BLOCK = 50.0
_BLOCKS_ACROSS = 10
_MOST_BLOCKS = 10_000


def local_projection(points: NDArray[np.float64], crs: pyproj.CRS) -> pyproj.CRS:
    """Give the equal-area projection in metres around the middle of some points, at the antimeridian and poles too.

    Areas in it are those on the WGS84 ellipsoid; lengths are right to 0.1% within 500 km of the middle.

    Args:
        points: Shape (n, 2), at least one.
        crs: Their coordinate reference system.

    Raises:
        LabelError: None is a place on earth.
    """
    degrees = np.column_stack(transformer(crs, WGS84).transform(*points.T))
    degrees = degrees[np.isfinite(degrees).all(axis=1)]
    if not len(degrees):
        raise LabelError(f"there are only coordinates that are no place on earth in {crs.name}; check the CRS")
    east, north = np.radians(degrees.T)
    sphere = (np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north))
    x, y, z = (float(axis.mean()) for axis in sphere)
    lon, lat = math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))
    return pyproj.CRS.from_user_input(f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m")


def reproject(polygons: Polygons, source: pyproj.CRS, target: pyproj.CRS, name: str) -> Polygons:
    """Bring polygons to another CRS; what breaks on the way is repaired.

    Args:
        polygons: Shape (n,).
        source: Their CRS.
        target: The other one.
        name: Where they come from, for messages.

    Raises:
        LabelError: They cannot be brought there.
    """
    way = transformer(source, target)
    moved: Polygons = shapely.transform(polygons, lambda points: np.column_stack(way.transform(*points.T)))
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        raise LabelError(f"{name} holds coordinates that are no place on earth in its CRS {source.name}; check its CRS")
    broken = ~shapely.is_valid(moved)
    moved[broken] = areal(shapely.make_valid(moved[broken], method="structure", keep_collapsed=False))
    return moved


def areal(geometries: Polygons) -> Polygons:
    """Leave only polygons of geometries that were cut; shape (n,), empty where nothing is left."""
    flat = np.isin(shapely.get_type_id(geometries), (3, 6))
    if flat.all():
        return geometries
    mended = geometries.copy()
    for place in np.flatnonzero(~flat):
        parts = shapely.get_parts(shapely.get_parts(geometries[place]))
        mended[place] = shapely.union_all(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])
    return mended


@dataclass(frozen=True, slots=True)
class MeasuringGrid:
    """The pixels that are compared, worked through in pieces, some of which make a block.

    Attributes:
        crs: Its coordinate reference system.
        transform: From pixels to that.
        height: Rows.
        width: Columns.
        gsd: Metres per pixel, at its middle.
        metric: The projection that buildings are measured in.
        piece: Rows and columns of what is worked on at once.
        pieces_across: Pieces along a block's side.
    """

    crs: pyproj.CRS
    transform: Affine
    height: int
    width: int
    gsd: float
    metric: pyproj.CRS
    piece: int
    pieces_across: int

    @classmethod
    def over(
        cls,
        crs: pyproj.CRS,
        transform: Affine,
        shape: tuple[int, int],
        gsd: float,
        metric: pyproj.CRS,
        side: float | None,
    ) -> "MeasuringGrid":
        """Lay a grid.

        Args:
            crs: Its coordinate reference system.
            transform: From pixels to that.
            shape: Rows and columns.
            gsd: Metres per pixel.
            metric: The projection that buildings are measured in.
            side: Of a block, in metres; None makes about a hundred, of 50 m at least.

        Raises:
            OptionError: The blocks are too many.
        """
        if side is None:
            side = max(_SMALLEST_BLOCK, gsd * math.sqrt(shape[0] * shape[1]) / _BLOCKS_ACROSS)
        block = max(1, round(side / gsd))
        across = math.ceil(block / _PIECE)
        grid = cls(crs, transform, *shape, gsd, metric, math.ceil(block / across), across)
        if grid.blocks > _MOST_BLOCKS:
            raise OptionError(
                f"--block {side:g} makes {grid.blocks:,} blocks; give more metres, for {_MOST_BLOCKS:,} at most"
            )
        return grid

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        down, across = self._blocks_along
        return down * across

    @property
    def _blocks_along(self) -> tuple[int, int]:
        block = self.piece * self.pieces_across
        return math.ceil(self.height / block), math.ceil(self.width / block)

    def pieces(self) -> Iterator[Block]:
        """Give the pieces, row by row."""
        for row in range(0, self.height, self.piece):
            for col in range(0, self.width, self.piece):
                yield Block(row, col, min(self.piece, self.height - row), min(self.piece, self.width - col))

    def __len__(self) -> int:
        return math.ceil(self.height / self.piece) * math.ceil(self.width / self.piece)

    def block_of(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.intp]:
        """Number the blocks that pixels lie in."""
        block = self.piece * self.pieces_across
        return rows // block * self._blocks_along[1] + cols // block

    @property
    def extent(self) -> shapely.Polygon:
        """The grid's outline in pixels, in small steps, so that it stays in place in another CRS."""
        return shapely.segmentize(shapely.box(0, 0, self.width, self.height), max(self.width, self.height) / _STEPS)

    def to_pixels(self, geometry: Geometry) -> Geometry:
        """Bring geometries from metres to pixels."""
        way, back = transformer(self.metric, self.crs), ~self.transform
        moved: Geometry = shapely.transform(
            geometry, lambda points: np.column_stack(back @ tuple(way.transform(*points.T)))
        )
        return moved

    def to_metres(self, geometry: Geometry) -> Geometry:
        """Bring geometries from pixels to metres."""
        way = transformer(self.crs, self.metric)
        moved: Geometry = shapely.transform(
            geometry, lambda points: np.column_stack(way.transform(*(self.transform @ tuple(points.T))))
        )
        return moved
