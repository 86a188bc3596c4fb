"""The folder of finished parts: what a run has done so far, safe from a kill at any moment."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import rasterio
from filelock import FileLock, Timeout
from rasterio.errors import RasterioError

from tiling import Block, RasterProfile
from tiling.errors import OutputError
from tiling.output import scratch_file
from tiling.raster import check_end, mosaic_of_blocks, writing_to

_log = logging.getLogger(__name__)
_JOB = "job.json"
_LOCK = "lock"
_FINISHING = "finishing"
_MOSAIC = "probability.vrt"
_REMEDY = "start again with --overwrite instead of --resume"


class PartStore:
    """Keeps the parts of one raster in a folder; a part is there as a whole or not at all.

    Args:
        folder: An existing folder.
        profile: The raster that the parts make up.
        blocks: All of its blocks.
    """

    def __init__(self, folder: Path, profile: RasterProfile, blocks: Sequence[Block]) -> None:
        self.folder = folder
        self.blocks = blocks
        self._profile = profile

    def keep(self, block: Block, content: bytes) -> None:
        """Save a part.

        Args:
            block: Where it lies.
            content: From `encode_block`.

        Raises:
            OutputError: The disk is full, or the folder cannot be written.
        """
        target = self._path(block)
        with writing_to(target), scratch_file(target) as partial:
            partial.write_bytes(content)
            partial.replace(target)

    def finished(self) -> set[Block]:
        """Find the blocks whose parts are there and whole; a part that a power cut left damaged is removed."""
        return {block for block in self.blocks if self._path(block).exists() and self._whole(block)}

    def _whole(self, block: Block) -> bool:
        path = self._path(block)
        try:
            check_end(path)
            with rasterio.open(path) as dataset:
                whole = (dataset.height, dataset.width) == (block.rows, block.cols)
        except RasterioError:
            whole = False
        if not whole:
            path.unlink()
        return whole

    def mosaic(self) -> Path:
        """Lay a virtual raster over the parts, those to come included.

        Returns:
            A file that GDAL opens; only where parts are there can pixels be read from it.
        """
        path = self.folder / _MOSAIC
        names = {block: self._path(block).name for block in self.blocks}
        with writing_to(path):
            path.write_text(mosaic_of_blocks(names, self._profile), encoding="utf-8")
        return path

    def _path(self, block: Block) -> Path:
        return self.folder / f"row{block.row}_col{block.col}.tif"


def parts_folder(output: Path) -> Path:
    """Name the folder of the parts of an output."""
    return output.with_name(f"{output.name}.parts")


def mark_finishing(folder: Path) -> None:
    """Note that all parts are there and outputs are being written: from now on they belong to this job."""
    marker = folder / _FINISHING
    with writing_to(marker):
        marker.touch()


def was_finishing(folder: Path) -> bool:
    """Say whether a run was cut off while it wrote its outputs, so that those that exist are its own."""
    return (folder / _FINISHING).exists()


def is_gone(folder: Path) -> bool:
    """Say whether a folder of parts is gone. One that a kill left with no more than its lock was about to be: it goes.

    Raises:
        OutputError: It is in use by another process.
    """
    if not folder.exists():
        return True
    with _locked(folder):
        gone = all(file.name == _LOCK for file in folder.iterdir())
        if gone:
            _remove(folder)
    return gone


def write_record(path: Path, job: Mapping[str, str]) -> None:
    """Keep what a result depends on.

    Args:
        path: The file to write.
        job: Each thing by its name, in words.

    Raises:
        OutputError: It cannot be written.
    """
    with writing_to(path), scratch_file(path) as partial:
        partial.write_text(json.dumps(dict(job), indent=1), encoding="utf-8")
        partial.replace(path)


def check_record(path: Path, job: Mapping[str, str], kept: str) -> None:
    """Refuse to go on with another job than the one that was recorded.

    Args:
        path: From `write_record`.
        job: What the result depends on now.
        kept: What is there of it, for the message.

    Raises:
        OutputError: They differ, or the record is gone or damaged.
    """
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}, which says how {kept} came to be, cannot be read; {_REMEDY}") from error
    check_job(before, job, kept)


def check_job(before: Mapping[str, str], job: Mapping[str, str], kept: str) -> None:
    """Refuse to go on with another job than before.

    Args:
        before: What is there depends on.
        job: What the result depends on now.
        kept: What is there, for the message.

    Raises:
        OutputError: They differ.
    """
    changed = [name for name in {**before, **job} if before.get(name) != job.get(name)]
    if changed:
        said = "; ".join(
            f"{name} was {before.get(name, 'not there')} and is {job.get(name, 'gone')}" for name in changed
        )
        raise OutputError(f"{kept} came of another job ({said}); run it as before, or {_REMEDY}")


@contextmanager
def opened_folder(output: Path, job: Mapping[str, str], *, resume: bool, overwrite: bool) -> Iterator[Path]:
    """Open the folder of parts that belongs to an output: a new one, or that of a run that was cut off.

    It is removed when the block succeeds, and when it fails with no part in it.

    Args:
        output: The file that the parts are for; the folder stands beside it.
        job: All that the parts depend on, in words, by name.
        resume: Whether to go on with what is there.
        overwrite: Whether what is there may be thrown away instead.

    Yields:
        The folder, which no other process uses.

    Raises:
        OutputError: Parts of another job are there, or parts that nobody asked to go on with, or the folder cannot
            be made or is in use.
    """
    folder = parts_folder(output)
    with writing_to(folder):
        folder.mkdir(exist_ok=True)
    with _locked(folder):
        goes_on = _settle(folder, job, resume=resume, overwrite=overwrite)
        try:
            if not goes_on:
                write_record(folder / _JOB, job)
            yield folder
        except BaseException:
            _tidy(folder)
            raise
        _remove(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        lock = FileLock(folder / _LOCK).acquire(timeout=0)
    except Timeout as error:
        raise OutputError(
            f"{folder} is in use by another buildseg; wait for it, or choose another name for the output"
        ) from error
    with lock:
        yield


def _settle(folder: Path, job: Mapping[str, str], *, resume: bool, overwrite: bool) -> bool:
    """Say whether there are parts to go on with; otherwise clear the folder."""
    parts = len(list(folder.glob("row*.tif")))
    if parts and not resume and not overwrite:
        raise OutputError(
            f"{folder} holds {parts} finished parts of a run that was cut off; add --resume to go on with it, or "
            "--overwrite to start again"
        )
    if parts and resume:
        check_record(folder / _JOB, job, f"what is in {folder}")
        return True
    for leftover in folder.iterdir():
        if leftover.name != _LOCK:
            leftover.unlink()
    return False


def _tidy(folder: Path) -> None:
    """Remove a folder without parts; say where those of a run that was cut off are."""
    parts = len(list(folder.glob("row*.tif")))
    if parts:
        _log.warning("%d finished parts are kept in %s: go on with --resume", parts, folder)
    else:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder of parts: all is done, so what cannot be removed does no harm."""
    with suppress(OSError):
        # Cut off in between, the run can still go on: the outputs are its own as long as the note says so.
        for file in sorted(folder.iterdir(), key=lambda file: (file.name == _LOCK, file.name == _FINISHING)):
            file.unlink()
        folder.rmdir()
