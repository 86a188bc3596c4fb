"""Tiles: folders of chips and masks to train on, as `buildseg tile` or anybody else made them."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

logger = logging.getLogger(__name__)

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
                f"{other.folders[0]} holds {', '.join(other.bands)} as {other.dtype}, but {first.folders[0]} "
                f"{', '.join(first.bands)} as {first.dtype}; train on tiles of one kind"
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
        Pixels of shape (bands, rows, cols) without alpha, and validity of shape (rows, cols).

    Raises:
        TilesError: The file cannot be read.
    """
    with _opened(path) as dataset:
        pixels = dataset.read(_colours(dataset))
        return pixels, dataset.dataset_mask() > 0


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
    if (folder / "train").is_dir():
        train, val = (_pairs(folder / split) if (folder / split).is_dir() else [] for split in SPLITS)
    else:
        chips = _pairs(folder)
        kept = len(chips) - max(1, round(len(chips) * val_fraction))
        train, val = chips[:kept], chips[kept:]
    if not train or not val:
        raise TilesError(
            f"{folder} has {len(train)} chips to train and {len(val)} to validate on, and needs one of each at least; "
            "tile more scenes, or smaller windows"
        )
    bands, dtype = _common_kind([*train, *val])
    return Tiles((folder,), tuple(train), tuple(val), bands, dtype, _statistics(folder, train))


def _pairs(folder: Path) -> list[ChipFile]:
    images, masks = (_by_stem(folder / name) for name in ("images", "masks"))
    if not images:
        raise TilesError(f"{folder} holds no images; expected GeoTIFF, PNG or JPEG files in {folder / 'images'}")
    if missing := sorted(images.keys() - masks.keys()):
        raise TilesError(
            f"{images[missing[0]]} has no mask of the same name in {folder / 'masks'} ({len(missing)} without one)"
        )
    values: set[int] = set()
    chips = []
    for stem in sorted(images):
        chips.append(_pair(images[stem], masks[stem], values))
    return chips


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise TilesError(f"{folder} does not exist; tiles are a folder with images/ and masks/ in it")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES}


def _pair(image: Path, mask: Path, seen: set[int]) -> ChipFile:
    with _opened(image) as pixels, _opened(mask) as label:
        if pixels.shape != label.shape:
            raise TilesError(
                f"{image} is {pixels.width} x {pixels.height} pixels but {mask} is {label.width} x {label.height}; "
                "image and mask must have the same size"
            )
        _check_mask(mask, label.read(), seen)
        return ChipFile(image, mask, _gsd(pixels) or _gsd(label), pixels.shape)


def _check_mask(path: Path, bands: NDArray[np.generic], seen: set[int]) -> None:
    if (bands != bands[0]).any():
        raise TilesError(f"{path} is a colour picture; a mask has one band, 0 background and 255 (or 1) building")
    seen.update(int(value) for value in np.unique(bands[0]))
    if not (seen <= {0, 1} or seen <= {0, 255}):
        raise TilesError(
            f"{path}: masks must hold 0 for background and 255 (or 1) for building, but hold {sorted(seen)[:6]}"
        )


def _gsd(dataset: DatasetReader) -> float | None:
    if not dataset.crs or dataset.transform.is_identity:
        return None
    try:
        across, down = ground_sample_distance(dataset.crs, dataset.transform, dataset.width, dataset.height)
    except SceneError:
        return None
    return float(np.sqrt(across * down))


def _common_kind(chips: Sequence[ChipFile]) -> tuple[tuple[str, ...], str]:
    kinds: dict[tuple[tuple[str, ...], str], Path] = {}
    for chip in chips:
        with _opened(chip.image) as dataset:
            numbers = _colours(dataset)
            names = tuple(band_name(dataset.colorinterp, number) for number in numbers)
            kinds.setdefault((names, dataset.dtypes[0]), chip.image)
    if len(kinds) > 1:
        (first, one), (second, other) = list(kinds.items())[:2]
        raise TilesError(
            f"{one} holds {', '.join(first[0])} as {first[1]}, but {other} {', '.join(second[0])} as {second[1]}; "
            "all images must be of one kind"
        )
    return next(iter(kinds))


def _statistics(folder: Path, train: Sequence[ChipFile]) -> BandStatistics:
    record = folder / RECORD
    if record.exists():
        return BandStatistics(**_read_record(record)["statistics"])
    step = max(1, len(train) // _STATISTICS_IMAGES)
    return BandStatistics.merged([BandStatistics.of(*read_image(chip.image)) for chip in train[::step]])


def _read_record(record: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        version = content["version"]
        content["statistics"]["mean"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise TilesError(f"{record} is damaged; make the tiles again with buildseg tile") from error
    if version > RECORD_VERSION:
        raise TilesError(f"{record} comes from a newer buildseg (version {version}); update buildseg")
    return content


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
