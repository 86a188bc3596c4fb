"""Cuts windows of scenes and their labels into small files for training."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.features import is_valid_geom, rasterize

from tiling.grid import Window
from tiling.raster import check_end, writing_to
from tiling.scene import Scene

BACKGROUND = 0
BUILDING = 255


@dataclass(frozen=True, slots=True, eq=False)
class Chip:
    """A window of a scene with its label mask.

    Attributes:
        pixels: Shape (bands, rows, cols), in the scene's type.
        valid: Shape (rows, cols), False where the scene holds nothing.
        mask: Shape (rows, cols), uint8: `BACKGROUND` or `BUILDING`.
        crs: Coordinate reference system.
        transform: Geotransform.
        band_names: A name for each band.
    """

    pixels: NDArray[np.generic]
    valid: NDArray[np.bool_]
    mask: NDArray[np.uint8]
    crs: CRS
    transform: Affine
    band_names: tuple[str, ...]

    @property
    def building_share(self) -> float:
        """Share of building among the valid pixels, 0..1; 0 if none is valid."""
        return float((self.mask[self.valid] == BUILDING).mean()) if self.valid.any() else 0.0


def cut_chip(scene: Scene, window: Window, shapes: Iterable[Any]) -> Chip:
    """Cut a window and rasterise its labels; a window beyond the scene's edge is cut off there.

    Args:
        scene: What to cut from.
        window: Where.
        shapes: Building polygons in the scene's CRS, as anything with ``__geo_interface__``. A pixel is building
            if its centre lies in one.
    """
    rows = min(window.size, scene.height - window.row)
    cols = min(window.size, scene.width - window.col)
    pixels, valid = scene.read_region(window.row, window.col, rows, cols)
    transform = scene.transform @ Affine.translation(window.col, window.row)
    return Chip(
        pixels=pixels,
        valid=valid,
        mask=rasterize_labels(shapes, (rows, cols), transform),
        crs=scene.crs,
        transform=transform,
        band_names=scene.band_names,
    )


def rasterize_labels(shapes: Iterable[Any], shape: tuple[int, int], transform: Affine) -> NDArray[np.uint8]:
    """Draw building polygons into a mask.

    Args:
        shapes: Polygons in the mask's CRS; empty ones are passed over.
        shape: Rows and columns of the mask.
        transform: Its geotransform; it may be rotated.

    Returns:
        `BUILDING` where a pixel's centre lies in a polygon, else `BACKGROUND`.
    """
    drawn = [geometry for geometry in shapes if is_valid_geom(geometry)]
    if not drawn:
        return np.full(shape, BACKGROUND, np.uint8)
    mask: NDArray[np.uint8] = rasterize(
        ((geometry, BUILDING) for geometry in drawn),
        out_shape=shape,
        transform=transform,
        fill=BACKGROUND,
        dtype="uint8",
    )
    return mask


def write_chip(chip: Chip, image: Path, mask: Path) -> None:
    """Write a chip as two GeoTIFFs; invalid pixels become an internal mask of the image.

    Args:
        chip: What to write.
        image: File for the pixels.
        mask: File for the label.

    Raises:
        OutputError: A file cannot be written, or the disk is full.
    """
    bands, height, width = chip.pixels.shape
    georeference = {"height": height, "width": width, "crs": chip.crs, "transform": chip.transform}
    options = {"driver": "GTiff", "compress": "deflate", **georeference}
    predictor = 3 if chip.pixels.dtype.kind == "f" else 2
    with (
        writing_to(image),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            image,
            "w",
            count=bands,
            dtype=chip.pixels.dtype,
            predictor=predictor,
            interleave="pixel",
            **options,
        ) as dataset,
    ):
        dataset.colorinterp = [_colour(name, index) for index, name in enumerate(chip.band_names)]
        dataset.descriptions = chip.band_names
        dataset.write(chip.pixels)
        if not chip.valid.all():
            dataset.write_mask(chip.valid)
    with writing_to(image):
        check_end(image)
    write_label(chip.mask, chip, mask)


def write_label(label: NDArray[np.uint8], chip: Chip, path: Path) -> None:
    """Write a label of a chip as a GeoTIFF of one band.

    Args:
        label: Shape (rows, cols).
        chip: What it is the label of.
        path: The file to write.

    Raises:
        OutputError: The file cannot be written, or the disk is full.
    """
    height, width = label.shape
    options = {"driver": "GTiff", "compress": "deflate", "crs": chip.crs, "transform": chip.transform}
    with writing_to(path):
        with rasterio.open(path, "w", height=height, width=width, count=1, dtype="uint8", **options) as dataset:
            dataset.write(label, 1)
        check_end(path)


def _colour(name: str, index: int) -> ColorInterp:
    named = ColorInterp.__members__.get(name)
    return named if named is not None else (ColorInterp.gray if index == 0 else ColorInterp.undefined)
