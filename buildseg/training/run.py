"""A training run, from tiles to a model file."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from buildseg import __version__
from buildseg.contract import Contract
from buildseg.devices import fast_half_precision, resolve_device
from buildseg.model_file import ModelCard
from buildseg.tiles import Tiles
from buildseg.training.bar import RunBar
from buildseg.training.callbacks import BEST, CURVES, EXAMPLES, LAST, METRICS, FiniteLoss, MovingAverage, RunRecorder
from buildseg.training.checkpoint import CHECKPOINT, RunCheckpoint, find_checkpoint, made_of
from buildseg.training.dataset import TrainingCrops, WholeChips, pixels_of
from buildseg.training.depthwise import keep_depthwise_precise
from buildseg.training.loaders import make_loader, plain_faults, train_loader
from buildseg.training.module import SegmentationModule
from buildseg.training.options import NetworkChoice, TrainOptions
from buildseg.training.processes import processes
from buildseg.training.record import RECORD, Run, read_record, write_record
from buildseg.training.report import REPORT, write_report
from buildseg.training.sampling import EpochSampler
from buildseg.training.start import make_contract, make_start
from tiling.errors import OptionError, OutputError
from tiling.output import remove_leftovers

_Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

_EVENTS = "events.out.tfevents.*"
_FILES = (BEST, LAST, METRICS, CURVES, EXAMPLES, RECORD, REPORT, CHECKPOINT, _EVENTS)
_MAY_CHANGE = {"device", "workers"}
_PRECISION: dict[str, _Precision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run gave.

    Attributes:
        model: File of the best model.
        scores: Its validation scores, 0..1, and the epoch, from 1.
        first: Whether this process, of those that train together, is the one to speak of it.
    """

    model: Path
    scores: dict[str, float]
    first: bool = True


def train(
    tiles: Tiles,
    out: Path,
    choice: NetworkChoice | None = None,
    options: TrainOptions | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    show_progress: bool = False,
) -> TrainResult:
    """Train a network on tiles.

    The folder ``out`` gets ``best.safetensors`` and ``last.safetensors``, ``metrics.csv``, TensorBoard events,
    ``curves.png``, ``validation.png``, ``run.yaml``, ``report.html`` and a checkpoint to resume from.

    Args:
        tiles: What to learn from.
        out: Folder of the run.
        choice: Which network.
        options: How.
        overwrite: Whether an earlier run's folder may be used again.
        resume: Whether a run that was cut off in this folder goes on; where there is none, it begins.
        show_progress: Whether a bar is drawn on the terminal.

    Raises:
        OptionError: The network or its options are not known, or the device is not there.
        OutputError: The folder holds a run already or cannot be made.
        WeightsError: Pretrained weights cannot be had.
        TrainingError: The loss is not finite any more, or a process that loads chips has ended.
        TilesError: A chip cannot be read any more.
    """
    plan = Run(tiles.folders, tiles.classes, choice or NetworkChoice(), options or TrainOptions())
    options = plan.options
    group = processes(options.devices)
    device = resolve_device(options.device)
    precision = _precision(options, device)
    resume = resume and _resumable(out, plan)
    _check_folder(out, overwrite=overwrite or resume or not group.first)
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    start = make_start(plan.choice, tiles)
    if tiles.boundaries and not start.network.architecture.boundary:
        tiles = tiles.without_boundaries()
    if (device.type, precision) == ("cpu", "bf16-mixed"):
        keep_depthwise_precise(start.network)
    group.normalise_together(start.network, device)
    contract = make_contract(tiles, options, start.card)
    module = SegmentationModule(start.network, options, contract)
    crop = _crop(tiles, contract, options)
    crops, val = TrainingCrops(tiles.train, contract, crop, options.data.augment), WholeChips(tiles.val, contract)
    card = ModelCard(asdict(start.network.architecture), contract, _provenance(tiles, plan, crop, start.card))
    loaders = (
        train_loader(crops, options, group),
        # One by one: chips of different sizes would have to be padded, and attention would look at the padding.
        make_loader(val, options.workers, batch_size=1, sampler=group.share(len(val))),
    )
    if group.first:
        _make_folder(out, keep=resume)
        write_record(out / RECORD, plan)
    average = MovingAverage(options.keep.ema) if options.keep.ema else None
    recorder = RunRecorder(out, card, val, getattr(torch, options.store))
    content = made_of(tiles, card)
    checkpoint = find_checkpoint(out, content) if resume else None
    sampler = cast("EpochSampler", loaders[0].sampler)
    callbacks = [recorder, FiniteLoss(crops, options), RunCheckpoint(out, options.seed, content, sampler)]
    callbacks += _optional_callbacks(options, average, show_progress)
    with _quiet_lightning(), plain_faults():
        trainer = _trainer(out, options, device, precision, callbacks)
        trainer.fit(module, *loaders, ckpt_path=checkpoint, weights_only=True)
    if group.first:
        write_report(out, recorder.history, recorder.best, plan.flat())
        (out / TensorBoardLogger.NAME_HPARAMS_FILE).unlink(missing_ok=True)  # an empty one, which Lightning makes
    return TrainResult(out / BEST, recorder.best, group.first)


def _optional_callbacks(options: TrainOptions, average: MovingAverage | None, show_progress: bool) -> list[Callback]:
    patience = options.keep.patience
    stop = EarlyStopping("val_iou", mode="max", patience=patience) if patience else None
    return [callback for callback in (average, stop, RunBar() if show_progress else None) if callback]


def _crop(tiles: Tiles, contract: Contract, options: TrainOptions) -> int:
    """Give the crop, which has to leave room for what labels can be moved by."""
    crop, reach = options.crop or default_crop(tiles, contract), options.data.register_labels
    if 4 * reach > crop:
        raise OptionError(f"--register-labels {reach} is much for crops of {crop} pixels; give {crop // 4} or less")
    return crop


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
    out: Path, options: TrainOptions, device: torch.device, precision: _Precision, callbacks: list[Callback]
) -> lightning.Trainer:
    group = processes(options.devices)
    if group.count > 1 and device.index is not None and device.type != "cpu":
        raise OptionError(f"--device {device} is one, and there are {group.count} processes; give --device cuda")
    # Weights of a frozen encoder have no gradient to wait for. Buffers are made equal before a validation: at each
    # forward pass, as is usual, processes would wait for those that have fewer chips to validate.
    frozen = options.optimizer.freeze_encoder > 0
    many = DDPStrategy(find_unused_parameters=frozen, broadcast_buffers=False) if group.count > 1 else "auto"
    return lightning.Trainer(
        accelerator=device.type,
        devices=group.here if device.index is None or device.type == "cpu" else [device.index],
        num_nodes=group.nodes,
        strategy=many,
        precision=precision,
        max_epochs=options.epochs,
        logger=TensorBoardLogger(out, name="", version="", default_hp_metric=False),
        callbacks=callbacks,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        gradient_clip_val=options.optimizer.gradient_clip or None,
        accumulate_grad_batches=options.optimizer.accumulate,
        use_distributed_sampler=False,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice, which is for its programmers, from our users, and let Ctrl-C be an interrupt."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        except SystemExit as stopped:
            raise KeyboardInterrupt from stopped


def _resumable(out: Path, plan: Run) -> bool:
    """Say whether there is something to resume.

    Raises:
        OptionError: It is a run of other options.
    """
    if not (out / RECORD).is_file():
        return False
    before, now = read_record(out / RECORD), plan.flat()
    for name in now.keys() - _MAY_CHANGE:
        if before.get(name) != now[name]:
            raise OptionError(
                f"--resume: {out} was begun with {name} {before.get(name)}, not {now[name]}; leave that out, or train "
                "anew with --overwrite"
            )
    return True


def _check_folder(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; name a folder for the run with --out")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(f"{out} holds a run already; add --overwrite to replace it, or choose another --out")


def _make_folder(out: Path, *, keep: bool) -> None:
    """Make the run's folder; what an earlier run left there is taken away, so that the two do not mix.

    Args:
        out: The folder.
        keep: Whether that run goes on, and only what it had half written is taken away.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            remove_leftovers(out / name)
            for leftover in () if keep else out.glob(name):
                leftover.unlink()
    except OSError as error:
        raise OutputError(f"{out} cannot be made ({error.strerror}); choose another folder with --out") from error


def _provenance(tiles: Tiles, plan: Run, crop: int, start: ModelCard | None) -> dict[str, object]:
    choice = plan.choice
    weights = choice.encoder_weights and Path(choice.encoder_weights).name
    return {
        "tiles": [folder.resolve().name for folder in tiles.folders],
        "classes": tiles.classes,
        "train_chips": len(tiles.train),
        "val_chips": len(tiles.val),
        "network": {"start": choice.start.name} if choice.start else asdict(choice) | {"encoder_weights": weights},
        "options": plan.options.flat() | {"crop": crop},
        "versions": {"buildseg": __version__, "torch": torch.__version__},
        **({"started_from": start.training} if start else {}),
    }
