"""What happens after each validation: models are saved, numbers written, pictures drawn."""

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from buildseg.model_file import ModelCard, save_model
from buildseg.networks.output import building_probability
from buildseg.training.dataset import TrainingCrops, WholeChips
from buildseg.training.module import SegmentationModule
from buildseg.training.options import TrainOptions
from buildseg.training.pictures import Example, draw_curves, draw_examples, viewable
from tiling.errors import TrainingError
from tiling.output import written_whole

BEST, LAST = "best.safetensors", "last.safetensors"
METRICS, CURVES, EXAMPLES = "metrics.csv", "curves.png", "validation.png"
_LOSSES = ("train_loss", "val_loss")
_SHIFT = "label_shift"
_SCORES = ("val_iou", "val_f1", "val_precision", "val_recall", "val_boundary_f1")
_SHOWN = 3
_NAMED = 8


class MovingAverage(WeightAveraging):
    """The moving average of the weights, which is scored and kept in their place.

    Args:
        decay: What the average keeps of itself at each step; less in the first steps, when it knows little.
    """

    def __init__(self, decay: float) -> None:
        def average(mean: Tensor, now: Tensor, number: Tensor | int) -> Tensor:
            known = torch.as_tensor(number)
            kept = ((1 + known) / (10 + known)).clamp_max(decay)  # a tensor: the GPU need not be waited for
            return mean * kept + now * (1 - kept)

        super().__init__(avg_fn=average)


class FiniteLoss(lightning.Callback):
    """Stops training where the loss is no number any more.

    Args:
        crops: What is learnt from.
        options: How.
    """

    def __init__(self, crops: TrainingCrops, options: TrainOptions) -> None:
        self._crops, self._batch_size = crops, options.batch_size

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Look at the loss of a batch.

        Raises:
            TrainingError: It is infinite or no number.
        """
        if torch.isfinite(loss):
            return
        batch, epoch = trainer.fit_loop.batch_idx, trainer.current_epoch
        loader: Any = trainer.train_dataloader
        order = loader.sampler.draws(epoch)
        draws = order[batch * self._batch_size : (batch + 1) * self._batch_size]
        names = list(dict.fromkeys(self._crops.chips[draw.place].image.name for draw in draws))
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise TrainingError(
            f"the loss is {loss.item()} in epoch {epoch + 1}, step {batch + 1}, on {', '.join(names[:_NAMED])}{more}; "
            "lower --learning-rate, train with --precision fp32, or look at these chips"
        )


class RunRecorder(lightning.Callback):
    """Keeps the best model by validation IoU and the last one, and draws how training goes.

    Args:
        folder: Of the run.
        card: Of the model files, but for the scores.
        chips: Validation chips, some of which are drawn.
        storage: Type in which weights are kept.
    """

    def __init__(
        self,
        folder: Path,
        card: ModelCard,
        chips: WholeChips,
        storage: torch.dtype,
    ) -> None:
        self._folder = folder
        self._card = card
        self._chips = chips
        self._storage = storage
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save, write and draw; validation has been done by now."""
        if not isinstance(pl_module, SegmentationModule):
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.history.append(values)
        scores = {name: values[name] for name in _SCORES if name in values}
        scores["epoch"] = float(trainer.current_epoch + 1)
        # Of equals the later one, such as where no validation chip has a building and all score nothing.
        better = not self.best or scores["val_iou"] >= self.best["val_iou"]
        if better:
            self.best = scores
        if trainer.is_global_zero:
            self._keep(pl_module, replace(self._card, scores=scores), better)
            self._write_metrics()
            draw_curves(self._folder / CURVES, self.history)

    def state_dict(self) -> dict[str, Any]:
        """Give what a run that is resumed has to know."""
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.history, self.best = state_dict["history"], state_dict["best"]

    def _keep(self, module: SegmentationModule, card: ModelCard, better: bool) -> None:
        save_model(self._folder / LAST, module.scored, card, storage=self._storage)
        if better:
            save_model(self._folder / BEST, module.scored, card, storage=self._storage)
            self._draw_examples(module)

    def _write_metrics(self) -> None:
        names = [name for name in (*_LOSSES, *_SCORES, _SHIFT) if name in self.history[0]]
        rows = ([epoch, *(values[name] for name in names)] for epoch, values in enumerate(self.history, 1))
        with (
            written_whole(self._folder / METRICS, overwrite=True) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([["epoch", *names], *rows])

    def _draw_examples(self, module: SegmentationModule) -> None:
        ious = [float(iou) for iou in module.chip_ious]
        examples = [self._example(module, index, ious[index]) for index in worst_and_best(ious)]
        if examples:
            title = f"epoch {self.best['epoch']:.0f}, validation IoU {self.best['val_iou']:.3f}"
            draw_examples(self._folder / EXAMPLES, examples, f"{title}: worst chips above, best below")

    def _example(self, module: SegmentationModule, index: int, iou: float) -> Example:
        image, target, _ = self._chips[index]
        with torch.inference_mode():
            logits = module.scored(image[None].to(module.device))
        probability = building_probability(logits, module.scored.architecture.boundary)[0].cpu().numpy()
        name = f"{self._chips.chips[index].image.stem}: IoU {iou:.3f}"
        return Example(name, viewable(image.numpy()), target.numpy(), probability)


def worst_and_best(ious: Sequence[float], number: int = _SHOWN) -> list[int]:
    """Choose chips to look at: those with the lowest IoU, the worst first, then those with the highest.

    Args:
        ious: Of each chip; NaN where there is no building and none was found.
        number: How many of each kind, at most.

    Returns:
        Indices; of chips without any IoU where all are such.
    """
    known = [index for index, iou in enumerate(ious) if not math.isnan(iou)] or list(range(len(ious)))
    order = sorted(known, key=lambda index: ious[index])
    return order if len(order) <= 2 * number else order[:number] + order[-number:]
