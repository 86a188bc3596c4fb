"""A training run, from tiles to a model file."""

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, RandomSampler

from buildseg import __version__
from buildseg.contract import Contract
from buildseg.devices import fast_half_precision, resolve_device
from buildseg.model_file import ModelCard, load_model
from buildseg.networks import SegmentationNetwork, build_network, network_entry
from buildseg.tiles import Tiles
from buildseg.training.callbacks import BEST, CURVES, EXAMPLES, LAST, METRICS, RunRecorder
from buildseg.training.dataset import Sample, TrainingCrops, WholeChips, pixels_of
from buildseg.training.module import SegmentationModule
from buildseg.training.options import NetworkChoice, TrainOptions
from tiling.errors import OptionError, OutputError

_log = logging.getLogger(__name__)
_Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

OPTIONS_FILE = "options.json"
DEFAULT_WINDOW = 512
_EVENTS = "events.out.tfevents.*"
_PRECISION: dict[str, _Precision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run gave.

    Attributes:
        model: File of the best model.
        scores: Its validation scores, 0..1, and the epoch, from 1.
    """

    model: Path
    scores: dict[str, float]


def train(
    tiles: Tiles,
    out: Path,
    choice: NetworkChoice | None = None,
    options: TrainOptions | None = None,
    *,
    overwrite: bool = False,
    show_progress: bool = False,
) -> TrainResult:
    """Train a network on tiles.

    The folder ``out`` gets ``best.safetensors`` and ``last.safetensors``, ``metrics.csv``, TensorBoard events,
    ``curves.png``, ``validation.png`` and ``options.json``.

    Args:
        tiles: What to learn from.
        out: Folder of the run.
        choice: Which network.
        options: How.
        overwrite: Whether an earlier run's folder may be used again.
        show_progress: Whether a bar is drawn on the terminal.

    Raises:
        OptionError: The network or its options are not known, or the device is not there.
        OutputError: The folder holds a run already or cannot be made.
        WeightsError: Pretrained weights cannot be had.
        TrainingError: The loss is not finite any more.
    """
    choice, options = choice or NetworkChoice(), options or TrainOptions()
    device = resolve_device(options.device)
    precision = _precision(options, device)
    _check_folder(out, overwrite=overwrite)
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    network, start = _first_network(choice, tiles)
    if tiles.boundaries and not network.architecture.boundary:
        tiles = tiles.without_boundaries()
    contract = make_contract(tiles, options, start)
    crop = options.crop or default_crop(tiles, contract)
    provenance = _provenance(tiles, choice, options, crop) | ({"started_from": start.training} if start else {})
    card = ModelCard(asdict(network.architecture), contract, provenance)
    val = WholeChips(tiles.val, contract)
    recorder = RunRecorder(out, card, val, getattr(torch, options.storage))
    loaders = (
        _train_loader(TrainingCrops(tiles.train, contract, crop, options.seed), options),
        # One by one: chips of different sizes would have to be padded, and attention would look at the padding.
        _loader(val, options.workers, batch_size=1),
    )
    _make_folder(out)
    (out / OPTIONS_FILE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    callbacks: list[Callback] = [recorder, RichProgressBar(leave=True)] if show_progress else [recorder]
    with _quiet_lightning():
        trainer = _trainer(out, options.epochs, device, precision, callbacks)
        trainer.fit(SegmentationModule(network, options), *loaders)
    (out / TensorBoardLogger.NAME_HPARAMS_FILE).unlink(missing_ok=True)  # an empty one, which Lightning makes
    return TrainResult(out / BEST, recorder.best)


def make_contract(tiles: Tiles, options: TrainOptions, start: ModelCard | None = None) -> Contract:
    """State what a network trained on these tiles will expect.

    Args:
        tiles: What it is trained on.
        options: May name resolution and window.
        start: Card of the model that training goes on from: its scaling and resolution stay.
    """
    contract = start.contract if start else _contract_of(tiles)
    return replace(contract, gsd=options.gsd or contract.gsd, window=options.window or contract.window)


def _contract_of(tiles: Tiles) -> Contract:
    return Contract(
        bands=tiles.bands,
        dtype=tiles.dtype,
        mean=tiles.statistics.mean,
        std=tiles.statistics.std,
        gsd=tiles.gsd,
        window=DEFAULT_WINDOW,
    )


def _first_network(choice: NetworkChoice, tiles: Tiles) -> tuple[SegmentationNetwork, ModelCard | None]:
    if choice.start is None:
        pretrained = "imagenet" if network_entry(choice.name).encoder else "none"
        network = build_network(
            choice.name,
            boundary=_wants_boundary(choice, tiles),
            in_channels=len(tiles.bands),
            classes=tiles.classes,
            encoder=choice.encoder,
            encoder_weights=choice.encoder_weights or pretrained,
            **choice.options,
        )
        return network, None
    model = load_model(choice.start)
    expected = model.card.contract
    if (expected.bands, expected.dtype) != (tiles.bands, tiles.dtype):
        raise OptionError(
            f"--model {choice.start} takes {', '.join(expected.bands)} as {expected.dtype}, but the tiles hold "
            f"{', '.join(tiles.bands)} as {tiles.dtype}; tile the scenes anew with --bands, or train from the start"
        )
    classes = model.network.architecture.classes
    if classes != tiles.classes:
        raise OptionError(f"--model {choice.start} tells {classes} classes apart; add --classes {classes}")
    _check_boundary(choice, tiles, model.network.architecture.boundary)
    return model.network.train(), model.card


def _wants_boundary(choice: NetworkChoice, tiles: Tiles) -> bool:
    if choice.boundary and not tiles.boundaries:
        raise OptionError(
            "--boundaries: not all tiles have boundaries/ to learn from; make them with buildseg tile --boundaries"
        )
    return tiles.boundaries if choice.boundary is None else choice.boundary


def _check_boundary(choice: NetworkChoice, tiles: Tiles, has_boundary: bool) -> None:
    """Refuse tiles or a wish that a model to go on from does not suit."""
    wanted = _wants_boundary(choice, tiles)
    if wanted and not has_boundary and choice.boundary:
        raise OptionError(
            f"--model {choice.start} has no output for boundaries; leave out --boundaries, or train from the start"
        )
    if wanted and not has_boundary:
        _log.warning("%s has no output for boundaries, so those of the tiles are not used", choice.start)
    if has_boundary and not wanted:
        raise OptionError(
            f"--model {choice.start} has an output for boundaries; give it tiles made with buildseg tile --boundaries"
        )


def default_crop(tiles: Tiles, contract: Contract) -> int:
    """Choose the crop: the chips' usual side as the network sees them, at most 512, in steps of 32, at least 64."""
    areas = sorted(pixels_of(chip, contract) for chip in tiles.train)
    side = round(math.sqrt(areas[len(areas) // 2]))
    return max(64, min(512, side) // 32 * 32)


def _precision(options: TrainOptions, device: torch.device) -> _Precision:
    name = options.precision
    if name == "auto":
        name = fast_half_precision(device) or "fp32"
    if name == "fp16" and device.type == "cpu":
        raise OptionError("--precision fp16 needs a GPU; use --precision bf16, fp32 or auto")
    return _PRECISION[name]


def _trainer(
    out: Path,
    epochs: int,
    device: torch.device,
    precision: _Precision,
    callbacks: list[Callback],
) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator=device.type,
        devices=1 if device.index is None or device.type == "cpu" else [device.index],
        precision=precision,
        max_epochs=epochs,
        logger=TensorBoardLogger(out, name="", version="", default_hp_metric=False),
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        gradient_clip_val=1.0,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice, which is for its programmers, from our users, and let Ctrl-C be an interrupt."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        except SystemExit as stopped:
            raise KeyboardInterrupt from stopped


def _train_loader(crops: TrainingCrops, options: TrainOptions) -> DataLoader[Sample]:
    """Shuffle; every batch is a full one, for the sake of batch normalisation, so that few crops come repeatedly."""
    count = max(len(crops), options.batch_size)
    return _loader(crops, options.workers, options.batch_size, RandomSampler(crops, num_samples=count))


def _loader(
    dataset: TrainingCrops | WholeChips,
    workers: int,
    batch_size: int,
    sampler: RandomSampler | None = None,
) -> DataLoader[Sample]:
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=sampler is not None,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def _check_folder(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; name a folder for the run with --out")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(f"{out} holds a run already; add --overwrite to replace it, or choose another --out")


def _make_folder(out: Path) -> None:
    """Make the run's folder; what an earlier run left there is taken away, so that the two do not mix."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (BEST, LAST, METRICS, CURVES, EXAMPLES, OPTIONS_FILE, _EVENTS):
            for leftover in out.glob(name):
                leftover.unlink()
    except OSError as error:
        raise OutputError(f"{out} cannot be made ({error.strerror}); choose another folder with --out") from error


def _provenance(tiles: Tiles, choice: NetworkChoice, options: TrainOptions, crop: int) -> dict[str, object]:
    return {
        "tiles": [folder.resolve().name for folder in tiles.folders],
        "classes": tiles.classes,
        "train_chips": len(tiles.train),
        "val_chips": len(tiles.val),
        "network": {"start": choice.start.name} if choice.start else asdict(choice),
        "options": options.to_json() | {"crop": crop},
        "versions": {"buildseg": __version__, "torch": torch.__version__},
    }
