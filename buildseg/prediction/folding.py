"""Brings networks that are only run, not trained, into a form that is quicker."""

import copy
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils.fusion import fuse_conv_bn_eval

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
    for convolution, norm in _followed(network, image, (nn.BatchNorm2d,)):
        _replace(network, names[convolution], fuse_conv_bn_eval(convolution, norm))
        _replace(network, names[norm], nn.Identity())
    return network


class ActivatedConvolution(nn.Module):
    """A convolution and its activation in one pass, as oneDNN has it for CPUs.

    Args:
        convolution: Padded with zeros, or not at all.
        activation: One of `ACTIVATIONS`.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution
        self._arguments: tuple[Any, ...] = (
            convolution.padding,
            convolution.stride,
            convolution.dilation,
            convolution.groups,
            ACTIVATIONS[type(activation)],
            [],
            "",
        )

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C_in, H, W) to (N, C_out, H', W')."""
        weight, bias = self.convolution.weight, self.convolution.bias
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *self._arguments)
        return result


ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Hardswish: "hardswish"}


def join_activations(network: nn.Module, image: Tensor) -> None:
    """Join convolutions with the activations after them, in place; for CPUs, where that saves a third of the time.

    Args:
        network: In evaluation mode.
        image: As for `fold_batch_norm`.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return
    names = {module: name for name, module in network.named_modules()}
    for convolution, activation in _followed(network, image, tuple(ACTIVATIONS)):
        if convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str):
            _replace(network, names[convolution], ActivatedConvolution(convolution, activation))
            _replace(network, names[activation], nn.Identity())


class GlobalAverage(nn.Module):
    """The mean over all positions, in one pass over channels-last memory, where `nn.AdaptiveAvgPool2d` takes many."""

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C, 1, 1)."""
        count = x.shape[2] * x.shape[3]
        # As a product, which is summed up in float32 whatever the type, and ten times as fast as a mean in bfloat16.
        total = x.new_ones(1, 1, count).expand(len(x), 1, count) @ x.permute(0, 2, 3, 1).flatten(1, 2)
        return (total / count).transpose(1, 2)[..., None]


def quicken_pooling(network: nn.Module) -> None:
    """Replace pooling over all positions, in place."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in {1, (1, 1)}:
            _replace(network, name, GlobalAverage())


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
        uses = _uses(network(image.clone().requires_grad_().clone()))
    for hook in hooks:
        hook.remove()
    # A module that runs several times, and so behind or before others, stays as it is.
    return [(conv, after) for node, conv, after in pairs if uses[node] == ran.count(conv) == ran.count(after) == 1]


def _uses(result: Tensor) -> Counter[Node | None]:
    """Count how often each step on the way to a result is gone on from."""
    uses: Counter[Node | None] = Counter()
    waiting = [result.grad_fn]
    while waiting:
        step = waiting.pop()
        before = [node for node, _ in step.next_functions] if step else []
        waiting += [node for node in set(before) if node not in uses]
        uses.update(before)
    return uses


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, module)
