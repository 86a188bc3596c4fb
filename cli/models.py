"""`buildseg models`: the networks that can be trained."""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from .progress import show_progress

if TYPE_CHECKING:
    from buildseg.networks.catalogue import CatalogueEntry


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NETWORK]", help="One network, with its options; without it, all.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Count the one NETWORK with this encoder.", show_default="its own")
    ] = None,
    bands: Annotated[int, typer.Option(help="Count for images of so many bands.")] = 3,
    classes: Annotated[int, typer.Option(help="Count for so many classes.")] = 1,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Count for images of this side.")] = 512,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")] = False,
) -> None:
    """List the networks and what they cost, or one network with its options.

    GFLOPs and memory are those of one prediction on the CPU in float32; a multiplication with its addition counts as
    two operations. The output stride tells how many times coarser than the image the features are that the
    network's head starts from.

    Example: buildseg models psa-unet --encoder tu-resnet10t
    """
    from buildseg.networks.catalogue import CatalogueOptions, catalogue, network_options

    entries = catalogue(CatalogueOptions(size, bands, classes, encoder), name, track=show_progress)
    if as_json:
        described = [dataclasses.asdict(entry) for entry in entries]
        if name:
            described[0]["options"] = [dataclasses.asdict(option) for option in network_options(name)]
        typer.echo(json.dumps(described, indent=2))
        return
    typer.echo(_table(entries, size))
    if name:
        typer.echo(f"\n{entries[0].summary}")
        for option in network_options(name):
            typer.echo(f"\n  --option {option.name}={_written(option.default)}\n      {option.meaning}")


def _table(entries: "list[CatalogueEntry]", size: int) -> str:
    header = ("network", "encoder", "parameters", f"GFLOPs at {size}", "stride", "memory", "source")
    rows = [
        (
            entry.name,
            entry.encoder or "-",
            f"{entry.cost.parameters / 1e6:.2f} M",
            f"{entry.cost.gflops:,.1f}",
            str(entry.cost.output_stride),
            f"{entry.cost.memory / 1e6:,.0f} MB",
            entry.source,
        )
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    numbers = range(2, 6)
    lines = (
        "  ".join(
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    )
    return "\n".join(lines)


def _written(value: object) -> str:
    """A value as `train --option` takes it."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
