"""`buildseg predict`: from scenes to building footprints."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Bands,
    Core,
    Device,
    MaxDeviation,
    MinArea,
    MinHole,
    OutputCrs,
    Overwrite,
    Regularize,
    Simplify,
    Split,
    Threshold,
    parse_bands,
    parse_factors,
    parse_list,
)
from .progress import show_progress

QUALITY = "Quality"
MACHINE = "This machine"
CLUSTER = "Many machines"


def predict(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE...",
            help="Georeferenced rasters: paths, quoted globs ('scenes/*.tif'), URLs, /vsi names, VRTs, STAC items or "
            "collections.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Footprints: .geojson, .geojsonl, .gpkg, .fgb, .parquet, .shp or .pmtiles. Of several scenes, a "
            "folder for one file each, or one file for all, with every building once.",
        ),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option("--model", "-m", help="Model file; several are averaged.", show_default="the one shipped"),
    ] = None,
    probability: Annotated[
        Path | None,
        typer.Option(
            "--probability",
            "-p",
            help="Also keep the probability raster, a GeoTIFF; of several, a folder. A model that learnt boundaries "
            "writes them as a second band.",
        ),
    ] = None,
    threshold: Threshold = 0.5,
    min_area: MinArea = 5.0,
    core: Core = None,
    min_hole: MinHole = 0.0,
    simplify: Simplify = None,
    regularize: Regularize = False,
    max_deviation: MaxDeviation = None,
    split: Split = "auto",
    crs: OutputCrs = "wgs84",
    extension: Annotated[str, typer.Option("--format", help="Format of files in a folder: geojson, gpkg, ...")] = (
        "geojson"
    ),
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut off.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many windows, how much memory, disk and time it will take.")
    ] = False,
    aoi: Annotated[
        Path | None, typer.Option(help="Polygons, in any format and CRS: look only there, and clip what is found.")
    ] = None,
    bands: Bands = None,
    nodata: Annotated[
        float | None, typer.Option(help="Value of empty pixels.", show_default="what the scene says")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Side of a window in pixels.", show_default="the model's", rich_help_panel=QUALITY),
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="Fraction of a window that neighbours share.", rich_help_panel=QUALITY)
    ] = 0.25,
    tta: Annotated[
        str,
        typer.Option(
            help="Show every window in several orientations and average: none, flips (4) or d4 (all 8).",
            rich_help_panel=QUALITY,
        ),
    ] = "none",
    scale: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Show every window at several resolutions, such as 1,1.5.", rich_help_panel=QUALITY
        ),
    ] = "1",
    device: Device = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="auto (the fastest that is close to fp32), fp32, bf16 or, on GPUs, fp16.", rich_help_panel=MACHINE
        ),
    ] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(help="Windows per step.", show_default="what suits the device", rich_help_panel=MACHINE),
    ] = None,
    compile_network: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the network first: a minute, then faster; for long runs.",
            rich_help_panel=MACHINE,
        ),
    ] = False,
    block: Annotated[
        int | None,
        typer.Option(
            help="Rows of a block, the unit of --resume and of workers.",
            show_default="some megapixels",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Start so many processes on this machine.", rich_help_panel=CLUSTER)
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Start a process for each GPU, such as 0,1,2,3.", rich_help_panel=CLUSTER),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Use a running Dask cluster: tcp://host:8786.", rich_help_panel=CLUSTER),
    ] = None,
) -> None:
    """Find the buildings of scenes of any size.

    A scene is streamed through the network in overlapping windows. Every footprint carries id, area_m2 and
    confidence, the mean probability inside it. A run that was cut off goes on with --resume.

    Example: buildseg predict scene.tif --out buildings.geojson

    Another: buildseg predict 'scenes/*.tif' --out town.gpkg --aoi town.geojson
    """
    from buildseg.area_of_interest import AreaOfInterest
    from buildseg.footprints import ShapeOptions, SplitOptions, VectorizeOptions
    from buildseg.model_file import load_model
    from buildseg.prediction.conform import InputOptions
    from buildseg.prediction.estimate import estimate_scenes
    from buildseg.prediction.options import Machine, PredictOptions
    from buildseg.prediction.placement import Placement, opened_predictor
    from buildseg.prediction.scenes import Destination, predict_scenes
    from buildseg.scene_sources import find_scenes

    options = PredictOptions(
        window=window,
        overlap=overlap,
        augmentation=tta,
        scales=parse_factors(scale, "--scale"),
        block=block,
        input=InputOptions(bands=parse_bands(bands), nodata=nodata),
        machine=Machine(device, precision, batch_size, compile_network),
    )
    shape = ShapeOptions(simplify, min_hole, regularize, max_deviation, SplitOptions(split))
    polygons = VectorizeOptions(threshold, core, min_area, shape, crs)
    placement = Placement(dask, workers, parse_list(devices))
    area = AreaOfInterest.read(aoi) if aoi else None
    sources = find_scenes(scenes)
    if not dry_run:
        destination = Destination(out, probability, extension, overwrite, resume)
        destination.check(sources)
    models = [load_model(path) for path in model or (None,)]
    if dry_run:
        for source, expected in estimate_scenes(sources, models, options, area):
            typer.echo(f"{source.path}\n{expected or '  outside the area of interest'}")
        return
    with opened_predictor(models, options, placement) as predictor:
        for name, result in predict_scenes(
            predictor, sources, destination, options, polygons, area=area, track=show_progress
        ):
            typer.echo(f"{name}: {result}")
