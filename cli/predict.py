"""`buildseg predict`: from a scene to building footprints."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Bands, Device, MinArea, ModelFile, OutputCrs, Overwrite, Simplify, Threshold, parse_bands
from .progress import show_progress


def predict(
    scene: Annotated[str, typer.Argument(metavar="SCENE", help="Georeferenced raster: path, URL or /vsi name.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Footprints: .geojson, .gpkg, .fgb or .parquet.")],
    model: ModelFile = None,
    probability: Annotated[
        Path | None, typer.Option("--probability", "-p", help="Also keep the probability raster, a GeoTIFF.")
    ] = None,
    threshold: Threshold = 0.5,
    window: Annotated[int | None, typer.Option(help="Side of a window in pixels.", show_default="the model's")] = None,
    overlap: Annotated[float, typer.Option(help="Fraction of a window that neighbours share.")] = 0.25,
    batch_size: Annotated[
        int | None, typer.Option(help="Windows per step.", show_default="what suits the device")
    ] = None,
    device: Device = "auto",
    bands: Bands = None,
    nodata: Annotated[
        float | None, typer.Option(help="Value of empty pixels.", show_default="what the scene says")
    ] = None,
    min_area: MinArea = 5.0,
    simplify: Simplify = None,
    crs: OutputCrs = "wgs84",
    overwrite: Overwrite = False,
) -> None:
    """Find the buildings of a scene of any size.

    The scene is streamed through the network in overlapping windows. Every footprint carries
    id, area_m2 and confidence, the mean probability inside it.

    Example: buildseg predict scene.tif --out buildings.geojson
    """
    from buildseg.footprints import VectorizeOptions
    from buildseg.model_file import load_model
    from buildseg.prediction.conform import InputOptions
    from buildseg.prediction.run import Outputs, PredictOptions
    from buildseg.prediction.run import predict as predict_scene

    options = PredictOptions(
        window=window,
        overlap=overlap,
        batch_size=batch_size,
        device=device,
        input=InputOptions(bands=parse_bands(bands), nodata=nodata),
    )
    polygons = VectorizeOptions(threshold=threshold, min_area=min_area, simplify=simplify, crs=crs)
    result = predict_scene(
        scene,
        Outputs(out, probability, overwrite),
        load_model(model),
        options,
        polygons,
        track=show_progress,
    )
    typer.echo(
        f"{out}: {result.buildings} buildings in {result.width} x {result.height} pixels of {result.gsd:.2g} m, "
        f"{result.seconds:.1f} s ({result.megapixels_per_second:.2f} megapixels/s)"
    )
