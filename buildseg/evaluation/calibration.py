"""Whether probabilities are frequencies, and where to cut them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVELS = 254
_BINS = 15


class Bin(NamedTuple):
    """A bar of the reliability diagram.

    Attributes:
        low: Probability from which it reaches.
        high: Probability up to which.
        number: Pixels, or footprints, in it.
        probability: Their mean probability.
        frequency: Share of them that is building.
    """

    low: float
    high: float
    number: int
    probability: float
    frequency: float


def reliability(levels: NDArray[np.int64]) -> list[Bin]:
    """Sort probabilities into 15 bins of one width; empty ones are left out.

    Args:
        levels: Shape (255, 2): how many have each of the probabilities 0 to 254 / 254, and how many of them are true.
    """
    place = _places()
    count, true = (np.bincount(place, column, _BINS) for column in levels.T)
    total = np.bincount(place, levels[:, 0] * np.arange(LEVELS + 1) / LEVELS, _BINS)
    return [
        Bin(i / _BINS, (i + 1) / _BINS, int(count[i]), float(total[i] / count[i]), float(true[i] / count[i]))
        for i in np.flatnonzero(count)
    ]


def calibration_error(levels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Measure the expected calibration error (Guo, Pleiss, Sun and Weinberger 2017) over 15 bins of one width.

    Args:
        levels: As `reliability` takes it, of several draws, shape (draws, 255, 2).

    Returns:
        0 to 1, NaN where nothing is counted, shape (draws,).
    """
    bins = np.zeros((_BINS, LEVELS + 1))
    bins[_places(), np.arange(LEVELS + 1)] = 1
    surplus = levels[..., 0] * (np.arange(LEVELS + 1) / LEVELS) - levels[..., 1]
    total = levels[..., 0].sum(axis=1)
    error = np.full(len(total), np.nan)
    np.divide(np.abs(surplus @ bins.T).sum(axis=1), total, out=error, where=total > 0)
    return error


def best_threshold(levels: NDArray[np.integer], positives: int) -> tuple[float, float] | None:
    """Find the threshold of the highest F1, and so of the highest IoU.

    Args:
        levels: As `reliability` takes it.
        positives: How many there are to be found.

    Returns:
        The threshold, halfway between two stored probabilities, and the F1 there; None if nothing is to be found, or
        nothing right was.
    """
    if not positives or not levels[1:, 0].any():
        return None
    found, hit = levels[:0:-1].cumsum(axis=0).T
    scores = 2 * hit / (found + positives)
    if not scores.any():
        return None
    best = int(scores.argmax())
    return (LEVELS - best - 0.5) / LEVELS, float(scores[best])


def _places() -> NDArray[np.intp]:
    """The bin of each level."""
    return np.minimum(np.arange(LEVELS + 1) * _BINS // LEVELS, _BINS - 1)
