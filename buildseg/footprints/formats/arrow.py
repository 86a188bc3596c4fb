"""Tables of footprints as Arrow batches, which GDAL and Parquet take one after the other."""

from collections.abc import Iterable, Iterator

import geopandas
import pyarrow
import pyproj
import shapely

GEOMETRY = "geometry"

# Arrow's own asks for huge pages, and filling the first of them with zeros can take 20 ms.
_POOL = pyarrow.system_memory_pool()


class ArrowFootprints:
    """The tables of a stream on their way into a file.

    Args:
        tables: Tables with the same columns, at least one.
        crs: Of all of them.
        announced: How many rows they are said to have.

    Attributes:
        schema: Of every batch: the columns, and ``geometry`` as WKB.
        rows: How many went through so far.
        error: What the stream raised; GDAL forgets it and says only that the stream failed.
    """

    def __init__(self, tables: Iterable[geopandas.GeoDataFrame], crs: pyproj.CRS, announced: int) -> None:
        self.crs = crs
        self.announced = announced
        self._tables = iter(tables)
        self._first = _to_arrow(next(self._tables))
        self.schema = pyarrow.schema([field.with_type(_plain(field.type)) for field in self._first.schema])
        self.rows = 0
        self.error: BaseException | None = None

    def tables(self) -> Iterator[pyarrow.Table]:
        """Give the tables, once."""
        try:
            yield self._counted(self._first)
            for table in self._tables:
                yield self._counted(_to_arrow(table))
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise

    def reader(self) -> pyarrow.RecordBatchReader:
        """Give the tables as a reader that C libraries can pull from, once."""
        batches = (batch for table in self.tables() for batch in table.to_batches())
        return pyarrow.RecordBatchReader.from_batches(self.schema, batches)

    def _counted(self, table: pyarrow.Table) -> pyarrow.Table:
        self.rows += len(table)
        return table.cast(self.schema)


def _to_arrow(frame: geopandas.GeoDataFrame) -> pyarrow.Table:
    columns = pyarrow.Table.from_pandas(frame.drop(columns=frame.geometry.name), preserve_index=False)
    wkb = pyarrow.array(shapely.to_wkb(frame.geometry.array), pyarrow.binary(), memory_pool=_POOL)
    return columns.replace_schema_metadata().append_column(GEOMETRY, wkb)


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type to write: a column of text that is empty so far has none, and not all drivers know all of text's."""
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    return pyarrow.string() if pyarrow.types.is_null(kind) or pyarrow.types.is_large_string(kind) else kind
