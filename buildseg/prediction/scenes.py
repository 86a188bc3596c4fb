"""One scene or many: a file of footprints for each, or one for all of them together."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas

from buildseg.area_of_interest import AreaOfInterest
from buildseg.footprints import VectorizeOptions, check_format, merge_footprints, write_footprints
from buildseg.prediction.job import Request
from buildseg.prediction.options import PredictOptions
from buildseg.prediction.run import Outputs, Predictor, predict_with
from buildseg.progress import Track, silent
from buildseg.scene_sources import SceneSource
from tiling.errors import OptionError, OutputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the results of scenes go.

    Attributes:
        footprints: A file, or a folder for one file per scene: a path without extension.
        probability: Likewise, for probability rasters; None keeps none.
        extension: What chooses the format of files in a folder.
        overwrite: Whether files that exist may be replaced.
        resume: Whether to leave out scenes that are done and go on with one that was cut off.

    Raises:
        OptionError: There is neither output, or the format is unknown.
    """

    footprints: Path | None
    probability: Path | None = None
    extension: str = "geojson"
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if self.footprints is None and self.probability is None:
            raise OptionError("nothing would be written; give --out, --probability or both")
        check_format(Path(f"--format.{self.extension.removeprefix('.')}"))

    @property
    def merged(self) -> Path | None:
        """The one file for all footprints, if one is asked for."""
        return self.footprints if self.footprints is not None and not _is_folder(self.footprints) else None

    def check(self, sources: Sequence[SceneSource]) -> None:
        """Refuse what cannot or must not be written, before any work is done, and make folders.

        Args:
            sources: What is going to be read.

        Raises:
            OptionError: Rasters of several scenes would go to one file, or a format is unknown.
            OutputError: An output exists, is a scene itself, or its folder is missing or read-only.
        """
        if len(sources) > 1 and self.probability is not None and not _is_folder(self.probability):
            raise OptionError(
                f"--probability {self.probability}: of several scenes, name a folder such as probability/"
            )
        for source in sources:
            if self.merged is not None:
                Outputs(self.merged, None, self.overwrite).check(source.path)
            if not self.resume:
                self.of(source, len(sources)).check(source.path)

    def of(self, source: SceneSource, count: int) -> Outputs:
        """Say where the results of one scene go.

        Args:
            source: The scene.
            count: How many scenes there are.
        """
        footprints, raster = self.footprints, self.probability
        if footprints is not None and self.merged is None:
            footprints = _made(footprints) / f"{source.name}.{self.extension.removeprefix('.')}"
        elif footprints is not None and count > 1:
            footprints = _made(_beside(footprints)) / f"{source.name}.parquet"
        if raster is not None and _is_folder(raster):
            raster = _made(raster) / f"{source.name}.tif"
        return Outputs(footprints, raster, self.overwrite, self.resume)


def predict_scenes(
    predictor: Predictor,
    sources: Sequence[SceneSource],
    destination: Destination,
    options: PredictOptions,
    polygons: VectorizeOptions,
    *,
    area: AreaOfInterest | None = None,
    track: Track = silent,
) -> Iterator[tuple[Path, str]]:
    """Predict scenes one after the other.

    Where one file is asked for, it is written after the last of them; a building that several scenes show is in
    it once (see `merge_footprints`), and a column ``scene`` names where each comes from.

    Args:
        predictor: Models that are ready.
        sources: The scenes.
        destination: Where results go.
        options: How to predict.
        polygons: How to turn probabilities into footprints.
        area: Where to look; scenes that it does not touch are left out.
        track: Shows progress.

    Yields:
        Each file, and in words what is in it.

    Raises:
        OptionError: One file is asked for in the scenes' own CRS, and they differ; or no scene touches the area.
        BuildsegError: See `predict`.
    """
    several = len(sources) > 1
    files: dict[str, Path] = {}
    for source in sources:
        outputs = destination.of(source, len(sources))
        target = outputs.written[0]
        if several and destination.resume and all(file.exists() for file in outputs.written):
            files[source.name] = target
            yield target, "is there from an earlier run"
            continue
        result = predict_with(predictor, Request(source.path, area), outputs, options, polygons, track=track)
        if result is None:
            _log.info("%s does not touch the area of interest: left out", source.path)
            continue
        files[source.name] = target
        yield target, str(result)
    if not files:
        raise OptionError("--aoi: the area does not touch any of the scenes; check its CRS and place")
    if several and destination.merged is not None:
        frames = {name: geopandas.read_parquet(file) for name, file in files.items()}
        merged = merge_footprints(frames)
        write_footprints(merged, destination.merged, overwrite=destination.overwrite)
        shutil.rmtree(_beside(destination.merged))
        yield destination.merged, f"{len(merged)} buildings of {len(files)} scenes"


def _is_folder(path: Path) -> bool:
    return path.is_dir() or not path.suffix


def _beside(merged: Path) -> Path:
    return merged.with_name(f"{merged.name}.scenes")


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made ({error.strerror}); choose another name") from error
    return folder
