"""Reads what is compared."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd

from buildseg.labels import read_labels
from tiling.errors import LabelError, OptionError

CONFIDENCE = "confidence"
"""What most files call it, ours among them; those that do not have it are compared without."""


def read_footprints(
    path: Path, layer: str | None = None, confidence: str | None = CONFIDENCE
) -> geopandas.GeoDataFrame:
    """Read footprints, which may be none.

    Args:
        path: Any vector format.
        layer: The layer to read, where the file has several.
        confidence: Name of the attribute that says how sure each is, 0 to 1; None does without.

    Returns:
        Polygons, and their ``confidence`` where the file knows it or holds none.

    Raises:
        LabelError: The file cannot be read, has no CRS or holds no polygons, or the confidences are none.
        OptionError: There is no attribute of a name that is not the usual one.
    """
    frame = read_labels(path, layer, keep=[confidence] if confidence else [], may_be_empty=True).frame
    if frame.empty:
        return frame.assign(confidence=0.0)
    if confidence is None or (confidence == CONFIDENCE and confidence not in frame):
        return frame
    if confidence not in frame:
        raise OptionError(
            f"--confidence: {path} has no attribute {confidence!r}; check the name, or give none for none"
        )
    known = pd.to_numeric(frame[confidence], errors="coerce").to_numpy(np.float64)
    if not ((known >= 0) & (known <= 1)).all():
        raise LabelError(
            f"{path}: the attribute {confidence} holds values that are no confidence from 0 to 1; name the right one "
            "with --confidence, or do without: --confidence none"
        )
    geometry = frame.geometry
    return geopandas.GeoDataFrame({"confidence": known}, geometry=geometry.array, crs=frame.crs)
