"""A training run, from tiles to a model file."""

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from buildseg import __version__
from buildseg.contract import Contract
from buildseg.devices import fast_half_precision, resolve_device
from buildseg.model_file import ModelCard, load_model
from buildseg.networks import SegmentationNetwork, build_network
from buildseg.tiles import Tiles
from buildseg.training.callbacks import BEST, RunRecorder
from buildseg.training.dataset import Sample, TrainingCrops, WholeChips, collate
from buildseg.training.module import SegmentationModule
from buildseg.training.options import NetworkChoice, TrainOptions
from tiling.errors import OptionError, OutputError

OPTIONS_FILE = "options.json"
DEFAULT_WINDOW = 512
_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


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
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    network, start = _first_network(choice, tiles)
    _make_folder(out, overwrite=overwrite)
    crop = options.crop or default_crop(tiles)
    contract = make_contract(tiles, options, start)
    card = ModelCard(
        architecture=asdict(network.architecture),
        contract=contract,
        training=_provenance(tiles, choice, options, crop) | ({"started_from": start.training} if start else {}),
    )
    (out / OPTIONS_FILE).write_text(json.dumps(card.training, indent=2) + "\n", encoding="utf-8")
    val = WholeChips(tiles.val, contract)
    recorder = RunRecorder(out, card, val, getattr(torch, options.storage))
    trainer = _trainer(out, options, device, recorder, show_progress=show_progress)
    loaders = (
        _loader(TrainingCrops(tiles.train, contract, crop, options.seed), options, train=True),
        _loader(val, options, train=False),
    )
    with warnings.catch_warnings():
        # Lightning's advice on worker counts and logging intervals is for its programmers, not for our users.
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(SegmentationModule(network, options), *loaders)
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
        network = build_network(
            choice.name,
            in_channels=len(tiles.bands),
            encoder=choice.encoder,
            encoder_weights=choice.encoder_weights,
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
    return model.network.train(), model.card


def default_crop(tiles: Tiles) -> int:
    """Choose the crop: the chips' usual side, at most 512, in steps of 32 and at least 64."""
    sides = sorted(min(chip.shape) for chip in tiles.train)
    return max(64, min(512, sides[len(sides) // 2]) // 32 * 32)


def _trainer(
    out: Path, options: TrainOptions, device: torch.device, recorder: RunRecorder, *, show_progress: bool
) -> lightning.Trainer:
    precision = options.precision
    if precision == "auto":
        precision = fast_half_precision(device) or "fp32"
    loggers: Sequence[Logger] = (
        CSVLogger(out, name="", version=""),
        TensorBoardLogger(out, name="", version="", default_hp_metric=False),
    )
    callbacks: list[Callback] = [recorder, RichProgressBar(leave=True)] if show_progress else [recorder]
    quiet = logging.getLogger("lightning.pytorch")
    quiet.setLevel(logging.WARNING)
    return lightning.Trainer(
        accelerator=device.type,
        devices=1,
        precision=_PRECISION[precision],  # type: ignore[arg-type]
        max_epochs=options.epochs,
        logger=loggers,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=show_progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        gradient_clip_val=1.0,
    )


def _loader(dataset: TrainingCrops | WholeChips, options: TrainOptions, *, train: bool) -> DataLoader[Sample]:
    workers = options.workers
    return DataLoader(
        dataset,
        batch_size=options.batch_size,
        shuffle=train,
        drop_last=train and len(dataset) > options.batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
    )


def _make_folder(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; name a folder for the run with --out")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(f"{out} holds a run already; add --overwrite to replace it, or choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for leftover in (*out.glob("metrics.csv"), *out.glob("events.out.tfevents.*")):
            leftover.unlink()
    except OSError as error:
        raise OutputError(f"{out} cannot be made ({error.strerror}); choose another folder with --out") from error


def _provenance(tiles: Tiles, choice: NetworkChoice, options: TrainOptions, crop: int) -> dict[str, object]:
    return {
        "tiles": [folder.name for folder in tiles.folders],
        "train_chips": len(tiles.train),
        "val_chips": len(tiles.val),
        "network": asdict(choice) | {"start": choice.start.name if choice.start else None},
        "options": options.to_json() | {"crop": crop},
        "versions": {"buildseg": __version__, "torch": torch.__version__},
    }
