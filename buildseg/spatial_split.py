"""Divides chips into train and val by place, so that neighbours do not leak from one into the other."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import shapely

Split = Literal["train", "val"]

_Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
_Pairs = np.ndarray[tuple[int, int], np.dtype[np.int64]]
_Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]

_BLOCK_SIDE_IN_CHIPS = 4
_TOUCH = 1e-3


def split_by_blocks(outlines: Sequence[shapely.Polygon], val_fraction: float, seed: int = 0) -> list[Split | None]:
    """Give whole blocks of neighbouring chips to validation, drawn by the seed.

    Blocks are squares of up to four chips a side, smaller where there are too few chips for that. A training
    chip that shares ground with a validation chip belongs to neither. Where that would leave nothing to train on, a
    single chip is for validation; where all chips share their ground, nothing is left even so.

    Args:
        outlines: Chips' outlines in longitude and latitude.
        val_fraction: Share of chips wanted for validation, above 0 and below 1.
        seed: Draws the blocks.

    Returns:
        For each chip ``train``, ``val`` or None where it is left out.
    """
    pairs = _sharing_ground(outlines)
    smaller = min(val_fraction, 1 - val_fraction)
    drawn = _draw(_blocks(outlines, smaller), max(1, round(len(outlines) * smaller)), seed)
    is_val = drawn if val_fraction <= 0.5 else ~drawn
    if _reach(is_val, pairs).all():
        is_val = np.arange(len(outlines)) == np.bincount(pairs[0]).argmin()
    reach = _reach(is_val, pairs)
    return ["val" if val else (None if leaks else "train") for val, leaks in zip(is_val, reach, strict=True)]


def _draw(blocks: _Numbers, wanted: int, seed: int) -> _Flags:
    """Draw blocks until they hold about as many chips as wanted, never all blocks; which chips are in them."""
    counts = np.bincount(blocks)
    chosen: list[int] = []
    taken = 0
    for block in np.random.default_rng(seed).permutation(len(counts)).tolist():
        over = taken + counts[block] - wanted
        if over > wanted - taken or len(chosen) == len(counts) - 1:
            continue
        chosen.append(block)
        taken += counts[block]
        if over >= 0:
            break
    return np.isin(blocks, chosen or [counts.argmin()])


def _blocks(outlines: Sequence[shapely.Polygon], fraction: float) -> _Numbers:
    """Number the block of each chip from 0; halve the blocks until one of them is no more than what is wanted."""
    shapes = np.asarray(outlines, object)
    bounds = shapely.bounds(shapes)
    stretch = np.array([math.cos(math.radians(float(bounds[:, [1, 3]].mean()))), 1.0])
    centres = (bounds[:, :2] + bounds[:, 2:]) / 2 * stretch
    chip_side = math.sqrt(float(np.median(shapely.area(shapes))) * stretch[0])
    # Rounded first: beside a meridian that is not the CRS's own, neighbours stand a little less than a side apart.
    places = np.floor((centres - centres.min(axis=0)) / chip_side + 0.5).astype(np.int64)
    for side in (_BLOCK_SIDE_IN_CHIPS, 2, 1):
        _, blocks = np.unique(places // side, axis=0, return_inverse=True)
        numbers: _Numbers = blocks.reshape(-1)
        if numbers.max() + 1 >= 2 / fraction:
            break
    return numbers


def _sharing_ground(outlines: Sequence[shapely.Polygon]) -> _Pairs:
    """Find the pairs of chips that overlap by more than a touch, each chip with itself among them; shape (2, pairs)."""
    shapes = np.asarray(outlines, object)
    shrunk = shapely.buffer(shapes, -_TOUCH * np.sqrt(shapely.area(shapes)))
    pairs: _Pairs = shapely.STRtree(shrunk).query(shrunk, "intersects")
    return pairs


def _reach(is_val: _Flags, pairs: _Pairs) -> _Flags:
    """Mark the validation chips and all that share ground with one."""
    reached = np.zeros(len(is_val), np.bool_)
    reached[pairs[0][is_val[pairs[1]]]] = True
    return reached
