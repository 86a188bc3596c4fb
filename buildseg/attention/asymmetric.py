"""Asymmetric non-local attention: every position attends to pyramid-pooled regions instead of all positions.

Source: Zhu, Xu, Bai, Huang and Bai, "Asymmetric Non-local Neural Networks for Semantic Segmentation",
arXiv:1908.07678, section 3. n stands for H*W, S for the 1 + 9 + 36 + 64 = 110 regions of the pyramid.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buildseg.attention.arguments import check_channels, check_position
from buildseg.option_values import share
from tiling.errors import OptionError

POOL_SIZES = (1, 3, 6, 8)


class _AsymmetricAttention(nn.Module):
    """From queries, unpooled keys and the features that values are made of to the output of either module.

    The article computes fuse(concatenation of out(softmax(q^T k / sqrt(width)) v) and high). All that is linear
    after the softmax works on each position alone, and so commutes with the softmax's weighted sum: here `out`
    and the half of `fuse` that it meets are applied to the S pooled values, not to n positions, and the
    concatenation is never held. That is the same function at about half the multiplications.

    `value`, `out` and `fuse` have no biases: batch normalisation would take them away again.
    """

    def __init__(self, low_channels: int, high_channels: int, width: int, pool_sizes: Sequence[int]) -> None:
        super().__init__()
        check_channels(low_channels, high_channels, width)
        if not pool_sizes or min(pool_sizes) < 1:
            raise OptionError(f"pool_sizes takes positive whole numbers, not {pool_sizes!r}")
        self.pyramid = _Pyramid(pool_sizes)
        self.value = nn.Conv2d(low_channels, width, 1, bias=False)
        self.out = nn.Conv2d(width, high_channels, 1, bias=False)
        self.fuse = nn.Conv2d(2 * high_channels, high_channels, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def _fused(self, query: Tensor, key: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The 1x1 convolution over the attended context and the high features, (N, C, H, W)."""
        weights = self._weights(query, key)
        for_context, for_high = self.fuse.weight.chunk(2, dim=1)
        values = F.conv2d(self.out(self.value(self.pyramid(low).unsqueeze(3))), for_context).flatten(2)
        context = (weights.to(values.dtype) @ values.transpose(1, 2)).transpose(1, 2)
        fused: Tensor = F.conv2d(high, for_high).add_(context.reshape(high.shape))
        return fused

    def _weights(self, query: Tensor, key: Tensor) -> Tensor:
        """How much each query, (N, width, H, W), attends to each region: (N, n, S), in float32 or wider."""
        regions: Tensor = self.pyramid(key)
        with torch.autocast(query.device.type, enabled=False):
            precise = torch.promote_types(query.dtype, torch.float32)
            scaled = regions.to(precise) * regions.shape[1] ** -0.5
            scores: Tensor = query.to(precise).flatten(2).transpose(1, 2) @ scaled
            return scores.softmax(dim=2)

    def _map(self, query: Tensor, key: Tensor, row: int, column: int) -> Tensor:
        check_position(query, row, column)
        weights = self._weights(query[..., row, column, None, None], key)
        with torch.autocast(query.device.type, enabled=False):
            return self.pyramid.spread(weights.flatten(), key.shape[2], key.shape[3])


class AsymmetricPyramidAttention(_AsymmetricAttention):
    """Asymmetric pyramid non-local block, APNB (arXiv:1908.07678, section 3.2).

    out = Dropout2d(ReLU(BN(1x1(concatenation of W softmax(q^T k / sqrt(width)) v and x)))), with
    q = ReLU(BN(1x1(x))), k = q pooled to S = 110 regions, v = 1x1(x) pooled likewise, and W a 1x1 convolution
    that is zero at the start. Scores take n x S numbers instead of n x n.

    In training, batch normalisation needs more than one position in a batch of one image.
    """

    def __init__(
        self,
        channels: int,
        width: int | None = None,
        *,
        pool_sizes: Sequence[int] = POOL_SIZES,
        dropout: float = 0.05,
    ) -> None:
        """Make the module.

        Args:
            channels: C, at least 1.
            width: Channels of queries, keys and values, at least 1; None for half of C, as the article has it.
            pool_sizes: Regions along each side, level by level of the pyramid.
            dropout: Share of channels dropped from the output in training, 0 to below 1.

        Raises:
            OptionError: An argument is out of range.
        """
        width = max(1, channels // 2) if width is None else width
        super().__init__(channels, channels, width, pool_sizes)
        self.query = _projection(channels, width)
        self.finish = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Dropout2d(share("dropout", dropout))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give each position what it attends to.

        Args:
            x: Features, (N, C, H, W).

        Returns:
            Features, (N, C, H, W).
        """
        query = self.query(x)
        out: Tensor = self.finish(self._fused(query, query, x, x))
        return out

    def position_map(self, x: Tensor, row: int, column: int) -> Tensor:
        """How much one position attends to each; the weight of a region is shared evenly by its positions.

        Args:
            x: Features of one image, (1, C, H, W).
            row: The position's row, 0 to H - 1.
            column: The position's column, 0 to W - 1.

        Returns:
            Weights of sum 1, (H, W), in float32 or wider.

        Raises:
            OptionError: There is not one image, or the position lies outside of it.
        """
        query = self.query(x)
        return self._map(query, query, row, column)


class AsymmetricFusionAttention(_AsymmetricAttention):
    """Asymmetric fusion non-local block, AFNB (arXiv:1908.07678, section 3.3).

    out = Dropout2d(BN(1x1(concatenation of W softmax(q^T k / sqrt(width)) v and high))), with
    q = ReLU(BN(1x1(high))), k = ReLU(BN(1x1(low))) and v = 1x1(low), both pooled to S = 110 regions, and W a 1x1
    convolution that is zero at the start: features of a deep stage attend to those of an earlier one.

    In training, batch normalisation needs more than one position in a batch of one image.
    """

    def __init__(
        self,
        low_channels: int,
        high_channels: int,
        width: int | None = None,
        *,
        pool_sizes: Sequence[int] = POOL_SIZES,
        dropout: float = 0.05,
    ) -> None:
        """Make the module.

        Args:
            low_channels: Channels of the features that are attended to, at least 1.
            high_channels: Channels C of the features that attend, at least 1.
            width: Channels of queries, keys and values, at least 1; None for an eighth of C, as the article has it.
            pool_sizes: Regions along each side, level by level of the pyramid.
            dropout: Share of channels dropped from the output in training, 0 to below 1.

        Raises:
            OptionError: An argument is out of range.
        """
        width = max(1, high_channels // 8) if width is None else width
        super().__init__(low_channels, high_channels, width, pool_sizes)
        self.query = _projection(high_channels, width)
        self.key = _projection(low_channels, width)
        self.finish = nn.Sequential(nn.BatchNorm2d(high_channels), nn.Dropout2d(share("dropout", dropout)))

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Give each position of the high features what it attends to in the low ones.

        Args:
            low: Features, (N, low_channels, h, w), of any height and width.
            high: Features, (N, C, H, W).

        Returns:
            Features, (N, C, H, W).
        """
        out: Tensor = self.finish(self._fused(self.query(high), self.key(low), low, high))
        return out

    def position_map(self, low: Tensor, high: Tensor, row: int, column: int) -> Tensor:
        """How much one position attends to each; the weight of a region is shared evenly by its positions.

        Args:
            low: Features of one image, (1, low_channels, h, w).
            high: Features of that image, (1, C, H, W).
            row: Row of the position that attends, 0 to H - 1.
            column: Its column, 0 to W - 1.

        Returns:
            Weights of sum 1, (h, w), in float32 or wider.

        Raises:
            OptionError: There is not one image, or the position lies outside of it.
        """
        return self._map(self.query(high), self.key(low), row, column)


class _Pyramid(nn.Module):
    """Average pooling to a pyramid of regions, as adaptive pooling to each of its sizes cuts them.

    Region i of s along an axis of length l spans floor(i l / s) to ceil((i + 1) l / s), where regions overlap if s
    does not divide l. Written as a product P_h X P_w^T, it is nothing but matrix products for ONNX, whatever the
    sizes are.
    """

    bins: Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        bins = torch.tensor([[index, count] for count in sizes for index in range(count)])
        self.register_buffer("bins", bins, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C, S), level by level, each row by row."""
        down, across = (self._averaging(length, x.dtype) for length in x.shape[2:])
        rows = (x @ across.T).split_with_sizes(self.sizes, dim=3)
        levels = [matrix @ row for matrix, row in zip(down.split_with_sizes(self.sizes), rows, strict=True)]
        return torch.cat([level.flatten(2) for level in levels], dim=2)

    def spread(self, weights: Tensor, height: int, width: int) -> Tensor:
        """Share the weight of each of the S regions, (S,), evenly among its positions, (height, width)."""
        down, across = (
            self._averaging(length, weights.dtype).split_with_sizes(self.sizes) for length in (height, width)
        )
        levels = weights.split_with_sizes([size * size for size in self.sizes])
        squares = [level.reshape(size, size) for level, size in zip(levels, self.sizes, strict=True)]
        return torch.stack([d.T @ square @ a for d, square, a in zip(down, squares, across, strict=True)]).sum(dim=0)

    def _averaging(self, length: int, dtype: torch.dtype) -> Tensor:
        """P: the share that each position of an axis has in each region, (sum of sizes, length), rows of sum 1."""
        index, count = self.bins.unsqueeze(2).unbind(1)
        start, stop = index * length // count, ((index + 1) * length + count - 1) // count
        position = torch.arange(length, device=self.bins.device)
        inside = ((position >= start) & (position < stop)).to(torch.promote_types(dtype, torch.float32))
        return (inside / (stop - start)).to(dtype)


def _projection(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
