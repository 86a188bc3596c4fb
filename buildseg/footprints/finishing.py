"""From contours to footprints: shapes, places, attributes; the last step, which sees each footprint's neighbours."""

from collections.abc import Iterator, Sequence

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from buildseg.footprints.bands import BAND_ROWS, ContourBands
from buildseg.footprints.contours import concatenate
from buildseg.footprints.ground import Ground
from buildseg.footprints.marching import FULL
from buildseg.footprints.measures import count_vertices, geodesic_sizes
from buildseg.footprints.shaping import Shaped, Shaper, join_shaped


class Finisher:
    """Finishes footprints band by band, from the top down, as soon as their neighbours are known.

    Where two shapes overlap, or one overlaps the other's contour, both go back to their contours. So the result does
    not depend on which of them came first.

    Args:
        bands: Where contours come from.
        shaper: How they are shaped.
        ground: Where they are.
        min_area: Square metres below which a footprint is dropped.
        scene: What footprints call the scene that they come from.
        clip: What they are cut to, in the raster's pixel coordinates; None leaves them whole.
    """

    def __init__(
        self,
        bands: ContourBands,
        shaper: Shaper,
        ground: Ground,
        min_area: float,
        scene: str,
        clip: shapely.Geometry | None = None,
    ) -> None:
        self._bands = bands
        self._shaper = shaper
        self._ground = ground
        self._min_area = min_area
        self._clip = None
        if clip is not None:
            (self._clip,) = ground.measure(np.array([clip]))
            shapely.prepare(self._clip)
        self._scene = scene
        self._passed = shaper.shape(concatenate([]))
        self._shaped: dict[int, Shaped] = {}
        self._count = 0

    def advance(self, finished_to: float) -> Iterator[geopandas.GeoDataFrame]:
        """Finish what can be finished.

        Args:
            finished_to: The row above which no contour can come any more.

        Yields:
            Tables, from the top of the raster down.
        """
        while (band := self._next()) is not None and (band + 1) * BAND_ROWS <= finished_to:
            here = self._load(band)
            reach = int(self._bottoms(here).max(initial=0) // BAND_ROWS)
            if (reach + 1) * BAND_ROWS > finished_to:
                return
            while (other := self._bands.first()) is not None and other <= reach:
                self._load(other)
            del self._shaped[band]
            yield self._finish(self._separated(here, [self._passed, *self._shaped.values()]))
            passed = join_shaped([self._passed, here])
            self._passed = passed.where(self._bottoms(passed) >= (band + 1) * BAND_ROWS)

    def nothing(self) -> geopandas.GeoDataFrame:
        """A table without rows."""
        return self._finish(self._passed)

    def _next(self) -> int | None:
        return min((band for band in (self._bands.first(), *self._shaped) if band is not None), default=None)

    def _load(self, band: int) -> Shaped:
        if band not in self._shaped:
            self._shaped[band] = self._shaper.shape(self._bands.take(band))
        return self._shaped[band]

    def _bottoms(self, shaped: Shaped) -> NDArray[np.float64]:
        """The lowest rows to which anything might reach that comes near."""
        bottoms = np.maximum(shapely.bounds(shaped.plain)[:, 3], shapely.bounds(shaped.shape)[:, 3])
        return np.asarray((bottoms + 2 * self._shaper.reach) / self._ground.gsd[1] + 1)

    def _separated(self, here: Shaped, others: Sequence[Shaped]) -> Shaped:
        """Give back their contours to those whose shapes meet another's."""
        everything = join_shaped([here, *others])
        groups = everything.group
        meets = np.zeros(len(here), np.bool_)
        changed = everything.shape != everything.plain
        shapes, plains = shapely.STRtree(everything.shape), shapely.STRtree(everything.plain)
        for own, tree in ((here.shape, shapes), (here.shape, plains), (here.plain, shapes)):
            one, other = tree.query(own)
            apart = (groups[one] != groups[other]) & (changed[one] | changed[other])
            one, other = one[apart], other[apart]
            meets[one[_intersect(own, one, tree.geometries, other)]] = True
        back = np.isin(here.group, here.group[meets])
        status = np.where(back, self._shaper.untouched, here.status)
        return Shaped(here.contours, here.plain, np.where(back, here.plain, here.shape), status, here.group)

    def _finish(self, shaped: Shaped) -> geopandas.GeoDataFrame:
        pieces, whole = self._cut(shaped.shape)
        geometry, piece = self._ground.place(pieces)
        area, perimeter = geodesic_sizes(geometry, self._ground.target)
        # What simplifying takes from a building must not decide whether it is one.
        large = area * (shapely.area(shaped.plain) / shapely.area(shaped.shape))[whole[piece]] >= self._min_area
        geometry, piece, area, perimeter = geometry[large], piece[large], area[large], perimeter[large]
        contours = shaped.contours
        order = np.lexsort(_first(contours.polygons)[whole[piece]].T[::-1])
        piece = piece[order]
        origin = whole[piece]
        pixel = self._ground.gsd[0] * self._ground.gsd[1]
        rim = (contours.count - contours.sure) * pixel / shapely.length(shaped.plain)
        columns = {
            "id": np.arange(self._count + 1, self._count + len(order) + 1),
            "confidence": (contours.total / np.maximum(contours.count, 1) / FULL)[origin].round(4),
            "edge_width_m": rim[origin].round(2),
            "area_m2": area[order].round(2),
            "perimeter_m": perimeter[order].round(2),
            "orientation_deg": self._ground.orientations(pieces[piece]).round(1) % 180,
            "vertices": count_vertices(geometry[order]),
            "status": pd.array(shaped.status[origin], dtype="str"),
            "scene": pd.array([self._scene] * len(order), dtype="str"),
        }
        self._count += len(order)
        return geopandas.GeoDataFrame(columns, geometry=geometry[order], crs=self._ground.target)

    def _cut(self, polygons: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
        """Keep what of polygons is wanted: pieces, and the number of the polygon that each comes from."""
        if self._clip is None:
            return polygons, np.arange(len(polygons))
        inside = shapely.contains_properly(self._clip, polygons)
        crossing = np.flatnonzero(~inside & shapely.intersects(self._clip, polygons))
        parts, whose = shapely.get_parts(shapely.intersection(polygons[crossing], self._clip), return_index=True)
        areal = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
        whole = np.concatenate([np.flatnonzero(inside), crossing[whose[areal]]])
        return np.concatenate([polygons[inside], parts[areal]]), whole


def _intersect(
    own: NDArray[np.object_], one: NDArray[np.int64], theirs: NDArray[np.object_], other: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Say which pairs of polygons, given by their numbers, intersect; many may be with one that has many holes."""
    swapped = shapely.get_num_coordinates(own)[one] < shapely.get_num_coordinates(theirs)[other]
    larger, smaller = (np.where(swap, theirs[other], own[one]) for swap in (swapped, ~swapped))
    shapely.prepare(larger)
    return np.asarray(shapely.intersects(larger, smaller))


def _first(polygons: NDArray[np.object_]) -> NDArray[np.float64]:
    """What polygons are sorted by: their top, then their leftmost vertex, shape (n, 3)."""
    leftmost = shapely.get_coordinates(shapely.get_point(shapely.get_exterior_ring(polygons), 0))
    return np.column_stack([shapely.bounds(polygons)[:, 1], leftmost])
