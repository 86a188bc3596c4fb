"""`buildseg preview`: look at what training will be shown."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Overwrite


def preview(
    tiles: Annotated[
        list[Path],
        typer.Option("--tiles", "-t", help="Tiles folder: of buildseg tile, or images/ and masks/. Repeatable."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write.")] = Path("preview.png"),
    chips: Annotated[int, typer.Option(help="Chips to show, each twice.")] = 4,
    classes: Annotated[int, typer.Option(help="Classes that the masks tell apart, as for `buildseg train`.")] = 1,
    crop: Annotated[
        int | None, typer.Option(help="Side of a crop in pixels.", show_default="the chips', at most 512")
    ] = None,
    gsd: Annotated[
        float | None, typer.Option(metavar="METRES", help="Metres per pixel.", show_default="the tiles'")
    ] = None,
    coarsest_gsd: Annotated[
        float | None,
        typer.Option(metavar="METRES", help="As for `buildseg train`.", show_default="all are resampled to --gsd"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the changes.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw training crops as each `--augment` of `buildseg train` changes them, with the outlines of buildings.

    Example: buildseg preview --tiles ./tiles --out preview.png
    """
    from buildseg.tiles import open_tiles
    from buildseg.training.options import TrainOptions
    from buildseg.training.preview import draw_preview

    options = TrainOptions(crop=crop, gsd=gsd, coarsest_gsd=coarsest_gsd, seed=seed)
    draw_preview(open_tiles(tiles, classes=classes), out, options, chips=chips, overwrite=overwrite)
    typer.echo(f"{out}: a row for each of none, light and strong")
