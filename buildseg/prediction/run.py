"""The main job: from a scene to a probability raster and to footprints."""

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from buildseg.footprints import VectorizeOptions, check_format, files_of, write_footprints, write_raster_style
from buildseg.footprints.formats.provenance import read_provenance
from buildseg.footprints.tables import FootprintTables
from buildseg.model_file import Model
from buildseg.prediction.following import FootprintFollower
from buildseg.prediction.job import Job, Request, fingerprint, opened_job
from buildseg.prediction.local import Finished, LocalPredictor
from buildseg.prediction.options import PredictOptions
from buildseg.prediction.parts import (
    PartStore,
    check_job,
    check_record,
    is_gone,
    mark_finishing,
    opened_folder,
    parts_folder,
    was_finishing,
    write_record,
)
from buildseg.progress import Track, silent
from tiling import Block
from tiling.errors import OptionError
from tiling.output import check_writable, remove_leftovers
from tiling.raster import write_cog

if TYPE_CHECKING:
    from buildseg.area_of_interest import AreaOfInterest


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go.

    Attributes:
        footprints: File whose extension chooses the format; None draws none.
        probability: File to keep the probability raster in; None keeps it only as long as it is needed.
        overwrite: Whether files that exist may be replaced.
        resume: Whether to go on with what a run that was cut off has finished.
        recorded: Whether to note beside the first output how it was made, for `is_finished`.

    Raises:
        OptionError: There is neither output.
    """

    footprints: Path | None
    probability: Path | None = None
    overwrite: bool = False
    resume: bool = False
    recorded: bool = False

    def __post_init__(self) -> None:
        if not self.written:
            raise OptionError("nothing would be written; give --out, --probability or both")

    @property
    def written(self) -> list[Path]:
        """The files that come of it."""
        return [target for target in (self.footprints, self.probability) if target is not None]

    @property
    def record(self) -> Path:
        """The file that says how the outputs were made."""
        return self.written[0].with_name(f"{self.written[0].name}.job.json")

    @property
    def replaces(self) -> bool:
        """Whether files that exist may be replaced: what a run that is resumed wrote before it was cut off may be."""
        return self.overwrite or (self.resume and was_finishing(parts_folder(self.written[0])))

    def check(self, scene: str | Path) -> None:
        """Refuse what cannot or must not be written, before any work is done.

        Args:
            scene: What is going to be read.

        Raises:
            OptionError: The format is unknown, or both outputs are one file.
            OutputError: An output exists, is the scene itself, or its folder is missing or read-only.
        """
        if self.footprints is not None:
            check_format(self.footprints)
        for target in self.written:
            for file in files_of(target):
                check_writable(file, overwrite=self.replaces, scene=scene)
        if len({target.absolute() for target in self.written}) < len(self.written):
            raise OptionError(f"--out and --probability both name {self.footprints}; give them different names")


@dataclass(frozen=True, slots=True)
class PredictResult:
    """What was done.

    Attributes:
        width: Columns of the scene at the resolution it was predicted at.
        height: Its rows.
        gsd: Metres per pixel of that.
        buildings: Footprints found; None where none were asked for.
        seconds: From opening the scene to the finished file.
        resumed: Share of the blocks that an earlier run had finished.
    """

    width: int
    height: int
    gsd: float
    buildings: int | None
    seconds: float
    resumed: float = 0.0

    @property
    def megapixels_per_second(self) -> float:
        """Pixels of the scene, nodata included, over the time."""
        return self.width * self.height / 1e6 / self.seconds

    def __str__(self) -> str:
        found = "" if self.buildings is None else f"{self.buildings} building{'' if self.buildings == 1 else 's'} in "
        resumed = f", {self.resumed:.0%} of it from an earlier run" if self.resumed else ""
        return (
            f"{found}{self.width} x {self.height} pixels of {self.gsd:.2g} m, {self.seconds:.1f} s "
            f"({self.megapixels_per_second:.2f} megapixels/s){resumed}"
        )


class Predictor(Protocol):
    """Models made ready, on this machine or on others."""

    @property
    def models(self) -> Sequence[Model]:
        """What the probabilities are the mean of."""

    @property
    def identities(self) -> Sequence[str]:
        """Of each, from `identify`."""

    @property
    def precision(self) -> str:
        """The arithmetic: fp32, bf16 or fp16."""

    def finish(self, job: Job, blocks: Sequence[Block], track: Track = silent) -> Iterable[Finished]:
        """Predict blocks of a scene, in any order."""


def predict(
    path: str | Path,
    outputs: Outputs,
    models: Model | Sequence[Model],
    options: PredictOptions | None = None,
    polygons: VectorizeOptions | None = None,
    *,
    area: "AreaOfInterest | None" = None,
    track: Track = silent,
) -> PredictResult:
    """Predict a scene of any size and write its building footprints.

    Args:
        path: The scene: a path, URL or GDAL dataset name.
        outputs: Where results go.
        models: What to run; probabilities of several are averaged.
        options: How to predict.
        polygons: How to turn probabilities into footprints.
        area: Where to look; None looks everywhere.
        track: Shows progress.

    Raises:
        SceneError: The scene cannot be read.
        ContractError: It does not meet the model's contract.
        OptionError: An option does not fit, or the device is not there.
        OutputError: An output exists or cannot be written, or parts of another job stand beside it.
    """
    options = options or PredictOptions()
    outputs.check(path)
    predictor = LocalPredictor([models] if isinstance(models, Model) else models, options)
    result = predict_with(predictor, Request(str(path), area), outputs, options, polygons, track=track)
    if result is None:
        raise OptionError(f"--aoi: the area does not touch {path}; check its CRS and place")
    return result


def predict_with(
    predictor: Predictor,
    request: Request,
    outputs: Outputs,
    options: PredictOptions,
    polygons: VectorizeOptions | None = None,
    *,
    track: Track = silent,
) -> PredictResult | None:
    """Predict a scene with models that are ready: see `predict`.

    Returns:
        What was done; None, with nothing written, if the scene does not touch the area that is asked for.
    """
    outputs.check(request.path)
    polygons, replaces = polygons or VectorizeOptions(), outputs.replaces
    if outputs.footprints is not None:
        check_format(outputs.footprints, polygons.crs)
    started = time.monotonic()
    with opened_job(request, predictor.models, options) as job:
        if job.area is not None and job.area.empty:
            return None
        words = fingerprint(job, predictor.identities, options, predictor.precision)
        with opened_folder(outputs.written[0], words, resume=outputs.resume, overwrite=outputs.overwrite) as folder:
            profile = job.profile(predictor.models)
            model = " + ".join(text for name, text in words.items() if name.startswith("model "))
            profile = replace(profile, tags={**profile.tags, "BUILDSEG_MODEL": model})
            store = PartStore(folder, profile, job.blocks)
            done = store.finished()
            wanted = polygons if outputs.footprints else None
            with _following(job, store, wanted) as follower:
                footprints = _finish(predictor, job, store, done, follower, track)
                words |= wanted.in_words() if wanted else {}
                _write(store, footprints, outputs, words, replaces)
            if outputs.recorded:
                write_record(outputs.record, words)
        return PredictResult(
            width=job.scene.width,
            height=job.scene.height,
            gsd=(job.scene.gsd[0] * job.scene.gsd[1]) ** 0.5,
            buildings=None if footprints is None else footprints.count,
            seconds=time.monotonic() - started,
            resumed=len(done) / len(job.blocks),
        )


def _following(
    job: Job, store: PartStore, polygons: VectorizeOptions | None
) -> AbstractContextManager[FootprintFollower | None]:
    if polygons is None:
        return nullcontext()
    name = job.request.name or Path(job.request.path).stem
    return FootprintFollower(store.mosaic(), job.blocks, polygons, name, job.area.geometry if job.area else None)


def _finish(
    predictor: Predictor,
    job: Job,
    store: PartStore,
    done: set[Block],
    follower: FootprintFollower | None,
    track: Track,
) -> FootprintTables | None:
    """Finish all blocks, and draw footprints as far as they are there."""
    if follower:
        follower.finished(done)
    for finished in predictor.finish(job, [block for block in job.blocks if block not in done], track):
        store.keep(finished.block, finished.content)
        if follower:
            follower.finished([finished.block])
    return follower.footprints(track) if follower else None


def _write(
    store: PartStore, found: FootprintTables | None, outputs: Outputs, words: dict[str, str], replaces: bool
) -> None:
    for target in outputs.written:
        check_writable(target, overwrite=replaces)
        remove_leftovers(target)
    remove_leftovers(outputs.record)
    mark_finishing(store.folder)
    if outputs.probability is not None:
        write_cog(store.mosaic(), outputs.probability, overwrite=replaces)
        write_raster_style(outputs.probability, overwrite=replaces)
    if outputs.footprints is not None and found is not None:
        write_footprints(found, outputs.footprints, provenance=words, overwrite=replaces)


def is_finished(
    predictor: Predictor, request: Request, outputs: Outputs, options: PredictOptions, polygons: VectorizeOptions
) -> bool:
    """Say whether an earlier run left nothing to do: all outputs are there.

    Outputs without a record are taken as they are, unless they may be replaced, or the footprints' file says that they
    came of something else.

    Args:
        predictor: Models that are ready.
        request: The scene.
        outputs: Where its results are.
        options: How it would be predicted now.
        polygons: How its footprints would be made now.

    Raises:
        OutputError: They are there, and were recorded to be of another scene, model or option; or another process
            makes them.
    """
    if not is_gone(parts_folder(outputs.written[0])) or not all(target.exists() for target in outputs.written):
        return False
    recorded = outputs.record.exists()
    if not recorded and outputs.overwrite:
        return False
    with opened_job(request, predictor.models, options) as job:
        words = fingerprint(job, predictor.identities, options, predictor.precision)
    words |= polygons.in_words() if outputs.footprints else {}
    if recorded:
        check_record(outputs.record, words, str(outputs.written[0]))
    elif outputs.footprints is not None:
        said = {name: text for name, text in read_provenance(outputs.footprints).items() if name in words}
        check_job(said, {name: words[name] for name in said}, str(outputs.footprints))
    return True
