"""What every network returns, so that training knows none of them by name."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buildseg.classes import BUILDING


@dataclass(frozen=True, slots=True)
class AuxiliaryLogits:
    """Logits that exist for the sake of the loss.

    Attributes:
        logits: (N, channels, H, W), of the input's size.
        weight: What their loss is multiplied by before it is added to the main one.
    """

    logits: Tensor
    weight: float


@dataclass(frozen=True, slots=True)
class Embedding:
    """Features that are to be alike within a class and to differ between classes, for the sake of the loss.

    Attributes:
        features: (N, D, h, w), the image (or the image padded to a multiple of `stride`) at a coarser resolution.
        stride: Pixels of the image per feature.
        weight: What their loss is multiplied by before it is added to the main one.
    """

    features: Tensor
    stride: int
    weight: float


@dataclass(frozen=True, slots=True)
class NetworkOutput:
    """What a network in training mode returns.

    Attributes:
        logits: The prediction, (N, channels, H, W), of the input's size: a channel for each class and, where the
            architecture says so, a last one for boundaries.
        auxiliary: Further logits to train with; often none.
        embedding: Features to train with a category-consistent loss; mostly None.
    """

    logits: Tensor
    auxiliary: tuple[AuxiliaryLogits, ...] = ()
    embedding: Embedding | None = None


def class_logits(logits: Tensor, boundary: bool) -> Tensor:
    """Leave out the channel for boundaries.

    Args:
        logits: (N, channels, H, W).
        boundary: Whether they have such a channel.

    Returns:
        (N, classes, H, W).
    """
    return logits[:, :-1] if boundary else logits


def building_probability(logits: Tensor, boundary: bool = False) -> Tensor:
    """Turn logits into the probability of building.

    Args:
        logits: (N, channels, H, W).
        boundary: Whether their last channel is for boundaries.

    Returns:
        (N, H, W) in 0..1, float32: the sigmoid of the one class, or of several the softmax of class `BUILDING`.
    """
    classes = class_logits(logits, boundary)
    if classes.shape[1] == 1:
        return torch.sigmoid(classes[:, 0].float())
    return classes.float().softmax(dim=1)[:, BUILDING]


def boundary_probability(logits: Tensor) -> Tensor:
    """Turn logits whose last channel is for boundaries, (N, channels, H, W), into their probability, (N, H, W)."""
    return torch.sigmoid(logits[:, -1].float())
