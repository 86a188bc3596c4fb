"""Shows what a model attends to where it looks at one pixel."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from buildseg.devices import resolve_device
from buildseg.explaining.maps import choose_modules, listed, look, recorded
from buildseg.explaining.picture import View, draw, save
from buildseg.explaining.place import Place, find_pixel
from buildseg.model_file import Model
from buildseg.networks.output import building_probability
from buildseg.prediction.conform import InputOptions, open_scene
from buildseg.training.pictures import viewable
from tiling import Scene, Window
from tiling.errors import OptionError
from tiling.output import check_writable

logger = logging.getLogger(__name__)

CHANNELS = 3
MOST_MODULES = 6


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """How attention is looked at.

    Attributes:
        modules: Names of attention modules, or of parts of the network that hold some; empty takes all, or where
            they are many the last ones before the output.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ... or ``mps``.
        input: What the scene's file does not say.
    """

    modules: tuple[str, ...] = ()
    device: str = "auto"
    input: InputOptions = field(default_factory=InputOptions)


@dataclass(frozen=True, slots=True)
class ExplainResult:
    """What was drawn.

    Attributes:
        probability: Of building at the pixel, as the one window around it gives it.
        row: Row of the pixel at the model's resolution.
        col: Its column.
        modules: Names of the attention modules.
    """

    probability: float
    row: int
    col: int
    modules: tuple[str, ...]


def explain(
    path: str | Path,
    out: Path,
    model: Model,
    place: Place,
    options: ExplainOptions | None = None,
    *,
    overwrite: bool = False,
) -> ExplainResult:
    """Draw what a model attends to where it looks at one pixel of a scene.

    The network runs once, on the window around the pixel. Every attention module's map of the pixel's position is
    drawn over the image, and of those that weigh channels the channels that respond most there.

    Args:
        path: The scene: a path, URL or GDAL dataset name.
        out: PNG to write.
        model: What to look into.
        place: Where it looks at.
        options: How to look.
        overwrite: Whether an existing picture may be replaced.

    Raises:
        SceneError: The scene cannot be read.
        ContractError: It does not meet the model's contract.
        OptionError: The pixel is outside the scene or without data, the model has no attention, an option does
            not fit, or the device is not there.
        OutputError: The picture exists or cannot be written.
    """
    options = options or ExplainOptions()
    _check(out, path, overwrite=overwrite)
    modules = choose_modules(model.network, options.modules)
    device = resolve_device(options.device)
    network = model.network.eval().to(device)
    scene, (contract,) = open_scene(path, [model.card.contract], options.input)
    with scene:
        row, col = find_pixel(scene, place)
        seen = _see(scene, row, col, contract.window)
    if not seen.valid[seen.row, seen.col]:
        raise OptionError(f"--at {place}: {path} holds no data there; choose a point on the image")
    with recorded(modules) as inputs:
        image = torch.from_numpy(contract.scale(seen.pixels[None]) * seen.valid).to(device)
        with torch.inference_mode():
            probability = building_probability(network(image), network.architecture.boundary)[0].cpu().numpy()
    names = _most(tuple(inputs), options)
    covered = contract.window + -contract.window % model.network.stride
    share = ((seen.row + 0.5) / covered, (seen.col + 0.5) / covered)
    maps = [look(name, modules[name], inputs[name], share, CHANNELS) for name in names]
    result = ExplainResult(float(probability[seen.row, seen.col]), row, col, names)
    title = f"{Path(path).name}, {place}: probability of building {result.probability:.2f}\n{model.card.network}"
    save(draw(_view(seen, probability, covered, title), maps), out, overwrite=overwrite)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What the network sees: pixels (bands, size, size), their validity, and of them rows x cols in the scene."""

    pixels: NDArray[np.generic]
    valid: NDArray[np.bool_]
    rows: int
    cols: int
    row: int
    col: int


def _see(scene: Scene, row: int, col: int, size: int) -> _Seen:
    """Read the window around a pixel, shifted into the scene where it would reach beyond."""
    top, left = _start(row, scene.height, size), _start(col, scene.width, size)
    pixels, valid = scene.read(Window(top, left, size))
    return _Seen(
        pixels,
        valid,
        rows=min(size, scene.height),
        cols=min(size, scene.width),
        row=row - top,
        col=col - left,
    )


def _start(pixel: int, length: int, size: int) -> int:
    return max(0, min(pixel - size // 2, length - size))


def _view(seen: _Seen, probability: NDArray[np.float32], covered: int, title: str) -> View:
    inside = (slice(seen.rows), slice(seen.cols))
    valid = seen.valid[inside]
    return View(
        title,
        image=np.where(valid[..., None], viewable(seen.pixels[(slice(None), *inside)]), np.float32(1)),
        probability=np.where(valid, probability[inside], np.float32(np.nan)),
        row=seen.row,
        col=seen.col,
        covered=covered,
    )


def _most(names: tuple[str, ...], options: ExplainOptions) -> tuple[str, ...]:
    if options.modules or len(names) <= MOST_MODULES:
        return names
    logger.info(
        "the model has %d attention modules: the last %d are drawn; choose with --module, by name or part: %s",
        len(names),
        MOST_MODULES,
        listed(names),
    )
    return names[-MOST_MODULES:]


def _check(out: Path, scene: str | Path, *, overwrite: bool) -> None:
    if out.suffix.lower() != ".png":
        raise OptionError(f"--out {out}: the picture is a PNG; give a name that ends in .png")
    check_writable(out, overwrite=overwrite, scene=scene)
