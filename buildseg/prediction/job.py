"""One scene to be predicted: what it is cut into, and all that its probabilities depend on."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg import __version__
from buildseg.contract import Contract
from buildseg.model_file import Model
from buildseg.prediction.conform import open_scene
from buildseg.prediction.options import PredictOptions
from buildseg.probability import probability_profile
from tiling import Block, Grid, RasterProfile, Scene, cut_blocks, overlap_pixels
from tiling.errors import ContractError
from tiling.opening import open_raster

if TYPE_CHECKING:
    from buildseg.area_of_interest import AreaOfInterest, SceneArea

_WIDEST_BLOCK = 16_384
_LEAST_ROWS, _BLOCK_PIXELS = 512, 2**21
_LOOK_SIDE = 128


@dataclass(frozen=True, slots=True)
class Request:
    """A scene that is to be predicted.

    Attributes:
        path: A path, URL or GDAL dataset name.
        area: What of it is wanted; None wants all.
        name: What its footprints call it; without one they take the file's name.
    """

    path: str
    area: "AreaOfInterest | None" = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A scene, opened for its models.

    Attributes:
        request: What was asked for.
        scene: At the models' resolution.
        contracts: How its pixels are scaled for each model.
        grid: Its windows.
        blocks: What it is cut into, column of blocks by column. Their rows come from the options and their columns
            from the scene's width alone, so that memory has a bound.
        area: What of it is wanted; None wants all.
    """

    request: Request
    scene: Scene
    contracts: tuple[Contract, ...]
    grid: Grid
    blocks: tuple[Block, ...]
    area: "SceneArea | None"

    def profile(self, models: Sequence[Model]) -> RasterProfile:
        """Describe the probability raster that comes of it."""
        tags = {
            "BUILDSEG_VERSION": __version__,
            "BUILDSEG_SCENE": self.scene.path,
            "BUILDSEG_NETWORK": " + ".join(str(model.card.architecture["name"]) for model in models),
        }
        scene = self.scene
        shape, boundary = (scene.height, scene.width), has_boundary(models)
        return probability_profile(shape, scene.crs, scene.transform, tags, boundary=boundary)

    def looks(self) -> str:
        """Digest a few small pieces of the scene, which tell scenes apart whose files cannot be looked at."""
        height, width = self.scene.height, self.scene.width
        rows, cols = min(height, _LOOK_SIDE), min(width, _LOOK_SIDE)
        middle, *ends = _look_starts(height)
        centre, *sides = _look_starts(width)
        # At the corners images that stand aslant hold nothing. In small scenes several of these places are one.
        places = dict.fromkeys(
            [(middle, centre), *((end, centre) for end in ends), *((middle, side) for side in sides)]
        )
        return _digest(*(array for place in places for array in self.scene.read_region(*place, rows, cols)))


@contextmanager
def opened_job(request: Request, models: Sequence[Model], options: PredictOptions) -> Iterator[Job]:
    """Open a scene for models.

    Args:
        request: The scene.
        models: At least one; they agree on bands and resolution.
        options: How it is predicted.

    Raises:
        SceneError: The scene cannot be read.
        ContractError: It does not meet the models' contract, or they do not agree.
    """
    has_boundary(models)
    scene, contracts = open_scene(request.path, [model.card.contract for model in models], options.input)
    with scene:
        size = options.window or max(contract.window for contract in contracts)
        grid = Grid(scene.height, scene.width, size, overlap_pixels(size, options.overlap))
        rows = options.block or max(_LEAST_ROWS, _BLOCK_PIXELS // scene.width // _LEAST_ROWS * _LEAST_ROWS)
        blocks = tuple(cut_blocks(scene.height, scene.width, rows, _WIDEST_BLOCK))
        yield Job(request, scene, contracts, grid, blocks, request.area.on(scene) if request.area else None)


def has_boundary(models: Sequence[Model]) -> bool:
    """Say whether models give the probability of boundaries too.

    Raises:
        ContractError: Some do and some do not.
    """
    given = {model.network.architecture.boundary for model in models}
    if len(given) > 1:
        raise ContractError(
            "some of the models have an output for boundaries and some have none; average models of one kind"
        )
    return given.pop()


def runs_of(blocks: Sequence[Block]) -> list[list[Block]]:
    """Group blocks that stand one below the other without a gap.

    Args:
        blocks: In the order of `cut_blocks`, some of them missing.

    Returns:
        All of them, in that order.
    """
    starts = [
        above is None or (above.col, above.row + above.rows) != (block.col, block.row)
        for above, block in zip((None, *blocks), blocks, strict=False)
    ]
    numbered = zip(np.cumsum(starts), blocks, strict=True)
    return [[block for _, block in group] for _, group in groupby(numbered, key=lambda pair: pair[0])]


def identify(model: Model) -> str:
    """Name a network and digest its weights; of large ones that takes a tenth of a second."""
    weights = (value.cpu().contiguous().flatten().numpy() for value in model.network.state_dict().values())
    return f"{model.card.architecture['name']} {_digest(repr(model.card.architecture).encode(), *weights)}"


def fingerprint(job: Job, identities: Sequence[str], options: PredictOptions, precision: str) -> dict[str, str]:
    """Put all that the probabilities depend on into words.

    Batch size, threads, workers and device are left out: they change no more than the last bits of a sum.

    Args:
        job: The scene.
        identities: Of the models that it is predicted with, from `identify`.
        options: How.
        precision: The arithmetic.

    Returns:
        Each thing by its name.
    """
    scene, area = job.scene, job.area
    words = {
        "buildseg": __version__,
        "scene": f"{Path(scene.path).name} of {scene.width} x {scene.height} pixels",
        "files of the scene": _files_of(scene.path),
        "pixels of the scene": job.looks(),
        "bands": ", ".join(map(str, scene.bands)),
        "--nodata": str(options.input.nodata),
        "--aoi": _digest(shapely.to_wkb(area.geometry)) if area else "none",
        "--window": str(job.grid.size),
        "--overlap": str(options.overlap),
        "--tta": options.augmentation,
        "--scale": ", ".join(map(str, options.scales)),
        "--precision": precision,
        "--block": str(job.blocks[0].rows),
        "scaling": _digest(repr(job.contracts).encode()),
    }
    return words | {f"model {number}": identity for number, identity in enumerate(identities, 1)}


def _look_starts(length: int) -> tuple[int, int, int]:
    """Where along a side is looked: about its middle but within one tile of the file, at its start, and at its end."""
    end = max(0, length - _LOOK_SIDE)
    return round(end / 2 / _LOOK_SIDE) * _LOOK_SIDE, 0, end


def _files_of(path: str) -> str:
    """Say how large the files of a scene are and when the last was changed: a VRT's sources and masks count."""
    with open_raster(path) as dataset:
        local = sorted(file for file in map(Path, dataset.files) if file.exists())
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in local]
    if not stats:
        return "none on this machine"
    size, changed = sum(size for _, size, _ in stats), max(time for *_, time in stats)
    when = datetime.fromtimestamp(changed / 1e9, timezone.utc)
    return f"{len(stats)} of {size} bytes, last changed {when:%Y-%m-%d %H:%M:%S} UTC ({_digest(repr(stats).encode())})"


def _digest(*contents: bytes | NDArray[np.generic]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content if isinstance(content, bytes) else content.tobytes())
    return digest.hexdigest()[:12]
