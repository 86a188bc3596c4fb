"""The main job: from a scene to a probability raster and to footprints."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from tiling import Grid, RasterProfile, RasterWriter, Scene, overlap_pixels, plain_raster, written_raster
from tiling.errors import OptionError, OutputError
from tiling.output import check_writable, scratch_file

_BATCH_SIZE = {"cpu": 4, "cuda": 16, "mps": 8}


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
    out: Path,
    model: Model,
    *,
    options: PredictOptions | None = None,
    polygons: VectorizeOptions | None = None,
    probability: Path | None = None,
    overwrite: bool = False,
    track: Track = silent,
) -> PredictResult:
    """Predict a scene of any size and write its building footprints.

    Args:
        path: The scene: a path, URL or GDAL dataset name.
        out: File for the footprints; its extension chooses the format.
        model: What to run.
        options: How to predict.
        polygons: How to turn probabilities into footprints.
        probability: File to keep the probability raster in; None keeps it only as long as it is needed.
        overwrite: Whether existing outputs may be replaced.
        track: Shows progress.

    Raises:
        SceneError: The scene cannot be read.
        ContractError: It does not meet the model's contract.
        OptionError: An option does not fit, or the device is not there.
        OutputError: An output exists or cannot be written.
    """
    options, polygons = options or PredictOptions(), polygons or VectorizeOptions()
    check_format(out)
    _check_outputs(out, probability, overwrite=overwrite)
    started = time.monotonic()
    scene, contract = open_scene(path, model.card.contract, options.input)
    device = resolve_device(options.device)
    window = options.window or contract.window
    grid = Grid(scene.height, scene.width, window, overlap_pixels(window, options.overlap))
    batch_size = options.batch_size or _BATCH_SIZE[device.type]
    with scene, _raster(scene, probability, out, overwrite=overwrite) as (raster, writer_of):
        with writer_of as writer:
            network = TorchNetwork(model, device)
            for strip in predict_strips(scene, grid, contract, network, batch_size=batch_size, track=track):
                writer.write(encode(strip.values, strip.valid))
        footprints = vectorize(raster, polygons, track=track)
    write_footprints(footprints, out, overwrite=overwrite)
    return PredictResult(
        width=scene.width,
        height=scene.height,
        gsd=(scene.gsd[0] * scene.gsd[1]) ** 0.5,
        buildings=len(footprints),
        seconds=time.monotonic() - started,
    )
