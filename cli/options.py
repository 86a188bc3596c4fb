"""Options that several commands share."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tiling.errors import OptionError

SHAPE = "Shape of footprints"
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Device = Annotated[str, typer.Option(help="auto (the GPU if there is one), cpu, cuda, cuda:1, ... or mps.")]
ModelFile = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Model file; without it, the model that comes with buildseg."),
]
Threshold = Annotated[float, typer.Option(help="Probability from which a pixel is building, between 0 and 1.")]
Core = Annotated[
    float | None,
    typer.Option(
        help="Probability that a footprint must reach somewhere: leaves out what is nowhere sure.", show_default="any"
    ),
]
MinHole = Annotated[
    float,
    typer.Option(metavar="M2", help="Smaller holes are filled, in square metres.", rich_help_panel=SHAPE),
]
MinArea = Annotated[float, typer.Option(metavar="M2", help="Smaller footprints are left out, in square metres.")]
Simplify = Annotated[
    float | None,
    typer.Option(
        metavar="M",
        help="Metres an outline may move when it is simplified; 0 keeps every vertex.",
        show_default="half a pixel",
        rich_help_panel=SHAPE,
    ),
]
Regularize = Annotated[
    bool,
    typer.Option(
        "--regularize", help="Make walls straight and corners right where they nearly are.", rich_help_panel=SHAPE
    ),
]
MaxDeviation = Annotated[
    float | None,
    typer.Option(
        metavar="M",
        help="Metres that a regular outline may be from the contour.",
        show_default="four pixels",
        rich_help_panel=SHAPE,
    ),
]
Split = Annotated[
    str,
    typer.Option(
        help="Tell buildings that touch apart: auto (along boundaries, where the model learnt them), boundary, "
        "distance (at necks, without the model's help) or none.",
        rich_help_panel=SHAPE,
    ),
]
OutputCrs = Annotated[str, typer.Option("--crs", help="wgs84 (longitude, latitude), native (the scene's) or EPSG:n.")]
Bands = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="Bands to use, by colour or number from 1, such as red,green,blue or 3,2,1."),
]


def parse_bands(text: str | None) -> tuple[int | str, ...] | None:
    """Split a list of bands into names and numbers."""
    if text is None:
        return None
    parts = [part.strip().lower() for part in text.split(",") if part.strip()]
    return tuple(int(part) if part.isdigit() else part for part in parts)


def parse_list(text: str | None) -> tuple[str, ...]:
    """Split a list at its commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def parse_factors(text: str, flag: str) -> tuple[float, ...]:
    """Read a list of numbers.

    Args:
        text: Numbers with commas between them.
        flag: The option, for messages.

    Raises:
        OptionError: One is no number.
    """
    try:
        return tuple(float(part) for part in parse_list(text))
    except ValueError as error:
        raise OptionError(f"{flag} {text} is no list of numbers; give it such as 1,1.5") from error


def parse_network_options(pairs: list[str]) -> dict[str, Any]:
    """Read options of a network: numbers, true and false as such, lists by their commas, all else as text.

    Args:
        pairs: Each ``name=value``.

    Raises:
        OptionError: One is no such pair, or a name comes twice.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name or not value.strip():
            raise OptionError(f"--option {pair} is no NAME=VALUE, such as layout=serial or multi_grid=4,8,16")
        if name in options:
            raise OptionError(f"--option {name} is given twice; give it once")
        options[name] = [_value(part) for part in value.split(",")] if "," in value else _value(value)
    return options


def _value(text: str) -> Any:  # noqa: ANN401 - whatever the text stands for
    try:
        value = json.loads(text)
    except ValueError:
        return text.strip()
    return value if isinstance(value, (int, float)) else text.strip()
