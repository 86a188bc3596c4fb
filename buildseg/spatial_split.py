"""Divides chips into train and val by place, so that neighbours do not leak from one into the other."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import shapely

Split = Literal["train", "val"]

_BLOCK_SIDE_IN_CHIPS = 4
_TOUCH = 1e-3


def split_by_blocks(outlines: Sequence[shapely.Polygon], val_fraction: float, seed: int = 0) -> list[Split | None]:
    """Give whole blocks of neighbouring chips to validation, drawn by the seed.

    Blocks are squares of up to four chips a side, smaller where there are too few chips for that. A training
    chip that shares ground with a validation chip belongs to neither.

    Args:
        outlines: Chips' outlines in longitude and latitude.
        val_fraction: Share of chips wanted for validation, above 0 and below 1.
        seed: Draws the blocks.

    Returns:
        For each chip ``train``, ``val`` or None where it is left out.
    """
    blocks = _blocks(outlines, val_fraction)
    wanted = max(1, round(len(outlines) * val_fraction))
    chosen: set[int] = set()
    taken = 0
    names, counts = np.unique(blocks, return_counts=True)
    for position in np.random.default_rng(seed).permutation(len(names)):
        over = taken + counts[position] - wanted
        if taken and over > wanted - taken:
            continue
        chosen.add(int(names[position]))
        taken += counts[position]
        if taken >= wanted:
            break
    is_val = np.isin(blocks, list(chosen))
    shared = _shares_ground(outlines, is_val)
    return ["val" if val else (None if leaks else "train") for val, leaks in zip(is_val, shared, strict=True)]


def _blocks(outlines: Sequence[shapely.Polygon], val_fraction: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Number the block of each chip; halve the blocks until one of them is no more than what is wanted."""
    bounds = shapely.bounds(np.asarray(outlines, object))
    stretch = np.array([math.cos(math.radians(float(bounds[:, [1, 3]].mean()))), 1.0])
    centres = (bounds[:, :2] + bounds[:, 2:]) / 2 * stretch
    chip_side = float(np.median((bounds[:, 2:] - bounds[:, :2]) * stretch))
    for side in (_BLOCK_SIDE_IN_CHIPS, 2, 1):
        cells = np.floor((centres - centres.min(axis=0)) / (chip_side * side) + 1e-6).astype(np.int64)
        _, blocks = np.unique(cells, axis=0, return_inverse=True)
        numbers: np.ndarray[tuple[int], np.dtype[np.int64]] = blocks.reshape(-1)
        if numbers.max() + 1 >= 2 / val_fraction:
            break
    return numbers


def _shares_ground(
    outlines: Sequence[shapely.Polygon], is_val: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Find the chips that overlap a validation chip by more than a touch."""
    shapes = np.asarray(outlines, object)
    shrunk = shapely.buffer(shapes, -_TOUCH * np.sqrt(shapely.area(shapes)))
    tree = shapely.STRtree(shrunk[is_val])
    hits, _ = tree.query(shrunk, predicate="intersects")
    shared = np.zeros(len(shapes), np.bool_)
    shared[hits] = True
    return shared
