"""Joins the footprints of scenes that may overlap: each building once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyproj
import shapely
from numpy.typing import NDArray
from pandas.api import types

from buildseg.footprints.stream import FootprintStream
from tiling.errors import OptionError

_SAME = 0.5
_LARGER = 1.1
_EDGE_OF_SCENE, _EDGE_OF_BUILDING = 0.005, 0.1


def merge_footprints(streams: Mapping[str, FootprintStream]) -> "MergedFootprints":
    """Put the footprints of several scenes together, each building once.

    Two footprints of different scenes are the same building where they share at least half of the smaller one. Of
    those the more confident is kept, and of equally confident ones the larger, then that of the first scene. There is
    one exception: a building at a scene's edge is cut off there, however confident the network is about the rest. So a
    footprint at the edge of its scene gives way to one that is larger by a tenth. The edge is that of the convex hull
    of the scene's footprints, which the edge of a scene without concave sides touches wherever it cuts a building.

    One that is dropped drops no other. Footprints without confidence give way to those with. Those of one scene are
    not compared with each other.

    Args:
        streams: Footprints, all in one CRS, by the name of the scene. They are read three times; only those that lie
            where another scene has footprints are held in memory.

    Returns:
        A stream of the columns of all, ``scene``, which names the scene where its footprints do not themselves, and
        ``id`` counted anew.

    Raises:
        OptionError: The CRS differ.
    """
    crs = [stream.crs for stream in streams.values()]
    if any(other != crs[0] for other in crs[1:]):
        raise OptionError("--crs native: the scenes have different CRS, so they have none in common; give EPSG:n")
    hulls = [_hull(stream) for stream in streams.values()]
    near = _Near.collect(list(streams.values()), hulls)
    kept = _kept(near)
    dropped = [near.rows[~kept & (near.scenes == number)] for number in range(len(streams))]
    return MergedFootprints(streams, dropped)


class MergedFootprints:
    """What `merge_footprints` returns: a `FootprintStream`.

    Args:
        streams: By the name of the scene.
        dropped: For each the numbers of the rows that are left out.
    """

    def __init__(self, streams: Mapping[str, FootprintStream], dropped: Sequence[NDArray[np.int64]]) -> None:
        self._streams = streams
        self._dropped = dropped
        samples = [next(iter(stream)) for stream in streams.values()]
        self._columns = _common_columns(samples)
        self.crs: pyproj.CRS = samples[0].crs
        self.count = sum(stream.count for stream in streams.values()) - sum(map(len, dropped))

    def __iter__(self) -> Iterator[geopandas.GeoDataFrame]:
        """Give the footprints, scene by scene."""
        count = 0
        for (name, stream), dropped in zip(self._streams.items(), self._dropped, strict=True):
            row = 0
            for frame in stream:
                stays = ~np.isin(np.arange(row, row + len(frame)), dropped)
                table = self._table(frame[stays], name)
                yield table.assign(id=np.arange(count + 1, count + len(table) + 1))
                row, count = row + len(frame), count + len(table)

    def _table(self, frame: geopandas.GeoDataFrame, name: str) -> geopandas.GeoDataFrame:
        columns = frame.drop(columns=frame.geometry.name).reindex(columns=list(self._columns)).astype(self._columns)
        columns["scene"] = columns["scene"].fillna(name)
        return geopandas.GeoDataFrame(columns, geometry=frame.geometry.array, crs=self.crs)


@dataclass(frozen=True, slots=True)
class _Near:
    """Footprints that lie where another scene has some: arrays of length n."""

    polygons: NDArray[np.object_]
    confidence: NDArray[np.float64]
    at_edge: NDArray[np.bool_]
    scenes: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def collect(cls, streams: Sequence[FootprintStream], hulls: Sequence[shapely.Geometry]) -> "_Near":
        """Find them in streams with those hulls."""
        tree = shapely.STRtree(hulls)
        found = [cls(*(np.zeros(0, kind) for kind in (object, float, bool, np.int64, np.int64)))]
        for scene, stream in enumerate(streams):
            first = 0
            for frame in stream:
                polygons = np.asarray(frame.geometry.array)
                box, other = tree.query(shapely.box(*shapely.bounds(polygons).T), predicate="intersects")
                rows = np.unique(box[other != scene])
                found.append(cls._of(frame.iloc[rows], hulls[scene], scene, rows + first))
                first += len(frame)
        return cls(*(np.concatenate([getattr(one, name) for one in found]) for name in cls.__slots__))

    @classmethod
    def _of(cls, frame: geopandas.GeoDataFrame, hull: shapely.Geometry, scene: int, rows: NDArray[np.int64]) -> "_Near":
        polygons = np.asarray(frame.geometry.array)
        reach = _EDGE_OF_SCENE * hull.area**0.5 + _EDGE_OF_BUILDING * shapely.area(polygons) ** 0.5
        at_edge = shapely.distance(polygons, hull.boundary) <= reach
        confidence = np.full(len(frame), -1.0)
        if "confidence" in frame:
            confidence = pd.to_numeric(frame["confidence"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        return cls(polygons, np.nan_to_num(confidence, nan=-1), at_edge, np.full(len(frame), scene), rows)


def _hull(stream: FootprintStream) -> shapely.Geometry:
    hulls = [_hull_of(frame) for frame in stream]
    return shapely.convex_hull(shapely.geometrycollections(hulls))


def _hull_of(frame: geopandas.GeoDataFrame) -> shapely.Geometry:
    return shapely.convex_hull(shapely.multipoints(shapely.get_coordinates(frame.geometry.array)))


def _kept(near: _Near) -> NDArray[np.bool_]:
    first, second = _rivals(near)
    areas = shapely.area(near.polygons)
    cut = np.zeros(len(areas), np.bool_)
    for one, other in ((first, second), (second, first)):
        cut[one[near.at_edge[one] & (areas[other] > _LARGER * areas[one])]] = True
    rivals: dict[int, list[int]] = {}
    for one, two in zip(first.tolist(), second.tolist(), strict=True):
        rivals.setdefault(one, []).append(two)
        rivals.setdefault(two, []).append(one)
    kept = np.ones(len(areas), np.bool_)
    order = np.lexsort([near.rows, near.scenes, -areas, -near.confidence, cut])
    for index in (index for index in order.tolist() if index in rivals):
        if kept[index]:
            kept[rivals[index]] = False
    return kept


def _rivals(near: _Near) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the pairs that are the same building."""
    polygons = near.polygons
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    other = (first < second) & (near.scenes[first] != near.scenes[second])
    first, second = first[other], second[other]
    shared = shapely.area(shapely.intersection(polygons[first], polygons[second]))
    same = shared >= _SAME * np.minimum(shapely.area(polygons[first]), shapely.area(polygons[second]))
    return first[same], second[same]


def _common_columns(samples: Sequence[geopandas.GeoDataFrame]) -> dict[str, object]:
    """Choose columns for all, and for each a type that all of its values fit and that knows missing ones."""
    attributes = [sample.drop(columns=sample.geometry.name) for sample in samples]
    names = dict.fromkeys(["id", *(name for frame in attributes for name in frame), "scene"])
    return {name: _common_type([frame[name] for frame in attributes if name in frame]) for name in names}


def _common_type(columns: Sequence["pd.Series[Any]"]) -> object:
    kinds = [column.dtype for column in columns]
    if kinds and all(map(types.is_integer_dtype, kinds)):
        return "Int64"
    if kinds and all(map(types.is_bool_dtype, kinds)):
        return "boolean"
    if kinds and all(map(types.is_numeric_dtype, kinds)):
        return "float64"
    if kinds and all(map(types.is_datetime64_any_dtype, kinds)) and len(set(kinds)) == 1:
        return kinds[0]
    return "string"
