"""What a network costs. Of those that are not built yet, shapes are followed through, and numbers are not."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from buildseg.networks import SegmentationNetwork
from buildseg.networks.base import smallest_image


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """What a network costs for one image.

    Attributes:
        parameters: Number of learned weights.
        gflops: Billions of floating-point operations of a prediction; a multiplication with its addition is two.
        output_stride: How many times coarser than the image the features are that the network's head starts from.
        memory: Bytes of a prediction on the CPU in float32: the weights and the most features held at a time.
    """

    parameters: int
    gflops: float
    output_stride: int
    memory: int


def measure_cost(build: Callable[[], SegmentationNetwork], shape: Sequence[int]) -> NetworkCost:
    """Measure what a prediction costs.

    Args:
        build: Makes the network; it is called where tensors have shapes and no memory.
        shape: Of the images: (N, bands, H, W).

    Raises:
        OptionError: The network cannot be built.
    """
    with FakeTensorMode(), torch.no_grad():
        network = build().eval()
        images = torch.empty(*shape)
        with FlopCounterMode(display=False) as flops, _LiveBytes() as live:
            network(images)
        weights = [*network.parameters(), *network.buffers()]
    return NetworkCost(
        parameters=sum(p.numel() for p in network.parameters()),
        gflops=flops.get_total_flops() / 1e9,
        output_stride=network.output_stride,
        memory=sum(w.numel() * w.element_size() for w in weights) + live.peak,
    )


@torch.no_grad()
def flops_per_pixel(network: SegmentationNetwork) -> float:
    """Measure, on a small image, the floating-point operations of a prediction for each pixel.

    Args:
        network: In evaluation mode.
    """
    image = smallest_image(network)
    with FlopCounterMode(display=False) as flops:
        network(image)
    return float(flops.get_total_flops()) / image[0, 0].numel()


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations make, for as long as they are alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
