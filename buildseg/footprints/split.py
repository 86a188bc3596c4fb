"""Parts outlines that are several buildings wall to wall: row houses and perimeter blocks.

Where the network says building and not boundary is the core of a building. Cores that touch, where a wall was seen in
part only, are told by their necks: from one middle to the other, the way gets narrow. Then the cores grow at one speed
until they meet (a watershed over the distance to them: Vincent and Soille 1991), and the outline is cut along the
lines where they do. Without boundaries, the whole outline is one core, and only its necks can part it.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label
from skimage.segmentation import watershed

from buildseg.footprints.marching import FULL, NODATA
from buildseg.footprints.regions import narrow_regions, without_small
from buildseg.footprints.walls import cut_outline, without_slivers
from tiling.errors import OptionError

Method = Literal["none", "auto", "boundary", "distance"]

_CORE = 0.6
"""Probability of building and not boundary above which a pixel belongs to a core."""
_RIM = 3.0
"""Pixels from the outline within which a boundary is the building's own."""


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How outlines are parted.

    Attributes:
        method: ``boundary`` parts along the probability of boundaries; ``distance`` where the outline has a neck,
            without asking the network; ``auto`` takes ``boundary`` where there is such a band and else leaves outlines
            whole; ``none`` leaves them whole.
        min_part: Pixels below which a part is joined to the neighbour with the longest wall in common, 0 or more.

    Raises:
        OptionError: The method is unknown, or a value is out of range.
    """

    method: str = "auto"
    min_part: float = 40.0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise OptionError(f"--split {self.method} is unknown; choose from {', '.join(get_args(Method))}")
        if not 0 <= self.min_part < math.inf:
            raise OptionError(f"--split: parts of {self.min_part:g} pixels and more cannot be; give 0 or more")

    def settled(self, *, boundary: bool) -> Literal["none", "boundary", "distance"]:
        """Say what is done to a raster.

        Args:
            boundary: Whether it has probabilities of boundaries.

        Raises:
            OptionError: They are asked for, and it has none.
        """
        if self.method == "boundary" and not boundary:
            raise OptionError(
                "--split boundary: the raster has no boundary probability; predict with a model that was trained with "
                "--boundaries, or give --split distance"
            )
        if self.method == "distance":
            return "distance"
        return "boundary" if boundary and self.method != "none" else "none"


def split_outline(
    outline: shapely.Polygon,
    building: NDArray[np.uint8],
    boundary: NDArray[np.uint8] | None,
    corner: tuple[int, int],
    options: SplitOptions,
) -> NDArray[np.object_]:
    """Part an outline into buildings.

    Only samples within the outline's bounding box have a say, so the parts do not depend on how a scene is cut into
    blocks; nor do they on where the outline's rings begin.

    Args:
        outline: A whole contour in pixel coordinates: x is the column, y the row, and the first pixel's centre is
            (0.5, 0.5). Its vertices are multiples of 1/1024.
        building: Stored probabilities of building of a rectangle that encloses it, shape (rows, cols).
        boundary: Those of boundaries, same shape; None if there are none.
        corner: The scene's row and column of the first sample.
        options: How.

    Returns:
        Its parts, in pixel coordinates, multiples of 1/1024. They cover the outline exactly, do not overlap, and share
        their walls. Where there is nothing to part, the outline itself.

    Raises:
        OptionError: Boundaries are asked for and there are none.
    """
    whole = np.array([outline], dtype=object)
    method = options.settled(boundary=boundary is not None)
    if method == "none" or outline.area < 2 * options.min_part:
        return whole
    first = np.floor(shapely.bounds(outline)[:2]).astype(np.int64) - 1
    local = shapely.transform(outline, lambda xy: xy - first)
    frame = _Frame(local, (first[1] - corner[0], first[0] - corner[1]))
    if method == "distance" or boundary is None:
        regions = narrow_regions(distance_transform_edt(frame.inside))
    else:
        regions = _by_boundary(frame.inside, frame.of(building) * (1 - frame.of(boundary)))
    if regions.max() < 2:
        return whole
    parts = cut_outline(local, without_small(regions, options.min_part))
    return np.asarray(shapely.transform(without_slivers(parts, options.min_part), lambda xy: xy + first))


class _Frame:
    """The pixels of an outline's bounding box, and one more on each side.

    Args:
        outline: In pixels of the frame.
        corner: The frame's row and column of its first pixel in the rectangle that samples come in.
    """

    def __init__(self, outline: shapely.Polygon, corner: tuple[int, int]) -> None:
        cols, rows = (math.ceil(edge) + 1 for edge in shapely.bounds(outline)[2:])
        self._corner = corner
        shapely.prepare(outline)
        y, x = np.ogrid[:rows, :cols]
        self.inside = np.asarray(shapely.contains_xy(outline, x + 0.5, y + 0.5))

    def of(self, stored: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give the probabilities of the bounding box, 0..1, and 0 around it and for nodata; shape (rows, cols)."""
        row, col = self._corner
        rows, cols = self.inside.shape
        box = stored[row + 1 : row + rows - 1, col + 1 : col + cols - 1]
        probability = np.zeros(self.inside.shape, np.float32)
        probability[1:-1, 1:-1] = np.where(box == NODATA, 0, box) / np.float32(FULL)
        return probability


def _by_boundary(inside: NDArray[np.bool_], likely: NDArray[np.float32]) -> NDArray[np.int32]:
    """Part what is inside by how likely each pixel is building and not boundary."""
    core = inside & (likely > _CORE)
    depth = distance_transform_edt(inside)
    if label(core)[1] < 2 and not (depth[~core] > _RIM).any():
        return inside.astype(np.int32)
    cores = narrow_regions(distance_transform_edt(core))
    if cores.max() < 2:
        return cores
    return np.asarray(watershed(distance_transform_edt(cores == 0), cores, mask=inside), np.int32)
