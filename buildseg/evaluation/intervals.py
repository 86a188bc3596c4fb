"""How sure scores are: bootstrap over blocks of ground."""

import numpy as np
from numpy.typing import NDArray

REPLICATES = 1000
LEAST_BLOCKS = 8
_BOUNDS = (2.5, 97.5)

Interval = tuple[float, float]


def draw_blocks(number: int, seed: int) -> NDArray[np.float64]:
    """Draw as many blocks as there are, with replacement, many times (Efron and Tibshirani 1993).

    Neighbouring buildings are alike, so that it is blocks that are drawn, not buildings or pixels.

    Args:
        number: Of blocks.
        seed: Of the draws.

    Returns:
        How often each block was drawn, shape (replicates, number); no replicates where blocks are too few.
    """
    if number < LEAST_BLOCKS:
        return np.zeros((0, number))
    draws = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), REPLICATES)
    return draws.astype(np.float64)


def interval(values: NDArray[np.float64]) -> Interval | None:
    """Give the 95% interval of a score.

    Args:
        values: The score of each replicate; NaN where it has none.

    Returns:
        The 2.5th and the 97.5th percentile, None if less than half of the replicates have a score.
    """
    known = values[np.isfinite(values)]
    if not len(known) or 2 * len(known) < len(values):
        return None
    low, high = np.percentile(known, _BOUNDS)
    return float(low), float(high)
