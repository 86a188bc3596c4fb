"""Regions of pixels: what a watershed makes, joined where it made too many."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, maximum
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

_NECK = 0.7
"""A way between two middles is a neck if it is narrower than this share of the narrower of the two."""
_LEAST_HEIGHT = 1.0
"""Pixels from its middle to its edge that a region has more than."""

_Sides = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]


def narrow_regions(height: NDArray[np.float64]) -> NDArray[np.int32]:
    """Part what is above 0 at its necks.

    Args:
        height: Distance of each pixel to the edge, shape (rows, cols), 0 outside and along the array's border.

    Returns:
        Same shape: a number for each region, 0 outside and where there is no room for one.
    """
    summits = np.asarray(local_maxima(height)) & (height > _LEAST_HEIGHT)
    seeds, count = label(summits, np.ones((3, 3)))
    if count < 2:
        return np.asarray((height > 0) * count, np.int32)
    basins = np.asarray(watershed(-height, seeds, mask=height > 0), np.int32)
    return _joined(basins, height, count)[basins]


def _joined(basins: NDArray[np.int32], height: NDArray[np.float64], count: int) -> NDArray[np.int32]:
    """Join basins whose pass is no neck, the highest pass first.

    Returns:
        For each basin, from 0 for none, the number of its region; numbers follow each other.
    """
    one, other, passes = _sides(basins, height)
    home = np.arange(count + 1, dtype=np.int32)
    summit = maximum(height, basins, home)
    for side in np.argsort(-passes, kind="stable"):
        a, b = home[one[side]], home[other[side]]
        if a != b and passes[side] >= _NECK * min(summit[a], summit[b]):
            summit[a] = max(summit[a], summit[b])
            home[home == b] = a
    return np.unique(home, return_inverse=True)[1].astype(np.int32)


def _sides(regions: NDArray[np.int32], height: NDArray[np.float64]) -> _Sides:
    """The sides that pixels of two regions share: their numbers, and the lower of the two heights."""
    found = []
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        a, b = regions[here], regions[there]
        met = (a != b) & (a > 0) & (b > 0)
        found.append((a[met], b[met], np.minimum(height[here], height[there])[met]))
    return tuple(map(np.concatenate, zip(*found, strict=True)))  # type: ignore[return-value]


def without_small(regions: NDArray[np.int32], least: float) -> NDArray[np.int32]:
    """Join small regions to the neighbour that they share most sides with, the smallest first.

    Args:
        regions: Shape (rows, cols): a number for each region, 0 outside.
        least: Pixels of the smallest region that is left alone.

    Returns:
        Same shape. A small region without a neighbour stays.
    """
    regions = regions.copy()
    sizes = np.bincount(regions.ravel())
    for _ in range(np.count_nonzero(sizes[1:])):
        sizes = np.bincount(regions.ravel(), minlength=len(sizes))
        small = np.flatnonzero((sizes > 0) & (sizes < least))
        small = small[small > 0]
        if not len(small):
            break
        number = small[sizes[small].argmin()]
        one, other, _ = _sides(regions, np.zeros(regions.shape))
        beside = np.concatenate([other[one == number], one[other == number]])
        if not len(beside):
            break
        regions[regions == number] = np.bincount(beside).argmax()
    return regions
