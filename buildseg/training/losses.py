"""What training makes small."""

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = 255


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
