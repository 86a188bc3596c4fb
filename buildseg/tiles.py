"""Tiles: folders of chips and masks to train on, as `buildseg tile` or anybody else made them."""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader

from buildseg.statistics import BandStatistics
from tiling.bands import band_name
from tiling.errors import SceneError, TilesError
from tiling.georeference import ground_sample_distance

RECORD = "tiles.json"
INDEX = "index.geojson"
RECORD_VERSION = 1
SPLITS = ("train", "val")
_SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg"}
_STATISTICS_IMAGES = 512


@dataclass(frozen=True, slots=True)
class ChipFile:
    """An image on disk with its mask.

    Attributes:
        image: File of the pixels.
        mask: File of the label.
        gsd: Metres per pixel, None if neither file is georeferenced.
        shape: Rows and columns.
    """

    image: Path
    mask: Path
    gsd: float | None
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tiles:
    """What training needs to know of one or more tiles folders.

    Attributes:
        folders: Where they lie.
        train: Chips to learn from, at least one.
        val: Chips to choose the best model by, at least one.
        bands: A name for each band.
        dtype: NumPy name of the pixels' type.
        statistics: Of the training pixels, in the pixels' own unit.
    """

    folders: tuple[Path, ...]
    train: tuple[ChipFile, ...]
    val: tuple[ChipFile, ...]
    bands: tuple[str, ...]
    dtype: str
    statistics: BandStatistics

    @property
    def gsd(self) -> float | None:
        """Median metres per pixel of the training chips, None if no chip knows."""
        known = [chip.gsd for chip in self.train if chip.gsd is not None]
        return float(np.median(known)) if known else None


_Kind = tuple[tuple[str, ...], str]
"""Names of the bands and type of the pixels."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A chip with the kind of its image and, where they were wanted, the image's statistics."""

    chip: ChipFile
    kind: _Kind
    statistics: BandStatistics | None


def open_tiles(folders: Sequence[Path], *, val_fraction: float = 0.1) -> Tiles:
    """Open tiles folders as one.

    A folder holds ``train/`` and ``val/``, each with ``images/`` and ``masks/``; or plainly ``images/`` and
    ``masks/``, of which the last ``val_fraction`` by name is kept for validation. Image and mask share their stem.

    Args:
        folders: At least one.
        val_fraction: Share of a plain folder kept for validation, above 0 and below 1.

    Raises:
        TilesError: A folder is missing, empty or unpaired, sizes differ, masks hold other values than 0 and 1 or 0 and
            255, or the folders disagree on bands or type.
    """
    opened = [_open_folder(folder, val_fraction) for folder in folders]
    first = opened[0]
    for other in opened[1:]:
        if (other.bands, other.dtype) != (first.bands, first.dtype):
            raise TilesError(
                f"{other.folders[0]} holds {_said((other.bands, other.dtype))}, but {first.folders[0]} "
                f"{_said((first.bands, first.dtype))}; train on tiles of one kind"
            )
    return Tiles(
        folders=tuple(folders),
        train=tuple(chip for tiles in opened for chip in tiles.train),
        val=tuple(chip for tiles in opened for chip in tiles.val),
        bands=first.bands,
        dtype=first.dtype,
        statistics=BandStatistics.merged([tiles.statistics for tiles in opened]),
    )


def read_image(path: Path) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Read an image of a chip.

    Returns:
        Pixels of shape (bands, rows, cols) without alpha, 0 where no number stood, and validity of shape (rows, cols):
        False on nodata, transparent or masked pixels.

    Raises:
        TilesError: The file cannot be read.
    """
    with _opened(path) as dataset:
        return _read(dataset)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a label mask.

    Returns:
        True on buildings, shape (rows, cols).

    Raises:
        TilesError: The file cannot be read.
    """
    with _opened(path) as dataset:
        return np.asarray(dataset.read(1) > 0)


def _open_folder(folder: Path, val_fraction: float) -> Tiles:
    if not folder.is_dir():
        raise TilesError(
            f"{folder} is not a folder; make tiles with: buildseg tile SCENE --labels LABELS --out {folder}"
        )
    pairs = _split_pairs(folder, val_fraction)
    if not all(pairs):
        raise TilesError(
            f"{folder} has {len(pairs[0])} chips to train and {len(pairs[1])} to validate on, and needs one of each at "
            "least; tile more scenes, or smaller windows"
        )
    recorded = _recorded(folder)
    step = max(1, len(pairs[0]) // _STATISTICS_IMAGES)
    with rasterio.Env():
        train = [_look(*pair, measure=recorded is None and index % step == 0) for index, pair in enumerate(pairs[0])]
        val = [_look(*pair, measure=False) for pair in pairs[1]]
    names, dtype = _common_kind([*train, *val])
    bands, statistics = recorded or (
        names,
        BandStatistics.merged([look.statistics for look in train if look.statistics]),
    )
    if {len(bands), len(statistics.mean), len(statistics.std)} != {len(names)}:
        raise TilesError(f"{folder / RECORD} is not of these images, which have {len(names)} bands; tile again")
    return Tiles(
        (folder,), tuple(look.chip for look in train), tuple(look.chip for look in val), bands, dtype, statistics
    )


def _split_pairs(folder: Path, val_fraction: float) -> tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]]:
    """Find image and mask of the chips to train on and of those to validate on."""
    if (folder / "train").is_dir():
        train, val = (_pairs(folder / split) if (folder / split).is_dir() else [] for split in SPLITS)
        return train, val
    chips = _pairs(folder)
    kept = len(chips) - max(1, round(len(chips) * val_fraction))
    return chips[:kept], chips[kept:]


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    images, masks = (_by_stem(folder / name) for name in ("images", "masks"))
    if not images:
        raise TilesError(f"{folder} holds no images; expected GeoTIFF, PNG or JPEG files in {folder / 'images'}")
    if missing := sorted(images.keys() - masks.keys()):
        raise TilesError(
            f"{images[missing[0]]} has no mask of the same name in {folder / 'masks'} ({len(missing)} without one); "
            "add it, or take the image out"
        )
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise TilesError(f"{folder} does not exist; tiles are a folder with images/ and masks/ in it")
    files = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return {path.stem: path for path in files if path.suffix.lower() in _SUFFIXES}


def _look(image: Path, mask: Path, *, measure: bool) -> _Look:
    """Open a chip's files once: check them against each other and note what the image is."""
    with _opened(image) as pixels, _opened(mask) as label:
        if pixels.shape != label.shape:
            raise TilesError(
                f"{image} is {pixels.width} x {pixels.height} pixels but {mask} is {label.width} x {label.height}; "
                "image and mask must have the same size"
            )
        _check_mask(mask, label.read(_colours(label)))
        chip = ChipFile(image, mask, _gsd(pixels) or _gsd(label), pixels.shape)
        return _Look(chip, _kind(image, pixels), BandStatistics.of(*_read(pixels)) if measure else None)


def _check_mask(path: Path, bands: NDArray[np.generic]) -> None:
    if len(bands) > 1 and (bands != bands[0]).any():
        raise TilesError(f"{path} is a colour picture; a mask has one band, 0 background and 255 (or 1) building")
    values = np.unique(bands[0])
    if not (np.isin(values, (0, 1)).all() or np.isin(values, (0, 255)).all()):
        raise TilesError(
            f"{path} holds {', '.join(map(str, values[:6]))}; masks must hold 0 for background and 255 (or 1) for "
            "building, and be PNG or TIFF, because JPEG blurs them"
        )


def _kind(path: Path, dataset: DatasetReader) -> _Kind:
    if ColorInterp.palette in dataset.colorinterp:
        raise TilesError(f"{path} holds a colour table; expand it first, e.g. with gdal_translate -expand rgb")
    if np.dtype(dataset.dtypes[0]).kind not in "uif":
        raise TilesError(f"{path}: pixels of type {dataset.dtypes[0]} are no image; convert it to uint8 or uint16")
    return tuple(band_name(dataset.colorinterp, number) for number in _colours(dataset)), dataset.dtypes[0]


def _read(dataset: DatasetReader) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    pixels, valid = dataset.read(_colours(dataset)), dataset.dataset_mask() > 0
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


def _common_kind(looks: Sequence[_Look]) -> _Kind:
    first = looks[0]
    for other in looks:
        if other.kind != first.kind:
            raise TilesError(
                f"{first.chip.image} holds {_said(first.kind)}, but {other.chip.image} {_said(other.kind)}; "
                "all images must be of one kind"
            )
    return first.kind


def _said(kind: _Kind) -> str:
    return f"{', '.join(kind[0])} as {kind[1]}"


def _recorded(folder: Path) -> tuple[tuple[str, ...], BandStatistics] | None:
    """Read what `buildseg tile` knew: the bands by their names in the scene, which the chips' files cannot tell."""
    record = folder / RECORD
    if not record.exists():
        return None
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        newer = int(content["version"]) > RECORD_VERSION
        known = None if newer else (tuple(map(str, content["bands"])), BandStatistics(**content["statistics"]))
    except (ValueError, KeyError, TypeError) as error:
        raise TilesError(f"{record} is damaged; make the tiles again with buildseg tile") from error
    if known is None:
        raise TilesError(f"{record} comes from a newer buildseg (version {content['version']}); update buildseg")
    return known


def _colours(dataset: DatasetReader) -> list[int]:
    return [number for number, colour in enumerate(dataset.colorinterp, 1) if colour != ColorInterp.alpha]


@contextmanager
def _opened(path: Path) -> Iterator[DatasetReader]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
        with dataset:
            yield dataset
    except RasterioIOError as error:
        raise TilesError(f"{path} cannot be read as an image ({error}); copy it again or leave it out") from error
