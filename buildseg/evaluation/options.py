"""How both sides are compared."""

import math
from dataclasses import dataclass

from tiling.errors import OptionError


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What a comparison depends on.

    Attributes:
        threshold: Probability from which a pixel is building, in (0, 1).
        min_area: Square metres below which a footprint drawn from probabilities is dropped.
        boundary: Metres from the outline that boundary IoU looks at.
        gsd: Metres per pixel to compare at; None takes the raster's own, and for vectors alone 0.25 m, or coarser
            where that would make more than 400 megapixels, up to 1 m.
        block: Metres along a side of a block of the bootstrap; None makes about a hundred blocks of 50 m at least.
        seed: Of the bootstrap.

    Raises:
        OptionError: A value is out of its range.
    """

    threshold: float = 0.5
    min_area: float = 5.0
    boundary: float = 1.0
    gsd: float | None = None
    block: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise OptionError(f"--threshold {self.threshold:g} is out of range; give a probability above 0 and below 1")
        if not 0 <= self.min_area < math.inf:
            raise OptionError(f"--min-area {self.min_area:g} is no area in square metres; give 0 or more")
        if self.seed < 0:
            raise OptionError(f"--seed {self.seed} is out of range; give 0 or more")
        for flag, value in (("--boundary", self.boundary), ("--gsd", self.gsd), ("--block", self.block)):
            if value is not None and not 0 < value < math.inf:
                raise OptionError(f"{flag} {value:g} is no length in metres; give a number above 0")

    def boundary_pixels(self, gsd: float) -> int:
        """Give the distance of boundary IoU in whole pixels, at least one.

        Args:
            gsd: Metres per pixel.
        """
        return max(1, round(self.boundary / gsd))
