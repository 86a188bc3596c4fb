"""Pixels that are right and wrong, all of them and those along outlines."""

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def count_pixels(truth: Mask, found: Mask, valid: Mask) -> NDArray[np.int64]:
    """Count pixels that are hit, falsely found, missed, and rightly left out.

    Args:
        truth: True on buildings, shape (rows, cols).
        found: True on what was found.
        valid: False where nothing is to be counted.

    Returns:
        The four numbers.
    """
    truth, found = truth & valid, found & valid
    hit = np.count_nonzero(truth & found)
    false, missed = np.count_nonzero(found) - hit, np.count_nonzero(truth) - hit
    return np.array([hit, false, missed, np.count_nonzero(valid) - hit - false - missed])


def count_boundary(truth: Mask, found: Mask, distance: int, inner: tuple[slice, slice]) -> NDArray[np.int64]:
    """Count the pixels that boundary IoU is made of (Cheng, Girshick, Dollár, Berg and Kirillov 2021).

    Of each mask only the pixels count that are no farther from its outline than a distance, along rows, columns or
    diagonals: those that vanish when the mask is eroded so many times.

    Args:
        truth: True on buildings, shape (rows, cols).
        found: True on what was found.
        distance: Pixels, at least 1.
        inner: Rows and columns that are counted; around them the masks know what is near.

    Returns:
        Pixels in both boundary regions, and in either.
    """
    if not truth.any() and not found.any():
        return np.zeros(2, np.int64)
    ours, theirs = (_rim(mask, distance)[inner] for mask in (found, truth))
    return np.array([np.count_nonzero(ours & theirs), np.count_nonzero(ours | theirs)])


def count_levels(levels: NDArray[np.uint8], truth: Mask, valid: Mask) -> NDArray[np.int64]:
    """Count pixels by their stored probability.

    Args:
        levels: 0 to 254, shape (rows, cols).
        truth: True on buildings.
        valid: False where nothing is to be counted.

    Returns:
        Shape (255, 2): how many there are, and how many of them are building.
    """
    everything = np.bincount(levels[valid], minlength=256)[:255]
    return np.stack([everything, np.bincount(levels[valid & truth], minlength=256)[:255]], axis=1)


def _rim(mask: Mask, distance: int) -> Mask:
    side = 2 * distance + 1
    # What lies beyond the masks is no building, as in the published measure.
    shrunk = cv2.erode(
        mask.astype(np.uint8), np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    rim: Mask = mask & (shrunk == 0)
    return rim
