"""Styles that QGIS applies by itself: a ``.qml`` file of the same stem beside a layer.

One template serves footprints and the probability raster, since the two may share a stem. It says no more than QGIS
3.22 knows, and later versions read it as it is.
"""

import importlib.resources
import logging
from collections.abc import Iterable
from pathlib import Path

from tiling.output import remove_leftovers, written_whole

SUFFIX = ".qml"
_NO_STYLE = (".pmtiles",)
_log = logging.getLogger(__name__)


def style_to_write(target: Path, columns: Iterable[str], *, overwrite: bool = False) -> str | None:
    """Say what style belongs beside a footprint file: outlines, filled by confidence.

    A style that is there already is somebody's work, or ours, and stays unless files may be replaced.

    Args:
        target: The footprint file.
        columns: What its footprints have; without ``confidence`` there is no style.
        overwrite: Whether existing files may be replaced.

    Returns:
        The content of a ``.qml`` file; None if none is to be written.
    """
    if target.suffix.lower() in _NO_STYLE or "confidence" not in columns:
        return None
    style = (importlib.resources.files(__package__) / "style.qml").read_text(encoding="utf-8")
    beside = target.with_suffix(SUFFIX)
    if not beside.exists() or overwrite:
        return style
    if beside.read_text(encoding="utf-8", errors="replace") != style:
        _log.info("%s was there before and is kept: QGIS shows %s by it", beside, target.name)
    return None


def write_raster_style(target: Path, *, overwrite: bool = False) -> None:
    """Write a style beside a probability raster: colours from no building to building, nodata clear.

    Args:
        target: The raster.
        overwrite: Whether a style that is there may be replaced; if not, it is kept.

    Raises:
        OutputError: It cannot be written.
    """
    style = style_to_write(target, ["confidence"], overwrite=overwrite)
    if style:
        remove_leftovers(target.with_suffix(SUFFIX))
        with written_whole(target.with_suffix(SUFFIX), overwrite=True) as partial:
            partial.write_text(style, encoding="utf-8")
