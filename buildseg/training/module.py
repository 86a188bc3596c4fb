"""The training step, the same for every network."""

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryF1Score,
    BinaryJaccardIndex,
    BinaryPrecision,
    BinaryRecall,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from buildseg.classes import IGNORE
from buildseg.networks import NetworkOutput, SegmentationNetwork
from buildseg.networks.output import class_logits
from buildseg.training.category_consistent import category_consistent_loss
from buildseg.training.dataset import Sample
from buildseg.training.losses import bce_dice_loss, segmentation_loss
from buildseg.training.options import TrainOptions
from tiling.errors import TrainingError


class SegmentationModule(lightning.LightningModule):
    """Trains a network to tell building from background, or several classes from each other, and perhaps boundaries.

    Args:
        network: Any network of the registry.
        options: How to train it.
    """

    def __init__(self, network: SegmentationNetwork, options: TrainOptions) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self._options = options
        self._boundary = network.architecture.boundary
        self.scores = _metrics(network.architecture.classes)
        self.boundary_score = BinaryF1Score(ignore_index=IGNORE, validate_args=False)

    def training_step(self, batch: Sample, batch_index: int) -> Tensor:
        """Measure the loss of a batch, auxiliary losses included."""
        output: NetworkOutput = self.network(_channels_last(batch.image))
        loss = self._loss(output.logits, batch)
        for extra in output.auxiliary:
            loss = loss + extra.weight * self._loss(extra.logits, batch)
        if output.embedding:
            loss = loss + output.embedding.weight * category_consistent_loss(output.embedding, batch.target)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} in epoch {self.current_epoch + 1}, step {batch_index + 1}; "
                "lower --learning-rate, or train with --precision fp32"
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch.image))
        return loss

    def validation_step(self, batch: Sample, batch_index: int) -> None:
        """Score a batch of whole chips."""
        logits = self.network(_channels_last(batch.image))
        # As classes: given scores, the metrics would take a batch that happens to lie within 0..1 for probabilities.
        classes = class_logits(logits, self._boundary)
        found = (classes.squeeze(1) > 0).to(torch.uint8) if classes.shape[1] == 1 else classes.argmax(dim=1)
        self.scores.update(found, batch.target)
        if self._boundary:
            self.boundary_score.update((logits[:, -1] > 0).to(torch.uint8), batch.boundary)
        self.log("val_loss", self._loss(logits, batch), batch_size=len(batch.image))

    def on_validation_epoch_end(self) -> None:
        """Log the scores over all validation pixels."""
        for name, score in self.scores.compute().items():
            self.log(name, score, prog_bar=name == "val_iou")
        self.scores.reset()
        if self._boundary:
            self.log("val_boundary_f1", self.boundary_score.compute())
            self.boundary_score.reset()

    def _loss(self, logits: Tensor, batch: Sample) -> Tensor:
        loss = segmentation_loss(class_logits(logits, self._boundary), batch.target)
        if self._boundary:
            loss = loss + self._options.boundary_weight * bce_dice_loss(logits[:, -1:], batch.boundary)
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; linear warm-up, then cosine decay to zero, step by step. Norms and biases do not decay."""
        options = self._options
        decaying = [p for p in self.network.parameters() if p.dim() > 1]
        others = [p for p in self.network.parameters() if p.dim() <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": decaying, "weight_decay": options.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=options.learning_rate,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = max(1, round(steps * options.warmup))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _metrics(classes: int) -> MetricCollection:
    """The scores of one class; of several their mean over the classes, the background among them."""
    kinds: dict[str, tuple[type[Metric], type[Metric]]] = {
        "iou": (BinaryJaccardIndex, MulticlassJaccardIndex),
        "f1": (BinaryF1Score, MulticlassF1Score),
        "precision": (BinaryPrecision, MulticlassPrecision),
        "recall": (BinaryRecall, MulticlassRecall),
    }
    settings: dict[str, Any] = {"ignore_index": IGNORE, "validate_args": False}
    if classes > 1:
        settings |= {"num_classes": classes, "average": "macro"}
    metrics: dict[str, Metric | MetricCollection] = {
        name: (one if classes == 1 else several)(**settings) for name, (one, several) in kinds.items()
    }
    return MetricCollection(metrics, prefix="val_")


def _channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)
