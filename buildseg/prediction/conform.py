"""Makes a scene meet a model's contract, or says why it cannot."""

import logging
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


def open_scene(path: str | Path, contract: Contract, options: InputOptions | None = None) -> tuple[Scene, Contract]:
    """Open a scene as a model wants it; conversions are said in the log.

    A scene at another resolution is resampled. A scene of another pixel type is scaled by its own mean and spread,
    taken once over the whole scene, instead of the training pixels'.

    Args:
        path: The scene.
        contract: What the model expects.
        options: What the file does not say.

    Returns:
        The scene at the model's resolution, and the contract to scale its pixels with.

    Raises:
        SceneError: The scene cannot be read, or lacks a band.
        ContractError: Another number of bands is asked for than the model takes.
    """
    options = options or InputOptions()
    wanted = options.bands or tuple(_by_number(name) for name in contract.bands)
    if len(wanted) != len(contract.bands):
        raise ContractError(
            f"the model takes {len(contract.bands)} bands ({', '.join(contract.bands)}), "
            f"but --bands names {len(wanted)}; name {len(contract.bands)}"
        )
    scene = Scene(path, SceneOptions(bands=wanted, gsd=contract.gsd, nodata=options.nodata))
    try:
        return scene, _scaling(scene, contract)
    except BaseException:
        scene.close()
        raise


def _scaling(scene: Scene, contract: Contract) -> Contract:
    if scene.gsd != scene.native_gsd:
        logger.info(
            "%s has pixels of %.2g x %.2g m and the model was trained on %.2g m: resampled",
            scene.path,
            *scene.native_gsd,
            contract.gsd,
        )
    if scene.dtype == contract.dtype:
        return contract
    logger.info(
        "%s holds %s and the model was trained on %s: scaled by the scene's own mean and spread",
        scene.path,
        scene.dtype,
        contract.dtype,
    )
    pixels, valid = scene.overview(_OVERVIEW_SIDE)
    if not valid.any():
        return contract
    chosen = pixels[:, valid].astype(np.float64)
    low, high = np.percentile(chosen, _CLIPPED_PERCENTILES, axis=1)[..., None]
    clipped = np.clip(chosen, low, high)
    return replace(contract, mean=tuple(clipped.mean(axis=1).tolist()), std=tuple(clipped.std(axis=1).tolist()))


def _by_number(name: str) -> Band:
    """Bands without a colour were named band1, band2, ... when the tiles were made."""
    number = name.removeprefix("band")
    return int(number) if number.isdigit() else name
