"""Criss-cross attention once more: slow, in float64, position by position, from the formulas."""

import torch
from torch import Tensor

from buildseg.attention import CrissCrossAttention, RecurrentCrissCrossAttention


def criss_cross_attention(module: CrissCrossAttention, x: Tensor) -> Tensor:
    """out_u = gamma * sum_w a_uw v_w + x_u."""
    out = torch.zeros_like(x)
    for n, image in enumerate(x):
        values = projected(module.value, image)
        matrix = weights(module, image)
        for u, own in enumerate(image.flatten(1).unbind(1)):
            attended = sum(weight * value for weight, value in zip(matrix[u], values, strict=True))
            row, column = divmod(u, x.shape[3])
            out[n, :, row, column] = module.gamma * attended + own
    return out


def recurrent_criss_cross_attention(module: RecurrentCrissCrossAttention, x: Tensor) -> Tensor:
    """The same, as often as there are passes."""
    for _ in range(module.recurrence):
        x = criss_cross_attention(module.attention, x)
    return x


def weights(module: CrissCrossAttention, image: Tensor) -> Tensor:
    """The n x n matrix a of an image (C, H, W): a_uw = exp(q_u . k_w) / sum over the cross of u, 0 off that cross."""
    queries, keys = projected(module.query, image), projected(module.key, image)
    rows = []
    for u, query in enumerate(queries):
        scores = [
            (query * key).sum().exp() if in_cross(u, w, image.shape[2]) else query.new_zeros(())
            for w, key in enumerate(keys)
        ]
        rows.append(torch.stack(scores) / sum(scores))
    return torch.stack(rows)


def in_cross(u: int, w: int, width: int) -> bool:
    return u // width == w // width or u % width == w % width


def projected(projection: torch.nn.Conv2d, image: Tensor) -> list[Tensor]:
    """What a 1x1 convolution makes of each position, row by row."""
    return [projection.weight[:, :, 0, 0] @ values + projection.bias for values in image.flatten(1).unbind(1)]


def position_map(module: RecurrentCrissCrossAttention, image: Tensor, row: int, column: int) -> Tensor:
    """The row of the position in A_R ... A_2 A_1, the product of the n x n matrices of all passes."""
    product = torch.eye(image[0].numel(), dtype=image.dtype)
    for _ in range(module.recurrence):
        product = weights(module.attention, image) @ product
        image = criss_cross_attention(module.attention, image[None])[0]
    return product[row * image.shape[2] + column].reshape(image.shape[1:])
