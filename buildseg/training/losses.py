"""What training makes small."""

import torch
from torch import Tensor
from torch.nn import functional

from buildseg.classes import IGNORE


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice, of the one class or of several.

    Args:
        logits: Shape (N, classes, H, W).
        target: Shape (N, H, W), uint8: classes, or `IGNORE` where there is no label.

    Returns:
        A scalar, at least 0.
    """
    return (bce_dice_loss if logits.shape[1] == 1 else cross_entropy_dice_loss)(logits, target)


def bce_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice over the labelled pixels of a batch.

    Args:
        logits: Shape (N, 1, H, W).
        target: Shape (N, H, W), uint8: 0, 1, or `IGNORE` where there is no label.

    Returns:
        A scalar, at least 0. Dice is 1 - 2 sum(p y) / sum(p + y), over the batch (Milletari et al. 2016, V-Net,
        with p + y instead of squares).
    """
    scores = logits.float().squeeze(1)
    known = (target != IGNORE).float()
    truth = target.float() * known
    count = known.sum().clamp_min(1)
    bce = (functional.binary_cross_entropy_with_logits(scores, truth, reduction="none") * known).sum() / count
    probability = torch.sigmoid(scores) * known
    overlap = (probability * truth).sum()
    dice = 1 - (2 * overlap + 1) / (probability.sum() + truth.sum() + 1)
    return bce + dice


def cross_entropy_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice over the labelled pixels of a batch, for several classes.

    Args:
        logits: Shape (N, classes, H, W).
        target: Shape (N, H, W), uint8: classes, or `IGNORE` where there is no label.

    Returns:
        A scalar, at least 0. Dice is that of `bce_dice_loss`, meaned over the classes that occur in the target.
    """
    scores, truth = logits.float(), target.long()
    known = truth != IGNORE
    entropy = functional.cross_entropy(scores, truth, ignore_index=IGNORE, reduction="sum") / known.sum().clamp_min(1)
    probability = scores.softmax(dim=1) * known[:, None]
    wanted = functional.one_hot(torch.where(known, truth, 0), logits.shape[1]).movedim(-1, 1) * known[:, None]
    axes = (0, 2, 3)
    overlap, total = (probability * wanted).sum(axes), probability.sum(axes) + wanted.sum(axes)
    occurs = wanted.sum(axes) > 0
    dice = ((1 - (2 * overlap + 1) / (total + 1)) * occurs).sum() / occurs.sum().clamp_min(1)
    return entropy + dice
