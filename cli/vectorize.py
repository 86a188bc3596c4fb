"""`buildseg vectorize`: from a saved probability raster to footprints, without the network."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Core,
    MaxDeviation,
    MinArea,
    MinHole,
    OutputCrs,
    Overwrite,
    Regularize,
    Simplify,
    Split,
    Threshold,
)
from .progress import show_progress


def vectorize(
    raster: Annotated[Path, typer.Argument(metavar="PROBABILITY", help="Raster that predict --probability kept.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Footprints: .geojson, .geojsonl, .gpkg, .fgb, .parquet, .shp or .pmtiles."),
    ],
    threshold: Threshold = 0.5,
    min_area: MinArea = 5.0,
    core: Core = None,
    min_hole: MinHole = 0.0,
    simplify: Simplify = None,
    regularize: Regularize = False,
    max_deviation: MaxDeviation = None,
    split: Split = "auto",
    crs: OutputCrs = "wgs84",
    overwrite: Overwrite = False,
) -> None:
    """Draw footprints again from a probability raster, with another threshold or format.

    Example: buildseg vectorize probability.tif --out buildings.gpkg --threshold 0.6
    """
    from buildseg.footprints import (
        ShapeOptions,
        SplitOptions,
        VectorizeOptions,
        check_format,
        files_of,
        vectorized,
        write_footprints,
    )
    from tiling.output import check_writable

    check_format(out, crs)
    for file in files_of(out):
        check_writable(file, overwrite=overwrite)
    shape = ShapeOptions(simplify, min_hole, regularize, max_deviation, SplitOptions(split))
    options = VectorizeOptions(threshold, core, min_area, shape, crs)
    with vectorized(raster, options, track=show_progress) as footprints:
        write_footprints(footprints, out, provenance=footprints.provenance, overwrite=overwrite)
    count = footprints.count
    typer.echo(f"{out}: {count} building{'' if count == 1 else 's'} at threshold {threshold:g}")
