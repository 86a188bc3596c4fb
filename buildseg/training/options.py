"""Everything that decides how a training run goes."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from tiling.errors import OptionError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Storage = Literal["float32", "float16"]
Loss = Literal["bce-dice", "focal", "lovasz", "tversky", "ohem", "outline"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "poly", "one-cycle"]
Preset = Literal["none", "light", "strong"]
Sampling = Literal["uniform", "balanced", "folders"]
_USUAL_RATE = {"adamw": 1e-3, "sgd": 1e-2}
_USUAL_DECAY = {"adamw": 1e-2, "sgd": 1e-4}


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
class LossOptions:
    """What is made small: a term over pixels plus a term over areas.

    Attributes:
        loss: ``bce-dice``; ``focal``, ``ohem`` or ``outline`` count wrong pixels, the hardest or those at outlines
            more; ``lovasz`` or ``tversky`` take the Lovász extension of IoU or the Tversky index instead of Dice.
        label_smoothing: Share of certainty taken from the labels, 0 up to 1, in cross-entropy.
        focal_gamma: Power of ``focal``, at least 0.
        tversky_missed: What a missed pixel counts with ``tversky``, from 0 to 1; a false one counts the rest.
        ohem_share: Share of the labelled pixels that ``ohem`` learns from, above 0, at most 1.
        outline_weight: What a pixel at an outline counts with ``outline``, where others count 1; at least 1.
        outline_width: Pixels to each side of an outline that are at it, at least 1.
        boundary_weight: What the loss on boundaries counts, above 0, where that on classes counts 1.

    Raises:
        OptionError: A value is out of range.
    """

    loss: Loss = "bce-dice"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    tversky_missed: float = 0.7
    ohem_share: float = 0.25
    outline_weight: float = 5.0
    outline_width: int = 3
    boundary_weight: float = 1.0

    def __post_init__(self) -> None:
        _known("--loss", self.loss, Loss)
        _check("--label-smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "from 0 to below 1")
        _check("--focal-gamma", self.focal_gamma, 0 <= self.focal_gamma < math.inf, "0 or more")
        _check("--tversky-missed", self.tversky_missed, 0 <= self.tversky_missed <= 1, "from 0 to 1")
        _check("--ohem-share", self.ohem_share, 0 < self.ohem_share <= 1, "above 0, at most 1")
        _check("--outline-weight", self.outline_weight, 1 <= self.outline_weight < math.inf, "1 or more")
        _check("--outline-width", self.outline_width, self.outline_width >= 1, "1 or more pixels")
        _check("--boundary-weight", self.boundary_weight, 0 < self.boundary_weight < math.inf, "a number above 0")


@dataclass(frozen=True, slots=True)
class OptimizerOptions:
    """How the weights are moved.

    Attributes:
        optimizer: ``adamw``, or ``sgd`` with Nesterov momentum.
        learning_rate: Peak of the schedule; None takes 1e-3, or 1e-2 for ``sgd``.
        weight_decay: Of all weights but norms and biases; None takes 1e-2, or 1e-4 for ``sgd``.
        momentum: Of ``sgd``, 0 up to 1.
        encoder_rate: The encoder's learning rate, as a factor of the others', above 0.
        freeze_encoder: Epochs, from the first, in which the encoder does not learn.
        gradient_clip: Longest gradient; 0 leaves all as they are.
        accumulate: Batches per step of the optimiser.

    Raises:
        OptionError: A value is out of range.
    """

    optimizer: Optimizer = "adamw"
    learning_rate: float | None = None
    weight_decay: float | None = None
    momentum: float = 0.9
    encoder_rate: float = 1.0
    freeze_encoder: int = 0
    gradient_clip: float = 1.0
    accumulate: int = 1

    def __post_init__(self) -> None:
        _known("--optimizer", self.optimizer, Optimizer)
        object.__setattr__(self, "learning_rate", self.rate)
        object.__setattr__(self, "weight_decay", self.decay)
        _check("--learning-rate", self.rate, 0 < self.rate < math.inf, "a number above 0")
        _check("--weight-decay", self.decay, 0 <= self.decay < math.inf, "0 or more")
        _check("--momentum", self.momentum, 0 <= self.momentum < 1, "from 0 to below 1")
        _check("--encoder-rate", self.encoder_rate, 0 < self.encoder_rate < math.inf, "a factor above 0")
        _check("--freeze-encoder", self.freeze_encoder, self.freeze_encoder >= 0, "0 or more epochs")
        _check("--gradient-clip", self.gradient_clip, 0 <= self.gradient_clip < math.inf, "0 or more")
        _check("--accumulate", self.accumulate, self.accumulate >= 1, "1 or more")

    @property
    def rate(self) -> float:
        """The learning rate, whichever it is."""
        return _USUAL_RATE[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def decay(self) -> float:
        """The weight decay, whichever it is."""
        return _USUAL_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """How the learning rate rises, but for ``one-cycle`` linearly, and then falls.

    Attributes:
        schedule: ``cosine``, ``poly`` or ``one-cycle``.
        warmup: Share of the steps in which it rises, 0 to 1; None takes 0.05, or 0.3 for ``one-cycle``.
        poly_power: Of ``poly``, above 0.

    Raises:
        OptionError: A value is out of range.
    """

    schedule: Schedule = "cosine"
    warmup: float | None = None
    poly_power: float = 0.9

    def __post_init__(self) -> None:
        _known("--schedule", self.schedule, Schedule)
        object.__setattr__(self, "warmup", self.rise)
        _check("--warmup", self.rise, 0 <= self.rise <= 1, "a share of the steps from 0 to 1")
        _check("--poly-power", self.poly_power, 0 < self.poly_power < math.inf, "a number above 0")

    @property
    def rise(self) -> float:
        """The warm-up, whatever it is."""
        return self.warmup if self.warmup is not None else 0.3 if self.schedule == "one-cycle" else 0.05


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Which crops are shown, with which labels.

    Attributes:
        augment: How much crops are changed at random: one of `PRESETS`.
        sampling: ``uniform``; ``balanced``: chips with no, few, some and many building pixels equally often; or
            ``folders``: tiles folders by a power of their size.
        folder_power: Power of ``folders``: 1 shows folders by their size, 0 all equally often.
        crops: Crops per epoch; None takes as many as fit the area of the chips.
        register_labels: Pixels by which a crop's labels can be moved to where the network finds buildings; 0 for none.

    Raises:
        OptionError: A value is out of range.
    """

    augment: Preset = "strong"
    sampling: Sampling = "uniform"
    folder_power: float = 0.5
    crops: int | None = None
    register_labels: int = 0

    def __post_init__(self) -> None:
        _known("--augment", self.augment, Preset)
        _known("--sampling", self.sampling, Sampling)
        _check("--folder-power", self.folder_power, 0 <= self.folder_power <= 1, "from 0 to 1")
        _check("--crops", self.crops, self.crops is None or self.crops >= 1, "1 or more")
        _check("--register-labels", self.register_labels, self.register_labels >= 0, "0 or more pixels")


@dataclass(frozen=True, slots=True)
class KeepOptions:
    """Which weights are kept.

    Attributes:
        ema: Decay of the moving average of the weights, which is then what is scored and kept; 0 for none.
        patience: Epochs without a better validation IoU after which training stops; 0 goes on to the end.

    Raises:
        OptionError: A value is out of range.
    """

    ema: float = 0.0
    patience: int = 0

    def __post_init__(self) -> None:
        _check("--ema", self.ema, 0 <= self.ema < 1, "from 0 to below 1, such as 0.999")
        _check("--patience", self.patience, self.patience >= 0, "0 or more epochs")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a network is trained.

    Attributes:
        epochs: Passes over the tiles.
        batch_size: Crops per batch, at least 2 (batch normalisation needs company).
        crop: Side of a training crop in pixels, a multiple of 32; None takes the smaller of 512 and the chips' side.
        window: Side of the windows the model will predict with; None takes 512.
        gsd: Metres per pixel to train at; None takes the tiles' own.
        coarsest_gsd: Metres per pixel up to which coarser tiles keep their own resolution; None resamples all to
            ``gsd``.
        precision: Arithmetic; ``auto`` mixes in half precision where the device is fast at it.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        devices: Devices of this machine to train on, each with batches of its own.
        workers: Processes that load chips, for each device.
        seed: Of everything random.
        store: Type in which the model file keeps convolution weights.
        loss: What is made small.
        optimizer: How the weights are moved.
        schedule: How the learning rate goes.
        data: Which crops are shown.
        keep: Which weights are kept.

    Raises:
        OptionError: A value is out of range.
    """

    epochs: int = 40
    batch_size: int = 8
    crop: int | None = None
    window: int | None = None
    gsd: float | None = None
    coarsest_gsd: float | None = None
    precision: Precision = "auto"
    device: str = "auto"
    devices: int = 1
    workers: int = 2
    seed: int = 0
    store: Storage = "float32"
    loss: LossOptions = field(default_factory=LossOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    data: DataOptions = field(default_factory=DataOptions)
    keep: KeepOptions = field(default_factory=KeepOptions)

    def __post_init__(self) -> None:
        _check("--epochs", self.epochs, self.epochs >= 1, "1 or more")
        _check("--batch-size", self.batch_size, self.batch_size >= 2, "2 or more, for batch normalisation")
        for flag, side in (("--crop", self.crop), ("--window", self.window)):
            _check(flag, side, side is None or (side >= 64 and side % 32 == 0), "a multiple of 32, 64 or more")
        for flag, gsd in (("--gsd", self.gsd), ("--coarsest-gsd", self.coarsest_gsd)):
            _check(flag, gsd, gsd is None or 0 < gsd < math.inf, "metres per pixel, such as 0.3")
        ordered = self.coarsest_gsd is None or self.gsd is None or self.gsd < self.coarsest_gsd
        _check("--coarsest-gsd", self.coarsest_gsd, ordered, "more metres per pixel than --gsd")
        _check("--seed", self.seed, 0 <= self.seed < 2**32, f"0 to {2**32 - 1}")
        _check("--devices", self.devices, self.devices >= 1, "1 or more")
        _check("--workers", self.workers, self.workers >= 0, "0 or more")
        _known("--precision", self.precision, Precision)
        _known("--store", self.store, Storage)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "TrainOptions":
        """Make the options from their names and values, whichever group they belong to.

        Args:
            values: By name of a field, here or in a group; what is named otherwise is passed over.
        """
        plain = {name: values[name] for name in PLAIN if name in values}
        return cls(**plain, **{name: _picked(group, values) for name, group in GROUPS.items()})

    def flat(self) -> dict[str, Any]:
        """Give all options by name, those of the groups among them, as JSON values."""
        return {name: getattr(self, name) for name in PLAIN} | {
            key: value for name in GROUPS for key, value in asdict(getattr(self, name)).items()
        }


GROUPS: dict[str, type[Any]] = {
    "loss": LossOptions,
    "optimizer": OptimizerOptions,
    "schedule": ScheduleOptions,
    "data": DataOptions,
    "keep": KeepOptions,
}
"""The groups of `TrainOptions`, whose fields have names of their own."""
PLAIN = tuple(each.name for each in fields(TrainOptions) if each.name not in GROUPS)
"""The fields of `TrainOptions` that are no group."""
PRESETS: tuple[Preset, ...] = get_args(Preset)


def _picked(group: type[Any], values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a group
    return group(**{each.name: values[each.name] for each in fields(group) if each.name in values})


def _check(flag: str, value: object, right: bool, wanted: str) -> None:
    if not right:
        said = f"{value:g}" if isinstance(value, float) else value
        raise OptionError(f"{flag} {said} is out of range; give {wanted}")


def _known(flag: str, value: str, words: Any) -> None:  # noqa: ANN401 - a Literal
    if value not in get_args(words):
        raise OptionError(f"{flag} {value} is unknown; choose from {', '.join(get_args(words))}")
