"""What training starts from: a new network, or a model that is made to suit other bands or classes."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from buildseg.classes import BUILDING
from buildseg.contract import Contract
from buildseg.model_file import ModelCard, load_model
from buildseg.networks import Architecture, SegmentationNetwork, build_network, network_entry
from buildseg.networks.encoders import other_bands
from buildseg.tiles import Tiles
from buildseg.training.options import NetworkChoice, TrainOptions
from tiling.errors import OptionError

_log = logging.getLogger(__name__)
DEFAULT_WINDOW = 512


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What training starts from.

    Attributes:
        network: To be trained.
        card: Of the model that training goes on from, None for a new network.
    """

    network: SegmentationNetwork
    card: ModelCard | None


def make_start(choice: NetworkChoice, tiles: Tiles) -> Start:
    """Build the network, or read it.

    Args:
        choice: Which.
        tiles: What it is going to learn from.

    Raises:
        OptionError: The network or its options are not known, or the tiles do not suit its output for boundaries.
        ModelFileError: The model file is none.
        WeightsError: Pretrained weights cannot be had.
    """
    if choice.start is not None:
        return _go_on(choice, tiles)
    pretrained = "imagenet" if network_entry(choice.name).encoder else "none"
    network = build_network(
        choice.name,
        boundary=_wants_boundary(choice, tiles),
        in_channels=len(tiles.bands),
        classes=tiles.classes,
        encoder=choice.encoder,
        encoder_weights=choice.encoder_weights or pretrained,
        **choice.options,
    )
    return Start(network, None)


def make_contract(tiles: Tiles, options: TrainOptions, start: ModelCard | None = None) -> Contract:
    """State what a network trained on these tiles will expect.

    Args:
        tiles: What it is trained on.
        options: May name resolution and window.
        start: Card of the model that training goes on from: its resolution and window stay, and its scaling of the
            bands that it knows, unless they are of another type now.

    Raises:
        OptionError: The coarsest resolution is no coarser than the finest.
    """
    contract = _contract_of(tiles)
    if start:
        old = start.contract
        mean, std = dict(zip(old.bands, old.mean, strict=True)), dict(zip(old.bands, old.std, strict=True))
        contract = replace(contract, gsd=old.gsd, window=old.window, coarsest_gsd=old.coarsest_gsd)
        if old.dtype == tiles.dtype:
            pairs = list(zip(tiles.bands, contract.mean, contract.std, strict=True))
            means, stds = (mean.get(b, m) for b, m, _ in pairs), (std.get(b, s) for b, _, s in pairs)
            contract = replace(contract, mean=tuple(means), std=tuple(stds))
    if options.gsd or options.coarsest_gsd:
        contract = replace(contract, gsd=options.gsd or contract.gsd, coarsest_gsd=options.coarsest_gsd)
    if contract.coarsest_gsd and not (contract.gsd and contract.gsd < contract.coarsest_gsd):
        raise OptionError(
            f"--coarsest-gsd {contract.coarsest_gsd:g} is to be coarser than the finest, "
            f"{f'{contract.gsd:g} m per pixel' if contract.gsd else 'which the tiles do not say: name it with --gsd'}"
        )
    return replace(contract, window=options.window or contract.window)


def _contract_of(tiles: Tiles) -> Contract:
    return Contract(
        bands=tiles.bands,
        dtype=tiles.dtype,
        mean=tiles.statistics.mean,
        std=tiles.statistics.std,
        gsd=tiles.gsd,
        window=DEFAULT_WINDOW,
    )


def _go_on(choice: NetworkChoice, tiles: Tiles) -> Start:
    model = load_model(choice.start)
    old, bands = model.network.architecture, model.card.contract.bands
    _check_boundary(choice, tiles, old.boundary)
    if bands == tiles.bands and old.classes == tiles.classes:
        return Start(model.network.train(), model.card)
    network = build_network(
        old.name,
        in_channels=len(tiles.bands),
        classes=tiles.classes,
        encoder=old.encoder,
        boundary=old.boundary,
        **old.options,
    )
    left = _fill(network, model.network.state_dict(), old, (bands, tiles.bands))
    changes = []
    if bands != tiles.bands:
        changes.append(f"its first layer takes {', '.join(tiles.bands)} instead of {', '.join(bands)}")
    if old.classes != tiles.classes:
        changes.append(f"its last layer tells {tiles.classes} instead of {old.classes} classes apart")
    rest = f"; {left} weights do not fit and start at random" if left else ""
    _log.info("%s: %s%s", choice.start, " and ".join(changes), rest)
    return Start(network, model.card)


def _fill(
    network: SegmentationNetwork,
    stored: Mapping[str, Tensor],
    old: Architecture,
    bands: tuple[tuple[str, ...], tuple[str, ...]],
) -> int:
    """Take over weights, those of first and last layers made to fit.

    Args:
        network: To be filled, in place.
        stored: Weights.
        old: The network that they are of.
        bands: What that one took, and what this one takes.

    Returns:
        How many weights, by name, could not be taken.
    """
    new, left = network.architecture, 0
    filled = network.state_dict()
    for name, fresh in filled.items():
        value = stored[name]
        if value.dim() == 4 and value.shape[1] == old.in_channels and fresh.shape[1] == new.in_channels:
            value = _for_bands(value, *bands)
        if value.shape != fresh.shape and len(value) == _channels(old) and len(fresh) == _channels(new):
            value = _for_classes(value, fresh, old, new)
        if value.shape == fresh.shape:
            filled[name] = value
        else:
            left += 1
    network.load_state_dict(filled)
    return left


def _channels(architecture: Architecture) -> int:
    return architecture.classes + architecture.boundary


def _for_bands(weight: Tensor, old: tuple[str, ...], new: tuple[str, ...]) -> Tensor:
    """Give each band that was known its own weights and others none, so that the network sees what it saw before."""
    if old == new:
        return weight
    known = [place for place, band in enumerate(new) if band in old]
    if not known:
        shape = torch.Size((weight.shape[0], len(new), *weight.shape[2:]))
        spread = other_bands(weight, shape, len(new))
        return weight if spread is None else spread
    taken = weight.new_zeros(weight.shape[0], len(new), *weight.shape[2:])
    taken[:, known] = weight[:, [old.index(new[place]) for place in known]]
    return taken


def _for_classes(weight: Tensor, fresh: Tensor, old: Architecture, new: Architecture) -> Tensor:
    """Keep the odds of building against background, and classes of the same number; others start anew."""
    taken = fresh.clone()
    if old.classes == 1 and new.classes > 1:
        taken[0], taken[BUILDING] = -weight[0] / 2, weight[0] / 2
    elif old.classes > 1 and new.classes == 1:
        taken[0] = weight[BUILDING] - weight[0]
    else:
        same = min(old.classes, new.classes)
        taken[:same] = weight[:same]
    if old.boundary and new.boundary:
        taken[-1] = weight[-1]
    return taken


def _wants_boundary(choice: NetworkChoice, tiles: Tiles) -> bool:
    if choice.boundary and not tiles.boundaries:
        raise OptionError(
            "--boundaries: not all tiles have boundaries/ to learn from; make them with buildseg tile --boundaries"
        )
    return tiles.boundaries if choice.boundary is None else choice.boundary


def _check_boundary(choice: NetworkChoice, tiles: Tiles, has_boundary: bool) -> None:
    """Refuse tiles or a wish that a model to go on from does not suit."""
    wanted = _wants_boundary(choice, tiles)
    if wanted and not has_boundary and choice.boundary:
        raise OptionError(
            f"--model {choice.start} has no output for boundaries; leave out --boundaries, or train from the start"
        )
    if wanted and not has_boundary:
        _log.warning("%s has no output for boundaries, so those of the tiles are not used", choice.start)
    if has_boundary and not wanted:
        raise OptionError(
            f"--model {choice.start} has an output for boundaries; give it tiles made with buildseg tile --boundaries"
        )
