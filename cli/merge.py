"""`buildseg merge`: one file of the footprints of several."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Overwrite


def merge(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Footprints of scenes that may overlap, in any format and CRS."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Footprints: .geojson, .geojsonl, .gpkg, .fgb, .parquet, .shp or .pmtiles."),
    ],
    crs: Annotated[
        str, typer.Option("--crs", help="wgs84 (longitude, latitude), native (that of the first file) or EPSG:n.")
    ] = "wgs84",
    overwrite: Overwrite = False,
) -> None:
    """Join footprint files, with one footprint for each building.

    Footprints of two files are one building where they share half of the smaller one. The more confident stays,
    except that one at its scene's edge, which cuts buildings, gives way to one that is larger by a tenth. The column
    scene keeps the names of scenes, or names the file where it says none.

    Example: buildseg merge north.gpkg south.gpkg --out town.gpkg
    """
    from buildseg.footprints.merge_files import merge_files

    found, kept = merge_files(files, out, crs, overwrite=overwrite)
    typer.echo(f"{out}: {kept} buildings of {found} footprints in {len(files)} files")
