"""The main job: from a scene to a probability raster and to footprints."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from buildseg import __version__
from buildseg.contract import Contract
from buildseg.devices import resolve_device
from buildseg.footprints import VectorizeOptions, check_format, vectorize, write_footprints
from buildseg.model_file import Model
from buildseg.prediction.conform import InputOptions, open_scene
from buildseg.prediction.engine import predict_strips
from buildseg.prediction.torch_network import TorchNetwork
from buildseg.probability import encode, probability_profile
from buildseg.progress import Track, silent
from tiling import Grid, RasterProfile, RasterWriter, Scene, Strip, overlap_pixels, plain_raster, written_raster
from tiling.errors import OptionError
from tiling.output import check_writable, scratch_file

_BATCH_SIZE = {"cpu": 2, "cuda": 16, "mps": 8}


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """How a scene is predicted.

    Attributes:
        window: Side of the windows in pixels; None takes the model's.
        overlap: Fraction of a window that neighbours share, 0 up to 1.
        batch_size: Windows per step; None takes what suits the device.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ... or ``mps``.
        input: What the scene's file does not say.

    Raises:
        OptionError: A value is out of range.
    """

    window: int | None = None
    overlap: float = 0.25
    batch_size: int | None = None
    device: str = "auto"
    input: InputOptions = field(default_factory=InputOptions)

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 64:
            raise OptionError(f"--window {self.window} is too small for the networks; use 64 or more")
        if self.batch_size is not None and self.batch_size < 1:
            raise OptionError(f"--batch-size {self.batch_size} is out of range; give 1 or more")
        overlap_pixels(64, self.overlap)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go.

    Attributes:
        footprints: File whose extension chooses the format.
        probability: File to keep the probability raster in; None keeps it only as long as it is needed.
        overwrite: Whether files that exist may be replaced.
    """

    footprints: Path
    probability: Path | None = None
    overwrite: bool = False

    def check(self, scene: str | Path) -> None:
        """Refuse what cannot or must not be written, before any work is done.

        Args:
            scene: What is going to be read.

        Raises:
            OptionError: The format is unknown, or both outputs are one file.
            OutputError: An output exists, is the scene itself, or its folder is missing or read-only.
        """
        check_format(self.footprints)
        written = [self.footprints] if self.probability is None else [self.footprints, self.probability]
        for target in written:
            check_writable(target, overwrite=self.overwrite, scene=scene)
        if len({target.absolute() for target in written}) < len(written):
            raise OptionError(f"--out and --probability both name {self.footprints}; give them different names")

    @contextmanager
    def raster(self, profile: RasterProfile) -> Iterator[tuple[Path, AbstractContextManager[RasterWriter]]]:
        """Yield the file of the probability raster, for as long as it is needed, and its writer."""
        if self.probability is not None:
            yield self.probability, written_raster(self.probability, profile, overwrite=self.overwrite)
            return
        with scratch_file(self.footprints.with_suffix(".tif")) as passing:
            yield passing, plain_raster(passing, profile)


@dataclass(frozen=True, slots=True)
class PredictResult:
    """What was done.

    Attributes:
        width: Columns of the scene at the resolution it was predicted at.
        height: Its rows.
        gsd: Metres per pixel of that.
        buildings: Footprints written.
        seconds: From opening the scene to the finished file.
    """

    width: int
    height: int
    gsd: float
    buildings: int
    seconds: float

    @property
    def megapixels_per_second(self) -> float:
        """Pixels of the scene, nodata included, over the time."""
        return self.width * self.height / 1e6 / self.seconds


def predict(
    path: str | Path,
    outputs: Outputs,
    model: Model,
    options: PredictOptions | None = None,
    polygons: VectorizeOptions | None = None,
    *,
    track: Track = silent,
) -> PredictResult:
    """Predict a scene of any size and write its building footprints.

    Args:
        path: The scene: a path, URL or GDAL dataset name.
        outputs: Where results go.
        model: What to run.
        options: How to predict.
        polygons: How to turn probabilities into footprints.
        track: Shows progress.

    Raises:
        SceneError: The scene cannot be read.
        ContractError: It does not meet the model's contract.
        OptionError: An option does not fit, or the device is not there.
        OutputError: An output exists or cannot be written.
    """
    options, polygons = options or PredictOptions(), polygons or VectorizeOptions()
    outputs.check(path)
    device = resolve_device(options.device)
    started = time.monotonic()
    scene, contract = open_scene(path, model.card.contract, options.input)
    with scene, outputs.raster(_profile(scene, model)) as (raster, writing):
        with writing as writer:
            for strip in _strips(scene, contract, TorchNetwork(model, device), options, track):
                writer.write(encode(strip.values, strip.valid))
        footprints = vectorize(raster, polygons, track=track)
    write_footprints(footprints, outputs.footprints, overwrite=outputs.overwrite)
    return PredictResult(
        width=scene.width,
        height=scene.height,
        gsd=(scene.gsd[0] * scene.gsd[1]) ** 0.5,
        buildings=len(footprints),
        seconds=time.monotonic() - started,
    )


def _strips(
    scene: Scene, contract: Contract, network: TorchNetwork, options: PredictOptions, track: Track
) -> Iterator[Strip]:
    size = options.window or contract.window
    grid = Grid(scene.height, scene.width, size, overlap_pixels(size, options.overlap))
    batch_size = options.batch_size or _BATCH_SIZE[network.device.type]
    return predict_strips(scene, grid, contract, network, batch_size=batch_size, track=track)


def _profile(scene: Scene, model: Model) -> RasterProfile:
    tags = {
        "BUILDSEG_VERSION": __version__,
        "BUILDSEG_SCENE": scene.path,
        "BUILDSEG_NETWORK": str(model.card.architecture["name"]),
    }
    return probability_profile(scene.height, scene.width, scene.crs, scene.transform, tags)
