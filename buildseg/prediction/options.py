"""How a scene is predicted."""

from dataclasses import dataclass, field

from buildseg.prediction.conform import InputOptions
from buildseg.prediction.network import ORIENTATIONS
from tiling import overlap_pixels
from tiling.errors import OptionError


@dataclass(frozen=True, slots=True)
class Machine:
    """How the work is put on the machine. Only the precision can be seen in the result.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ... or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        batch_size: Windows per step; None takes what suits the device.
        compiled: Whether to compile the network before it runs.

    Raises:
        OptionError: A value is out of range.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise OptionError(f"--batch-size {self.batch_size} is out of range; give 1 or more")


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What is computed, and how.

    Attributes:
        window: Side of the windows in pixels; None takes the model's.
        overlap: Fraction of a window that neighbours share, 0 up to 1.
        augmentation: ``none``, ``flips`` or ``d4``: each window is shown in one, four or eight orientations.
        scales: Resolutions, relative to the model's, at which each window is shown.
        block: Rows of a block, the unit of resuming and of distribution; None takes what makes some megapixels.
        input: What the scene's file does not say.
        machine: How the work is put on the machine.

    Raises:
        OptionError: A value is out of range.
    """

    window: int | None = None
    overlap: float = 0.25
    augmentation: str = "none"
    scales: tuple[float, ...] = (1.0,)
    block: int | None = None
    input: InputOptions = field(default_factory=InputOptions)
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 64:
            raise OptionError(f"--window {self.window} is too small for the networks; use 64 or more")
        overlap_pixels(64, self.overlap)
        if self.augmentation not in ORIENTATIONS:
            raise OptionError(f"--tta {self.augmentation} is unknown; use {', '.join(ORIENTATIONS)}")
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise OptionError(
                f"--scale {','.join(map(str, self.scales))} is out of range; give factors from 0.1 to 10, such as 1,1.5"
            )
        if self.block is not None and self.block < 64:
            raise OptionError(f"--block {self.block} is too small; give 64 rows or more")
