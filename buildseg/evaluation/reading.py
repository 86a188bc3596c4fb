"""Reads what is compared."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd

from buildseg.labels import read_labels
from tiling.errors import LabelError


def read_footprints(path: Path, layer: str | None = None, confidence: str = "confidence") -> geopandas.GeoDataFrame:
    """Read footprints, which may be none.

    Args:
        path: Any vector format.
        layer: The layer to read, where the file has several.
        confidence: Name of the attribute that says how sure each is, 0 to 1.

    Returns:
        Polygons, and their ``confidence`` where the file knows it or holds none.

    Raises:
        LabelError: The file cannot be read, has no CRS or holds no polygons, or the confidences are none.
    """
    frame = read_labels(path, layer, keep=[confidence], may_be_empty=True).frame
    if frame.empty:
        return frame.assign(confidence=0.0)
    if confidence not in frame:
        return frame
    known = pd.to_numeric(frame[confidence], errors="coerce").to_numpy(np.float64)
    if not ((known >= 0) & (known <= 1)).all():
        raise LabelError(
            f"{path}: the attribute {confidence} holds values that are no confidence from 0 to 1; name the right one "
            "with --confidence, or none of the file's to do without"
        )
    geometry = frame.geometry
    return geopandas.GeoDataFrame({"confidence": known}, geometry=geometry.array, crs=frame.crs)
