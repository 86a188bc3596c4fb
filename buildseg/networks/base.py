"""What every network has in common: any input size in, logits of that size out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buildseg.networks.output import AuxiliaryLogits, NetworkOutput


@dataclass(frozen=True, slots=True)
class Architecture:
    """All that it takes to build a network again, every default written out.

    Attributes:
        name: The network's name in the registry.
        in_channels: Bands of the input.
        classes: Channels of the logits; 1 for building or not.
        encoder: The encoder's name; None where a network has none to choose.
        options: The network's own options, of JSON's types.
        boundary: Whether the logits have one more channel, the last, for boundaries between buildings.
    """

    name: str
    in_channels: int
    classes: int
    encoder: str | None
    options: dict[str, Any] = field(default_factory=dict)
    boundary: bool = False


class SegmentationNetwork(nn.Module, ABC):
    """A network that labels every pixel.

    A subclass computes logits in `predict` for sizes that its stride divides; all others are met here, by
    repeating the last row and column.

    Attributes:
        architecture: How to build it again; set by `build_network`.
        stride: What the height and width given to `predict` are multiples of, in pixels.
    """

    architecture: Architecture
    stride: int

    @property
    def output_stride(self) -> int:
        """How many times coarser than the image the features are that the network's head starts from."""
        return self.stride

    @abstractmethod
    def predict(self, x: Tensor) -> NetworkOutput:
        """Compute logits.

        Args:
            x: Images, (N, in_channels, H, W), H and W multiples of the stride.

        Returns:
            Logits of the input's size; auxiliary ones in training mode only.
        """

    def forward(self, x: Tensor) -> Tensor | NetworkOutput:
        """Label images of any size.

        Args:
            x: Images, (N, in_channels, H, W), scaled as the model's contract says, H and W at least 1.

        Returns:
            In evaluation the logits, (N, channels, H, W): see `NetworkOutput`; in training a `NetworkOutput`.
        """
        height, width = x.shape[2:]
        below, beside = -height % self.stride, -width % self.stride
        output = self.predict(F.pad(x, (0, beside, 0, below), mode="replicate") if below or beside else x)
        logits = output.logits[..., :height, :width]
        if not self.training:
            return logits
        cropped = (AuxiliaryLogits(a.logits[..., :height, :width], a.weight) for a in output.auxiliary)
        return NetworkOutput(logits, tuple(cropped), output.embedding)


def smallest_image(network: SegmentationNetwork) -> Tensor:
    """Give something to run a network on, (1, bands, H, W), to see how it is made up."""
    side = 2 * network.stride
    return torch.zeros(1, network.architecture.in_channels, side, side)
