"""From a probability raster to a table of footprints, block by block."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from buildseg.footprints.area import geodesic_areas
from buildseg.footprints.contours import FULL, Contours, contour_level, join, trace
from buildseg.footprints.ground import Ground, find_ground
from buildseg.footprints.raster import cut_blocks, limited_cache, opened_probability, read_block
from buildseg.progress import Track, silent
from tiling import Block
from tiling.errors import OptionError


@dataclass(frozen=True, slots=True)
class VectorizeOptions:
    """How footprints are made of probabilities.

    Attributes:
        threshold: Probability from which a pixel is building, in (0, 1).
        min_area: Square metres below which a footprint is dropped, 0 or more.
        simplify: Metres that the outline may move to save vertices; None takes half a pixel, 0 keeps all.
        crs: "wgs84", "native" (the raster's own) or "EPSG:n".
        block: Rows and columns that are worked on at once. The footprints do not depend on it.

    Raises:
        OptionError: A value is out of its range, or the CRS is unknown.
    """

    threshold: float = 0.5
    min_area: float = 5.0
    simplify: float | None = None
    crs: str = "wgs84"
    block: int = 512

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise OptionError(f"--threshold {self.threshold:g} is out of range; give a probability above 0 and below 1")
        if not 0 <= self.min_area < np.inf:
            raise OptionError(f"--min-area {self.min_area:g} is no area in square metres; give 0 or more")
        if self.simplify is not None and not 0 <= self.simplify < np.inf:
            raise OptionError(f"--simplify {self.simplify:g} is no length in metres; give 0 or more")
        if self.block < 1:
            raise OptionError(f"--block {self.block} is no number of pixels; give 1 or more")
        if self.crs not in {"wgs84", "native"}:
            _check_crs(self.crs)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Finished footprints: all arrays of length n, `first` of shape (n, 3) for the order."""

    geometry: NDArray[np.object_]
    area: NDArray[np.float64]
    confidence: NDArray[np.float64]
    first: NDArray[np.float64]


class Vectorizer:
    """Collects footprints from the blocks of a probability raster, which may come in any order.

    Polygons that lie within a block are finished with it; only those that go on in a neighbour wait to be
    joined, so memory grows with the footprints and not with the raster.

    Args:
        ground: Where the raster lies.
        options: Threshold, filters and CRS.
        clip: What footprints are cut to, in the raster's pixel coordinates; None leaves them whole.
    """

    def __init__(self, ground: Ground, options: VectorizeOptions, clip: shapely.Geometry | None = None) -> None:
        self._ground = ground
        self._options = options
        self._clip = clip
        self._level = contour_level(options.threshold)
        self._batches: list[_Batch] = []
        self._waiting: list[Contours] = []

    def add(self, samples: NDArray[np.uint8], block: Block) -> None:
        """Take one block.

        Args:
            samples: From `read_block`.
            block: One of `cut_blocks`.
        """
        contours, goes_on = trace(samples, self._level, block.row, block.col)
        if not goes_on.all():
            self._finish(contours.where(~goes_on))
        if goes_on.any():
            self._waiting.append(contours.where(goes_on))

    def table(self) -> geopandas.GeoDataFrame:
        """Join what waits; the vectorizer is done with.

        Returns:
            What `vectorize` returns.
        """
        self._finish(join(self._waiting))
        return _table(self._batches, self._ground.target)

    def _finish(self, contours: Contours) -> None:
        if self._clip is not None:
            contours = contours.cut(self._clip)
        self._batches.append(_finish(contours, self._ground, self._options))


def vectorize(raster: Path, options: VectorizeOptions, *, track: Track = silent) -> geopandas.GeoDataFrame:
    """Turn a probability raster into footprints.

    Args:
        raster: A probability raster: one uint8 band, 0..254 for 0..1, 255 for nodata, in any CRS.
        options: Threshold, filters and CRS.
        track: Shows the blocks that are done.

    Returns:
        Columns ``id`` (1, 2, ... from the top of the raster down), ``area_m2`` (on the ellipsoid, to 0.01),
        ``confidence`` (mean probability inside the contour before it was simplified, 0 to 1, to 0.0001) and
        ``geometry`` (valid polygons). Empty if there is no building.

    Raises:
        ProbabilityError: The file is no probability raster, or damaged.
        OptionError: The raster cannot be brought to the CRS asked for.
    """
    with limited_cache(), opened_probability(raster) as dataset:
        vectorizer = Vectorizer(find_ground(raster, dataset, options.crs), options)
        blocks = cut_blocks(dataset.height, dataset.width, options.block)
        for block in track(blocks, "vectorizing", len(blocks)):
            vectorizer.add(read_block(dataset, block), block)
    return vectorizer.table()


def _check_crs(name: str) -> None:
    remedy = "give wgs84, native or a code like EPSG:32632"
    if not re.fullmatch(r"EPSG:\d+", name, re.IGNORECASE):
        raise OptionError(f"--crs {name} is no CRS; {remedy}")
    try:
        crs = pyproj.CRS.from_user_input(name)
    except pyproj.exceptions.CRSError as error:
        raise OptionError(f"--crs {name} is not known to PROJ; {remedy}") from error
    if not (crs.is_geographic or crs.is_projected):
        raise OptionError(f"--crs {name} ({crs.name}) is no CRS for maps; {remedy}")


def _finish(contours: Contours, ground: Ground, options: VectorizeOptions) -> _Batch:
    # The same polygon may come with another first vertex from other blocks, and simplifying keeps the first.
    polygons = shapely.normalize(contours.polygons)
    geometry, origin = ground.place(ground.measure(polygons, options.simplify))
    area = geodesic_areas(geometry, ground.target)
    large = area >= options.min_area
    geometry, origin, area = geometry[large], origin[large], area[large]
    leftmost = shapely.get_coordinates(shapely.get_point(shapely.get_exterior_ring(polygons), 0))
    first = np.column_stack([shapely.bounds(polygons)[:, 1], leftmost])
    return _Batch(geometry, area, contours.total[origin] / contours.count[origin] / FULL, first[origin])


def _table(batches: Sequence[_Batch], crs: pyproj.CRS) -> geopandas.GeoDataFrame:
    first = np.concatenate([batch.first for batch in batches])
    order = np.lexsort(first.T[::-1])
    return geopandas.GeoDataFrame(
        {
            "id": np.arange(1, len(order) + 1),
            "area_m2": np.concatenate([batch.area for batch in batches])[order].round(2),
            "confidence": np.concatenate([batch.confidence for batch in batches])[order].round(4),
        },
        geometry=np.concatenate([batch.geometry for batch in batches])[order],
        crs=crs,
    )
