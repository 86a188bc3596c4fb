"""Object-contextual representations: each position attends to the classes' regions that a coarse guess gives.

Source: Yuan, Chen, Chen and Wang, "Object-Contextual Representations for Semantic Segmentation",
arXiv:1909.11065, section 3.2. n stands for H*W, C for the channels, K for the regions.
"""

import torch
from torch import Tensor, nn

from buildseg.attention.arguments import check_position
from buildseg.networks.layers import conv_bn_relu


class ObjectContext(nn.Module):
    """Attention of each position to regions instead of positions (arXiv:1909.11065, equations 2 to 6).

    A region's weight of each position is the softmax of its coarse logits over all positions, and f_k the sum of
    the features so weighted. Position i attends to region k by w_ik, the softmax over k of
    query(x_i) . key(f_k) / sqrt(width). The output is fuse(concatenation of out(sum_k w_ik value(f_k)) and x_i).
    Query and key are two 1x1 convolutions each, value, out and fuse one, all with batch normalisation and ReLU.

    There is a region for each class. A single logit l, of building or not, gives two regions, from l and from -l:
    over one region alone the weights would be constant.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        """Make the module.

        Args:
            channels: C, at least 2; queries, keys and values have a width of half of it.
            dropout: Share of channels dropped from the output in training, 0 to below 1.
        """
        super().__init__()
        width = channels // 2
        self.query = nn.Sequential(conv_bn_relu(channels, width), conv_bn_relu(width, width))
        self.key = nn.Sequential(conv_bn_relu(channels, width), conv_bn_relu(width, width))
        self.value = conv_bn_relu(channels, width)
        self.out = conv_bn_relu(width, channels)
        self.fuse = nn.Sequential(conv_bn_relu(2 * channels, channels), nn.Dropout2d(dropout))

    def forward(self, x: Tensor, coarse: Tensor) -> Tensor:
        """Give each position the context of the regions that it is like.

        Args:
            x: Features, (N, C, H, W).
            coarse: Logits, (N, classes, H, W).

        Returns:
            Features, (N, C, H, W).
        """
        objects = self._objects(x, _regions(coarse))
        weights = self._weights(self.query(x), objects)
        values: Tensor = self.value(objects).flatten(2)
        context = (weights.to(values.dtype) @ values.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.fuse(torch.cat([self.out(context.reshape(len(x), -1, *x.shape[2:])), x], dim=1))
        return out

    def position_map(self, x: Tensor, coarse: Tensor, row: int, column: int) -> Tensor:
        """How much one position attends to each, by way of the regions: the sum of w_ik times region k.

        Args:
            x: Features of one image, (1, C, H, W).
            coarse: Its logits, (1, classes, H, W).
            row: The position's row, 0 to H - 1.
            column: The position's column, 0 to W - 1.

        Returns:
            Weights of sum 1, (H, W), in float32 or wider.

        Raises:
            OptionError: There is not one image, or the position lies outside of it.
        """
        check_position(x, row, column)
        regions = _regions(coarse)
        weights = self._weights(self.query(x[..., row, column, None, None]), self._objects(x, regions))
        with torch.autocast(x.device.type, enabled=False):
            return (weights.flatten() @ regions[0]).reshape(x.shape[2:])

    def _objects(self, x: Tensor, regions: Tensor) -> Tensor:
        """The features of each region, (N, C, K, 1)."""
        return (x.flatten(2) @ regions.to(x.dtype).transpose(1, 2)).unsqueeze(3)

    def _weights(self, query: Tensor, objects: Tensor) -> Tensor:
        """How much each query, (N, width, h, w), attends to each region: (N, h*w, K), in float32 or wider."""
        key = self.key(objects).flatten(2)
        with torch.autocast(query.device.type, enabled=False):
            precise = torch.promote_types(query.dtype, torch.float32)
            scaled = key.to(precise) * key.shape[1] ** -0.5
            scores: Tensor = query.to(precise).flatten(2).transpose(1, 2) @ scaled
            return scores.softmax(dim=2)


class ObjectContextHead(nn.Module):
    """The head of HRNet-OCR: a coarse guess, its object context, and the classifier."""

    def __init__(self, channels: int, classes: int, inner: int, dropout: float) -> None:
        """Make the head.

        Args:
            channels: Channels of the features.
            classes: Channels of the logits.
            inner: Channels that features are reduced to before they attend, at least 2.
            dropout: Share of channels dropped before the classifier in training, 0 to below 1.
        """
        super().__init__()
        self.coarse = nn.Sequential(conv_bn_relu(channels, channels), nn.Conv2d(channels, classes, 1))
        self.reduce = conv_bn_relu(channels, inner, 3)
        self.context = ObjectContext(inner, dropout)
        self.classifier = nn.Conv2d(inner, classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Classify each position, coarsely and then in its context.

        Args:
            x: Features, (N, channels, H, W).

        Returns:
            Logits, (N, classes, H, W), and the coarse ones that the regions were made of, of the same shape.
        """
        coarse = self.coarse(x)
        return self.classifier(self.context(self.reduce(x), coarse)), coarse


def _regions(coarse: Tensor) -> Tensor:
    """How much each position counts in each region, (N, K, n), of sum 1 over positions, in float32 or wider."""
    logits = torch.cat([coarse, -coarse], dim=1) if coarse.shape[1] == 1 else coarse
    return logits.flatten(2).to(torch.promote_types(coarse.dtype, torch.float32)).softmax(dim=2)
