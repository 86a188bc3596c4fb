"""What a model expects of its input."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Contract:
    """The input a network was trained on, and so the only one it is given.

    Attributes:
        bands: A name for each band, in order.
        dtype: NumPy name of the pixels' type.
        mean: Mean of each band over the training pixels, in their unit.
        std: Standard deviation of each band, likewise.
        gsd: Metres per pixel, None if the training chips did not say.
        window: Side of the windows that suit the network, in pixels.
        coarsest_gsd: Where it was trained on several resolutions, the coarsest, in metres per pixel; ``gsd`` is the
            finest, and images between the two are shown as they are.
    """

    bands: tuple[str, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    gsd: float | None
    window: int
    coarsest_gsd: float | None = None

    def __post_init__(self) -> None:
        for name in ("bands", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def resolution(self) -> str:
        """Say the metres per pixel, for people."""
        if not self.gsd:
            return "not known"
        return f"{self.gsd:.2g}{f' to {self.coarsest_gsd:.2g}' if self.coarsest_gsd else ''} m per pixel"

    def scale(self, pixels: NDArray[np.generic]) -> NDArray[np.float32]:
        """Bring pixels to zero mean and unit spread.

        Args:
            pixels: Shape (..., bands, rows, cols), in the contract's type.

        Returns:
            float32 of the same shape.
        """
        mean = np.asarray(self.mean, np.float32)[:, None, None]
        std = np.maximum(np.asarray(self.std, np.float32), 1e-6)[:, None, None]
        scaled = pixels.astype(np.float32)
        scaled -= mean
        scaled /= std
        return scaled

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return asdict(self)
