"""Draws docs/sample.jpg: a scene with footprints over it.

Run: python docs/draw_sample.py SCENE FOOTPRINTS PICTURE [--side PIXELS]
"""

import argparse
from pathlib import Path

import geopandas
import numpy as np
import rasterio
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure


def draw(scene: Path, footprints: Path, picture: Path, side: int) -> None:
    """Draw the upper right square of a scene."""
    with rasterio.open(scene) as dataset:
        window = rasterio.windows.Window(dataset.width - side, 0, side, side)
        pixels = dataset.read((1, 2, 3), window=window).transpose(1, 2, 0)
        buildings = geopandas.read_file(footprints).to_crs(dataset.crs)
        to_pixels = ~dataset.transform
    rings = [
        np.array([to_pixels @ point for point in ring.coords]) - (window.col_off, window.row_off)
        for polygon in buildings.geometry
        for ring in (polygon.exterior, *polygon.interiors)
    ]
    figure = Figure(figsize=(10, 10))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pixels, interpolation="lanczos")
    axes.add_collection(PolyCollection(rings, facecolor="none", edgecolor="#ffe400", linewidth=1.4))
    axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    axes.set_axis_off()
    figure.savefig(picture, dpi=100, pil_kwargs={"quality": 85})


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("footprints", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--side", type=int, default=1100)
    arguments = parser.parse_args()
    draw(arguments.scene, arguments.footprints, arguments.picture, arguments.side)


if __name__ == "__main__":
    main()
