"""Encoders of segmentation-models-pytorch and timm, and where their weights come from."""

import difflib
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tiling.errors import OptionError, WeightsError

REMEDY = "use --encoder-weights none to start from random weights, or give a local .safetensors or .pth file"
_FILES = {".safetensors", ".pth", ".pt", ".bin"}
_PROBE_SECONDS = 5.0
# What the hub's client lets through of its own transport is no OSError, but shares a base with this.
_DOWNLOAD_ERRORS: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)


class FeatureEncoder(nn.Module):
    """The type of the encoders: images (N, bands, H, W) in, a list of features out, the image itself first.

    Attributes:
        out_channels: Channels of each feature.
    """

    out_channels: list[int]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Which encoder, for what input, with what weights.

    Attributes:
        name: A name of segmentation-models-pytorch, or "tu-" and a name of timm.
        in_channels: Bands of the input.
        weights: None or "none" for random ones, "imagenet" for those of the hub, or a local file.
        settings: Further arguments of the encoder's maker, by name.
    """

    name: str
    in_channels: int = 3
    weights: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self, depth: int = 5, output_stride: int = 32) -> FeatureEncoder:
        """Make the encoder.

        Args:
            depth: How many times the image is halved.
            output_stride: The deepest feature's pixel, in pixels of the image: 32, 16 or 8.

        Returns:
            The encoder, in training mode.

        Raises:
            OptionError: The encoder is unknown, or cannot be cut to this depth or stride.
            WeightsError: The weights cannot be had.
        """
        _check_name(self.name)
        try:
            encoder = self._make(depth, output_stride)
            _try_out(encoder, self.in_channels)
        except (ValueError, RuntimeError, AssertionError, NotImplementedError) as error:
            raise OptionError(
                f"encoder {self.name!r} cannot give {depth} levels at output stride {output_stride}: {_one_line(error)}"
            ) from error
        if self.weights is None or self.weights == "none":
            return encoder
        if self.weights == "imagenet":
            return self._download(depth, output_stride)
        path = Path(self.weights)
        if path.suffix not in _FILES and not path.is_file():
            raise WeightsError(f"encoder weights {self.weights!r} are neither imagenet nor a file: {REMEDY}")
        load_encoder_weights(encoder, path, self.in_channels)
        return encoder

    def _make(self, depth: int, output_stride: int, weights: str | bool | None = None) -> FeatureEncoder:
        encoder: FeatureEncoder = smp.encoders.get_encoder(
            self.name,
            in_channels=self.in_channels,
            depth=depth,
            weights=weights,
            output_stride=output_stride,
            **self.settings,
        )
        return encoder

    def _download(self, depth: int, output_stride: int) -> FeatureEncoder:
        try:
            with _hub_or_cache():
                return self._make(depth, output_stride, True if self.name.startswith("tu-") else "imagenet")
        except _DOWNLOAD_ERRORS as error:
            raise WeightsError(
                f"weights of encoder {self.name!r} cannot be downloaded from {constants.ENDPOINT}: {REMEDY}"
            ) from error
        except (KeyError, RuntimeError) as error:
            raise WeightsError(f"encoder {self.name!r} has no imagenet weights: {REMEDY}") from error


def load_encoder_weights(encoder: nn.Module, path: Path, in_channels: int) -> None:
    """Fill an encoder from a file of its own, of its timm or torchvision twin, or of a whole network.

    Weights that the encoder has no place for (a classifier, a decoder) are passed over. Where the file's
    first convolution takes another number of bands than the encoder's, its bands are repeated in turn and
    scaled to keep the sum, or summed up for a single band.

    Args:
        encoder: What to fill, in place.
        path: A .safetensors file, or one of torch.save; of the latter nothing but tensors is unpickled.
        in_channels: Bands of the encoder's input.

    Raises:
        WeightsError: The file cannot be read, or lacks weights that the encoder needs.
    """
    stored = _read(path)
    wanted = encoder.state_dict()
    found: dict[str, Tensor] = {}
    for key, tensor in wanted.items():
        value = next((stored[k] for k in _spellings(key) if k in stored), None)
        if value is None and key.endswith("num_batches_tracked"):
            continue
        if value is not None and value.shape != tensor.shape:
            value = other_bands(value, tensor.shape, in_channels)
        if value is None:
            raise WeightsError(f"{path} does not fit the encoder: no {key} of {list(tensor.shape)}; {REMEDY}")
        found[key] = value
    with torch.no_grad():
        for key, value in found.items():
            wanted[key].copy_(value)


def _try_out(encoder: nn.Module, in_channels: int) -> None:
    """Run a small image, of no square shape, through the encoder: some of timm take one size only."""
    with torch.inference_mode():
        encoder.eval()(torch.zeros(1, in_channels, 64, 96))
    encoder.train()


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsError(f"{path} cannot be read as weights: {_one_line(error)}; {REMEDY}") from error
    stored = stored.get("state_dict", stored) if isinstance(stored, dict) else stored
    if not isinstance(stored, dict) or not all(isinstance(v, Tensor) for v in stored.values()):
        raise WeightsError(f"{path} holds no weights by name; {REMEDY}")
    return stored


def _spellings(key: str) -> Iterator[str]:
    """What an encoder's weight is called in files: its own name, that of a network, that of timm."""
    yield key
    yield f"encoder.{key}"
    bare = key.removeprefix("model.")
    yield bare
    yield re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", bare)


def other_bands(weight: Tensor, shape: torch.Size, in_channels: int) -> Tensor | None:
    """A first convolution for another number of bands, or None if it is not that which differs."""
    bands = weight.shape[1] if weight.ndim == 4 else 0
    if not bands or weight.shape[:1] + weight.shape[2:] != shape[:1] + shape[2:] or shape[1] != in_channels:
        return None
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight[:, torch.arange(in_channels) % bands] * (bands / in_channels)


@contextmanager
def _hub_or_cache() -> Iterator[None]:
    """Keep the hub's client from minutes of retries: without a hub it looks into its cache and no further."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _hub_answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _hub_answers() -> bool:
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _check_name(name: str) -> None:
    known = [n for n in smp.encoders.get_encoder_names() if not n.startswith("timm-")]
    if name in known or (name.startswith("tu-") and timm.is_model(name[3:])):
        return
    timms = [f"tu-{n}" for n in timm.list_models()]
    close = difflib.get_close_matches(name, [*known, *timms], n=3)
    guess = f"did you mean {' or '.join(close)}? " if close else ""
    raise OptionError(f"unknown encoder {name!r}: {guess}valid are tu- before any name of timm, and {', '.join(known)}")


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
