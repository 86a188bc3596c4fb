"""Chips on disk: an image, its mask and perhaps its boundary label, each a file."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from buildseg.classes import BOUNDARY, IGNORE
from buildseg.statistics import BandStatistics
from tiling.bands import band_name
from tiling.errors import SceneError, TilesError
from tiling.georeference import ground_sample_distance


@dataclass(frozen=True, slots=True)
class ChipFile:
    """An image on disk with its mask.

    Attributes:
        image: File of the pixels.
        mask: File of the label.
        gsd: Metres per pixel, None if neither file is georeferenced.
        shape: Rows and columns.
        classes: Classes that the mask tells apart; 1 for building or not.
        boundary: File of the boundary label, None if there is none.
    """

    image: Path
    mask: Path
    gsd: float | None
    shape: tuple[int, int]
    classes: int = 1
    boundary: Path | None = None


Kind = tuple[tuple[str, ...], str]
"""Names of the bands and type of the pixels."""


@dataclass(frozen=True, slots=True)
class Look:
    """A chip with the kind of its image, the values of its labels and, where wanted, the image's statistics."""

    chip: ChipFile
    kind: Kind
    values: frozenset[int]
    statistics: BandStatistics | None
    boundary_values: frozenset[int] = frozenset()


def look_at(image: Path, mask: Path, boundary: Path | None, classes: int, *, measure: bool) -> Look:
    """Open a chip's files once: check them against each other and note what the image is.

    Args:
        image: File of the pixels.
        mask: File of the label.
        boundary: File of the boundary label, None if there is none.
        classes: Classes that the mask tells apart; 1 for building or not.
        measure: Whether the image's statistics are wanted.

    Raises:
        TilesError: A file cannot be read, the sizes differ, the mask holds other values than the classes', or the
            boundary label others than its own.
    """
    with _opened(image) as pixels:
        with _opened(mask) as label:  # closed before the image is read, whose faults it would take for its own
            _check_size(pixels, label, "mask")
            values = _check_mask(mask, label.read(_colours(label)), classes)
            gsd = _gsd(pixels) or _gsd(label)
        edges = _look_at_boundary(boundary, pixels) if boundary else frozenset()
        chip = ChipFile(image, mask, gsd, pixels.shape, classes, boundary)
        kind = _kind(image, pixels)
        return Look(chip, kind, values, BandStatistics.of(*_read(pixels)) if measure else None, edges)


def _check_size(image: DatasetReader, label: DatasetReader, kind: str) -> None:
    if image.shape != label.shape:
        raise TilesError(
            f"{image.name} is {image.width} x {image.height} pixels but {label.name} is {label.width} x "
            f"{label.height}; image and {kind} must have the same size"
        )


def _look_at_boundary(path: Path, image: DatasetReader) -> frozenset[int]:
    """Give the values of a boundary label if they are such."""
    with _opened(path) as label:
        _check_size(image, label, "boundary label")
        values = np.unique(label.read(_colours(label)))
    if not np.isin(values, (0, BOUNDARY, IGNORE)).all():
        raise TilesError(
            f"{path} holds {_listed(values)}; boundary labels must hold {BOUNDARY} for boundary, 0 elsewhere and "
            f"{IGNORE} for no label, and be PNG or TIFF, because JPEG blurs them"
        )
    return frozenset(values.tolist())


def _listed(values: NDArray[np.generic]) -> str:
    return f"{', '.join(map(str, values[:6]))}{', ...' if len(values) > 6 else ''}"


def _check_mask(path: Path, bands: NDArray[np.generic], classes: int) -> frozenset[int]:
    """Give the values of a mask if they are those of the classes."""
    if len(bands) > 1 and (bands != bands[0]).any():
        raise TilesError(f"{path} is a colour picture; a mask has one band, 0 background and 255 (or 1) building")
    values = np.unique(bands[0])
    held = f"{path} holds {_listed(values)}"
    if classes > 1:
        if not np.isin(values, (*range(classes), IGNORE)).all():
            raise TilesError(f"{held}; with --classes {classes} masks hold 0 to {classes - 1}, or 255 for no label")
    elif not (np.isin(values, (0, 1)).all() or np.isin(values, (0, 255)).all()):
        raise TilesError(
            f"{held}; masks must hold 0 for background and 255 (or 1) for building, and be PNG or TIFF, because JPEG "
            "blurs them; for masks of several classes say --classes"
        )
    return frozenset(values.tolist())


def _kind(path: Path, dataset: DatasetReader) -> Kind:
    if ColorInterp.palette in dataset.colorinterp:
        raise TilesError(f"{path} holds a colour table; expand it first, e.g. with gdal_translate -expand rgb")
    if np.dtype(dataset.dtypes[0]).kind not in "uif":
        raise TilesError(f"{path}: pixels of type {dataset.dtypes[0]} are no image; convert it to uint8 or uint16")
    return tuple(band_name(dataset.colorinterp, number) for number in _colours(dataset)), dataset.dtypes[0]


def _read(dataset: DatasetReader, part: Window | None = None) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    pixels, valid = dataset.read(_colours(dataset), window=part), dataset.dataset_mask(window=part) > 0
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels)
        return np.where(finite, pixels, 0), valid & finite.all(axis=0)
    return pixels, valid


def _gsd(dataset: DatasetReader) -> float | None:
    if not dataset.crs or dataset.transform.is_identity:
        return None
    try:
        across, down = ground_sample_distance(dataset.crs, dataset.transform, dataset.width, dataset.height)
    except SceneError:
        return None
    return float(np.sqrt(across * down))


def read_image(path: Path, part: Window | None = None) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Read an image of a chip.

    Args:
        path: The file.
        part: What of it, None for all.

    Returns:
        Pixels of shape (bands, rows, cols) without alpha, 0 where no number stood, and validity of shape (rows, cols):
        False on nodata, transparent or masked pixels.

    Raises:
        TilesError: The file cannot be read.
    """
    with _opened(path) as dataset:
        return _read(dataset, part)


def read_mask(path: Path, classes: int = 1, part: Window | None = None) -> NDArray[np.uint8]:
    """Read a label mask.

    Args:
        path: The file.
        classes: Classes that it tells apart.
        part: What of it, None for all.

    Returns:
        The class of each pixel, shape (rows, cols): for one class 1 on buildings and 0 elsewhere; for more their
        numbers, and `IGNORE` without a label.

    Raises:
        TilesError: The file cannot be read.
    """
    with _opened(path) as dataset:
        values = dataset.read(1, window=part)
    target: NDArray[np.uint8] = (values > 0 if classes == 1 else values).astype(np.uint8)
    return target


def read_boundary(path: Path, part: Window | None = None) -> NDArray[np.uint8]:
    """Read a boundary label.

    Args:
        path: The file.
        part: What of it, None for all.

    Returns:
        Shape (rows, cols): 1 on boundaries, 0 elsewhere, `IGNORE` without a label.

    Raises:
        TilesError: The file cannot be read.
    """
    with _opened(path) as dataset:
        label: NDArray[np.uint8] = dataset.read(1, window=part).astype(np.uint8)
    return label


def _colours(dataset: DatasetReader) -> list[int]:
    return [number for number, colour in enumerate(dataset.colorinterp, 1) if colour != ColorInterp.alpha]


@contextmanager
def _opened(path: Path) -> Iterator[DatasetReader]:
    try:
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):  # a folder of many chips is not listed for each
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                dataset = rasterio.open(path)
            with dataset:
                yield dataset
    except RasterioIOError as error:
        raise TilesError(f"{path} cannot be read as an image ({error}); copy it again or leave it out") from error
