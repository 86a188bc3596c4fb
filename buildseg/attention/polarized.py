"""Polarized self-attention: a channel gate and a spatial gate of full resolution each.

Source: Liu, Liu, Fan and Huang, "Polarized Self-Attention: Towards High-quality Pixel-wise Regression",
arXiv:2107.00782. n stands for H*W, C for the channels.
"""

from typing import Literal, get_args

from torch import Tensor, nn

from buildseg.attention.arguments import check_channels, check_position
from buildseg.option_values import one_of

Layout = Literal["parallel", "serial"]
Form = Literal["paper", "official"]


class PolarizedSelfAttention(nn.Module):
    """Polarized self-attention, PSA (arXiv:2107.00782, equations 1 to 4).

    The article and its authors' code differ, and both are in use:

    ======================  =========================  ======================  ============================
    part                    paper                      official, parallel      official, serial
    ======================  =========================  ======================  ============================
    channel context c       W_v x . softmax_n(W_q x)   the same                the same
    channel gate (N,C,1,1)  sigmoid(LayerNorm(W_z c))  sigmoid(W_z c)          sigmoid(bottleneck of c)
    spatial query q         softmax(GAP(W_q' x))       GAP(W_q' x)             GAP(W_q' x)
    spatial gate (N,1,H,W)  sigmoid(q W_v' x)          sigmoid(softmax_n(..))  sigmoid(q softmax_n(W_v' x))
    ======================  =========================  ======================  ============================

    The parallel layout adds both gated maps; the serial one gates the channels and then the positions of the
    result. On large maps the official spatial gates are almost the constant 1/2: at 128 x 128 their standard
    deviation is 5e-4 (parallel) and 6e-5 (serial), against 4e-2 for the article's form.

    Pooling comes before the convolutions wherever the two commute, so that all but the official serial
    form cost O(nC) multiplications and not O(nC^2).
    """

    def __init__(self, channels: int, layout: Layout = "parallel", form: Form = "paper") -> None:
        """Make the module.

        Args:
            channels: C, at least 1.
            layout: "parallel" or "serial".
            form: "paper" or "official".

        Raises:
            OptionError: An argument is none of these.
        """
        super().__init__()
        check_channels(channels)
        one_of("layout", layout, get_args(Layout))
        one_of("form", form, get_args(Form))
        self.layout, self.form = layout, form
        half = max(1, channels // 2)
        self.channel_query = nn.Conv2d(channels, 1, 1, bias=False)
        self.channel_value = nn.Conv2d(channels, half, 1, bias=False)
        self.channel_out = _channel_out(half, channels, layout, form)
        self.spatial_query = nn.Conv2d(channels, half, 1, bias=False)
        self.spatial_value = nn.Conv2d(channels, half, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate the features.

        Args:
            x: Features, (N, C, H, W).

        Returns:
            The gated features, (N, C, H, W).
        """
        if self.layout == "parallel":
            return x * (self.channel_gate(x) + self.spatial_gate(x))
        x = x * self.channel_gate(x)
        return x * self.spatial_gate(x)

    def position_map(self, x: Tensor, row: int, column: int) -> Tensor:
        """The spatial gate as `forward` applies it; in the serial layout it is that of the gated channels.

        It is one map for all positions, so it does not depend on which of them asks.

        Args:
            x: Features, (1, C, H, W).
            row: Row of the position, 0 to H - 1.
            column: Its column, 0 to W - 1.

        Returns:
            Weights in 0..1, (H, W), which do not sum to 1.

        Raises:
            OptionError: There is not one image, or the position lies outside of it.
        """
        check_position(x, row, column)
        seen = x if self.layout == "parallel" else x * self.channel_gate(x)
        return self.spatial_gate(seen)[0, 0]

    def channel_gate(self, x: Tensor) -> Tensor:
        """The weight of each channel.

        Args:
            x: Features, (N, C, H, W).

        Returns:
            Weights in 0..1, (N, C, 1, 1).
        """
        weights = self.channel_query(x).flatten(2).softmax(dim=2)
        pooled = x.flatten(2) @ weights.to(x.dtype).transpose(1, 2)
        gate: Tensor = self.channel_out(self.channel_value(pooled.unsqueeze(3)))
        return gate.sigmoid()

    def spatial_gate(self, x: Tensor) -> Tensor:
        """The weight of each position.

        Args:
            x: Features, (N, C, H, W).

        Returns:
            Weights in 0..1, (N, 1, H, W).
        """
        query = self.spatial_query(x.mean(dim=(2, 3), keepdim=True)).flatten(1).unsqueeze(1)
        if self.form == "official" and self.layout == "serial":
            scores = query @ self.spatial_value(x).flatten(2).softmax(dim=2).to(query.dtype)
        else:
            if self.form == "paper":
                query = query.softmax(dim=2)
            # (q W) x and q (W x) are the same; the first never makes the C/2 channels of W x.
            scores = (query @ self.spatial_value.weight.flatten(1)).to(x.dtype) @ x.flatten(2)
            if self.form == "official":
                scores = scores.softmax(dim=2)
        gate: Tensor = scores.sigmoid().reshape(-1, 1, *x.shape[2:])
        return gate


class _ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position of (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.movedim(1, -1))
        return normed.movedim(-1, 1)


def _channel_out(half: int, channels: int, layout: Layout, form: Form) -> nn.Module:
    if form == "paper":
        return nn.Sequential(nn.Conv2d(half, channels, 1, bias=False), _ChannelNorm(channels))
    if layout == "parallel":
        return nn.Conv2d(half, channels, 1, bias=False)
    # Normalised over one or two channels alone, nothing but a sign would be left of the context.
    quarter = max(4, half // 4)
    return nn.Sequential(nn.Conv2d(half, quarter, 1), _ChannelNorm(quarter), nn.ReLU(), nn.Conv2d(quarter, channels, 1))
