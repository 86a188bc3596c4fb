"""Keeps contours by bands of rows, on disk where there are many, so that they come back from the top down."""

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import shapely

from buildseg.footprints.contours import Contours, concatenate

BAND_ROWS = 512
_MOST_IN_MEMORY = 100_000


class ContourBands:
    """Contours, by the band of rows in which they begin.

    Args:
        folder: An empty one, for what does not stay in memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, list[Contours]] = defaultdict(list)
        self._files: dict[int, list[Path]] = defaultdict(list)
        self._count = 0
        self._numbers = itertools.count()

    def add(self, contours: Contours) -> None:
        """Take contours, in any order."""
        if not len(contours):
            return
        tops = shapely.bounds(contours.polygons)[:, 1]
        bands = (tops // BAND_ROWS).astype(np.int64)
        for band in np.unique(bands).tolist():
            self._held[band].append(contours.where(bands == band))
        self._count += len(contours)
        if self._count > _MOST_IN_MEMORY:
            self._put_down()

    def first(self) -> int | None:
        """Name the topmost band that holds anything."""
        return min(self._held.keys() | self._files.keys(), default=None)

    def take(self, band: int) -> Contours:
        """Give the contours of a band; they are kept no longer."""
        held = self._held.pop(band, [])
        self._count -= sum(map(len, held))
        files = self._files.pop(band, [])
        contours = concatenate([*map(_read, files), *held])
        for file in files:
            file.unlink()
        return contours

    def _put_down(self) -> None:
        for band, held in self._held.items():
            file = self._folder / f"{next(self._numbers)}.arrow"
            _write(concatenate(held), file)
            self._files[band].append(file)
        self._held.clear()
        self._count = 0


def _write(contours: Contours, file: Path) -> None:
    columns = dict(zip(("total", "count", "sure", "peak"), contours.sums, strict=True))
    table = pa.table({"polygon": pa.array(shapely.to_wkb(contours.polygons), pa.binary()), **columns})
    pyarrow.feather.write_feather(table, file)


def _read(file: Path) -> Contours:
    table = pyarrow.feather.read_table(file, memory_map=False)
    polygons, *sums = (column.to_numpy() for column in table.columns)
    return Contours(shapely.from_wkb(polygons), *sums)
