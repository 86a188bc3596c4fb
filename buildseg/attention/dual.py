"""Position and channel attention, the two halves of dual attention.

Source: Fu, Liu, Tian, Li, Bao, Fang and Lu, "Dual Attention Network for Scene Segmentation",
arXiv:1809.02983, sections 3.2 and 3.3. n stands for H*W, C for the channels.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buildseg.attention.arguments import check_channels, check_position
from buildseg.option_values import one_of

ChannelForm = Literal["paper", "official"]


class PositionAttention(nn.Module):
    """Position attention, PAM (arXiv:1809.02983, equations 1 and 2).

    out = gamma * softmax_keys(q^T k) v + x, with q and k of C/8 channels, v of C, no 1/sqrt(d), and gamma
    a learned number that starts at 0, where the module is the identity.

    The n x n scores are never held, in inference or in training: PyTorch's fused attention asks for
    contiguous q, k and v of one width, a multiple of 8. So the values are cut into 8 heads as wide as the
    queries, which all of them share; or, where C is no multiple of 64, columns of zeros fill all three up to
    one width. Both are exact.
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
        self.heads = 8 if channels % 64 == 0 else 1
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
        width = x.shape[1] // self.heads
        query, key, value = (self._heads(projection(x), width) for projection in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :width]
        heads = x.reshape(len(x), self.heads, width, -1)
        return torch.addcmul(heads, self.gamma.to(x.dtype), attended.transpose(2, 3)).reshape(x.shape)

    def position_map(self, x: Tensor, row: int, column: int) -> Tensor:
        """How much one position attends to each: its row of the n x n scores, and no other.

        Args:
            x: Features, (1, C, H, W).
            row: Row of the position, 0 to H - 1.
            column: Its column, 0 to W - 1.

        Returns:
            Weights in 0..1 of sum 1, (H, W), in float32 or wider.

        Raises:
            OptionError: There is not one image, or the position lies outside of it.
        """
        check_position(x, row, column)
        query = self.query(x[..., row, column, None, None]).flatten()
        scores = query @ self.key(x).flatten(2)[0]
        weights: Tensor = scores.to(torch.promote_types(x.dtype, torch.float32)).softmax(dim=0)
        return weights.reshape(x.shape[2:])

    def _heads(self, projected: Tensor, width: int) -> Tensor:
        """From (N, channels, H, W) to contiguous rows, (N, heads, n, width filled up to a multiple of 8)."""
        heads = 1 if projected.shape[1] <= width else self.heads
        rows = projected.flatten(2).reshape(len(projected), heads, -1, projected[0, 0].numel()).transpose(2, 3)
        padded = F.pad(rows, (0, width + -width % 8 - rows.shape[3]))
        return padded.expand(-1, self.heads, -1, -1).contiguous()


class ChannelAttention(nn.Module):
    """Channel attention, CAM (arXiv:1809.02983, equations 3 and 4).

    out = beta * softmax_rows(E) A + x, where A is x as a (C, n) matrix and E = A A^T its Gram matrix, and
    beta is a learned number that starts at 0, where the module is the identity. The authors' code takes
    softmax_rows(rowmax(E) - E) instead and reports that it trains better: it attends to the channels that
    differ and not to those that are alike.

    E and its softmax stay in float32 under autocast: in bfloat16 the output changes by a third at n = 16,384.
    """

    def __init__(self, channels: int, form: ChannelForm = "official") -> None:
        """Make the module.

        Args:
            channels: C, at least 1. No weight depends on it; it is there as in the sibling modules.
            form: "paper" or "official".

        Raises:
            OptionError: C is below 1 or the form is unknown.
        """
        super().__init__()
        check_channels(channels)
        self.form = one_of("form", form, get_args(ChannelForm))
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Add to each channel what it attends to.

        Args:
            x: Features, (N, C, H, W).

        Returns:
            Features, (N, C, H, W).
        """
        rows = x.flatten(2)
        weights = self.beta * self.weights(rows)  # scaled while it is C x C: no other map as large as x is made
        with torch.autocast(x.device.type, enabled=False):
            return torch.baddbmm(rows, weights.to(x.dtype), rows).reshape(x.shape)

    def weights(self, x: Tensor) -> Tensor:
        """How much each channel attends to each.

        Args:
            x: Features, (N, C, H, W) or (N, C, n).

        Returns:
            Weights in 0..1, (N, C, C), each row of sum 1, in float32 or wider.
        """
        with torch.autocast(x.device.type, enabled=False):
            rows = x.flatten(2).to(torch.promote_types(x.dtype, torch.float32))
            gram = rows @ rows.transpose(1, 2)
            # softmax(rowmax(E) - E) is softmax(-E): softmax takes no notice of what is added to a whole row.
            return (gram if self.form == "paper" else -gram).softmax(dim=2)


class DualAttention(nn.Module):
    """Position and channel attention side by side, their results added up (arXiv:1809.02983, section 3.4).

    Both start as the identity, so their mean is returned: at the start this is the identity too.
    """

    def __init__(self, channels: int, form: ChannelForm = "official") -> None:
        """Make the module.

        Args:
            channels: C, at least 1.
            form: The form of the channel attention, "paper" or "official".

        Raises:
            OptionError: C is below 1 or the form is unknown.
        """
        super().__init__()
        self.position = PositionAttention(channels)
        self.channel = ChannelAttention(channels, form)

    def forward(self, x: Tensor) -> Tensor:
        """Attend along positions and along channels.

        Args:
            x: Features, (N, C, H, W).

        Returns:
            Features, (N, C, H, W).
        """
        mean: Tensor = (self.position(x) + self.channel(x)) / 2
        return mean
