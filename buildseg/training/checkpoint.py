"""What a run that was cut off goes on from."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint

from buildseg.chip_file import ChipFile
from buildseg.model_file import ModelCard
from buildseg.tiles import Tiles
from buildseg.training.sampling import EpochSampler
from tiling.errors import OptionError, TrainingError
from tiling.output import written_whole

CHECKPOINT = "checkpoint.ckpt"
KEYS = {"made_of", "stopped", "epochs"}
"""Of what this module adds to Lightning's checkpoint."""


class RunCheckpoint(Checkpoint):
    """Writes a checkpoint after each epoch, and lets order and chance of each batch be the same after a resume.

    Args:
        folder: Of the run.
        seed: Of the run.
        made_of: Digest of what the run is made of.
        sampler: Of the crops.
    """

    def __init__(self, folder: Path, seed: int, made_of: str, sampler: EpochSampler) -> None:
        self._path = folder / CHECKPOINT
        self._seed = seed
        self._made_of = made_of
        self._sampler = sampler
        self._epochs = 0
        self._stopped = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Let a run that had stopped early stay so."""
        trainer.should_stop = trainer.should_stop or self._stopped

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Let what a network drops at random be a function of seed and place; the order of crops is one already."""
        place = f"{self._seed} {trainer.current_epoch} {batch_idx} {trainer.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(place.encode()).digest()[:7], "little"))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the checkpoint; Lightning calls the callbacks of this kind after all others."""
        self._stopped, self._epochs = trainer.should_stop, trainer.current_epoch + 1
        if trainer.is_global_zero:
            with written_whole(self._path, overwrite=True) as partial:
                trainer.save_checkpoint(partial)
        else:
            trainer.save_checkpoint(self._path)  # which writes nothing here, but all processes have to take part

    def state_dict(self) -> dict[str, Any]:
        """Give what goes into the checkpoint."""
        return {"made_of": self._made_of, "stopped": self._stopped, "epochs": self._epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self._stopped, self._epochs = state_dict["stopped"], state_dict["epochs"]
        # Lightning says so too, but to processes that load only after they have begun.
        self._sampler.set_epoch(self._epochs)


def find_checkpoint(folder: Path, made_of: str) -> Path | None:
    """Find a run's checkpoint, None where it was cut off before the first.

    Args:
        folder: Of the run.
        made_of: What the run is made of now.

    Raises:
        OptionError: The checkpoint is of other tiles or another model.
        TrainingError: It cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        before = torch.load(path, map_location="cpu", mmap=True, weights_only=True)["callbacks"][RunCheckpoint.__name__]
    except (OSError, RuntimeError, KeyError, UnpicklingError) as error:
        raise TrainingError(f"{path} cannot be read; train anew with --overwrite") from error
    if before.keys() != KEYS:
        raise TrainingError(f"{path} was written by another version of buildseg; train anew with --overwrite")
    if before["made_of"] != made_of:
        raise OptionError(
            f"{folder} was begun with other tiles or from another model than are there now; train anew with --overwrite"
        )
    return path


def made_of(tiles: Tiles, card: ModelCard) -> str:
    """Give a digest of the chips, by name and size, and of what a network trained on them is and expects."""
    files = [_named(chip) for chip in (*tiles.train, *tiles.val)]
    content = json.dumps([files, dict(card.architecture), asdict(card.contract)])
    return hashlib.sha256(content.encode()).hexdigest()


def _named(chip: ChipFile) -> list[object]:
    paths = [path for path in (chip.image, chip.mask, chip.boundary) if path]
    return [[path.name, path.stat().st_size] for path in paths]
