"""Average precision, as COCO defines it."""

import numpy as np
from numpy.typing import NDArray

from buildseg.evaluation.matching import Pairs, match, ranks

Counts = NDArray[np.float64] | NDArray[np.bool_]

IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_BINS, _FEWEST_BINS = 256, 16
_CELLS = 20_000_000


def hits_by_rank(pairs: Pairs, confidence: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which footprints hit, the most confident first, at each IoU of `IOUS`; shape (m, 10)."""
    rank = ranks(confidence)
    hits = np.zeros((len(confidence), len(IOUS)), np.bool_)
    for column, least in enumerate(IOUS):
        hits[rank[match(pairs, confidence, least).found], column] = True
    return hits


def average_precision(hits: Counts, misses: Counts, truths: float) -> NDArray[np.float64]:
    """Average precision over 101 recalls, at each the best precision from there on (Lin et al. 2014).

    Args:
        hits: Footprints that match, the most confident first, or counts of them; shape (m, k) for k IoUs.
        misses: The same of those that do not.
        truths: Number of buildings.

    Returns:
        Shape (k,), NaN where there are no buildings.
    """
    if not truths:
        return np.full(hits.shape[1], np.nan)
    if not len(hits):
        return np.zeros(hits.shape[1])
    hit, missed = hits.cumsum(axis=0, dtype=np.float64), misses.cumsum(axis=0, dtype=np.float64)
    precision = np.divide(hit, hit + missed, out=np.zeros_like(hit), where=hit > 0)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = hit / truths
    averages = []
    for column in range(hits.shape[1]):
        place = np.searchsorted(recall[:, column], _RECALLS)
        averages.append(np.append(precision[:, column], 0.0)[place].mean())
    return np.array(averages)


def tally_ranked(hits: NDArray[np.bool_], blocks: NDArray[np.intp], number: int) -> NDArray[np.float64]:
    """Count hits and misses by block and rank, in 256 bins of ranks at most; in fewer where there are many blocks.

    Args:
        hits: From `hits_by_rank`, shape (m, 10).
        blocks: Of the footprints, in the same order, shape (m,).
        number: Of blocks.

    Returns:
        Shape (number, bins, 20): hits at ten IoUs, then misses.
    """
    columns = 2 * len(IOUS)
    bins = min(_BINS, len(hits), max(_FEWEST_BINS, _CELLS // (number * columns)))
    tally = np.zeros((number, bins, columns))
    if bins:
        places = np.arange(len(hits)) * bins // len(hits)
        np.add.at(tally, (blocks, places), np.concatenate([hits, ~hits], axis=1))
    return tally
