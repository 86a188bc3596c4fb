"""From a probability raster to footprint files.

`vectorize` turns the raster into a table of polygons, `write_footprints` saves a stream of such tables in the format
that the target's extension names.
"""

from buildseg.footprints.merge import merge_footprints
from buildseg.footprints.read import FootprintFile
from buildseg.footprints.shaping import ShapeOptions
from buildseg.footprints.split import SplitOptions
from buildseg.footprints.stream import FootprintStream, InMemory
from buildseg.footprints.style import write_raster_style
from buildseg.footprints.vectorize import VectorizeOptions, vectorize, vectorized
from buildseg.footprints.write import check_format, files_of, write_footprints

__all__ = [
    "FootprintFile",
    "FootprintStream",
    "InMemory",
    "ShapeOptions",
    "SplitOptions",
    "VectorizeOptions",
    "check_format",
    "files_of",
    "merge_footprints",
    "vectorize",
    "vectorized",
    "write_footprints",
    "write_raster_style",
]
