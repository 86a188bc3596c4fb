"""`buildseg info`: what a file is."""

from typing import Annotated

import typer


def info(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="Model file or scene; without it, the shipped model."),
    ] = None,
) -> None:
    """Say what a model file or a scene is.

    Example: buildseg info scene.tif
    """
    from buildseg.describe import describe, describe_shipped_model

    described = describe_shipped_model() if file is None else describe(file)
    width = max(map(len, described))
    for name, text in described.items():
        typer.echo(f"{name:<{width}}  {text}")
