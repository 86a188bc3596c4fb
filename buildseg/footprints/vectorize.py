"""From a probability raster to footprints, block by block."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from buildseg import __version__
from buildseg.footprints.bands import ContourBands
from buildseg.footprints.contours import Contours, contour_level, trace
from buildseg.footprints.finishing import Finisher
from buildseg.footprints.ground import check_crs, find_ground
from buildseg.footprints.joining import Joiner
from buildseg.footprints.marching import FULL
from buildseg.footprints.parting import Parter
from buildseg.footprints.raster import cut_blocks, limited_cache, opened_probability, read_block
from buildseg.footprints.shaping import ShapeOptions, Shaper
from buildseg.footprints.tables import FootprintTables
from buildseg.progress import Track, silent
from buildseg.threads import map_ahead, usable_cores
from tiling import Block
from tiling.errors import OptionError

# So that the other cores have work while this one finishes a whole band.
_TRACED_AHEAD = 64


@dataclass(frozen=True, slots=True)
class VectorizeOptions:
    """How footprints are made of probabilities.

    Attributes:
        threshold: Probability from which a pixel is building, in (0, 1).
        core: Probability that a footprint must reach somewhere, from the threshold up to 1; None asks for no more than
            the threshold.
        min_area: Square metres below which a footprint is dropped, before it is simplified; 0 or more.
        shape: What shape they are given.
        crs: "wgs84", "native" (the raster's own) or "EPSG:n".
        block: Rows and columns that are worked on at once. The footprints do not depend on them.

    Raises:
        OptionError: A value is out of its range, or the CRS is unknown.
    """

    threshold: float = 0.5
    core: float | None = None
    min_area: float = 5.0
    shape: ShapeOptions = field(default_factory=ShapeOptions)
    crs: str = "wgs84"
    block: tuple[int, int] = (512, 2048)

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise OptionError(f"--threshold {self.threshold:g} is out of range; give a probability above 0 and below 1")
        if self.core is not None and not self.threshold <= self.core < 1:
            raise OptionError(
                f"--core {self.core:g} is out of range; give a probability from the threshold of {self.threshold:g} on "
                "and below 1"
            )
        if not 0 <= self.min_area < np.inf:
            raise OptionError(f"--min-area {self.min_area:g} is no area in square metres; give 0 or more")
        if min(self.block) < 1:
            raise OptionError(f"block: {self.block[0]} x {self.block[1]} pixels are none; give 1 or more of each")
        check_crs(self.crs)

    def in_words(self) -> dict[str, str]:
        """Put all that the footprints depend on into words, by the name of the option."""
        shape = self.shape
        deviation = "four pixels" if shape.max_deviation is None else str(shape.max_deviation)
        return {
            "--threshold": str(self.threshold),
            "--core": "none" if self.core is None else str(self.core),
            "--min-area": str(self.min_area),
            "--min-hole": str(shape.min_hole),
            "--simplify": "half a pixel" if shape.simplify is None else str(shape.simplify),
            "--regularize": f"yes, within {deviation}" if shape.regularize else "no",
            "--split": shape.split.method,
            "--crs": self.crs,
        }


class Vectorizer:
    """Makes footprints from the blocks of a probability raster, which may come in any order.

    A polygon is finished as soon as the blocks that it reaches into are there, and its neighbours are known. What
    waits is on disk where it is much, so memory grows with the raster's width at most.

    Args:
        dataset: The raster, from `opened_probability`; it is read while footprints are finished.
        blocks: From `cut_blocks`.
        options: Threshold, filters, shape and CRS.
        folder: An empty one, for what does not stay in memory; it must be there as long as the tables are.
        scene: What footprints call the scene that they come from.
        clip: What they are cut to, in the raster's pixel coordinates; None leaves them whole.
    """

    def __init__(
        self,
        dataset: DatasetReader,
        blocks: Sequence[Block],
        options: VectorizeOptions,
        folder: Path,
        *,
        scene: str,
        clip: shapely.Geometry | None = None,
    ) -> None:
        self.level = contour_level(options.threshold)
        self._least_peak = math.ceil((options.core or 0) * FULL - 1e-9)
        self._joiner = Joiner(blocks)
        self._added = 0
        self._bands = ContourBands(folder)
        ground = find_ground(Path(dataset.name), dataset, options.crs)
        shaper = Shaper(ground, options.shape, Parter(dataset, options.shape.split, self.level))
        self._finisher = Finisher(self._bands, shaper, ground, options.min_area, scene, clip)
        self._tables = FootprintTables(folder, ground.target)
        self._tables.add(self._finisher.nothing())

    def add(self, block: Block, contours: Contours, goes_on: NDArray[np.bool_]) -> None:
        """Take one block.

        Args:
            block: Which.
            contours: What `trace` finds in it at `level`.
            goes_on: Likewise.
        """
        self._keep(self._joiner.add(block, contours, goes_on))
        self._added += 1
        if self._added % self._joiner.across == 0:
            self._advance()

    def finish(self) -> FootprintTables:
        """Give the footprints; all blocks are there.

        Returns:
            Columns ``id`` (1, 2, ... from the top of the raster down), ``confidence`` (mean probability inside the
            contour before it was simplified, 0 to 1, to 0.0001), ``edge_width_m`` (mean width of the rim, inside the
            contour, in which the probability is nearer to the threshold than to 1: how far the outline may be off),
            ``area_m2`` and ``perimeter_m`` (on the ellipsoid, to 0.01), ``orientation_deg`` (of the longer side,
            clockwise from true north, 0 up to 180), ``vertices``, ``status`` (how the shape came about), ``scene`` and
            ``geometry`` (valid polygons, none of which overlap). No rows if there is no building.
        """
        self._advance()
        return self._tables

    def _keep(self, contours: Contours) -> None:
        self._bands.add(contours.where(contours.peak >= self._least_peak))

    def _advance(self) -> None:
        self._keep(self._joiner.ready())
        for table in self._finisher.advance(self._joiner.finished_to):
            self._tables.add(table)


@contextmanager
def vectorized(raster: Path, options: VectorizeOptions, *, track: Track = silent) -> Iterator[FootprintTables]:
    """Turn a probability raster into footprints that need not fit into memory.

    Args:
        raster: A probability raster: one uint8 band, 0..254 for 0..1, 255 for nodata, in any CRS.
        options: Threshold, filters, shape and CRS.
        track: Shows the blocks that are done.

    Yields:
        Tables as `Vectorizer.finish` describes them; they can be read as long as the context is open.

    Raises:
        ProbabilityError: The file is no probability raster, or damaged.
        OptionError: The raster cannot be brought to the CRS asked for.
    """
    with limited_cache(), opened_probability(raster) as dataset, tempfile.TemporaryDirectory() as folder:
        blocks = cut_blocks(dataset.height, dataset.width, options.block)
        made = _provenance(dataset)
        vectorizer = Vectorizer(dataset, blocks, options, Path(folder), scene=Path(made.get("scene", raster)).stem)

        def traced(read: tuple[Block, NDArray[np.uint8]]) -> tuple[Block, Contours, NDArray[np.bool_]]:
            block, samples = read
            return block, *trace(samples, vectorizer.level, block.row, block.col)

        reads = ((block, read_block(dataset, block)) for block in blocks)
        found = map_ahead(traced, reads, threads=usable_cores(), ahead=_TRACED_AHEAD)
        for each in track(found, "Vectorizing", len(blocks)):
            vectorizer.add(*each)
        footprints = vectorizer.finish()
        footprints.provenance = made | options.in_words()
        yield footprints


def vectorize(raster: Path, options: VectorizeOptions, *, track: Track = silent) -> geopandas.GeoDataFrame:
    """Turn a probability raster into one table of footprints, in memory; see `vectorized`."""
    with vectorized(raster, options, track=track) as tables:
        return pd.concat(list(tables), ignore_index=True)


def _provenance(dataset: DatasetReader) -> dict[str, str]:
    """What the raster says of how it was made."""
    tags = dataset.tags()
    made = {name: tags[f"BUILDSEG_{name.upper()}"] for name in ("scene", "model") if f"BUILDSEG_{name.upper()}" in tags}
    return {"buildseg": __version__, "probability": Path(dataset.name).name, **made}
