"""What happens after each validation: models are saved, pictures drawn."""

from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import torch

from buildseg.model_file import ModelCard, save_model
from buildseg.training.dataset import WholeChips
from buildseg.training.module import SegmentationModule
from buildseg.training.pictures import draw_curves, draw_examples, viewable

BEST, LAST = "best.safetensors", "last.safetensors"
CURVES, EXAMPLES = "curves.png", "validation.png"
_SCORES = ("val_iou", "val_f1", "val_precision", "val_recall")
_EXAMPLES_SHOWN = 6


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
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save and draw; validation has been done by now."""
        if not trainer.is_global_zero or not isinstance(pl_module, SegmentationModule):
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.history.append(values)
        scores = {name: values[name] for name in _SCORES} | {"epoch": float(trainer.current_epoch + 1)}
        card = replace(self._card, scores=scores)
        save_model(self._folder / LAST, pl_module.network, card, storage=self._storage)
        if not self.best or scores["val_iou"] > self.best["val_iou"]:
            self.best = scores
            save_model(self._folder / BEST, pl_module.network, card, storage=self._storage)
            self._draw_examples(pl_module)
        draw_curves(self._folder / CURVES, self.history)

    def _draw_examples(self, module: SegmentationModule) -> None:
        shown = np.unique(np.linspace(0, len(self._chips) - 1, _EXAMPLES_SHOWN).round().astype(int))
        examples = []
        module.network.eval()
        for index in shown:
            image, target = self._chips[int(index)]
            with torch.inference_mode():
                logits = module.network(image[None].to(module.device))
            probability = torch.sigmoid(logits.float())[0, 0].cpu().numpy()
            examples.append((viewable(image.numpy()), target.numpy(), probability))
        module.network.train()
        draw_examples(self._folder / EXAMPLES, examples)
