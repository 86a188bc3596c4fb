"""Joins the footprints of scenes that may overlap."""

from collections.abc import Mapping

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from tiling.errors import OptionError

_SAME = 0.5


def merge_footprints(frames: Mapping[str, geopandas.GeoDataFrame]) -> geopandas.GeoDataFrame:
    """Put the footprints of several scenes into one table, each building once.

    Two footprints of different scenes are the same building where they share at least half of the smaller one. Of
    those the larger is kept, since a building at a scene's edge is cut off there; of equal ones that of the first
    scene. One that is dropped drops no other.

    Args:
        frames: Tables from `vectorize`, all in one CRS, by the name of the scene.

    Returns:
        The columns of the tables and ``scene``, with ``id`` counted anew.

    Raises:
        OptionError: The tables differ in their CRS.
    """
    crs = [frame.crs for frame in frames.values()]
    if any(other != crs[0] for other in crs[1:]):
        raise OptionError("--crs native: the scenes have different CRS, so they have none in common; give EPSG:n")
    named = [frame.assign(scene=name) for name, frame in frames.items()]
    table = geopandas.GeoDataFrame(pd.concat(named, ignore_index=True), geometry="geometry", crs=crs[0])
    numbers = np.repeat(np.arange(len(named)), [len(frame) for frame in named])
    kept = table[_kept(np.asarray(table.geometry.array), table["area_m2"].to_numpy(), numbers)]
    return kept.assign(id=np.arange(1, len(kept) + 1)).reset_index(drop=True)


def _kept(polygons: NDArray[np.object_], areas: NDArray[np.float64], scenes: NDArray[np.int64]) -> NDArray[np.bool_]:
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    other = (first < second) & (scenes[first] != scenes[second])
    first, second = first[other], second[other]
    shared = shapely.area(shapely.intersection(polygons[first], polygons[second]))
    same = shared >= _SAME * np.minimum(shapely.area(polygons[first]), shapely.area(polygons[second]))
    rivals: dict[int, list[int]] = {}
    for one, two in zip(first[same].tolist(), second[same].tolist(), strict=True):
        rivals.setdefault(one, []).append(two)
        rivals.setdefault(two, []).append(one)
    kept = np.ones(len(polygons), np.bool_)
    for index in sorted(rivals, key=lambda index: (-areas[index], scenes[index], index)):
        if kept[index]:
            kept[rivals[index]] = False
    return kept
