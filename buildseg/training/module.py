"""The training step, the same for every network."""

from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
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

from buildseg.classes import BUILDING, IGNORE
from buildseg.contract import Contract
from buildseg.networks import NetworkOutput, SegmentationNetwork
from buildseg.networks.output import class_logits
from buildseg.prediction.fitting import fitted_to_bfloat16
from buildseg.training.category_consistent import category_consistent_loss
from buildseg.training.dataset import Sample
from buildseg.training.losses import bce_dice_loss, segmentation_loss
from buildseg.training.optimization import encoder_of, make_optimizer, make_schedule
from buildseg.training.options import TrainOptions
from buildseg.training.registration import find_shifts, move_labels, registers


class SegmentationModule(lightning.LightningModule):
    """Trains a network to tell building from background, or several classes from each other, and perhaps boundaries.

    Args:
        network: Any network of the registry.
        options: How to train it.
        contract: Of the pixels that it is given, where it is to be kept: it is then scored as `fitted_to_bfloat16`.

    Attributes:
        chip_ious: IoU of building in each batch of the last validation, whichever process saw it; NaN where there is
            none and none was found.
    """

    def __init__(self, network: SegmentationNetwork, options: TrainOptions, contract: Contract | None = None) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self._contract = contract
        self._scored: tuple[SegmentationNetwork, ...] = ()  # no part of this module, which is all trained
        self._options = options
        self._boundary = network.architecture.boundary
        self.chip_ious = torch.empty(0)
        self.val_loss = MeanMetric(nan_strategy="disable")
        self.scores = _metrics(network.architecture.classes)
        self.boundary_score = BinaryF1Score(ignore_index=IGNORE, validate_args=False)

    @property
    def scored(self) -> SegmentationNetwork:
        """The network as the last validation has seen it."""
        return self._scored[0]

    def on_train_epoch_start(self) -> None:
        """Hold the encoder still, its batch statistics too, as long as it is frozen."""
        if self._options.optimizer.freeze_encoder:
            learns = self.current_epoch >= self._options.optimizer.freeze_encoder
            encoder_of(self.network).requires_grad_(learns).train(learns)

    def training_step(self, batch: Sample, batch_index: int) -> Tensor:
        """Measure the loss of a batch, auxiliary losses included."""
        output: NetworkOutput = self.network(_channels_last(batch.image))
        if self._options.data.register_labels:
            batch = self._registered(batch, output.logits.detach())
        loss = self._loss(output.logits, batch)
        for extra in output.auxiliary:
            loss = loss + extra.weight * self._loss(extra.logits, batch)
        if output.embedding:
            loss = loss + output.embedding.weight * category_consistent_loss(output.embedding, batch.target)
        size = len(batch.image)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Make what is scored, and see which chips are this process's."""
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():  # batch statistics: all score the model that the first one keeps
                torch.distributed.broadcast(buffer, 0)
        self._scored = (self._fitted(),)
        loader: Any = self.trainer.val_dataloaders
        self._places = list(loader.sampler)
        self._overlaps = torch.zeros(2, len(loader.dataset), dtype=torch.int64, device=self.device)

    def validation_step(self, batch: Sample, batch_index: int) -> None:
        """Score a batch of whole chips."""
        logits = self.scored(_channels_last(batch.image))
        # As classes: given scores, the metrics would take a batch that happens to lie within 0..1 for probabilities.
        classes = class_logits(logits, self._boundary)
        found = (classes.squeeze(1) > 0).to(torch.uint8) if classes.shape[1] == 1 else classes.argmax(dim=1)
        self.scores.update(found, batch.target)
        self._overlaps[:, self._places[batch_index]] = _overlap(found, batch.target)
        if self._boundary:
            self.boundary_score.update((logits[:, -1] > 0).to(torch.uint8), batch.boundary)
        # Lightning's own mean would be wrong where processes have different numbers of chips.
        self.val_loss.update(self._loss(logits, batch), len(batch.image))

    def on_validation_epoch_end(self) -> None:
        """Log the scores over all validation pixels, of all processes."""
        both, either = self.trainer.strategy.reduce(self._overlaps, reduce_op="sum")
        self.chip_ious = both / either
        self.log("val_loss", self.val_loss.compute())
        self.val_loss.reset()
        for name, score in self.scores.compute().items():
            self.log(name, score, prog_bar=name == "val_iou")
        self.scores.reset()
        if self._boundary:
            self.log("val_boundary_f1", self.boundary_score.compute())
            self.boundary_score.reset()

    def _fitted(self) -> SegmentationNetwork:
        if self._contract is None:
            return self.network
        fitted = fitted_to_bfloat16(self.network, self._contract)
        return fitted.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _loss(self, logits: Tensor, batch: Sample) -> Tensor:
        options = self._options.loss
        loss = segmentation_loss(class_logits(logits, self._boundary), batch.target, options)
        if self._boundary:
            loss = loss + options.boundary_weight * bce_dice_loss(logits[:, -1:], batch.boundary)
        return loss

    def _registered(self, batch: Sample, logits: Tensor) -> Sample:
        """Move labels to where the network finds the buildings, and log how far."""
        shifts = torch.zeros(len(logits), 2, dtype=torch.int64, device=logits.device)
        if registers(self.current_epoch, self._options.epochs):
            reach = self._options.data.register_labels
            shifts = find_shifts(class_logits(logits, self._boundary), batch.target, reach)
            boundary = move_labels(batch.boundary, shifts) if self._boundary else batch.boundary
            batch = Sample(batch.image, move_labels(batch.target, shifts), boundary)
        far = shifts.float().norm(dim=1).mean()
        self.log("label_shift", far, on_step=False, on_epoch=True, batch_size=len(logits), sync_dist=True)
        return batch

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Make the optimiser, and the schedule of its rate, which goes step by step."""
        optimizer = make_optimizer(self.network, self._options.optimizer)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = make_schedule(optimizer, steps, self._options.schedule)
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


def _overlap(found: Tensor, target: Tensor) -> Tensor:
    """Count the pixels that are building in both, and in either."""
    known, hit, truth = target != IGNORE, found == BUILDING, target == BUILDING
    return torch.stack([(hit & truth).sum(), ((hit | truth) & known).sum()])


def _channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)
