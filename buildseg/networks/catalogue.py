"""The networks as a person chooses among them: what each is, costs and can be told."""

import inspect
import re
from dataclasses import dataclass
from typing import Any

from buildseg.networks import NETWORKS, build_network, network_entry
from buildseg.networks.cost import NetworkCost, measure_cost
from buildseg.progress import Track, silent
from tiling.errors import OptionError


@dataclass(frozen=True, slots=True)
class CatalogueOptions:
    """For what the costs are counted.

    Attributes:
        size: Side of a square image in pixels.
        bands: Bands of the image.
        classes: Classes told apart; 1 for building or not.
        encoder: Encoder of the one network that is listed; None for each network's own.

    Raises:
        OptionError: A number is below 1.
    """

    size: int = 512
    bands: int = 3
    classes: int = 1
    encoder: str | None = None

    def __post_init__(self) -> None:
        for flag, number in (("--size", self.size), ("--bands", self.bands), ("--classes", self.classes)):
            if number < 1:
                raise OptionError(f"{flag} {number} is out of range; give 1 or more")


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A network, for a person to choose.

    Attributes:
        name: What `build_network` knows it by.
        encoder: The encoder that it was counted with; None if it has none to choose.
        summary: What it is.
        source: Where it is from.
        cost: What it costs.
    """

    name: str
    encoder: str | None
    summary: str
    source: str
    cost: NetworkCost


@dataclass(frozen=True, slots=True)
class OptionEntry:
    """An option of a network.

    Attributes:
        name: What it is called.
        default: Its value unless told otherwise.
        meaning: What it does.
    """

    name: str
    default: Any
    meaning: str


def catalogue(
    options: CatalogueOptions | None = None, only: str | None = None, *, track: Track = silent
) -> list[CatalogueEntry]:
    """List the networks with what they cost.

    Args:
        options: For what the costs are counted.
        only: Name of the one network to list; None for all.
        track: Shows progress.

    Raises:
        OptionError: The name is unknown, or the encoder does not suit the network.
    """
    options = options or CatalogueOptions()
    if options.encoder and not only:
        raise OptionError(f"--encoder {options.encoder} does not suit every network; name a network too")
    names = [only] if only else list(NETWORKS)
    return [_entry(name, options) for name in track(names, "counting", len(names))]


def network_options(name: str) -> list[OptionEntry]:
    """List the options of a network, in the order of its signature; their meaning comes from its docstring.

    Args:
        name: Of the network.

    Raises:
        OptionError: The name is unknown.
    """
    build = network_entry(name).build
    meanings = _documented_arguments(inspect.getdoc(build.__init__) or "")
    parameters = inspect.signature(build).parameters.values()
    return [OptionEntry(p.name, p.default, meanings[p.name]) for p in parameters if p.kind is p.KEYWORD_ONLY]


def _entry(name: str, options: CatalogueOptions) -> CatalogueEntry:
    entry = network_entry(name)
    encoder = options.encoder or entry.encoder
    cost = measure_cost(
        lambda: build_network(name, in_channels=options.bands, classes=options.classes, encoder=encoder),
        (1, options.bands, options.size, options.size),
    )
    return CatalogueEntry(name, encoder, entry.summary, entry.source, cost)


def _documented_arguments(docstring: str) -> dict[str, str]:
    """The arguments that a Google-style docstring explains, each in one line."""
    section = re.search(r"^Args:\n((?:    .*\n?)*)", docstring, re.MULTILINE)
    found = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", section.group(1) if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
