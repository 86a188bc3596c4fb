"""Everything that decides how a training run goes."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from tiling.errors import OptionError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Storage = Literal["float32", "float16"]


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """Which network is trained, and from where it starts.

    Attributes:
        start: Model file to go on from; its architecture and scaling then hold, and the rest is left alone.
        name: Name in the registry of `buildseg.networks`.
        encoder: Name of the encoder, None for the network's default.
        encoder_weights: ``imagenet``, ``none`` or a local file; None takes ``imagenet`` where there is an encoder.
        options: Further arguments of the network.
        boundary: Whether it also learns where buildings end and touch; None where the tiles say so.
    """

    start: Path | None = None
    name: str = "psa-unet"
    encoder: str | None = None
    encoder_weights: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    boundary: bool | None = None


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a network is trained.

    Attributes:
        epochs: Passes over the tiles.
        batch_size: Crops per step, at least 2 (batch normalisation needs company).
        crop: Side of a training crop in pixels, a multiple of 32; None takes the smaller of 512 and the chips' side.
        window: Side of the windows the model will predict with; None takes 512.
        gsd: Metres per pixel to train at; None takes the tiles' own.
        learning_rate: Peak of the schedule: linear warm-up, then cosine decay.
        weight_decay: Of AdamW.
        warmup: Share of the steps that warm up, 0 to 1.
        precision: Arithmetic; ``auto`` mixes in half precision where the device is fast at it.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        workers: Processes that load chips.
        seed: Of everything random.
        storage: Type in which the model file keeps convolution weights.
        boundary_weight: What the loss on boundaries counts, above 0, where that on classes counts 1.

    Raises:
        OptionError: A value is out of range.
    """

    epochs: int = 40
    batch_size: int = 8
    crop: int | None = None
    window: int | None = None
    gsd: float | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    precision: Precision = "auto"
    device: str = "auto"
    workers: int = 2
    seed: int = 0
    storage: Storage = "float32"
    boundary_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise OptionError(f"--epochs {self.epochs} is too few; give 1 or more")
        if self.batch_size < 2:
            raise OptionError(f"--batch-size {self.batch_size} is too small for batch normalisation; give 2 or more")
        for flag, side in (("--crop", self.crop), ("--window", self.window)):
            if side is not None and (side < 64 or side % 32):
                raise OptionError(f"{flag} {side} does not suit the networks; give a multiple of 32, 64 or more")
        if self.gsd is not None and not 0 < self.gsd < math.inf:
            raise OptionError(f"--gsd {self.gsd:g} is out of range; give metres per pixel, such as 0.3")
        if not 0 < self.learning_rate < math.inf:
            raise OptionError(f"--learning-rate {self.learning_rate:g} is out of range; give a number above 0")
        if not 0 <= self.warmup <= 1:
            raise OptionError(f"a warm-up of {self.warmup:g} is out of range; give a share of the steps from 0 to 1")
        if not 0 < self.boundary_weight < math.inf:
            raise OptionError(f"--boundary-weight {self.boundary_weight:g} is out of range; give a number above 0")
        if not 0 <= self.seed < 2**32:
            raise OptionError(f"--seed {self.seed} is out of range; give 0 to {2**32 - 1}")
        if self.workers < 0:
            raise OptionError(f"--workers {self.workers} is out of range; give 0 or more")
        for flag, value, allowed in (
            ("--precision", self.precision, get_args(Precision)),
            ("--store", self.storage, get_args(Storage)),
        ):
            if value not in allowed:
                raise OptionError(f"{flag} {value} is unknown; choose from {', '.join(allowed)}")

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return asdict(self)
