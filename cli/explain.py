"""`buildseg explain`: what a model attends to."""

import math
from pathlib import Path
from typing import Annotated

import typer

from tiling.errors import OptionError

from .options import Bands, Device, ModelFile, Overwrite, parse_bands


def explain(
    scene: Annotated[str, typer.Argument(metavar="SCENE", help="Georeferenced raster: path, URL or /vsi name.")],
    at: Annotated[
        str,
        typer.Option(
            metavar="X,Y", help="The point to look at, in the scene's CRS; longitude comes first, then latitude."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture, a PNG.")],
    model: ModelFile = None,
    at_crs: Annotated[
        str | None,
        typer.Option(metavar="CRS", help="CRS of the point, such as EPSG:4326.", show_default="the scene's"),
    ] = None,
    pixel: Annotated[bool, typer.Option("--pixel", help="The point is column,row of the scene, from 0.")] = False,
    module: Annotated[
        list[str] | None,
        typer.Option(
            help="Attention module to draw, or part of the network with some; repeatable.",
            show_default="all, of many the last 6",
        ),
    ] = None,
    device: Device = "auto",
    bands: Bands = None,
    nodata: Annotated[
        float | None, typer.Option(help="Value of empty pixels.", show_default="what the scene says")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw what a model attends to where it looks at one point.

    The picture shows the image around the point, the building probability, for every attention module how much
    the point attends to each position (or the module's spatial gate), and the channels that respond most there.

    Example: buildseg explain scene.tif --at 401600,5318300 --out attention.png
    """
    from buildseg.explaining.place import Place
    from buildseg.explaining.run import ExplainOptions
    from buildseg.explaining.run import explain as explain_scene
    from buildseg.model_file import load_model
    from buildseg.prediction.conform import InputOptions

    place = Place(*_parse_point(at), at_crs, pixel)
    options = ExplainOptions(tuple(module or ()), device, InputOptions(parse_bands(bands), nodata))
    result = explain_scene(scene, out, load_model(model), place, options, overwrite=overwrite)
    count = len(result.modules)
    typer.echo(
        f"{out}: probability of building {result.probability:.2f} at {place}, "
        f"{count} attention module{'' if count == 1 else 's'}"
    )


def _parse_point(text: str) -> tuple[float, float]:
    try:
        x, y = map(float, text.split(","))
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(text)
    except ValueError:
        raise OptionError(f"--at {text} is no point; give X,Y, such as 401600,5318300 or -73.9,40.7") from None
    return x, y
