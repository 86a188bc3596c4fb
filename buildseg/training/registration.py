"""Labels that lie beside their buildings, moved to where the network, as it is now, finds them."""

import torch
from torch import Tensor
from torch.nn import functional

from buildseg.classes import IGNORE

_BEGIN = 0.25
_PULL = 8.0


def registers(epoch: int, epochs: int) -> bool:
    """Say whether labels are moved by now: after a quarter of the epochs, when the network knows where buildings are.

    Args:
        epoch: That runs, from 0.
        epochs: How many there are to be.
    """
    return epoch >= _BEGIN * epochs


@torch.no_grad()
def find_shifts(logits: Tensor, target: Tensor, reach: int) -> Tensor:
    """Find by how much the labels of each crop lie beside what the network finds.

    The shift is the one of least cross-entropy, summed over the inner pixels, plus 8 for each squared pixel of its
    length: without that pull towards no shift, crops of few or unclear buildings jump to wherever chance has it, and
    labels and network could drift off together.

    Args:
        logits: Shape (N, classes, H, W).
        target: Shape (N, H, W), uint8: classes, or `IGNORE`.
        reach: Pixels, along rows and columns, that a shift can have; less than half a side.

    Returns:
        int64 of shape (N, 2): the rows down and columns right that the labels have been moved by and are to be moved
        back; 0 where the inner labels are all of one class.
    """
    ways = torch.arange(-reach, reach + 1, device=logits.device)
    labels = _inner(target, reach).flatten(1)
    known = labels != IGNORE
    pull = _PULL * (ways[:, None] ** 2 + ways**2) / known.sum(dim=1).clamp_min(1)[:, None, None]
    best = (shift_losses(logits, target, reach) + pull).flatten(1).argmin(dim=1)
    found = torch.stack([ways[best // len(ways)], ways[best % len(ways)]], dim=1)
    several = torch.where(known, labels, 0).amax(dim=1) > torch.where(known, labels, IGNORE).amin(dim=1)
    return found * several[:, None]


def shift_losses(logits: Tensor, target: Tensor, reach: int) -> Tensor:
    """Measure the cross-entropy of labels moved by every small shift, all at once.

    Moved by a shift s, pixel x has the label of x + s, and its loss is linear in that label's one-hot form. So the sums
    for all shifts are a correlation of log-probabilities with one-hot labels: a product of Fourier transforms.

    Args:
        logits: Shape (N, classes, H, W).
        target: Shape (N, H, W), uint8: classes, or `IGNORE`.
        reach: The longest shift along rows and columns, in pixels.

    Returns:
        Shape (N, 2 reach + 1, 2 reach + 1), float32, the shift of -reach rows and columns first: means over the pixels
        that are ``reach`` or more from the sides and have a label, both where they are and where it comes from.
        Infinite where that leaves less than half of the pixels that count without a shift.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    known = (target != IGNORE)[:, None]
    there = torch.where(known[:, 0], target, 0).long()
    one_hot = functional.one_hot(there, logits.shape[1]).movedim(-1, 1) * known
    counted = torch.zeros_like(known)
    _inner(counted, reach).copy_(_inner(known, reach))
    total = _correlation(logits.log_softmax(dim=1) * counted, one_hot.float(), reach)
    count = _correlation(counted.float(), known.float(), reach).round()
    enough = count >= count[:, reach, reach, None, None] / 2
    return torch.where(enough, -total / count.clamp_min(1), torch.inf)


def move_labels(labels: Tensor, shifts: Tensor) -> Tensor:
    """Move the labels of each crop back by its shift.

    Args:
        labels: Shape (N, H, W), uint8.
        shifts: Shape (N, 2): see `find_shifts`.

    Returns:
        The same shape: `IGNORE` where the label would come from outside, and where there was none.
    """
    (rows, row_inside), (cols, col_inside) = (
        _sources(length, shift) for length, shift in zip(labels.shape[1:], shifts.T, strict=True)
    )
    crops = torch.arange(len(labels), device=labels.device)
    moved = labels[crops[:, None, None], rows[:, :, None], cols[:, None, :]]
    inside = row_inside[:, :, None] & col_inside[:, None, :]
    return torch.where(inside & (labels != IGNORE), moved, IGNORE)


def _sources(length: int, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Give where each row or column comes from, kept inside, and whether that is inside; both (N, length)."""
    source = torch.arange(length, device=shift.device) + shift[:, None]
    return source.clamp(0, length - 1), (source >= 0) & (source < length)


def _inner(pixels: Tensor, reach: int) -> Tensor:
    rows, cols = pixels.shape[-2:]
    return pixels[..., reach : rows - reach, reach : cols - reach]


def _correlation(one: Tensor, other: Tensor, reach: int) -> Tensor:
    """Sum one(x) other(x + s) over channels and pixels x, for every shift s; ``one`` is 0 within reach of the sides."""
    product = torch.fft.rfft2(one).conj() * torch.fft.rfft2(other)
    every: Tensor = torch.fft.irfft2(product.sum(dim=1), s=one.shape[-2:])
    return every.roll((reach, reach), dims=(-2, -1))[:, : 2 * reach + 1, : 2 * reach + 1]
