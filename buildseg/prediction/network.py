"""Models as the engine wants them: windows of pixels in, building probabilities out."""

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from buildseg.contract import Contract
from buildseg.model_file import Model
from buildseg.networks.base import smallest_image
from buildseg.networks.lraspp import LRASPP
from buildseg.networks.output import boundary_probability, building_probability
from buildseg.prediction.bottlenecks import gate_weights, pair_images
from buildseg.prediction.folding import fold_batch_norm, hand_to_onednn, quicken_pooling
from buildseg.prediction.half_precision import precise_encoder, to_bfloat16
from buildseg.prediction.stem import find_stems, from_middle, make_stems_precise, middle, spread
from buildseg.probability import all_of
from tiling.errors import OptionError

_log = logging.getLogger(__name__)

# The last two are what oneDNN and C++ say; the first of them can have other causes, which end at a batch of one.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "create a primitive", "bad_alloc")


class Network(Protocol):
    """What the engine runs."""

    def __call__(self, pixels: Tensor, valid: Tensor) -> Tensor:
        """Predict windows.

        Args:
            pixels: Windows as the scene holds them, (N, bands, size, size), uint8 or float32.
            valid: Which pixels hold something, bool, (N, size, size).

        Returns:
            Building probabilities, float32, (N, size, size), 0..1, on the same device. With those of boundaries behind
            them: (N, 2, size, size).
        """


@dataclass(frozen=True, slots=True)
class View:
    """One way to show the windows to a network.

    Attributes:
        scale: How many times finer the network sees them.
        turns: Quarter turns.
        mirrored: Whether they are mirrored after turning.
    """

    scale: float = 1.0
    turns: int = 0
    mirrored: bool = False

    def of(self, images: Tensor) -> Tensor:
        """Show images, (N, bands, H, W)."""
        if self.scale != 1:
            images = F.interpolate(images, scale_factor=self.scale, mode="bilinear", antialias=self.scale < 1)
        if self.turns:
            images = torch.rot90(images, self.turns, (-2, -1))
        return images.flip(-1) if self.mirrored else images

    def undo(self, probability: Tensor, size: int) -> Tensor:
        """Bring probabilities of what was shown, (N, ..., H, W), back to the windows' size and orientation."""
        if self.mirrored:
            probability = probability.flip(-1)
        if self.turns:
            probability = torch.rot90(probability, -self.turns, (-2, -1))
        if self.scale != 1:
            *channels, height, width = probability.shape
            flat = probability.reshape(channels[0], -1, height, width)
            flat = F.interpolate(flat, (size, size), mode="bilinear", antialias=self.scale > 1)
            probability = flat.reshape(*channels, size, size)
        return probability


ORIENTATIONS = {
    "none": ((0, False),),
    "flips": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, mirrored) for turns in range(4) for mirrored in (False, True)),
}
"""Quarter turns and mirroring, by the name of the test-time augmentation."""


def views(augmentation: str, scales: Sequence[float]) -> tuple[View, ...]:
    """List the ways to show every window.

    Args:
        augmentation: One of `ORIENTATIONS`.
        scales: Resolutions relative to the model's.
    """
    return tuple(View(scale, *orientation) for scale in scales for orientation in ORIENTATIONS[augmentation])


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How a model is run.

    Attributes:
        precision: ``fp32``, ``bf16``, or on CUDA ``fp16``.
        compiled: Whether the network is compiled first, which takes up to a minute.
        shown: The ways to show each window; their probabilities are averaged.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compiled: bool = False
    shown: tuple[View, ...] = (View(),)


class TorchNetwork:
    """Runs a model on a device, in channels-last memory.

    Where memory does not suffice for a batch, it is halved, this one and those to come. Where float16 overflows,
    the batch is computed again in float32.

    Args:
        model: Of any number of classes; its network is copied, in a form that only predicts.
        device: Where to run.
        arithmetic: How.
    """

    def __init__(self, model: Model, device: torch.device, arithmetic: Arithmetic | None = None) -> None:
        arithmetic = arithmetic or Arithmetic()
        self.channels = 2 if model.network.architecture.boundary else 1
        self._device = device
        self._shown = arithmetic.shown
        self._contract = model.card.contract
        self._half: torch.dtype | None = None
        self._dtype = torch.float32
        self._has_precise_stems = self._takes_raw = False
        self._most: int | None = None
        network = model.network.eval()
        smallest = smallest_image(network)
        network = fold_batch_norm(network, smallest)
        if isinstance(network, LRASPP):
            network.dilate_in_phases()
        quicken_pooling(network)
        rounded = arithmetic.precision == "bf16" and device.type != "cuda"
        precise = precise_encoder(network) is not None
        stems = find_stems(network, smallest) if rounded and not precise else []
        for_onednn = device.type == "cpu" and not arithmetic.compiled
        if for_onednn:
            if isinstance(network, LRASPP):
                gate_weights(network)
            hand_to_onednn(network, smallest)
        if device.type == "cuda" and arithmetic.precision != "fp32":
            self._half = torch.float16 if arithmetic.precision == "fp16" else torch.bfloat16
        elif rounded:
            make_stems_precise(network, stems, self._contract)
            network = to_bfloat16(network)
            self._dtype = torch.float32 if stems or precise else torch.bfloat16
            self._has_precise_stems = bool(stems)
            self._takes_raw = bool(stems) and all(view.scale == 1 for view in arithmetic.shown)
        if for_onednn and isinstance(network, LRASPP):
            pair_images(network)
        self._network: Callable[[Tensor], Tensor] = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if arithmetic.compiled:
            self._network = torch.compile(self._network)
        self._scale_as(model.card.contract)

    def scaling(self, contract: Contract) -> "TorchNetwork":
        """Give the same network with pixels scaled by another contract, such as a scene's own statistics."""
        other = copy.copy(self)
        other._scale_as(contract)
        return other

    def _scale_as(self, contract: Contract) -> None:
        self._mean = torch.tensor(contract.mean, device=self._device)[:, None, None]
        self._spread = spread(contract).to(self._device)
        raw = self._takes_raw and contract == self._contract
        self._middle = middle(contract) if raw else None

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, valid: Tensor) -> Tensor:
        """Predict windows: see `Network`.

        Raises:
            OptionError: Not even one window fits into memory.
        """
        if self._most and len(pixels) > self._most:
            parts = zip(torch.split(pixels, self._most), torch.split(valid, self._most), strict=True)
            return torch.cat([self(*part) for part in parts])
        try:
            return self._predict(pixels, valid)
        except (RuntimeError, MemoryError) as error:
            if not any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise
        self._most = max(1, len(pixels) // 2)
        if len(pixels) == 1:
            side = pixels.shape[-1]
            raise OptionError(f"--window {side}: not even one such window fits into memory; try --window {side // 2}")
        if pixels.device.type == "cuda":
            torch.cuda.empty_cache()
        _log.warning("%d windows at once do not fit into memory: going on with %d", len(pixels), self._most)
        return self(pixels, valid)

    def _predict(self, pixels: Tensor, valid: Tensor) -> Tensor:
        images = self._scaled(pixels)
        if not all_of(valid):
            images *= valid[:, None]
        size = pixels.shape[-1]
        return _mean(view.undo(self.forward(view.of(images)), size) for view in self._shown)

    def _scaled(self, pixels: Tensor) -> Tensor:
        if self._middle is not None and pixels.dtype == torch.uint8:
            return from_middle(pixels, self._middle)
        return (pixels - self._mean).div_(self._spread)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Predict images that are scaled already, (N, bands, H, W), float32: probabilities as in `Network`."""
        if images.dtype == torch.float32:
            images = images.to(self._dtype)
        if not self._has_precise_stems:  # which copy them anyway
            images = images.contiguous(memory_format=torch.channels_last)
        # Each call a context of its own: several threads may be in here.
        with torch.autocast("cuda", self._half, cache_enabled=False) if self._half else nullcontext():
            logits = self._network(images)
        if self._half == torch.float16 and not logits.isfinite().all():
            logits = self._network(images)
        if self.channels == 1:
            return building_probability(logits)
        return torch.stack([building_probability(logits, boundary=True), boundary_probability(logits)], dim=1)


class Ensemble:
    """The mean of several networks.

    Args:
        networks: At least one, all with or all without probabilities of boundaries.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self.channels = getattr(networks[0], "channels", 1)

    def __call__(self, pixels: Tensor, valid: Tensor) -> Tensor:
        """Predict windows: see `Network`."""
        return _mean(network(pixels, valid) for network in self._networks)


def _mean(probabilities: Iterable[Tensor]) -> Tensor:
    """Average one by one, so that no more than two are held."""
    count, total = 0, torch.empty(0)
    for count, probability in enumerate(probabilities, 1):
        total = probability if count == 1 else total + probability
    return total if count == 1 else total / count
