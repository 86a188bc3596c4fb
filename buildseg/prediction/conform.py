"""Makes a scene meet a model's contract, or says why it cannot."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from buildseg.contract import Contract
from tiling import Scene, SceneOptions
from tiling.bands import Band
from tiling.errors import ContractError

logger = logging.getLogger(__name__)

_OVERVIEW_SIDE = 1024
_CLIPPED_PERCENTILES = (1, 99)


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What a person says of a scene that its file does not.

    Attributes:
        bands: Bands to give the model, in its order; None finds them by colour.
        nodata: Value of pixels that hold nothing.
    """

    bands: tuple[Band, ...] | None = None
    nodata: float | None = None


def open_scene(
    path: str | Path, contracts: Sequence[Contract], options: InputOptions | None = None
) -> tuple[Scene, tuple[Contract, ...]]:
    """Open a scene as models want it; conversions are said in the log.

    A scene at another resolution is resampled. A scene of another pixel type than a model's is scaled by its own
    mean and spread, taken once over the whole scene, instead of the training pixels'.

    Args:
        path: The scene.
        contracts: What each model expects; they agree on bands and resolution.
        options: What the file does not say.

    Returns:
        The scene at the models' resolution, and for each the contract to scale its pixels with.

    Raises:
        SceneError: The scene cannot be read, or lacks a band.
        ContractError: Another number of bands is asked for than the model takes, or the models do not agree.
    """
    options = options or InputOptions()
    contract = _common(contracts)
    wanted = options.bands or tuple(_by_number(name) for name in contract.bands)
    if len(wanted) != len(contract.bands):
        raise ContractError(
            f"the model takes {len(contract.bands)} bands ({', '.join(contract.bands)}), "
            f"but --bands names {len(wanted)}; name {len(contract.bands)}"
        )
    scene = Scene(path, SceneOptions(wanted, contract.gsd, contract.coarsest_gsd, options.nodata))
    try:
        return scene, _scaling(scene, contracts)
    except BaseException:
        scene.close()
        raise


def _common(contracts: Sequence[Contract]) -> Contract:
    first = contracts[0]
    for other in contracts[1:]:
        if other.bands != first.bands:
            said = f"{', '.join(first.bands)} and {', '.join(other.bands)}"
            raise ContractError(f"the models take other bands ({said}); average models of the same bands")
        if not (_alike(other.gsd, first.gsd) and _alike(other.coarsest_gsd, first.coarsest_gsd)):
            raise ContractError(
                f"the models' resolutions are {first.resolution} and {other.resolution}; "
                "average models of one resolution"
            )
    return first


def _alike(one: float | None, other: float | None) -> bool:
    return one == other or bool(one and other and math.isclose(one, other, rel_tol=0.1))


def _scaling(scene: Scene, contracts: Sequence[Contract]) -> tuple[Contract, ...]:
    if scene.gsd != scene.native_gsd:
        logger.info(
            "%s has pixels of %.2g x %.2g m and the model was trained on %s: resampled",
            scene.path,
            *scene.native_gsd,
            contracts[0].resolution,
        )
    others = [contract.dtype for contract in contracts if contract.dtype != scene.dtype]
    if not others:
        return tuple(contracts)
    logger.info(
        "%s holds %s and the model was trained on %s: scaled by the scene's own mean and spread",
        scene.path,
        scene.dtype,
        others[0],
    )
    pixels, valid = scene.overview(_OVERVIEW_SIDE)
    if not valid.any():
        return tuple(contracts)
    chosen = pixels[:, valid].astype(np.float64)
    low, high = np.percentile(chosen, _CLIPPED_PERCENTILES, axis=1)[..., None]
    clipped = np.clip(chosen, low, high)
    mean, std = tuple(clipped.mean(axis=1).tolist()), tuple(clipped.std(axis=1).tolist())
    return tuple(c if c.dtype == scene.dtype else replace(c, mean=mean, std=std) for c in contracts)


def _by_number(name: str) -> Band:
    """Bands without a colour were named band1, band2, ... when the tiles were made."""
    number = name.removeprefix("band")
    return int(number) if number.isdigit() else name
