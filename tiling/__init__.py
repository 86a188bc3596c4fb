"""Windows over rasters of any size: grids, blending, reading, writing. NumPy and rasterio only."""

from tiling.chips import Chip, cut_chip, rasterize_labels, write_chip
from tiling.grid import Grid, Window, overlap_pixels
from tiling.raster import RasterProfile, RasterWriter, plain_raster, written_raster
from tiling.scene import Scene, SceneOptions
from tiling.stitch import Stitcher, Strip
from tiling.weights import BlendWeights

__all__ = [
    "BlendWeights",
    "Chip",
    "Grid",
    "RasterProfile",
    "RasterWriter",
    "Scene",
    "SceneOptions",
    "Stitcher",
    "Strip",
    "Window",
    "cut_chip",
    "overlap_pixels",
    "plain_raster",
    "rasterize_labels",
    "write_chip",
    "written_raster",
]
