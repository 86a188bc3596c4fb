"""`buildseg train`: train a network on tiles."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tiling.errors import OptionError

from .options import Device, Overwrite


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
        str | None, typer.Option(help="unet, psa-unet, da-unet or danet.", show_default="psa-unet")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Encoder: resnet18, efficientnet-b0, tu-resnet10t, ...", show_default="the network's own"),
    ] = None,
    encoder_weights: Annotated[
        str, typer.Option(help="imagenet (fetched once), none (from scratch), or a local file.")
    ] = "imagenet",
    decoder_channels: Annotated[
        str | None, typer.Option(metavar="LIST", help="Widths of a U-Net's decoder, such as 128,64,32,32,16.")
    ] = None,
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

    if model and (network or encoder or decoder_channels):
        raise OptionError("--model brings its network along; leave out --network, --encoder and --decoder-channels")
    widths = {} if decoder_channels is None else {"decoder_channels": _numbers("--decoder-channels", decoder_channels)}
    choice = NetworkChoice(model, network or "psa-unet", encoder, encoder_weights, widths)
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
    )
    started = time.monotonic()
    result = train_network(
        open_tiles(tiles),
        out or Path("runs") / (model.stem if model else choice.name),
        choice,
        options,
        overwrite=overwrite,
        show_progress=sys.stderr.isatty(),
    )
    scores = result.scores
    typer.echo(
        f"{result.model}: validation IoU {scores['val_iou']:.3f}, F1 {scores['val_f1']:.3f} "
        f"in epoch {scores['epoch']:.0f} of {epochs}; {time.monotonic() - started:.0f} s"
    )


def _numbers(flag: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise OptionError(f"{flag} {text} is no list of whole numbers, such as 128,64,32,32,16") from error
