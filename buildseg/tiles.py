"""Tiles: folders of chips and masks to train on, as `buildseg tile` or anybody else made them."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio

from buildseg.chip_file import ChipFile, Kind, Look, look_at
from buildseg.classes import BOUNDARY, IGNORE
from buildseg.statistics import BandStatistics
from tiling.errors import OptionError, TilesError

logger = logging.getLogger(__name__)

IMAGES, MASKS, BOUNDARIES = "images", "masks", "boundaries"
RECORD = "tiles.json"
INDEX = "index.geojson"
RECORD_VERSION = 1
SPLITS = ("train", "val")
_SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg"}
_STATISTICS_IMAGES = 512
_Paths = tuple[Path, Path, Path | None]


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
        boundaries: Whether every chip has a boundary label.
    """

    folders: tuple[Path, ...]
    train: tuple[ChipFile, ...]
    val: tuple[ChipFile, ...]
    bands: tuple[str, ...]
    dtype: str
    statistics: BandStatistics
    classes: int = 1
    boundaries: bool = False

    @property
    def gsd(self) -> float | None:
        """Median metres per pixel of the training chips, None if no chip knows."""
        known = [chip.gsd for chip in self.train if chip.gsd is not None]
        return float(np.median(known)) if known else None

    def without_boundaries(self) -> "Tiles":
        """Give the same tiles, their boundary labels left aside."""
        train, val = (tuple(replace(chip, boundary=None) for chip in chips) for chips in (self.train, self.val))
        return replace(self, train=train, val=val, boundaries=False)


def open_tiles(folders: Sequence[Path], *, classes: int = 1, val_fraction: float = 0.1) -> Tiles:
    """Open tiles folders as one.

    A folder holds ``train/`` and ``val/``, each with ``images/`` and ``masks/``; or plainly ``images/`` and
    ``masks/``, of which the last ``val_fraction`` by name is kept for validation. Image and mask share their stem.
    Where ``boundaries/`` stands beside them, it holds a boundary label of the same stem for each: 1 where a building
    ends or touches another, 0 elsewhere, 255 without a label.

    Args:
        folders: At least one.
        classes: 1 for masks of building (1, or 255) or not (0). From 2 on, masks number the classes from 0, and 255
            is a pixel without a label.
        val_fraction: Share of a plain folder kept for validation, above 0 and below 1.

    Raises:
        OptionError: There are less than 1 or more than 255 classes.
        TilesError: A folder is missing, empty or unpaired, sizes differ, masks hold other values than the classes' or
            boundaries others than theirs, or the folders disagree on bands or type.
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
    bare = [str(tiles.folders[0]) for tiles in opened if not tiles.boundaries]
    if bare and len(bare) < len(opened):
        logger.warning("%s: no %s/ in it, so those of the other tiles are not used", ", ".join(bare), BOUNDARIES)
    tiles = Tiles(
        folders=tuple(folders),
        train=tuple(chip for tiles in opened for chip in tiles.train),
        val=tuple(chip for tiles in opened for chip in tiles.val),
        bands=first.bands,
        dtype=first.dtype,
        statistics=BandStatistics.merged([tiles.statistics for tiles in opened]),
        classes=classes,
        boundaries=not bare,
    )
    return tiles.without_boundaries() if bare else tiles


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
    elif not any(look.values - {0} for look in train):
        logger.warning("%s: no building in any of %d training masks; do labels and scene meet?", folder, len(train))
    boundaries = train[0].chip.boundary is not None
    if boundaries:
        _check_boundaries(folder, train)
    names, dtype = _common_kind([*train, *val])
    bands, statistics = recorded or (
        names,
        BandStatistics.merged([look.statistics for look in train if look.statistics]),
    )
    if {len(bands), len(statistics.mean), len(statistics.std)} != {len(names)}:
        raise TilesError(f"{folder / RECORD} is not of these images, which have {len(names)} bands; tile again")
    chips = (tuple(look.chip for look in train), tuple(look.chip for look in val))
    return Tiles((folder,), *chips, bands, dtype, statistics, classes, boundaries)


def _check_classes(folder: Path, values: frozenset[int], classes: int) -> None:
    absent = sorted(set(range(1, classes)) - values)
    if len(absent) == classes - 1:
        raise TilesError(
            f"{folder}: no mask to train on holds a class from 1 to {classes - 1}, and with --classes {classes} 255 "
            "stands for no label; masks that buildseg tile made tell building or not: leave out --classes"
        )
    if absent:
        logger.warning("%s: no mask to train on holds class %s", folder, ", ".join(map(str, absent)))


def _check_boundaries(folder: Path, looks: Sequence[Look]) -> None:
    if not any(BOUNDARY in look.boundary_values for look in looks):
        raise TilesError(
            f"{folder}: no label to train on in {BOUNDARIES}/ holds a {BOUNDARY}, which stands for boundary (255 for "
            f"no label); make the tiles again with buildseg tile --boundaries, or take {BOUNDARIES}/ away"
        )


def _split_pairs(folder: Path, val_fraction: float) -> tuple[list[_Paths], list[_Paths]]:
    """Find the files of the chips to train on and of those to validate on."""
    if (folder / "train").is_dir():
        there = [folder / split for split in SPLITS if (folder / split).is_dir()]
        labelled = any((split / BOUNDARIES).is_dir() for split in there)
        train, val = (_pairs(folder / split, labelled) if folder / split in there else [] for split in SPLITS)
        return train, val
    chips = _pairs(folder, (folder / BOUNDARIES).is_dir())
    kept = len(chips) - max(1, round(len(chips) * val_fraction))
    return chips[:kept], chips[kept:]


def _pairs(folder: Path, boundaries: bool) -> list[_Paths]:
    images, masks = (_by_stem(folder / name) for name in (IMAGES, MASKS))
    if not images:
        raise TilesError(f"{folder} holds no images; expected GeoTIFF, PNG or JPEG files in {folder / IMAGES}")
    _check_paired(images, masks, "mask", folder / MASKS)
    labels = _by_stem(folder / BOUNDARIES) if boundaries else {}
    if boundaries:
        _check_paired(images, labels, "boundary label", folder / BOUNDARIES)
    return [(images[stem], masks[stem], labels.get(stem)) for stem in sorted(images)]


def _check_paired(images: Mapping[str, Path], others: Mapping[str, Path], kind: str, folder: Path) -> None:
    if missing := sorted(images.keys() - others.keys()):
        raise TilesError(
            f"{images[missing[0]]} has no {kind} of the same name in {folder} ({len(missing)} without one); "
            "add it, or take the image out"
        )


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
