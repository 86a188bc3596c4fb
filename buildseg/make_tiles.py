"""Cuts labelled scenes into a tiles folder to train on."""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import geopandas
import shapely
from rasterio.warp import transform_geom

from buildseg import __version__
from buildseg.boundaries import draw_boundaries
from buildseg.labels import Labels
from buildseg.progress import Track, silent
from buildseg.spatial_split import split_by_blocks
from buildseg.statistics import BandStatistics
from buildseg.tiles import BOUNDARIES, IMAGES, INDEX, MASKS, RECORD, RECORD_VERSION
from tiling import Chip, Grid, Scene, SceneOptions, Window, cut_chip, overlap_pixels, write_chip, write_label
from tiling.errors import OptionError, OutputError, SceneError, TilesError
from tiling.georeference import WGS84


@dataclass(frozen=True, slots=True)
class TileOptions:
    """How scenes are cut.

    Attributes:
        size: Side of a chip in pixels, at least 32.
        overlap: Fraction of a chip that neighbours share, 0 up to 1.
        min_building: Chips with a smaller share of building, 0..1, are left out.
        val_fraction: Share of the chips to validate on, above 0 and below 1.
        gsd: Metres per pixel to resample to; None keeps each scene's own.
        bands: Band names or numbers; None takes all but alpha.
        seed: Decides which blocks are for validation.
        boundaries: Whether to write, beside the masks, where buildings end and touch.
        boundary_width: Metres on each side of a wall that count as boundary, above 0; at least a pixel is drawn.

    Raises:
        OptionError: A value is out of range.
    """

    size: int = 512
    overlap: float = 0.0
    min_building: float = 0.0
    val_fraction: float = 0.1
    gsd: float | None = None
    bands: tuple[int | str, ...] | None = None
    seed: int = 0
    boundaries: bool = False
    boundary_width: float = 0.5

    @property
    def kinds(self) -> tuple[str, ...]:
        """The folders that hold a file for every chip."""
        return (IMAGES, MASKS, BOUNDARIES) if self.boundaries else (IMAGES, MASKS)

    def __post_init__(self) -> None:
        if self.size < 32:
            raise OptionError(f"--size {self.size} is too small to learn from; use 32 or more")
        overlap_pixels(self.size, self.overlap)
        if not 0 <= self.min_building <= 1:
            raise OptionError(f"--min-building {self.min_building:g} is out of range; give a share from 0 to 1")
        if not 0 < self.val_fraction < 1:
            raise OptionError(f"--val-fraction {self.val_fraction:g} is out of range; give a share such as 0.1")
        if self.gsd is not None and not 0 < self.gsd < math.inf:
            raise OptionError(f"--gsd {self.gsd:g} is out of range; give metres per pixel, such as 0.3")
        if self.seed < 0:
            raise OptionError(f"--seed {self.seed} is out of range; give 0 or more")
        if not 0 < self.boundary_width < math.inf:
            raise OptionError(
                f"--boundary-width {self.boundary_width:g} is out of range; give metres above 0, such as 0.5"
            )


@dataclass(frozen=True, slots=True)
class TilesSummary:
    """What was made.

    Attributes:
        train: Chips to train on.
        val: Chips to validate on.
        dropped: Chips left out because they reach into a validation block.
        building_share: Building among the valid pixels of the kept chips, 0..1.
        gsd: Metres per pixel of the first scene as tiled.
    """

    train: int
    val: int
    dropped: int
    building_share: float
    gsd: float


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """A chip written to the staging folder, before it is known what it is for."""

    name: str
    source: str
    outline: shapely.Polygon
    building_share: float
    statistics: BandStatistics


def make_tiles(
    paths: Sequence[str | Path],
    labels: Labels,
    out: Path,
    options: TileOptions | None = None,
    *,
    overwrite: bool = False,
    track: Track = silent,
) -> TilesSummary:
    """Cut scenes and their labels into chips, split by place into train and val.

    Args:
        paths: Scenes of one kind (bands and type): paths, URLs or GDAL dataset names.
        labels: Building polygons that cover them.
        out: Folder to make. It appears only when whole.
        options: How to cut.
        overwrite: Whether a tiles folder of that name may be replaced.
        track: Shows progress.

    Raises:
        SceneError: A scene cannot be read, or scenes are of different kinds.
        LabelError: A scene lies outside its labels.
        TilesError: Nothing is left to train or validate on.
        OutputError: The folder exists or cannot be written.
    """
    options = options or TileOptions()
    with ExitStack() as stack:
        view = SceneOptions(bands=options.bands, gsd=options.gsd)
        scenes = [stack.enter_context(Scene(path, view)) for path in paths]
        _check_kinds(scenes)
        nearby = [labels.around(scene) for scene in scenes]
        staging = stack.enter_context(_made_whole(out, overwrite=overwrite))
        for kind in options.kinds:
            (staging / kind).mkdir()
        cuts = list(_cut_all(scenes, nearby, staging, options, track))
        return _sort_into_splits(cuts, staging, scenes, labels, options)


def _cut_all(
    scenes: Sequence[Scene],
    nearby: Sequence[geopandas.GeoSeries],
    staging: Path,
    options: TileOptions,
    track: Track,
) -> Iterator[_Cut]:
    overlap = overlap_pixels(options.size, options.overlap)
    grids = [Grid(scene.height, scene.width, options.size, overlap) for scene in scenes]
    work = (
        (index, scene, polygons, window)
        for index, (scene, polygons, grid) in enumerate(zip(scenes, nearby, grids, strict=True))
        for window in grid
    )
    for index, scene, polygons, window in track(work, "Tiling", sum(map(len, grids))):
        outline = _outline(scene, window)
        chip = cut_chip(scene, window, polygons.iloc[polygons.sindex.query(outline)])
        if not chip.valid.any() or chip.building_share < options.min_building:
            continue
        name = f"{index:03d}_{Path(scene.path).stem}_{window.row:06d}_{window.col:06d}.tif"
        write_chip(chip, staging / IMAGES / name, staging / MASKS / name)
        if options.boundaries:
            boundaries = draw_boundaries(chip, polygons, scene.gsd, options.boundary_width)
            write_label(boundaries, chip, staging / BOUNDARIES / name)
        yield _Cut(name, scene.path, _to_wgs84(outline, scene), chip.building_share, _statistics(chip))


def _sort_into_splits(
    cuts: Sequence[_Cut], staging: Path, scenes: Sequence[Scene], labels: Labels, options: TileOptions
) -> TilesSummary:
    if not cuts:
        raise TilesError("no chip is left: every window is nodata or below --min-building; lower --min-building")
    splits = split_by_blocks([cut.outline for cut in cuts], options.val_fraction, options.seed)
    if "train" not in splits:
        raise TilesError(
            f"{len(cuts)} chips that share their ground cannot be parted into some to train and some to validate on; "
            "use a smaller --size or --overlap, or tile more scenes"
        )
    for folder in ("train", "val"):
        for kind in options.kinds:
            (staging / folder / kind).mkdir(parents=True)
    for cut, split in zip(cuts, splits, strict=True):
        for kind in options.kinds:
            path = staging / kind / cut.name
            path.unlink() if split is None else path.rename(staging / split / kind / cut.name)
    for kind in options.kinds:
        (staging / kind).rmdir()
    kept = [(cut, split) for cut, split in zip(cuts, splits, strict=True) if split is not None]
    statistics = BandStatistics.merged([cut.statistics for cut, split in kept if split == "train"])
    _write_index(kept, staging / INDEX)
    summary = TilesSummary(
        train=splits.count("train"),
        val=splits.count("val"),
        dropped=splits.count(None),
        building_share=sum(cut.building_share * cut.statistics.count for cut, _ in kept)
        / sum(cut.statistics.count for cut, _ in kept),
        gsd=scenes[0].gsd[0],
    )
    _write_record(staging / RECORD, scenes, labels, options, summary, statistics)
    return summary


def _write_record(
    path: Path,
    scenes: Sequence[Scene],
    labels: Labels,
    options: TileOptions,
    summary: TilesSummary,
    statistics: BandStatistics,
) -> None:
    record = {
        "version": RECORD_VERSION,
        "made_by": f"buildseg {__version__}",
        "sources": [
            {
                "scene": scene.path,
                "crs": scene.crs.to_string(),
                "native_gsd": scene.native_gsd,
                "gsd": scene.gsd,
            }
            for scene in scenes
        ],
        "labels": {"path": str(labels.path), "layer": labels.layer, "where": labels.where},
        "bands": scenes[0].band_names,
        "dtype": scenes[0].dtype,
        "statistics": asdict(statistics),
        "options": asdict(options),
        "split": {"method": "spatial blocks", **asdict(summary)},
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _write_index(kept: Sequence[tuple[_Cut, str]], path: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {
            "image": [f"{split}/images/{cut.name}" for cut, split in kept],
            "mask": [f"{split}/masks/{cut.name}" for cut, split in kept],
            "split": [split for _, split in kept],
            "scene": [cut.source for cut, _ in kept],
            "building_share": [round(cut.building_share, 4) for cut, _ in kept],
        },
        geometry=[cut.outline for cut, _ in kept],
        crs="EPSG:4326",
    )
    frame.to_file(path, driver="GeoJSON", engine="pyogrio", RFC7946="YES")


def _check_kinds(scenes: Sequence[Scene]) -> None:
    first = scenes[0]
    for scene in scenes[1:]:
        if (scene.band_names, scene.dtype) != (first.band_names, first.dtype):
            raise SceneError(
                f"{scene.path} holds {', '.join(scene.band_names)} as {scene.dtype}, but {first.path} "
                f"{', '.join(first.band_names)} as {first.dtype}; tile scenes of one kind, or choose --bands"
            )


def _outline(scene: Scene, window: Window) -> shapely.Polygon:
    bottom = min(window.row + window.size, scene.height)
    right = min(window.col + window.size, scene.width)
    corners = [(window.col, window.row), (right, window.row), (right, bottom), (window.col, bottom)]
    return shapely.Polygon([scene.transform @ corner for corner in corners])


def _to_wgs84(outline: shapely.Polygon, scene: Scene) -> shapely.Polygon:
    return shapely.geometry.shape(transform_geom(scene.crs, WGS84, shapely.geometry.mapping(outline)))


def _statistics(chip: Chip) -> BandStatistics:
    return BandStatistics.of(chip.pixels, chip.valid)


@contextmanager
def _made_whole(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder beside ``out`` that becomes ``out`` if the block succeeds and vanishes if not."""
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists already; add --overwrite to replace it, or choose another folder")
    if out.exists() and not (out / RECORD).is_file():
        raise OutputError(f"{out} is no folder that buildseg tile made, so it is not replaced; choose another name")
    staging = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
    except OSError as error:
        raise OutputError(f"{out} cannot be made ({error.strerror}): {out.parent} must be a writable folder") from error
    try:
        yield staging
        if out.exists():
            shutil.rmtree(out)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
