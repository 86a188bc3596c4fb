"""What training makes small: a mean over pixels, and a term over areas that does not mind how rare buildings are."""

import torch
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor
from torch.nn import functional

from buildseg.classes import IGNORE
from buildseg.training.options import LossOptions

_DEFAULT = LossOptions()


def segmentation_loss(logits: Tensor, target: Tensor, options: LossOptions = _DEFAULT) -> Tensor:
    """Measure how far logits are from the labels, of the one class or of several.

    Args:
        logits: Shape (N, classes, H, W).
        target: Shape (N, H, W), uint8: classes, or `IGNORE` where there is no label.
        options: Which loss.

    Returns:
        A scalar, at least 0; 0 where nothing is labelled.
    """
    logits = logits.float()
    if options.loss == "lovasz":
        area = _lovasz(logits, target)
    else:
        missed = options.tversky_missed if options.loss == "tversky" else 0.5
        area = _overlap_loss(logits, target, missed)
    return _pixel_loss(logits, target, options) + area


def bce_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice over the labelled pixels of a batch.

    Args:
        logits: Shape (N, 1, H, W).
        target: Shape (N, H, W), uint8: 0, 1, or `IGNORE` where there is no label.

    Returns:
        A scalar, at least 0. Dice is 1 - 2 sum(p y) / sum(p + y), over the batch (Milletari et al. 2016, V-Net,
        with p + y instead of squares).
    """
    return segmentation_loss(logits, target)


def cross_entropy_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice over the labelled pixels of a batch, for several classes.

    Args:
        logits: Shape (N, classes, H, W).
        target: Shape (N, H, W), uint8: classes, or `IGNORE` where there is no label.

    Returns:
        A scalar, at least 0. Dice is that of `bce_dice_loss`, meaned over the classes that occur in the target.
    """
    return segmentation_loss(logits, target)


def _pixel_loss(logits: Tensor, target: Tensor, options: LossOptions) -> Tensor:
    """Cross-entropy of the labelled pixels, each by its weight."""
    known = target != IGNORE
    entropy = _entropy(logits, target, options.label_smoothing)
    if options.loss == "ohem":
        return _hardest(entropy[known], options.ohem_share)
    if options.loss == "outline":
        at_outline = _near_outline(target, options.outline_width)
        weight = (1 + (options.outline_weight - 1) * at_outline) * known
        return (entropy * weight).sum() / weight.sum().clamp_min(1)
    if options.loss == "focal":
        # Lin et al. 2017, arXiv:1708.02002: the probability of what is true, without its smoothing, decides.
        certain = torch.exp(-_entropy(logits, target, 0.0))
        entropy = entropy * (1 - certain).clamp_min(1e-12) ** options.focal_gamma
    return (entropy * known).sum() / known.sum().clamp_min(1)


def _entropy(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy pixel by pixel, (N, H, W); without meaning where there is no label, but finite."""
    known = target != IGNORE
    if logits.shape[1] == 1:
        truth = torch.where(known, target, 0).float() * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits.squeeze(1), truth, reduction="none")
    return functional.cross_entropy(
        logits, target.long(), ignore_index=IGNORE, reduction="none", label_smoothing=smoothing
    )


def _hardest(entropy: Tensor, share: float) -> Tensor:
    """Give the mean of the largest, 0 of none."""
    count = min(len(entropy), max(1, round(share * len(entropy))))
    return entropy.topk(count, sorted=False).values.sum() / max(1, count)


def _near_outline(target: Tensor, width: int) -> Tensor:
    """Find the pixels that are as near as ``width`` to another class, (N, H, W) of booleans."""
    values, known = target.float(), target != IGNORE
    size, pad = 2 * width + 1, width
    most = functional.max_pool2d(torch.where(known, values, -torch.inf), size, stride=1, padding=pad)
    least = -functional.max_pool2d(torch.where(known, -values, -torch.inf), size, stride=1, padding=pad)
    return known & (most != least)


def _overlap_loss(logits: Tensor, target: Tensor, missed: float) -> Tensor:
    """1 - the Tversky index (Salehi et al. 2017, arXiv:1706.05721), over the batch; Dice where misses count half.

    Of several classes it is the mean over those that occur in the target.
    """
    known = (target != IGNORE)[:, None]
    if logits.shape[1] == 1:
        probability = torch.sigmoid(logits) * known
        wanted = torch.where(known, target[:, None], 0).float()
    else:
        probability = logits.softmax(dim=1) * known
        labels = torch.where(known[:, 0], target, 0).long()
        wanted = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1) * known
    axes = (0, 2, 3)
    overlap, found, truth = (probability * wanted).sum(axes), probability.sum(axes), wanted.sum(axes)
    wrong = (1 - missed) * (found - overlap) + missed * (truth - overlap)
    loss = 1 - (overlap + 0.5) / (overlap + wrong + 0.5)
    if logits.shape[1] == 1:
        return loss.mean()
    occurs = truth > 0
    return (loss * occurs).sum() / occurs.sum().clamp_min(1)


def _lovasz(logits: Tensor, target: Tensor) -> Tensor:
    """The Lovász extension of IoU over the batch (Berman et al. 2018, arXiv:1705.08790)."""
    mode = "binary" if logits.shape[1] == 1 else "multiclass"
    loss: Tensor = LovaszLoss(mode, per_image=False, ignore_index=IGNORE)(logits, target.long())
    return loss.sum()  # without a label it is empty
