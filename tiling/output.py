"""Output files that exist only when they are whole."""

import glob
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tiling.errors import OutputError


def check_writable(target: Path, *, overwrite: bool = False, scene: str | Path | None = None) -> None:
    """Refuse an output that cannot or must not be written, before any work is done for it.

    Args:
        target: The file to be written.
        overwrite: Whether an existing file may be replaced.
        scene: What is going to be read, and must not be replaced.

    Raises:
        OutputError: The folder is missing or read-only, the target is a folder or the scene, it exists, or its name is
            no text.
    """
    if not is_text(target):
        raise OutputError(f"{target}: the name is not UTF-8, which many programs need; choose another name")
    if scene is not None and target.exists() and Path(scene).exists() and target.samefile(scene):
        raise OutputError(f"{target} is what is read and would be lost; choose another name for the output")
    folder = target.parent
    probe = _sibling(target)
    try:
        if not folder.is_dir():
            raise OutputError(f"{target}: the folder {folder} does not exist; create it first")
        if target.is_dir():
            raise OutputError(f"{target} is a folder; name a file in it")
        if target.exists() and not overwrite:
            raise OutputError(f"{target} exists already; add --overwrite to replace it, or choose another name")
        probe.touch(exist_ok=False)
        probe.unlink()
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{target}: the folder {folder} cannot be written ({error.strerror}); choose another folder"
        ) from error


def is_text(path: str | Path) -> bool:
    """Say whether a path is text; on Linux it can be bytes of any kind, which GDAL does not take."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def written_whole(target: Path, *, overwrite: bool = False, beside: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a path beside the target to write to; it becomes the target only if the block succeeds.

    A failure, an interrupt included, leaves neither a half-written target nor the temporary file.

    Args:
        target: The file to be written.
        overwrite: Whether existing files may be replaced.
        beside: Suffixes, such as ``.prj``, of further files that share the target's stem and belong to it. What the
            block writes under the stem of the path that it gets comes with the target, just before it; what it does
            not write was of the target's former content, and goes.

    Yields:
        A path in the target's folder with the target's suffix.

    Raises:
        OutputError: See `check_writable`.
    """
    for suffix in ("", *beside):
        check_writable(target.with_suffix(suffix) if suffix else target, overwrite=overwrite)
    with scratch_file(target) as partial:
        yield partial
        for suffix in beside:
            if partial.with_suffix(suffix).exists():
                partial.with_suffix(suffix).replace(target.with_suffix(suffix))
            else:
                target.with_suffix(suffix).unlink(missing_ok=True)
        partial.replace(target)


@contextmanager
def scratch_file(target: Path) -> Iterator[Path]:
    """Yield a path beside the target for intermediate data; the file, and all that begin with its stem, go afterwards.

    Args:
        target: The file that the intermediate data is for.

    Yields:
        A path in the target's folder with the target's suffix.
    """
    partial = _sibling(target)
    try:
        yield partial
    finally:
        for leftover in partial.parent.glob(f"{glob.escape(partial.stem)}*"):
            leftover.unlink()


def remove_leftovers(target: Path) -> None:
    """Remove what a process that was killed while it wrote a file has left beside it.

    Args:
        target: A file that no other process is writing.
    """
    stem, suffix = glob.escape(target.stem), glob.escape(target.suffix)
    for partial in list(target.parent.glob(f".{stem}.{'[0-9a-f]' * 8}.partial{suffix}*")):
        own = f"{partial.name.rpartition('.partial')[0]}.partial"
        for leftover in target.parent.glob(f"{glob.escape(own)}*"):
            leftover.unlink()


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.stem}.{secrets.token_hex(4)}.partial{target.suffix}")
