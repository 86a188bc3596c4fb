"""Brings networks that are only run, not trained, into a form that is quicker."""

import copy
from collections import Counter
from typing import Any, TypeGuard, TypeVar

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.mobilenetv3 import InvertedResidual  # type: ignore[import-untyped]

from buildseg.attention.looking import attention_parts

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def fold_batch_norm(network: AnyModule, image: Tensor) -> AnyModule:
    """Fold batch normalisation into the convolutions before it, which then do both at once.

    What stands before a batch normalisation is seen by running the network once (Jacob et al. 2018, section 3.2, for
    the arithmetic).

    Args:
        network: In evaluation mode; it is left as it is.
        image: Something to run it on, (1, bands, H, W); the smallest size that the network takes is enough.

    Returns:
        A copy that gives the same results, but for rounding.
    """
    network = copy.deepcopy(network)
    names = {module: name for name, module in network.named_modules()}
    for convolution, norm in normalised(network, image):
        replace_module(network, names[convolution], fuse_conv_bn_eval(convolution, norm))
        replace_module(network, names[norm], norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())
    return network


def normalised(network: nn.Module, image: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find the convolutions that `fold_batch_norm` folds a normalisation into, and those."""
    pairs = _followed(network, image, (nn.BatchNorm2d,))
    return [(convolution, norm) for convolution, norm in pairs if type(norm) in {nn.BatchNorm2d, BatchNormAct2d}]


class OneDnnConvolution(nn.Module):
    """A convolution as oneDNN has it for CPUs: with its activation in the same pass, and a bias of any precision.

    Weights are kept in the order that suits images of the size of those of the last call, as most are of one size.

    Args:
        convolution: Padded with zeros, or not at all.
        activation: One of `ACTIVATIONS`, or None.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.convolution = convolution
        self._arguments: tuple[Any, ...] = (
            convolution.padding,
            convolution.stride,
            convolution.dilation,
            convolution.groups,
            *(("none", []) if activation is None else ACTIVATIONS[type(activation)]),
            "",
        )
        self._ordered: tuple[torch.Size, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ordered": None}  # which cannot be copied

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C_in, H, W) to (N, C_out, H', W')."""
        weight, bias = self._weight_for(x), self.convolution.bias
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *self._arguments)
        return result

    def added(self, x: Tensor, other: Tensor) -> Tensor:
        """Add something of the result's shape and type in the same pass; there must be no activation.

        The bias has to be of that type, too.
        """
        weight, bias, place = self._weight_for(x), self.convolution.bias, self._arguments[:4]
        result: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            x, other, weight, bias, *place, "add", 1.0, None, [], None
        )
        return result

    def _weight_for(self, x: Tensor) -> Tensor:
        ordered = self._ordered  # which another thread may change
        if ordered is None or ordered[0] != x.shape[1:]:
            place, size = self._arguments[:4], list(x.shape)
            weight = torch.ops.mkldnn._reorder_convolution_weight(self.convolution.weight.data, *place, size)
            self._ordered = ordered = x.shape[1:], weight
        return ordered[1]


ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0, 6]),
    nn.Hardswish: ("hardswish", []),
}
"""What oneDNN calls an activation, and its numbers."""


def hand_to_onednn(network: nn.Module, image: Tensor) -> None:
    """Hand convolutions to oneDNN, in place, joined with the activations after them; that saves a third of the time.

    Args:
        network: In evaluation mode, its batch normalisations folded, to be run on a CPU.
        image: As for `fold_batch_norm`.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return
    followers = dict(_followed(network, image, tuple(ACTIVATIONS)))
    names = {module: name for name, module in network.named_modules()}
    # Attention uses the weights of its convolutions, and not their `forward`.
    attentive = attention_parts(network)
    for convolution, name in names.items():
        if _plain(convolution) and convolution not in attentive:
            activation = followers.get(convolution)
            replace_module(network, name, OneDnnConvolution(convolution, activation))
            if activation is not None:
                replace_module(network, names[activation], nn.Identity())
    for block, name in names.items():
        if isinstance(block, InvertedResidual) and block.use_res_connect:
            replace_module(network, name, JoinedResidual(block.block))


class JoinedResidual(nn.Module):
    """An inverted bottleneck whose last convolution adds what went in.

    Args:
        layers: The last of them begins with a `OneDnnConvolution` without activation, and does nothing else.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.before = layers[:-1]
        self.last: OneDnnConvolution = layers[-1].get_submodule("0")  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to the same."""
        branch, bias = self.before(x), self.last.convolution.bias
        if bias is None or bias.dtype == x.dtype:
            return self.last.added(branch, x)
        result: Tensor = self.last(branch) + x
        return result


def _plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


class GlobalAverage(nn.Module):
    """The mean over all positions, summed up in float32 in one pass, where `nn.AdaptiveAvgPool2d` takes many."""

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C, 1, 1)."""
        return F.avg_pool2d(x, x.shape[-2:])


def quicken_pooling(network: nn.Module) -> None:
    """Replace pooling over all positions, in place."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in {1, (1, 1)}:
            replace_module(network, name, GlobalAverage())


Follower = TypeVar("Follower", bound=nn.Module)


def _followed(network: nn.Module, image: Tensor, kinds: tuple[type[Follower], ...]) -> list[tuple[nn.Conv2d, Follower]]:
    """Run the network and see which convolutions nothing but one module of some kinds takes its input from.

    Which result goes where is read off the graph that is recorded for gradients, changes in place included.
    """
    made: dict[Node | None, nn.Conv2d] = {}
    pairs: list[tuple[Node | None, nn.Conv2d, Follower]] = []
    ran: list[nn.Module] = []

    def convolved(module: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ran.append(module)
        made[output.grad_fn] = module

    def follows(module: Follower, inputs: tuple[Tensor, ...]) -> None:
        ran.append(module)
        if inputs[0].grad_fn in made:
            pairs.append((inputs[0].grad_fn, made[inputs[0].grad_fn], module))

    hooks = [m.register_forward_hook(convolved) for m in network.modules() if type(m) is nn.Conv2d]
    hooks += [m.register_forward_pre_hook(follows) for m in network.modules() if isinstance(m, kinds)]
    with torch.enable_grad():
        uses = count_uses(network(image.clone().requires_grad_().clone()))
    for hook in hooks:
        hook.remove()
    # A module that runs several times, and so behind or before others, stays as it is.
    return [(conv, after) for node, conv, after in pairs if uses[node] == ran.count(conv) == ran.count(after) == 1]


def count_uses(result: Tensor) -> Counter[Node | None]:
    """Count how often each step on the way to a result is gone on from.

    Args:
        result: Computed with a graph for gradients.
    """
    uses: Counter[Node | None] = Counter()
    waiting = [result.grad_fn]
    while waiting:
        step = waiting.pop()
        before = [node for node, _ in step.next_functions] if step else []
        waiting += [node for node in set(before) if node not in uses]
        uses.update(before)
    return uses


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module into the place that a name such as ``encoder.conv1`` stands for."""
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, module)
