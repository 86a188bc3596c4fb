"""Footprints as a stream of tables, so that millions of them need not stand in memory at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import geopandas
import pyproj

_ROWS = 10_000


class FootprintStream(Protocol):
    """Footprints, table by table."""

    @property
    def crs(self) -> pyproj.CRS:
        """The coordinate reference system of all tables."""

    @property
    def count(self) -> int:
        """Rows of all tables together."""

    def __iter__(self) -> Iterator[geopandas.GeoDataFrame]:
        """Give the tables, as often as asked: at least one, which may be empty, all with the same columns.

        A table has some 10,000 rows.
        """


@dataclass(frozen=True, slots=True)
class InMemory:
    """A stream of one table that is there already.

    Attributes:
        frame: The table.
    """

    frame: geopandas.GeoDataFrame

    @property
    def crs(self) -> pyproj.CRS:
        """The table's coordinate reference system."""
        crs: pyproj.CRS = self.frame.crs
        return crs

    @property
    def count(self) -> int:
        """Its rows."""
        return len(self.frame)

    def __iter__(self) -> Iterator[geopandas.GeoDataFrame]:
        """Give the table in pieces."""
        for start in range(0, max(1, len(self.frame)), _ROWS):
            yield self.frame.iloc[start : start + _ROWS]
