"""Asymmetric attention once more: slow, with loops over images, positions and regions, from the formulas."""

import math

import torch
from torch import Tensor, nn

from buildseg.attention import AsymmetricFusionAttention, AsymmetricPyramidAttention


def pyramid_attention(module: AsymmetricPyramidAttention, x: Tensor) -> Tensor:
    """relu(bn(1x1(concatenation of W context and x))), dropping nothing; query and key are one convolution."""
    query = projected(module.query, x)
    return textbook(module, query, query, x, x).clamp(min=0)


def fusion_attention(module: AsymmetricFusionAttention, low: Tensor, high: Tensor) -> Tensor:
    """bn(1x1(concatenation of W context and high)), dropping nothing."""
    return textbook(module, projected(module.query, high), projected(module.key, low), low, high)


def textbook(module: nn.Module, query: Tensor, key: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """In the article's order: values before pooling, W and the last convolution at every position."""
    values = torch.einsum("dc,nchw->ndhw", module.value.weight[:, :, 0, 0], low)
    context = torch.zeros(len(high), len(module.value.weight), *high.shape[2:], dtype=high.dtype)
    for n in range(len(high)):
        keys, pooled = regions(key[n]), regions(values[n])
        for row in range(high.shape[2]):
            for column in range(high.shape[3]):
                weights = softmax(query[n, :, row, column], keys)
                context[n, :, row, column] = (weights[:, None] * pooled).sum(dim=0)
    added = torch.einsum("cd,ndhw->nchw", module.out.weight[:, :, 0, 0], context)
    fused = torch.einsum("oc,nchw->nohw", module.fuse.weight[:, :, 0, 0], torch.cat([added, high], dim=1))
    return normalized(module.finish[0], fused)


def regions(features: Tensor) -> Tensor:
    """The mean of (C, H, W) over each of the 110 regions, (110, C), as the pyramid of 1, 3, 6 and 8 cuts them."""
    return torch.stack([features[:, rows, columns].mean(dim=(1, 2)) for rows, columns in areas(*features.shape[1:])])


def areas(height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows and columns of each region; region i of s spans floor(i l / s) to ceil((i + 1) l / s) of a length l."""
    return [
        (part(i, size, height), part(j, size, width)) for size in (1, 3, 6, 8) for i in range(size) for j in range(size)
    ]


def part(index: int, count: int, length: int) -> slice:
    return slice(math.floor(index * length / count), math.ceil((index + 1) * length / count))


def softmax(query: Tensor, keys: Tensor) -> Tensor:
    scores = ((query * keys).sum(dim=1) / len(query) ** 0.5).exp()
    return scores / scores.sum()


def projected(projection: nn.Sequential, x: Tensor) -> Tensor:
    conv, norm, _ = projection
    return normalized(norm, torch.einsum("dc,nchw->ndhw", conv.weight[:, :, 0, 0], x)).clamp(min=0)


def normalized(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Over images and positions in training, by the running statistics in evaluation."""
    mean, variance = norm.running_mean, norm.running_var
    if norm.training:
        count = x[:, 0].numel()
        mean = x.sum(dim=(0, 2, 3)) / count
        variance = ((x - mean[:, None, None]) ** 2).sum(dim=(0, 2, 3)) / count
    scaled = (x - mean[:, None, None]) / (variance[:, None, None] + norm.eps).sqrt()
    return scaled * norm.weight[:, None, None] + norm.bias[:, None, None]


def region_map(module: nn.Module, query: Tensor, key: Tensor) -> Tensor:
    """What one query, (width,), attends to of one image's keys, (width, H, W)."""
    seen = torch.zeros(key.shape[1:], dtype=key.dtype)
    for weight, (rows, columns) in zip(softmax(query, regions(key)), areas(*key.shape[1:]), strict=True):
        seen[rows, columns] += weight / seen[rows, columns].numel()
    return seen
