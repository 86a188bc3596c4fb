"""Finished footprints, on disk where there are many."""

from collections.abc import Iterator
from pathlib import Path

import geopandas
import pandas as pd
import pyproj

_MOST_IN_MEMORY = 50_000


class FootprintTables:
    """Tables of footprints, one after the other; see `buildseg.footprints.stream.FootprintStream`.

    Args:
        folder: An empty one, for what does not stay in memory.
        crs: Of all tables.

    Attributes:
        count: Footprints in all of them.
        provenance: How they came to be, each thing by its name.
    """

    def __init__(self, folder: Path, crs: pyproj.CRS) -> None:
        self.crs = crs
        self.count = 0
        self.provenance: dict[str, str] = {}
        self._folder = folder
        self._files: list[Path] = []
        self._held: list[geopandas.GeoDataFrame] = []

    def add(self, table: geopandas.GeoDataFrame) -> None:
        """Take the next table."""
        self._held.append(table)
        self.count += len(table)
        if sum(map(len, self._held)) > _MOST_IN_MEMORY:
            self._put_down()

    def __iter__(self) -> Iterator[geopandas.GeoDataFrame]:
        for file in self._files:
            yield geopandas.read_feather(file)
        if self._held:
            yield pd.concat(self._held, ignore_index=True)

    def _put_down(self) -> None:
        file = self._folder / f"footprints-{len(self._files)}.arrow"
        pd.concat(self._held, ignore_index=True).to_feather(file)
        self._files.append(file)
        self._held.clear()
