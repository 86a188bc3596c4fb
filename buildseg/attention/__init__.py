"""Attention modules that stand alone: each maps a feature map (N, C, H, W) to one of the same shape.

Any of them can be put after any layer that gives C channels::

    from buildseg.attention import PolarizedSelfAttention

    block = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), PolarizedSelfAttention(64))
"""

from buildseg.attention.asymmetric import AsymmetricFusionAttention, AsymmetricPyramidAttention
from buildseg.attention.criss_cross import CrissCrossAttention, RecurrentCrissCrossAttention
from buildseg.attention.dual import ChannelAttention, DualAttention, PositionAttention
from buildseg.attention.polarized import PolarizedSelfAttention

__all__ = [
    "AsymmetricFusionAttention",
    "AsymmetricPyramidAttention",
    "ChannelAttention",
    "CrissCrossAttention",
    "DualAttention",
    "PolarizedSelfAttention",
    "PositionAttention",
    "RecurrentCrissCrossAttention",
]
