"""The category-consistent loss: features of one class alike, means of different classes apart.

Source: Huang, Wang, Wei and others, "CCNet: Criss-Cross Attention for Semantic Segmentation",
arXiv:1811.11721v2, section 3.4, equations 3 to 8. The authors published no code of it.
"""

import torch
from torch import Tensor

from buildseg.classes import IGNORE
from buildseg.networks.output import Embedding

DELTA_V = 0.5
"""Distance from the mean of its class below which a feature costs nothing."""
DELTA_D = 1.5
"""Distance from the mean above which the cost grows linearly; half the distance that means are to keep."""
ALPHA, BETA, GAMMA = 1.0, 1.0, 0.001
"""Weights of the three terms."""


def category_consistent_loss(embedding: Embedding, target: Tensor) -> Tensor:
    """Measure how far the features of a batch are from one tight cluster per class.

    The loss is ALPHA l_var + BETA l_dis + GAMMA l_reg. With d the distance of a feature to the mean of its class:

    - l_var, the mean over classes of the mean over features of 0 up to d = DELTA_V, (d - DELTA_V)^2 up to
      DELTA_D, and d - DELTA_D + (DELTA_D - DELTA_V)^2 from there;
    - l_dis, the mean over pairs of classes of (2 DELTA_D - distance of the means)^2, 0 from 2 DELTA_D;
    - l_reg, the mean over classes of the length of the mean.

    A feature has the label of the pixel at the centre of its cell. Cells whose centre is ignored or outside of
    the target do not count, nor do classes without any cell.

    Args:
        embedding: Features of the batch, (N, D, h, w). Its weight is not applied.
        target: Classes, (N, H, W), uint8 or int64, `IGNORE` where there is no label.

    Returns:
        A scalar, at least 0, in float32 or wider; 0 where nothing is labelled.
    """
    vectors, labels = _labelled(embedding, target)
    classes, index, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    means = vectors.new_zeros(len(classes), vectors.shape[1]).index_add(0, index, vectors) / counts[:, None]

    distance = torch.linalg.vector_norm(vectors - means[index], dim=1)
    scatter = (distance.clamp(DELTA_V, DELTA_D) - DELTA_V).square() + (distance - DELTA_D).clamp_min(0)
    variance = (scatter / counts[index]).sum() / max(1, len(classes))

    one, other = torch.triu_indices(len(classes), len(classes), offset=1, device=means.device)
    gap = torch.linalg.vector_norm(means[one] - means[other], dim=1)
    nearness = (2 * DELTA_D - gap).clamp_min(0).square().sum() / max(1, len(gap))

    size = torch.linalg.vector_norm(means, dim=1).sum() / max(1, len(classes))
    loss: Tensor = ALPHA * variance + BETA * nearness + GAMMA * size
    return loss


def _labelled(embedding: Embedding, target: Tensor) -> tuple[Tensor, Tensor]:
    """The features whose cell has a label, (M, D), and the labels, (M,)."""
    centre, stride = embedding.stride // 2, embedding.stride
    labels = target[:, centre::stride, centre::stride]
    features = embedding.features[..., : labels.shape[1], : labels.shape[2]].movedim(1, -1)
    known = labels != IGNORE
    return features[known].to(torch.promote_types(features.dtype, torch.float32)), labels[known]
