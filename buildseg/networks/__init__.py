"""The networks, by name."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildseg.networks.annnet import ANNNet
from buildseg.networks.base import Architecture, SegmentationNetwork
from buildseg.networks.bisenetv2 import BiSeNetV2
from buildseg.networks.ccnet import CCNet
from buildseg.networks.danet import DANet
from buildseg.networks.encoders import Encoder
from buildseg.networks.hrnet_ocr_psa import HRNetOCRPSA
from buildseg.networks.lraspp import LRASPP
from buildseg.networks.output import AuxiliaryLogits, Embedding, NetworkOutput
from buildseg.networks.unet import DualAttentionUNet, PolarizedUNet, UNet
from buildseg.option_values import flag
from tiling.errors import OptionError

__all__ = [
    "NETWORKS",
    "Architecture",
    "AuxiliaryLogits",
    "Embedding",
    "NetworkEntry",
    "NetworkOutput",
    "SegmentationNetwork",
    "build_network",
    "network_entry",
]


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """One network that can be asked for by name.

    Attributes:
        build: From an `Encoder` (without an encoder: the number of input bands), the number of channels of the
            logits and the network's own keyword options to the network.
        encoder: The encoder that it takes unless told otherwise; None if it is one piece, without an encoder
            to choose.
        summary: What it is, in a few words.
        source: Where it is from: first author, year, arXiv number.
        attends: Whether it holds attention modules, which can be looked at.
    """

    build: Callable[..., SegmentationNetwork]
    encoder: str | None
    summary: str
    source: str
    attends: bool = True


NETWORKS: dict[str, NetworkEntry] = {
    "unet": NetworkEntry(
        UNet,
        "resnet34",
        "encoder and decoder with skip connections",
        "Ronneberger 2015, arXiv:1505.04597",
        attends=False,
    ),
    "psa-unet": NetworkEntry(
        PolarizedUNet,
        "resnet34",
        "U-Net with polarized self-attention in its decoder",
        "Liu 2021, arXiv:2107.00782",
    ),
    "da-unet": NetworkEntry(
        DualAttentionUNet,
        "resnet34",
        "U-Net with position and channel attention at its bottleneck",
        "Fu 2019, arXiv:1809.02983",
    ),
    "danet": NetworkEntry(
        DANet,
        "resnet50",
        "dilated ResNet under position and channel attention",
        "Fu 2019, arXiv:1809.02983",
    ),
    "ccnet": NetworkEntry(
        CCNet,
        "resnet50",
        "dilated ResNet under recurrent criss-cross attention",
        "Huang 2019, arXiv:1811.11721",
    ),
    "annnet": NetworkEntry(
        ANNNet,
        "resnet50",
        "dilated ResNet under asymmetric non-local attention",
        "Zhu 2019, arXiv:1908.07678",
    ),
    "lraspp": NetworkEntry(
        LRASPP,
        "tu-mobilenetv3_large_100",
        "dilated MobileNetV3 under a head of a global gate and two classifiers",
        "Howard 2019, arXiv:1905.02244",
        attends=False,
    ),
    "bisenetv2": NetworkEntry(
        BiSeNetV2,
        None,
        "a branch for details and a branch for semantics, each gating the other",
        "Yu 2020, arXiv:2004.02147",
        attends=False,
    ),
    "hrnet-ocr-psa": NetworkEntry(
        HRNetOCRPSA,
        "tu-hrnet_w48",
        "HRNet with polarized self-attention in its blocks, under object context (Yuan 2020, arXiv:1909.11065)",
        "Liu 2021, arXiv:2107.00782",
    ),
}


def build_again(architecture: Mapping[str, Any]) -> SegmentationNetwork:
    """Build the network that an `Architecture`, as a dictionary, describes; its weights are random."""
    arguments = dict(architecture)
    return build_network(arguments.pop("name"), **arguments.pop("options", {}), **arguments)


def build_network(
    name: str,
    *,
    in_channels: int = 3,
    classes: int = 1,
    encoder: str | None = None,
    encoder_weights: str | Path | None = None,
    boundary: bool = False,
    **options: Any,  # noqa: ANN401 - each network has its own, checked against its signature
) -> SegmentationNetwork:
    """Build a network.

    Args:
        name: One of `NETWORKS`.
        in_channels: Bands of the input, at least 1.
        classes: Classes that the logits tell apart, at least 1; 1 for building or not.
        encoder: The encoder's name in segmentation-models-pytorch, or "tu-" and its name in timm; None for
            the network's own choice.
        encoder_weights: None or "none" for random weights, "imagenet" for the hub's, or a local file; only
            None and "none" where there is no encoder.
        boundary: Whether the logits get one more channel, for boundaries between buildings.
        **options: The network's own options: see its class.

    Returns:
        The network, in training mode, with its `architecture`.

    Raises:
        OptionError: The network, its encoder or an option is unknown, or a value is out of range.
        WeightsError: The encoder's weights cannot be had.
    """
    entry = network_entry(name)
    if not all(type(number) is int and number >= 1 for number in (in_channels, classes)):
        raise OptionError(
            f"in_channels and classes are whole numbers of at least 1, not {in_channels!r} and {classes!r}"
        )
    options = _with_defaults(name, entry, options)
    channels = classes + flag("boundary", boundary)
    weights = "none" if encoder_weights is None else str(encoder_weights)
    if entry.encoder is None:
        if encoder is not None or weights != "none":
            raise OptionError(f"{name} has no encoder to choose: leave out --encoder, and --encoder-weights but none")
        network = entry.build(in_channels, channels, **options)
    else:
        encoder = entry.encoder if encoder is None else encoder
        network = entry.build(Encoder(encoder, in_channels, weights), channels, **options)
    network.architecture = Architecture(name, in_channels, classes, encoder, options, boundary)
    return network


def network_entry(name: str) -> NetworkEntry:
    """Look a network up.

    Args:
        name: One of `NETWORKS`.

    Raises:
        OptionError: It is none of them.
    """
    if name not in NETWORKS:
        raise OptionError(f"unknown network {name!r}: valid are {', '.join(NETWORKS)}")
    return NETWORKS[name]


def _with_defaults(name: str, entry: NetworkEntry, options: dict[str, Any]) -> dict[str, Any]:
    """The options with all others at their defaults, tuples as lists: what JSON can hold."""
    parameters = inspect.signature(entry.build).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    unknown = sorted(options.keys() - defaults.keys())
    if unknown:
        raise OptionError(f"{name} has no option {unknown[0]!r}: valid are {', '.join(defaults) or 'none'}")
    merged = defaults | options
    return {key: list(value) if isinstance(value, tuple) else value for key, value in merged.items()}
