"""`buildseg train`: train a network on tiles."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tiling.errors import OptionError

from .options import Device, Overwrite, parse_network_options


def train(
    tiles: Annotated[
        list[Path],
        typer.Option("--tiles", "-t", help="Tiles folder: of buildseg tile, or images/ and masks/. Repeatable."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run.", show_default="runs/ and the network's name")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Model file to go on from, instead of a new network."),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="A network that `buildseg models` lists.", show_default="psa-unet")
    ] = None,
    network_options: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-O",
            metavar="NAME=VALUE",
            help="An option of the network, as `buildseg models NETWORK` lists them. Repeatable.",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Encoder: resnet18, efficientnet-b0, tu-resnet10t, ...", show_default="the network's own"),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            help="imagenet (fetched once), none (from scratch), or a local file.",
            show_default="imagenet, where there is an encoder",
        ),
    ] = None,
    classes: Annotated[
        int,
        typer.Option(
            help="Classes that the masks tell apart. 1: building (255, or 1) or not (0). More: numbered from 0, "
            "where 1 is building and 255 not labelled.",
        ),
    ] = 1,
    boundaries: Annotated[
        bool | None,
        typer.Option(
            "--boundaries/--no-boundaries",
            help="Also learn where buildings end and touch, from boundaries/ of the tiles, to tell row houses apart.",
            show_default="if all tiles have them",
        ),
    ] = None,
    boundary_weight: Annotated[
        float, typer.Option(help="What the loss on boundaries counts, where that on buildings counts 1.")
    ] = 1.0,
    epochs: Annotated[int, typer.Option(help="Passes over the tiles.")] = 40,
    batch_size: Annotated[int, typer.Option(help="Crops per step.")] = 8,
    crop: Annotated[
        int | None,
        typer.Option(help="Side of a training crop in pixels.", show_default="the chips', at most 512"),
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Side of the windows the model will predict with.", show_default="512")
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option(metavar="METRES", help="Metres per pixel to train at.", show_default="the tiles'"),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak of warm-up and cosine decay.")] = 1e-3,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    store: Annotated[str, typer.Option(help="How the model file keeps weights: float32 or float16.")] = "float32",
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="Processes that load chips.")] = 2,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train a network on tiles and keep the best model by validation IoU.

    The run's folder gets best.safetensors and last.safetensors, metrics.csv and TensorBoard events,
    curves.png, and validation.png: images beside truth and prediction.

    Example: buildseg train --tiles ./tiles --network psa-unet --epochs 40
    """
    from buildseg.tiles import open_tiles
    from buildseg.training.options import NetworkChoice, TrainOptions
    from buildseg.training.run import train as train_network

    given = {
        "--network": network,
        "--option": network_options,
        "--encoder": encoder,
        "--encoder-weights": encoder_weights,
    }
    if model and (doubled := [flag for flag, value in given.items() if value is not None]):
        raise OptionError(f"--model brings its network along; leave out {', '.join(doubled)}")
    own = parse_network_options(network_options or [])
    choice = NetworkChoice(model, network or "psa-unet", encoder, encoder_weights, own, boundaries)
    options = TrainOptions(
        epochs=epochs,
        batch_size=batch_size,
        crop=crop,
        window=window,
        gsd=gsd,
        learning_rate=learning_rate,
        precision=precision,  # type: ignore[arg-type]
        storage=store,  # type: ignore[arg-type]
        device=device,
        workers=workers,
        seed=seed,
        boundary_weight=boundary_weight,
    )
    started = time.monotonic()
    result = train_network(
        open_tiles(tiles, classes=classes),
        out or Path("runs") / (model.stem if model else choice.name),
        choice,
        options,
        overwrite=overwrite,
        show_progress=sys.stderr.isatty(),
    )
    scores = result.scores
    over = "" if classes == 1 else f" (means over {classes} classes)"
    typer.echo(
        f"{result.model}: validation IoU {scores['val_iou']:.3f}, F1 {scores['val_f1']:.3f}{over} "
        f"in epoch {scores['epoch']:.0f} of {epochs}; {time.monotonic() - started:.0f} s"
    )
