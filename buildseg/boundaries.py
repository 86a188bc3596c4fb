"""The boundary label: where one building ends, drawn from its polygon, so that row houses have a line at their wall."""

from typing import Any

import geopandas
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize

from buildseg.classes import BOUNDARY, IGNORE
from tiling import Chip

_SAME_BUILDING = 0.5


def draw_boundaries(
    chip: Chip, polygons: geopandas.GeoSeries, gsd: tuple[float, float], width: float
) -> NDArray[np.uint8]:
    """Draw the boundaries of buildings and their contacts into a label.

    Args:
        chip: What it is the label of.
        polygons: Buildings of the whole scene, one polygon each, in its CRS.
        gsd: Metres per pixel along a row and along a column.
        width: Metres from a building's outline inwards that count, at least a pixel. A gap between two buildings counts
            where it is less than twice as wide.

    Returns:
        Shape (rows, cols): `BOUNDARY`, 0 elsewhere, and `IGNORE` where the image holds nothing.
    """
    width = max(width, *gsd)
    buildings = _buildings_near(chip, polygons, gsd, 2 * width)
    rims = shapely.difference(buildings, shapely.buffer(buildings, -width, quad_segs=2))
    place = Affine.scale(*gsd)
    label = _drawn(rims, chip.mask.shape, place)
    label |= _drawn(_contacts(buildings, width), chip.mask.shape, place) & (chip.mask == 0)
    label[~chip.valid] = IGNORE
    return label


def _buildings_near(
    chip: Chip, polygons: geopandas.GeoSeries, gsd: tuple[float, float], reach: float
) -> NDArray[np.object_]:
    """Give the buildings in a chip and around it, in metres from its corner."""
    rows, cols = chip.mask.shape
    around = shapely.box(-reach, -reach, cols * gsd[0] + reach, rows * gsd[1] + reach)
    to_metres = Affine.scale(*gsd) @ ~chip.transform
    found = polygons.iloc[np.sort(polygons.sindex.query(_moved(around, ~to_metres)))].to_numpy()
    moved: NDArray[np.object_] = _moved(found, to_metres)
    kept: NDArray[np.object_] = moved[shapely.area(moved) > 0]
    return kept


def _moved(geometry: Any, transform: Affine) -> Any:  # noqa: ANN401 - one geometry or an array, and back the same
    return shapely.transform(geometry, lambda xy: np.column_stack(transform @ (xy[:, 0], xy[:, 1])))


def _contacts(buildings: NDArray[np.object_], width: float) -> NDArray[np.object_]:
    """The narrow gaps between two buildings: what closes when both grow, and stays closed when they shrink again.

    Two polygons of one building, drawn twice, are no two buildings.
    """
    one, other = shapely.STRtree(buildings).query(buildings, predicate="dwithin", distance=2 * width)
    one, other = one[one < other], other[one < other]
    common = shapely.area(shapely.intersection(buildings[one], buildings[other]))
    smaller = np.minimum(shapely.area(buildings[one]), shapely.area(buildings[other]))
    two = common < _SAME_BUILDING * smaller
    pairs = shapely.union(buildings[one[two]], buildings[other[two]])
    notches = shapely.union(_closed(buildings[one[two]], width), _closed(buildings[other[two]], width))
    return np.asarray(shapely.difference(_closed(pairs, width), notches))


def _closed(shapes: NDArray[np.object_], width: float) -> NDArray[np.object_]:
    return np.asarray(shapely.buffer(shapely.buffer(shapes, width, quad_segs=2), -width, quad_segs=2))


def _drawn(shapes: NDArray[np.object_], shape: tuple[int, ...], place: Affine) -> NDArray[np.uint8]:
    drawn = shapes[~shapely.is_empty(shapes)]
    if not len(drawn):
        return np.zeros(shape, np.uint8)
    label: NDArray[np.uint8] = rasterize(
        ((geometry, BOUNDARY) for geometry in drawn), out_shape=shape, transform=place, fill=0, dtype="uint8"
    )
    return label
