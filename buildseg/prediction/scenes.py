"""One scene or many: a file of footprints for each, or one for all of them together."""

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from buildseg.area_of_interest import AreaOfInterest
from buildseg.footprints import FootprintFile, VectorizeOptions, check_format, merge_footprints, write_footprints
from buildseg.footprints.formats.provenance import read_provenance
from buildseg.prediction.job import Job, Request, opened_job
from buildseg.prediction.options import PredictOptions
from buildseg.prediction.parts import mark_finishing, was_finishing
from buildseg.prediction.run import Outputs, Predictor, is_finished, predict_with
from buildseg.progress import Track, silent
from buildseg.scene_sources import SceneSource
from tiling.errors import OptionError, OutputError
from tiling.output import remove_leftovers

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
    def replaces(self) -> bool:
        """Whether a merged file that exists may be replaced."""
        return self.overwrite or (self.resume and self.merged is not None and was_finishing(_beside(self.merged)))

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
            OutputError: An output exists, is a scene itself, or its folder is missing or read-only; or finished scenes
                of a run that was cut off are there.
        """
        if len(sources) > 1 and self.probability is not None and not _is_folder(self.probability):
            raise OptionError(
                f"--probability {self.probability}: of several scenes, name a folder such as probability/"
            )
        if self.merged is not None and len(sources) > 1:
            for source in sources:
                Outputs(self.merged, None, self.replaces).check(source.path)
            if not self.resume and not self.overwrite:
                _check_unused(_beside(self.merged))
        if not self.resume:
            with _tidied(self.merged):
                for source in sources:
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
        return Outputs(footprints, raster, self.overwrite, self.resume, recorded=count > 1)


def predict_scenes(
    predictor: Predictor,
    sources: Sequence[SceneSource],
    destination: Destination,
    options: PredictOptions,
    polygons: VectorizeOptions,
    *,
    area: AreaOfInterest | None = None,
    track: Track = silent,
) -> Iterator[tuple[str, str]]:
    """Predict scenes one after the other.

    Where one file is asked for, it is written after the last of them; a building that several scenes show is in
    it once (see `merge_footprints`), and a column ``scene`` names where each comes from.

    A run that is resumed leaves out the scenes that are done. Until all are, a file beside each result says how it
    was made: results of another model, option or scene are refused. Files in a folder that no such run left there
    are kept as they are, with whatever options they were made, unless they may be replaced.

    Args:
        predictor: Models that are ready.
        sources: The scenes.
        destination: Where results go.
        options: How to predict.
        polygons: How to turn probabilities into footprints.
        area: Where to look; scenes that it does not touch are left out.
        track: Shows progress.

    Yields:
        Each file, or scene where one file is made of several, and in words what came of it.

    Raises:
        OptionError: One file is asked for in the scenes' own CRS, and they differ; or no scene touches the area.
        OutputError: A scene that is done came of another job.
        BuildsegError: See `predict`.
    """
    several = len(sources) > 1
    merged = destination.merged if several else None
    if merged is not None:
        check_format(merged, polygons.crs)
    requests = {source: Request(source.path, area, source.name) for source in sources}
    if merged is not None and polygons.crs == "native":
        _check_one_crs(predictor, requests.values(), options)
    done: dict[str, Outputs] = {}
    with _tidied(merged):
        for source, request in requests.items():
            outputs = destination.of(source, len(sources))
            if outputs.resume and is_finished(predictor, request, outputs, options, polygons):
                said = "done by an earlier run" if outputs.record.exists() else "left as it was before this run"
            else:
                result = predict_with(predictor, request, outputs, options, polygons, track=track)
                if result is None:
                    _log.info("%s does not touch the area of interest: left out", source.path)
                    continue
                said = str(result)
            done[source.name] = outputs
            yield source.name if merged else str(outputs.written[0]), said
        if not done:
            raise OptionError("--aoi: the area does not touch any of the scenes; check its CRS and place")
        if merged is not None:
            yield str(merged), _merge(done, merged, overwrite=destination.replaces)
    for outputs in done.values():
        outputs.record.unlink(missing_ok=True)


def _merge(done: Mapping[str, Outputs], merged: Path, *, overwrite: bool) -> str:
    """Write one file of the footprints of all scenes, and remove their own."""
    footprints = merge_footprints({name: FootprintFile(outputs.written[0]) for name, outputs in done.items()})
    remove_leftovers(merged)
    mark_finishing(_beside(merged))
    said = [read_provenance(outputs.written[0]) for outputs in done.values()]
    same = {name: text for name, text in said[0].items() if all(other.get(name) == text for other in said)}
    write_footprints(footprints, merged, provenance=same | {"scenes": ", ".join(done)}, overwrite=overwrite)
    shutil.rmtree(_beside(merged))
    return f"{footprints.count} building{'' if footprints.count == 1 else 's'} of {len(done)} scenes"


def _check_one_crs(predictor: Predictor, requests: Iterable[Request], options: PredictOptions) -> None:
    """Refuse scenes that cannot share a file, before hours of work."""
    first: Job | None = None
    for request in requests:
        with opened_job(request, predictor.models, options) as job:
            if job.area is not None and job.area.empty:
                continue
            if first is not None and job.scene.crs != first.scene.crs:
                raise OptionError(
                    f"--crs native: {first.scene.path} is in {first.scene.crs} and {job.scene.path} in "
                    f"{job.scene.crs}, so one file cannot hold both; give --crs EPSG:n, or a folder as --out"
                )
            first = first or job


@contextmanager
def _tidied(merged: Path | None) -> Iterator[None]:
    """Leave no folder of finished scenes behind that holds none."""
    try:
        yield
    finally:
        if merged is not None:
            with suppress(OSError):
                _beside(merged).rmdir()


def _check_unused(folder: Path) -> None:
    tables = len(list(folder.glob("*.parquet"))) + len(list(folder.glob("*.parts")))
    if tables:
        raise OutputError(
            f"{folder} holds {tables} scenes of a run that was cut off; add --resume to go on with it, or "
            "--overwrite to start again"
        )


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
