"""The textbook forms of the attention modules: the steps that the articles' own code takes.

Each is a function of one of buildseg's modules, whose weights it uses, and of the module's inputs, so that the two
forms compute the same thing and differ in their way to it alone. Plain non-local, which buildseg has no use for, is a
module of its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buildseg.attention import (
    AsymmetricFusionAttention,
    AsymmetricPyramidAttention,
    ChannelAttention,
    CrissCrossAttention,
    PolarizedSelfAttention,
    PositionAttention,
)

AsymmetricAttention = AsymmetricPyramidAttention | AsymmetricFusionAttention


class NonLocal(nn.Module):
    """Non-local block, embedded Gaussian form (Wang et al., arXiv:1711.07971, equation 6).

    out = W softmax_keys(q^T k) v + x with q, k and v of C/2 channels.
    """

    def __init__(self, channels: int) -> None:
        """Make the module.

        Args:
            channels: C, at least 2.
        """
        super().__init__()
        half = channels // 2
        self.query = nn.Conv2d(channels, half, 1)
        self.key = nn.Conv2d(channels, half, 1)
        self.value = nn.Conv2d(channels, half, 1)
        self.out = nn.Conv2d(half, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Add to each position what it attends to, by way of all n x n scores.

        Args:
            x: Features, (N, C, H, W).

        Returns:
            Features, (N, C, H, W).
        """
        query, key, value = (projection(x).flatten(2) for projection in (self.query, self.key, self.value))
        scores = torch.bmm(query.transpose(1, 2), key)
        attended = torch.bmm(scores.softmax(dim=2), value.transpose(1, 2)).transpose(1, 2).contiguous()
        out: Tensor = self.out(attended.view(len(x), -1, *x.shape[2:])) + x
        return out


def position_attention(module: PositionAttention, x: Tensor) -> Tensor:
    """PAM with its n x n scores (arXiv:1809.02983)."""
    query = module.query(x).flatten(2).transpose(1, 2)
    key, value = module.key(x).flatten(2), module.value(x).flatten(2)
    weights = torch.bmm(query, key).softmax(dim=2)
    attended = torch.bmm(value, weights.transpose(1, 2)).view(x.shape)
    return module.gamma * attended + x


def channel_attention(module: ChannelAttention, x: Tensor) -> Tensor:
    """CAM as its authors wrote it: each row of energies is taken from its maximum (arXiv:1809.02983)."""
    rows = x.flatten(2)
    energies = torch.bmm(rows, rows.transpose(1, 2))
    energies = energies.max(dim=2, keepdim=True).values.expand_as(energies) - energies
    attended = torch.bmm(energies.softmax(dim=2), rows).view(x.shape)
    return module.beta * attended + x


def criss_cross_attention(module: CrissCrossAttention, x: Tensor) -> Tensor:
    """Criss-cross attention: every column and every row a batch entry, scores concatenated (arXiv:1811.11721)."""
    count, _, height, width = x.shape
    projected = [projection(x) for projection in (module.query, module.key, module.value)]
    query_h, key_h, value_h = (p.permute(0, 3, 1, 2).contiguous().flatten(0, 1) for p in projected)
    query_w, key_w, value_w = (p.permute(0, 2, 1, 3).contiguous().flatten(0, 1) for p in projected)
    itself = torch.full((height,), torch.inf, dtype=x.dtype, device=x.device).diag().repeat(count * width, 1, 1)
    scores_h = torch.bmm(query_h.transpose(1, 2), key_h) - itself
    scores_h = scores_h.view(count, width, height, height).transpose(1, 2)
    scores_w = torch.bmm(query_w.transpose(1, 2), key_w).view(count, height, width, width)
    weights = torch.cat([scores_h, scores_w], dim=3).softmax(dim=3)
    weights_h = weights[..., :height].transpose(1, 2).contiguous().flatten(0, 1)
    weights_w = weights[..., height:].contiguous().flatten(0, 1)
    column = torch.bmm(value_h, weights_h.transpose(1, 2)).view(count, width, -1, height).permute(0, 2, 3, 1)
    row = torch.bmm(value_w, weights_w.transpose(1, 2)).view(count, height, -1, width).transpose(1, 2)
    return module.gamma * (column + row) + x


def asymmetric_pyramid_attention(module: AsymmetricPyramidAttention, x: Tensor) -> Tensor:
    """APNB; the convolution that queries and keys share runs once for each (arXiv:1908.07678)."""
    out: Tensor = module.finish(_fused(module, module.query(x), module.query(x), x, x))
    return out


def asymmetric_fusion_attention(module: AsymmetricFusionAttention, low: Tensor, high: Tensor) -> Tensor:
    """AFNB (arXiv:1908.07678)."""
    out: Tensor = module.finish(_fused(module, module.query(high), module.key(low), low, high))
    return out


def _fused(module: AsymmetricAttention, query: Tensor, key: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Softmax over n x 110 scores; W, the concatenation and the last convolution after it, at n positions."""
    value = _pyramid(module.value(low)).transpose(1, 2)
    scores = torch.bmm(query.flatten(2).transpose(1, 2), _pyramid(key)) * key.shape[1] ** -0.5
    context = torch.bmm(scores.softmax(dim=2), value).transpose(1, 2).contiguous()
    context = module.out(context.view(len(high), -1, *high.shape[2:]))
    fused: Tensor = module.fuse(torch.cat([context, high], dim=1))
    return fused


def _pyramid(x: Tensor) -> Tensor:
    """1 + 9 + 36 + 64 averages of each channel."""
    return torch.cat([F.adaptive_avg_pool2d(x, size).flatten(2) for size in (1, 3, 6, 8)], dim=2)


def polarized_self_attention(module: PolarizedSelfAttention, x: Tensor) -> Tensor:
    """PSA, parallel, of the article's form, with every convolution before its pooling (arXiv:2107.00782)."""
    query = module.channel_query(x).flatten(2).softmax(dim=2)
    context = torch.matmul(module.channel_value(x).flatten(2), query.transpose(1, 2)).unsqueeze(3)
    channel_gate = module.channel_out(context).sigmoid()
    query = F.adaptive_avg_pool2d(module.spatial_query(x), 1).flatten(2).transpose(1, 2).softmax(dim=2)
    scores = torch.matmul(query, module.spatial_value(x).flatten(2))
    spatial_gate = scores.view(len(x), 1, *x.shape[2:]).sigmoid()
    gated: Tensor = x * channel_gate + x * spatial_gate
    return gated
