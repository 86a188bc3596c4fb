"""Tiles: folders of chips and masks to train on, as `buildseg tile` or anybody else made them."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

from buildseg.chip_file import ChipFile, Kind, Look, look_at
from buildseg.classes import IGNORE
from buildseg.statistics import BandStatistics
from tiling.errors import OptionError, TilesError

logger = logging.getLogger(__name__)

RECORD = "tiles.json"
INDEX = "index.geojson"
RECORD_VERSION = 1
SPLITS = ("train", "val")
_SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg"}
_STATISTICS_IMAGES = 512


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
        classes: Classes that the masks tell apart; 1 for building or not.
    """

    folders: tuple[Path, ...]
    train: tuple[ChipFile, ...]
    val: tuple[ChipFile, ...]
    bands: tuple[str, ...]
    dtype: str
    statistics: BandStatistics
    classes: int = 1

    @property
    def gsd(self) -> float | None:
        """Median metres per pixel of the training chips, None if no chip knows."""
        known = [chip.gsd for chip in self.train if chip.gsd is not None]
        return float(np.median(known)) if known else None


def open_tiles(folders: Sequence[Path], *, classes: int = 1, val_fraction: float = 0.1) -> Tiles:
    """Open tiles folders as one.

    A folder holds ``train/`` and ``val/``, each with ``images/`` and ``masks/``; or plainly ``images/`` and
    ``masks/``, of which the last ``val_fraction`` by name is kept for validation. Image and mask share their stem.

    Args:
        folders: At least one.
        classes: 1 for masks of building (1, or 255) or not (0). From 2 on, masks number the classes from 0, and 255
            is a pixel without a label.
        val_fraction: Share of a plain folder kept for validation, above 0 and below 1.

    Raises:
        OptionError: There are less than 1 or more than 255 classes.
        TilesError: A folder is missing, empty or unpaired, sizes differ, masks hold other values than the classes', or
            the folders disagree on bands or type.
    """
    if not 1 <= classes <= IGNORE:
        raise OptionError(f"--classes {classes} is out of range; give 1 to {IGNORE}")
    opened = [_open_folder(folder, classes, val_fraction) for folder in folders]
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
        classes=classes,
    )


def _open_folder(folder: Path, classes: int, val_fraction: float) -> Tiles:
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
        train = [
            look_at(*pair, classes, measure=recorded is None and index % step == 0)
            for index, pair in enumerate(pairs[0])
        ]
        val = [look_at(*pair, classes, measure=False) for pair in pairs[1]]
    if classes > 1:
        _check_classes(folder, frozenset().union(*(look.values for look in train)), classes)
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


def _check_classes(folder: Path, values: frozenset[int], classes: int) -> None:
    absent = sorted(set(range(1, classes)) - values)
    if len(absent) == classes - 1:
        raise TilesError(
            f"{folder}: no mask to train on holds a class from 1 to {classes - 1}, and with --classes {classes} 255 "
            "stands for no label; masks that buildseg tile made tell building or not: leave out --classes"
        )
    if absent:
        logger.warning("%s: no mask to train on holds class %s", folder, ", ".join(map(str, absent)))


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


def _common_kind(looks: Sequence[Look]) -> Kind:
    first = looks[0]
    for other in looks:
        if other.kind != first.kind:
            raise TilesError(
                f"{first.chip.image} holds {_said(first.kind)}, but {other.chip.image} {_said(other.kind)}; "
                "all images must be of one kind"
            )
    return first.kind


def _said(kind: Kind) -> str:
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
