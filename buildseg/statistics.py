"""Mean and spread of bands, gathered piece by piece."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Statistics of valid pixels, band by band, in the pixels' own unit.

    Attributes:
        count: Valid pixels they rest on.
        mean: Mean of each band.
        std: Population standard deviation of each band.
    """

    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(map(float, self.mean)))
        object.__setattr__(self, "std", tuple(map(float, self.std)))

    @classmethod
    def of(cls, pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> "BandStatistics":
        """Measure an image.

        Args:
            pixels: Shape (bands, rows, cols).
            valid: Shape (rows, cols); other pixels do not count.
        """
        chosen = (pixels.reshape(len(pixels), -1) if valid.all() else pixels[:, valid]).astype(np.float64)
        count = chosen.shape[1]
        if not count:
            zeros = (0.0,) * len(pixels)
            return cls(0, zeros, zeros)
        mean = chosen.mean(axis=1)
        chosen -= mean[:, None]
        return cls(count, tuple(mean), tuple(np.sqrt(np.einsum("bn,bn->b", chosen, chosen) / count)))

    @classmethod
    def merged(cls, parts: Sequence["BandStatistics"]) -> "BandStatistics":
        """Pool statistics of disjoint sets of pixels.

        Args:
            parts: At least one, all of the same bands.
        """
        counts = np.array([part.count for part in parts], np.float64)
        share = (counts / max(counts.sum(), 1.0))[:, None]
        means = np.array([part.mean for part in parts])
        mean = (share * means).sum(axis=0)
        within = np.array([part.std for part in parts]) ** 2
        std = np.sqrt((share * (within + (means - mean) ** 2)).sum(axis=0))
        return cls(int(counts.sum()), tuple(mean), tuple(std))
