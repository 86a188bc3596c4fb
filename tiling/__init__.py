"""Windows over rasters of any size: grids, blending, reading, writing. NumPy and rasterio only."""

from tiling.chips import Chip, cut_chip, rasterize_labels, write_chip, write_label
from tiling.grid import Block, Grid, Window, cut_blocks, overlap_pixels
from tiling.raster import RasterProfile
from tiling.scene import Scene, SceneOptions
from tiling.weights import BlendWeights

__all__ = [
    "BlendWeights",
    "Block",
    "Chip",
    "Grid",
    "RasterProfile",
    "Scene",
    "SceneOptions",
    "Window",
    "cut_blocks",
    "cut_chip",
    "overlap_pixels",
    "rasterize_labels",
    "write_chip",
    "write_label",
]
