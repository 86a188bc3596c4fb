"""Criss-cross attention: each position attends to its own column and row, and in two passes to all others.

Source: Huang, Wang, Wei, Huang, Shi, Liu and Huang, "CCNet: Criss-Cross Attention for Semantic Segmentation",
arXiv:1811.11721, sections 3.2 and 3.3. n stands for H*W, C for the channels.
"""

import torch
from torch import Tensor, nn

from buildseg.attention.arguments import check_channels, check_position
from tiling.errors import OptionError


class CrissCrossAttention(nn.Module):
    """Criss-cross attention, CCA (arXiv:1811.11721, equations 1 and 2).

    out = gamma * sum_i a_i v_i + x, where i runs over the H + W - 1 positions of the same column or row and a is
    one softmax of q . k_i over all of them; q and k have C/8 channels, v has C, and gamma is a learned number
    that starts at 0, where the module is the identity.

    A position belongs to its own column and to its own row: its score in the column is minus infinity, so that
    it counts once. There are n(H+W) scores in place of the n^2 of position attention. They and their softmax
    are in float32 under autocast.
    """

    def __init__(self, channels: int) -> None:
        """Make the module.

        Args:
            channels: C, at least 1.

        Raises:
            OptionError: C is below 1.
        """
        super().__init__()
        check_channels(channels)
        self.query = nn.Conv2d(channels, max(1, channels // 8), 1)
        self.key = nn.Conv2d(channels, max(1, channels // 8), 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Add to each position what it attends to.

        Args:
            x: Features, (N, C, H, W).

        Returns:
            Features, (N, C, H, W).
        """
        column, row = self.weights(x)
        value = self.value(x)
        attended = torch.einsum("nhwi,nciw->nchw", column.to(value.dtype), value)
        attended += torch.einsum("nhwj,nchj->nchw", row.to(value.dtype), value)
        return torch.addcmul(x, self.gamma.to(x.dtype), attended)

    def weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """How much each position attends to those of its column and of its row.

        Args:
            x: Features, (N, C, H, W).

        Returns:
            Weights in 0..1, in float32 or wider: (N, H, W, H) of the column, from top to bottom, 0 for the
            position itself; and (N, H, W, W) of the row, from left to right. Both together have sum 1.
        """
        query, key = self.query(x), self.key(x)
        height = x.shape[2]
        with torch.autocast(x.device.type, enabled=False):
            precision = torch.promote_types(query.dtype, torch.float32)
            query, key = query.to(precision), key.to(precision)
            column = torch.einsum("nchw,nciw->nhwi", query, key)
            row = torch.einsum("nchw,nchj->nhwj", query, key)
            at = torch.arange(height, device=x.device)
            column = column.masked_fill_((at[:, None] == at)[:, None], float("-inf"))
            both = torch.cat([column, row], dim=3).softmax(dim=3)
        return both[..., :height], both[..., height:]

    def position_map(self, x: Tensor, row: int, column: int) -> Tensor:
        """How much one position attends to each.

        Args:
            x: Features of one image, (1, C, H, W).
            row: The position's row, 0 to H - 1.
            column: The position's column, 0 to W - 1.

        Returns:
            Weights of sum 1, (H, W), 0 outside of the position's column and row.

        Raises:
            OptionError: There is not one image, or the position lies outside of it.
        """
        return self.passed_on(x, _one_position(x, row, column))

    def passed_on(self, x: Tensor, shares: Tensor) -> Tensor:
        """Let each position hand its share on to those that it attends to.

        Args:
            x: Features of one image, (1, C, H, W).
            shares: The share of each position, (H, W).

        Returns:
            What each position is handed, (H, W), of the same sum.
        """
        column, row = (weights[0].to(shares.dtype) for weights in self.weights(x))
        handed = torch.einsum("hw,hwi->iw", shares, column)
        return handed + torch.einsum("hw,hwj->hj", shares, row)


class RecurrentCrissCrossAttention(nn.Module):
    """The same criss-cross attention several times, RCCA (arXiv:1811.11721, section 3.3).

    After two passes each position has heard of every other: the one passes through the two corners at which
    its column and row meet those of the other. The passes share their weights.
    """

    def __init__(self, channels: int, recurrence: int = 2) -> None:
        """Make the module.

        Args:
            channels: C, at least 1.
            recurrence: How many passes: 1, 2 or 3.

        Raises:
            OptionError: C is below 1 or the number of passes is another.
        """
        super().__init__()
        if isinstance(recurrence, bool) or not isinstance(recurrence, int) or not 1 <= recurrence <= 3:
            raise OptionError(f"recurrence is 1, 2 or 3, not {recurrence!r}")
        self.recurrence = recurrence
        self.attention = CrissCrossAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Attend to columns and rows, again and again.

        Args:
            x: Features, (N, C, H, W).

        Returns:
            Features, (N, C, H, W).
        """
        for _ in range(self.recurrence):
            x = self.attention(x)
        return x

    def position_map(self, x: Tensor, row: int, column: int) -> Tensor:
        """How much one position attends to each, through all passes.

        After two passes the weight of w for p is the sum over all u of A2(p, u) A1(u, w), where A1 and A2 are
        the weights of the first and the second pass.

        Args:
            x: Features of one image, (1, C, H, W).
            row: The position's row, 0 to H - 1.
            column: The position's column, 0 to W - 1.

        Returns:
            Weights of sum 1, (H, W).

        Raises:
            OptionError: There is not one image, or the position lies outside of it.
        """
        shares = _one_position(x, row, column)
        inputs = [x]
        for _ in range(self.recurrence - 1):
            inputs.append(self.attention(inputs[-1]))
        for features in reversed(inputs):
            shares = self.attention.passed_on(features, shares)
        return shares


def _one_position(x: Tensor, row: int, column: int) -> Tensor:
    """All of the weight, 1, at one position of (H, W)."""
    check_position(x, row, column)
    shares = torch.zeros(*x.shape[2:], dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    shares[row, column] = 1
    return shares
