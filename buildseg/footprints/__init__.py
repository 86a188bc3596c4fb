"""From a probability raster to footprint files.

`vectorize` turns the raster into a table of polygons, `write_footprints` saves it in the format that the
target's extension names.
"""

from buildseg.footprints.merge import merge_footprints
from buildseg.footprints.shaping import ShapeOptions
from buildseg.footprints.vectorize import VectorizeOptions, vectorize, vectorized
from buildseg.footprints.write import check_format, write_footprints

__all__ = [
    "ShapeOptions",
    "VectorizeOptions",
    "check_format",
    "merge_footprints",
    "vectorize",
    "vectorized",
    "write_footprints",
]
