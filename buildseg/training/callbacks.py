"""What happens after each validation: models are saved, numbers written, pictures drawn."""

import csv
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import torch

from buildseg.classes import BUILDING
from buildseg.model_file import ModelCard, save_model
from buildseg.networks.output import building_probability
from buildseg.training.dataset import WholeChips
from buildseg.training.module import SegmentationModule
from buildseg.training.pictures import draw_curves, draw_examples, viewable
from tiling.output import written_whole

BEST, LAST = "best.safetensors", "last.safetensors"
METRICS, CURVES, EXAMPLES = "metrics.csv", "curves.png", "validation.png"
_LOSSES = ("train_loss", "val_loss")
_SCORES = ("val_iou", "val_f1", "val_precision", "val_recall", "val_boundary_f1")
_EXAMPLES_SHOWN = 6
_EXAMPLES_TRIED = 24


class RunRecorder(lightning.Callback):
    """Keeps the best model by validation IoU and the last one, and draws how training goes.

    Args:
        folder: Of the run.
        card: Of the model files, but for the scores.
        chips: Validation chips, some of which are drawn.
        storage: Type in which weights are kept.
    """

    def __init__(self, folder: Path, card: ModelCard, chips: WholeChips, storage: torch.dtype) -> None:
        self._folder = folder
        self._card = card
        self._chips = chips
        self._storage = storage
        self._shown = _with_buildings(chips)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save, write and draw; validation has been done by now."""
        if not trainer.is_global_zero or not isinstance(pl_module, SegmentationModule):
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.history.append(values)
        scores = {name: values[name] for name in _SCORES if name in values}
        scores["epoch"] = float(trainer.current_epoch + 1)
        card = replace(self._card, scores=scores)
        save_model(self._folder / LAST, pl_module.network, card, storage=self._storage)
        if not self.best or scores["val_iou"] > self.best["val_iou"]:
            self.best = scores
            save_model(self._folder / BEST, pl_module.network, card, storage=self._storage)
            self._draw_examples(pl_module)
        self._write_metrics()
        draw_curves(self._folder / CURVES, self.history)

    def _write_metrics(self) -> None:
        names = [name for name in (*_LOSSES, *_SCORES) if name in self.history[0]]
        rows = ([epoch, *(values[name] for name in names)] for epoch, values in enumerate(self.history, 1))
        with (
            written_whole(self._folder / METRICS, overwrite=True) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([["epoch", *names], *rows])

    def _draw_examples(self, module: SegmentationModule) -> None:
        examples = []
        module.network.eval()
        for index in self._shown:
            image, target, _ = self._chips[index]
            with torch.inference_mode():
                logits = module.network(image[None].to(module.device))
            probability = building_probability(logits, module.network.architecture.boundary)[0].cpu().numpy()
            examples.append((viewable(image.numpy()), target.numpy(), probability))
        module.network.train()
        title = f"epoch {self.best['epoch']:.0f}, validation IoU {self.best['val_iou']:.3f}"
        draw_examples(self._folder / EXAMPLES, examples, title)


def _with_buildings(chips: WholeChips) -> list[int]:
    """Choose the chips to show: from all over, those with buildings if there are such."""
    tried = np.unique(np.linspace(0, len(chips) - 1, _EXAMPLES_TRIED).round().astype(int)).tolist()
    built = [index for index in tried if (chips[index].target == BUILDING).any()] or tried
    spread = np.unique(np.linspace(0, len(built) - 1, _EXAMPLES_SHOWN).round().astype(int))
    return [built[place] for place in spread]
