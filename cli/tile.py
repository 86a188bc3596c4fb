"""`buildseg tile`: cut labelled scenes into chips to train on."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Bands, Overwrite, parse_bands
from .progress import show_progress


def tile(
    scenes: Annotated[list[str], typer.Argument(metavar="SCENE...", help="Georeferenced rasters of one kind.")],
    labels: Annotated[Path, typer.Option("--labels", "-l", help="Building polygons: any vector format, any CRS.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    layer: Annotated[str | None, typer.Option(help="Layer of the labels, where the file has several.")] = None,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Which labels are buildings, such as: \"class = 'house'\".")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of a chip in pixels.")] = 512,
    overlap: Annotated[float, typer.Option(help="Fraction of a chip that neighbours share.")] = 0.0,
    min_building: Annotated[
        float, typer.Option(help="Leave out chips with a smaller share of building, 0 to 1.")
    ] = 0.0,
    val_fraction: Annotated[float, typer.Option(help="Share of the chips kept for validation.")] = 0.1,
    gsd: Annotated[float | None, typer.Option(metavar="METRES", help="Resample to this many metres per pixel.")] = None,
    bands: Bands = None,
    seed: Annotated[int, typer.Option(help="Draws the places kept for validation.")] = 0,
    boundaries: Annotated[
        bool,
        typer.Option(
            "--boundaries",
            help="Also write boundaries/: where each polygon ends and where two touch, so that a network can learn to "
            "tell row houses apart. Needs one polygon per building.",
        ),
    ] = False,
    boundary_width: Annotated[
        float,
        typer.Option(metavar="METRES", help="How far a boundary reaches from a wall, to each side; at least a pixel."),
    ] = 0.5,
    overwrite: Overwrite = False,
) -> None:
    """Cut scenes and their labels into chips, split by place into train and val.

    The folder holds train/ and val/ with images/ and masks/ (and boundaries/, if asked for), an index to
    open in QGIS, and tiles.json, which records how it was made.

    Example: buildseg tile scene.tif --labels buildings.gpkg --out tiles/
    """
    from buildseg.labels import read_labels
    from buildseg.make_tiles import TileOptions, make_tiles

    options = TileOptions(
        size=size,
        overlap=overlap,
        min_building=min_building,
        val_fraction=val_fraction,
        gsd=gsd,
        bands=parse_bands(bands),
        seed=seed,
        boundaries=boundaries,
        boundary_width=boundary_width,
    )
    made = make_tiles(scenes, read_labels(labels, layer, where), out, options, overwrite=overwrite, track=show_progress)
    typer.echo(
        f"{out}: {made.train} chips to train, {made.val} to validate ({made.dropped} between them left out), "
        f"{made.building_share:.1%} building, {made.gsd:.2g} m per pixel"
    )
