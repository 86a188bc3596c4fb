"""The inverted bottlenecks of MobileNetV3 (Howard and others 2019, section 5.3) in a form that is quicker on CPUs."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.mobilenetv3 import InvertedResidual  # type: ignore[import-untyped]
from torchvision.ops.misc import SqueezeExcitation  # type: ignore[import-untyped]

from buildseg.networks.lraspp import LRASPP

# Where so few channels are summed up, what is rounded does not average out: weights are then of twice the precision.
_FEW = 96


class Gate(nn.Module):
    """What squeeze and excitation multiplies channels by.

    Args:
        squeeze: Where the weights are taken from.
    """

    def __init__(self, squeeze: SqueezeExcitation) -> None:
        super().__init__()
        self.fc1, self.fc2 = _linear(squeeze.fc1), _linear(squeeze.fc2)
        self.activation, self.scale_activation = squeeze.activation, squeeze.scale_activation

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C), float32."""
        pooled = F.avg_pool2d(x, x.shape[-2:]).flatten(1).float()
        gate: Tensor = self.scale_activation(self.fc2(self.activation(self.fc1(pooled))))
        return gate


class GatedBottleneck(nn.Module):
    """An inverted bottleneck whose gate multiplies the weights of the last convolution, not the many features.

    (s * x) W = x (s * W), and W has few numbers beside x. The bias of that convolution is not added.

    Args:
        block: With squeeze and excitation, its batch normalisations folded.
    """

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        *before, squeeze, (project, *_) = block.block
        self.before, self.gate = nn.Sequential(*before), Gate(squeeze)
        self.weight = nn.Parameter(project.weight.data.flatten(1))
        self.adds_input = block.use_res_connect

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C', H', W'), less the bias."""
        wide = self.before(x)
        count, channels, rows, cols = wide.shape
        gate, precise = self.gate(wide)[:, None], channels <= _FEW
        exact = self.weight.float() * gate if precise else self.weight * gate.to(wide.dtype)
        weight = exact.to(wide.dtype)
        if self.adds_input:
            flat = torch.baddbmm(_positions(x), _positions(wide), weight.transpose(1, 2))
        else:
            flat = torch.bmm(_positions(wide), weight.transpose(1, 2))
        if precise and wide.dtype == torch.bfloat16:
            rest = (exact - weight.float()).bfloat16()
            flat.baddbmm_(_positions(wide), rest.transpose(1, 2))
        return flat.view(count, rows, cols, -1).permute(0, 3, 1, 2)


class InPairs(nn.Module):
    """Shows layers two images at a time: what they hold of more outgrows a CPU's cache.

    Args:
        layers: They treat each image by itself.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C', H', W')."""
        return torch.cat([self.layers(pair) for pair in torch.split(x, 2)])


def pair_images(network: LRASPP) -> None:
    """Show two images at a time to the layers of the encoder before its low features, whose images are large."""
    features, low = network.encoder.features, network.encoder.low
    features[0] = InPairs(features[:low])
    for index in range(1, low):
        features[index] = nn.Identity()


def gate_weights(network: LRASPP) -> None:
    """Let the gates of the encoder multiply weights, in place.

    The biases that this leaves out go where they arrive: all that takes what a bottleneck gives are 1x1 convolutions,
    and the sums with what comes later.

    Args:
        network: In evaluation mode, its batch normalisations folded.
    """
    features = network.encoder.features
    owed: Tensor | None = None
    for index, layer in enumerate(features):
        if owed is not None:
            _add_to_bias(next(_convolutions(layer)), owed)
        if isinstance(layer, InvertedResidual):
            kept = owed if layer.use_res_connect else None
            if any(isinstance(part, SqueezeExcitation) for part in layer.block):
                *_, project = _convolutions(layer)
                own = project.bias.data if project.bias is not None else project.weight.new_zeros(project.out_channels)
                kept = own if kept is None else kept + own
                features[index] = GatedBottleneck(layer)
            owed = kept
        else:
            owed = None
        if index == network.encoder.low and owed is not None:
            _add_to_bias(network.low_classifier, owed)


def _convolutions(layer: nn.Module) -> Iterator[nn.Conv2d]:
    return (part for part in layer.modules() if isinstance(part, nn.Conv2d))


def _add_to_bias(convolution: nn.Conv2d, constant: Tensor) -> None:
    """Let a 1x1 convolution answer as if each position of what it takes had a constant added."""
    moved = convolution.weight.data.flatten(1) @ constant
    convolution.bias = nn.Parameter(moved if convolution.bias is None else convolution.bias.data + moved)


def _linear(convolution: nn.Conv2d) -> nn.Linear:
    linear = nn.Linear(convolution.in_channels, convolution.out_channels)
    linear.weight.data = convolution.weight.data.flatten(1)
    if convolution.bias is not None:
        linear.bias.data = convolution.bias.data
    return linear


def _positions(x: Tensor) -> Tensor:
    """From (N, C, H, W) in channels-last memory to (N, H * W, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
