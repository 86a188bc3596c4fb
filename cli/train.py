"""`buildseg train`: train a network on tiles."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tiling.errors import OptionError

from .options import Overwrite, parse_network_options

NETWORK = "Network"
DATA = "Data"
LOSS = "Loss"
OPTIMIZER = "Optimiser and schedule"
KEEP = "Which weights are kept"
MACHINE = "This machine"


def train(
    ctx: typer.Context,
    tiles: Annotated[
        list[Path] | None,
        typer.Option("--tiles", "-t", help="Tiles folder: of buildseg tile, or images/ and masks/. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run.", show_default="runs/ and the network's name")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Options from a YAML file, such as the run.yaml of a run. Those given beside it win."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out that was cut off, with its own options.")
    ] = False,
    epochs: Annotated[int, typer.Option(help="Passes over the tiles.")] = 40,
    batch_size: Annotated[int, typer.Option(help="Crops per batch.")] = 8,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    overwrite: Overwrite = False,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            help="Model file to go on from, instead of a new network; also one of other bands or classes.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="A network that `buildseg models` lists.", show_default="psa-unet", rich_help_panel=NETWORK),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-O",
            metavar="NAME=VALUE",
            help="An option of the network, as `buildseg models NETWORK` lists them. Repeatable.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder: resnet18, efficientnet-b0, tu-resnet10t, ...",
            show_default="the network's own",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            help="imagenet (fetched once), none (from scratch), or a local file.",
            show_default="imagenet, where there is an encoder",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    boundaries: Annotated[
        bool | None,
        typer.Option(
            "--boundaries/--no-boundaries",
            help="Also learn where buildings end and touch, from boundaries/ of the tiles, to tell row houses apart.",
            show_default="if all tiles have them",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Side of the windows the model will predict with.", show_default="512", rich_help_panel=NETWORK
        ),
    ] = None,
    store: Annotated[
        str, typer.Option(help="How the model file keeps weights: float32 or float16.", rich_help_panel=NETWORK)
    ] = "float32",
    classes: Annotated[
        int,
        typer.Option(
            help="Classes that the masks tell apart. 1: building (255, or 1) or not (0). More: numbered from 0, "
            "where 1 is building and 255 not labelled.",
            rich_help_panel=DATA,
        ),
    ] = 1,
    crop: Annotated[
        int | None,
        typer.Option(
            help="Side of a training crop in pixels.", show_default="the chips', at most 512", rich_help_panel=DATA
        ),
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option(
            metavar="METRES", help="Metres per pixel to train at.", show_default="the tiles'", rich_help_panel=DATA
        ),
    ] = None,
    coarsest_gsd: Annotated[
        float | None,
        typer.Option(
            metavar="METRES",
            help="For one model of several resolutions: tiles coarser than --gsd keep their own metres per pixel up to "
            "this, and so do scenes when predicting.",
            show_default="all are resampled to --gsd",
            rich_help_panel=DATA,
        ),
    ] = None,
    augment: Annotated[
        str,
        typer.Option(
            help="How much crops are changed at random: none, light or strong. `buildseg preview` draws them.",
            rich_help_panel=DATA,
        ),
    ] = "strong",
    sampling: Annotated[
        str,
        typer.Option(
            help="uniform; balanced: chips with no, few, some and many building pixels equally often; or folders: "
            "small ones more often than their size.",
            rich_help_panel=DATA,
        ),
    ] = "uniform",
    folder_power: Annotated[
        float,
        typer.Option(
            help="With folders: the power of its size with which one is drawn; 0: all equally often.",
            rich_help_panel=DATA,
        ),
    ] = 0.5,
    crops: Annotated[
        int | None,
        typer.Option(help="Crops per epoch.", show_default="as many as fit the tiles", rich_help_panel=DATA),
    ] = None,
    register_labels: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            help="Move the labels of each crop, by so much at most, to where the network finds the buildings, after a "
            "quarter of the epochs: for labels that lie beside them, as OpenStreetMap's can. 0: leave them.",
            rich_help_panel=DATA,
        ),
    ] = 0,
    loss: Annotated[
        str,
        typer.Option(
            help="bce-dice; focal (the uncertain counts), ohem (the hardest pixels only), outline (outlines count "
            "more), each with Dice; lovasz (IoU) or tversky (misses count more) instead of Dice.",
            rich_help_panel=LOSS,
        ),
    ] = "bce-dice",
    label_smoothing: Annotated[
        float, typer.Option(help="Share of certainty taken from the labels.", rich_help_panel=LOSS)
    ] = 0.0,
    focal_gamma: Annotated[float, typer.Option(help="Power of focal.", rich_help_panel=LOSS)] = 2.0,
    tversky_missed: Annotated[
        float, typer.Option(help="What a miss counts with tversky; a false one counts the rest.", rich_help_panel=LOSS)
    ] = 0.7,
    ohem_share: Annotated[float, typer.Option(help="Share of pixels that ohem keeps.", rich_help_panel=LOSS)] = 0.25,
    outline_weight: Annotated[
        float, typer.Option(help="What a pixel at an outline counts with outline.", rich_help_panel=LOSS)
    ] = 5.0,
    outline_width: Annotated[
        int, typer.Option(help="Pixels to each side of an outline that are at it.", rich_help_panel=LOSS)
    ] = 3,
    boundary_weight: Annotated[
        float,
        typer.Option(
            help="What the loss on boundaries counts, where that on buildings counts 1.", rich_help_panel=LOSS
        ),
    ] = 1.0,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.", rich_help_panel=OPTIMIZER)] = "adamw",
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Peak of the schedule.", show_default="1e-3, sgd 1e-2; with --model a tenth", rich_help_panel=OPTIMIZER
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(help="Of weights but norms and biases.", show_default="1e-2, sgd 1e-4", rich_help_panel=OPTIMIZER),
    ] = None,
    momentum: Annotated[float, typer.Option(help="Of sgd.", rich_help_panel=OPTIMIZER)] = 0.9,
    schedule: Annotated[
        str, typer.Option(help="cosine or poly, after a warm-up; or one-cycle.", rich_help_panel=OPTIMIZER)
    ] = "cosine",
    warmup: Annotated[
        float | None,
        typer.Option(
            help="Share of the steps in which the rate rises.",
            show_default="0.05, one-cycle 0.3",
            rich_help_panel=OPTIMIZER,
        ),
    ] = None,
    poly_power: Annotated[float, typer.Option(help="Of poly.", rich_help_panel=OPTIMIZER)] = 0.9,
    encoder_rate: Annotated[
        float,
        typer.Option(help="The encoder's learning rate, as a factor of the others'.", rich_help_panel=OPTIMIZER),
    ] = 1.0,
    freeze_encoder: Annotated[
        int, typer.Option(metavar="EPOCHS", help="How long the encoder does not learn.", rich_help_panel=OPTIMIZER)
    ] = 0,
    gradient_clip: Annotated[
        float, typer.Option(help="Longest gradient; 0 clips none.", rich_help_panel=OPTIMIZER)
    ] = 1.0,
    accumulate: Annotated[
        int, typer.Option(help="Batches per step, where memory is short.", rich_help_panel=OPTIMIZER)
    ] = 1,
    ema: Annotated[
        float,
        typer.Option(
            metavar="DECAY", help="Keep a moving average of the weights, such as 0.999; 0: none.", rich_help_panel=KEEP
        ),
    ] = 0.0,
    patience: Annotated[
        int,
        typer.Option(
            metavar="EPOCHS", help="Stop after so many without a better model; 0: never.", rich_help_panel=KEEP
        ),
    ] = 0,
    device: Annotated[
        str,
        typer.Option(help="auto (the GPU if there is one), cpu, cuda, cuda:1, ... or mps.", rich_help_panel=MACHINE),
    ] = "auto",
    devices: Annotated[
        int,
        typer.Option(
            help="Devices of this machine to train on, each with batches of its own. On several machines, torchrun "
            "starts the command on each.",
            rich_help_panel=MACHINE,
        ),
    ] = 1,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.", rich_help_panel=MACHINE)] = "auto",
    workers: Annotated[
        int, typer.Option(help="Processes that load chips, for each device.", rich_help_panel=MACHINE)
    ] = 2,
) -> None:
    """Train a network on tiles and keep the best model by validation IoU.

    The run's folder gets best.safetensors and last.safetensors, metrics.csv and TensorBoard events, curves.png,
    validation.png (the worst and best chips), report.html, and run.yaml: every option, for --config.

    Example: buildseg train --tiles ./tiles --network psa-unet --epochs 40

    Another: buildseg train --config runs/psa-unet/run.yaml --loss lovasz --out runs/lovasz
    """
    from buildseg.tiles import open_tiles
    from buildseg.training.record import RECORD, Run, read_record
    from buildseg.training.run import train as train_network

    given = {name: value for name, value in ctx.params.items() if _is_given(ctx, name)}
    if option is not None:
        given["option"] = parse_network_options(option)
    if resume and out is None:
        raise OptionError("--resume needs the folder of the run: name it with --out")
    if resume and overwrite:
        raise OptionError("--resume goes on with a run and --overwrite replaces it; give one of them")
    if resume and out and not given.get("tiles") and config is None and not (out / RECORD).is_file():
        raise OptionError(f"--resume: there is no run in {out}; name the folder of one, or begin one with --tiles")
    recorded = out / RECORD if resume and out and (out / RECORD).is_file() else config
    run = Run.of(_chosen(given, read_record(recorded) if recorded else {}))
    choice = run.choice
    started = time.monotonic()
    result = train_network(
        open_tiles(run.tiles, classes=run.classes),
        out or Path("runs") / (choice.start.stem if choice.start else choice.name),
        choice,
        run.options,
        overwrite=overwrite,
        resume=resume,
        show_progress=sys.stderr.isatty(),
    )
    if not result.first:
        return
    scores = result.scores
    over = "" if run.classes == 1 else f" (means over {run.classes} classes)"
    typer.echo(
        f"{result.model}: validation IoU {scores['val_iou']:.3f}, F1 {scores['val_f1']:.3f}{over} "
        f"in epoch {scores['epoch']:.0f} of {run.options.epochs}; {time.monotonic() - started:.0f} s"
    )


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _chosen(given: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """Join what is given with what is recorded, which gives way, and with it what belongs to another network."""
    network = ("network", "option", "encoder", "encoder_weights")
    if given.get("model"):
        if doubled := [f"--{name.replace('_', '-')}" for name in network if name in given]:
            raise OptionError(f"--model brings its network along; leave out {', '.join(doubled)}")
        recorded = {name: value for name, value in recorded.items() if name not in network}
    if given.get("network"):
        recorded = {name: value for name, value in recorded.items() if name not in {"model", "option", "encoder"}}
    values = recorded | given
    if not values.get("tiles"):
        raise OptionError("no tiles to train on; name their folder with --tiles, or a run.yaml with --config")
    return values
