"""Makes tiles of the Massachusetts Buildings Dataset: chips to train on, and whole scenes to score on.

    python benchmarks/massachusetts.py DATA --out tiles
    buildseg train --tiles tiles/chosen ...
    buildseg evaluate --model runs/.../last.safetensors --tiles tiles/chosen
    buildseg evaluate --model runs/.../last.safetensors --tiles tiles/test

DATA holds train/, val/ and test/, each with images/ and masks/ of the same names. In ``chosen`` the scenes of train are
cut into squares, those left out that hold more nodata than image, and the scenes of val are whole. In ``test`` the
scenes of test stand where validation chips stand, so that the same command scores on them; its train/ is the other's.
With ``--scored`` val and test are cut too, for networks that enlarge them, and nothing that holds a pixel is left out.
"""

import argparse
import shutil
from pathlib import Path

import rasterio
from affine import Affine
from rasterio.windows import Window

FOLDERS = ("images", "masks")


def main() -> None:
    """Make both tiles folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--size", type=int, default=256, help="side of a chip in pixels")
    parser.add_argument(
        "--scored", type=int, help="side of what val and test are cut into; whole unless said otherwise"
    )
    arguments = parser.parse_args()
    chosen, test = arguments.out / "chosen", arguments.out / "test"
    cut_all(arguments.data / "train", chosen / "train", arguments.size)
    for split, tiles in (("val", chosen), ("test", test)):
        if arguments.scored is None:
            shutil.copytree(arguments.data / split, tiles / "val")
        else:
            cut_all(arguments.data / split, tiles / "val", arguments.scored, least=0.0)
    (test / "train").symlink_to((chosen / "train").resolve())
    print(f"{len(list((chosen / 'train' / 'images').iterdir()))} chips to train on")


def cut_all(source: Path, out: Path, size: int, least: float = 0.5) -> None:
    """Cut all scenes of a split and their masks into chips.

    Args:
        source: Folder with images/ and masks/.
        out: Likewise; it is made.
        size: As for `cut`.
        least: As for `cut`.
    """
    for name in FOLDERS:
        (out / name).mkdir(parents=True)
    for image in sorted((source / "images").glob("*.tif")):
        cut(image, size, out, least)


def cut(image: Path, size: int, out: Path, least: float) -> None:
    """Cut a scene and its mask into chips.

    Args:
        image: The scene; its mask lies in masks/ beside its folder.
        size: Side of a chip; what is left at the right and at the bottom is smaller.
        out: Folder with images/ and masks/.
        least: Share of a chip that the image has to be more than.
    """
    mask = image.parent.parent / "masks" / image.name
    with rasterio.open(image) as pixels, rasterio.open(mask) as labels:
        places = [(row, col) for row in range(0, pixels.height, size) for col in range(0, pixels.width, size)]
        windows = [Window(col, row, size, size).crop(pixels.height, pixels.width) for row, col in places]
        kept = [window for window in windows if (pixels.dataset_mask(window=window) > 0).mean() > least]
        for window in kept:
            name = f"{image.stem}_{window.row_off}_{window.col_off}.tif"
            write(pixels, window, out / "images" / name)
            write(labels, window, out / "masks" / name)


def write(source: rasterio.DatasetReader, window: Window, target: Path) -> None:
    """Write a part of a raster, its nodata as an internal mask."""
    corner = Affine.translation(window.col_off, window.row_off)
    place = {"crs": source.crs, "transform": source.transform @ corner}
    shape = {"width": window.width, "height": window.height, "count": source.count, "dtype": source.dtypes[0]}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(target, "w", driver="GTiff", compress="deflate", **shape, **place) as chip,
    ):
        chip.write(source.read(window=window))
        chip.write_mask(source.dataset_mask(window=window))


if __name__ == "__main__":
    main()
