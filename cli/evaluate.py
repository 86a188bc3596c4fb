"""`buildseg evaluate`: how good a prediction or a model is."""

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from tiling.errors import OptionError

from .options import Device, MinArea, Overwrite, Threshold
from .progress import show_progress

if TYPE_CHECKING:
    from buildseg.evaluation.result import Evaluation

GROUND = "Where"
OUTPUT = "What is written"
LIMITS = "Limits"


def evaluate(
    prediction: Annotated[
        Path | None,
        typer.Argument(
            metavar="PREDICTION", help="Footprints in any vector format, or a probability raster (predict -p)."
        ),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option("--truth", "-t", help="True buildings: polygons, in any vector format and CRS.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="With --tiles: the model file.", show_default="the one shipped"),
    ] = None,
    tiles: Annotated[
        list[Path] | None,
        typer.Option("--tiles", help="Score a model on the validation chips of this folder, instead. Repeatable."),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="The scene: only its valid pixels count, and the report shows it.", rich_help_panel=GROUND),
    ] = None,
    aoi: Annotated[Path | None, typer.Option(help="Polygons: compare only there.", rich_help_panel=GROUND)] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the prediction, if it has several.")] = None,
    truth_layer: Annotated[str | None, typer.Option(help="Layer of the truth, if it has several.")] = None,
    where: Annotated[
        str | None, typer.Option(help="Which polygons of the truth are buildings, as in SQL: \"class = 'house'\".")
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Attribute of the prediction: how sure each footprint is; or none.",
            show_default="confidence, where there is one",
        ),
    ] = None,
    threshold: Threshold = 0.5,
    min_area: MinArea = 5.0,
    boundary: Annotated[float, typer.Option(metavar="METRES", help="How near the outline boundary IoU looks.")] = 1.0,
    gsd: Annotated[
        float | None,
        typer.Option(
            metavar="METRES",
            help="Pixels to compare vectors at.",
            show_default="the image's, or 0.25 to 1 as the ground is large",
            rich_help_panel=GROUND,
        ),
    ] = None,
    block: Annotated[
        float | None,
        typer.Option(
            metavar="METRES",
            help="Side of the blocks that 95% intervals are drawn from.",
            show_default="about 100 blocks, of 50 at least",
            rich_help_panel=GROUND,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    report: Annotated[
        Path | None, typer.Option(help="One HTML page with scores, curves and maps.", rich_help_panel=OUTPUT)
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            help="GeoPackage for QGIS: matched, missed, false, merged and split buildings.", rich_help_panel=OUTPUT
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="The scores for other programs.", rich_help_panel=OUTPUT)
    ] = None,
    overwrite: Overwrite = False,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="Exit with 19 if a score of the JSON is lower: iou=0.7. Repeatable.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    fail_over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="Exit with 19 if one is higher: polis_m=1.5. Repeatable.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Say how good footprints, a probability raster or a model is.

    Pixels, outlines and buildings are scored, with 95% intervals where these make sense; docs/evaluation.md
    defines every score. What lies beyond the image, the raster or --aoi is left out; of footprints alone, what
    lies beyond the rectangle around the truth.

    Example: buildseg evaluate buildings.geojson --truth truth.geojson --image scene.tif --report report.html

    Another: buildseg evaluate --model best.safetensors --tiles ./tiles --fail-under iou=0.7
    """
    from buildseg.evaluation.options import EvaluateOptions
    from buildseg.evaluation.result import check_limits, read_limits

    under, over = read_limits(fail_under or [], "--fail-under"), read_limits(fail_over or [], "--fail-over")
    options = EvaluateOptions(threshold, min_area, boundary, gsd, block, seed)
    outputs = _Outputs(report, errors, json_file, overwrite)
    outputs.check()
    if tiles:
        from buildseg.evaluation.model_run import evaluate_model

        given: dict[str, object] = {
            "PREDICTION": prediction,
            "--truth": truth,
            "--image": image,
            "--aoi": aoi,
            "--errors": errors,
            "--confidence": confidence,
        }
        if doubled := [name for name, value in given.items() if value is not None]:
            raise OptionError(f"--tiles scores a model on chips; leave out {', '.join(doubled)}")
        evaluation = evaluate_model(model, tiles, options, device=device, track=show_progress)
    else:
        from buildseg.area_of_interest import AreaOfInterest
        from buildseg.evaluation.reading import CONFIDENCE
        from buildseg.evaluation.run import Prediction, Where
        from buildseg.evaluation.run import evaluate as evaluate_prediction
        from buildseg.labels import read_labels

        if prediction is None or truth is None:
            raise OptionError("give PREDICTION and --truth, or --tiles with a model to score")
        if model:
            raise OptionError("--model needs --tiles; to score it on a scene, predict the scene first")
        what = Prediction(prediction, layer, None if confidence == "none" else confidence or CONFIDENCE)
        if what.is_raster and confidence:
            raise OptionError("--confidence names an attribute of footprints; leave it out for a probability raster")
        labels = read_labels(truth, truth_layer, where, may_be_empty=where is None)
        ground = Where(image, AreaOfInterest.read(aoi) if aoi else None)
        evaluation = evaluate_prediction(what, labels, ground, options, track=show_progress)
    outputs.write(evaluation)
    _show(evaluation)
    check_limits(evaluation.scores, under, over)


class _Outputs(NamedTuple):
    """The files that are asked for."""

    report: Path | None
    errors: Path | None
    scores: Path | None
    overwrite: bool

    def check(self) -> None:
        """Refuse what cannot be written, before any work is done for it."""
        from buildseg.evaluation.errors_layer import check_errors_file
        from tiling.output import check_writable

        if self.errors:
            check_errors_file(self.errors)
        for target in (self.report, self.errors, self.scores):
            if target:
                check_writable(target, overwrite=self.overwrite)

    def write(self, evaluation: "Evaluation") -> None:
        """Write them all."""
        from buildseg.evaluation.errors_layer import write_errors
        from buildseg.evaluation.report import write_report
        from buildseg.evaluation.result import write_json

        for target, write in ((self.report, write_report), (self.errors, write_errors), (self.scores, write_json)):
            if target:
                write(evaluation, target, overwrite=self.overwrite)


def _show(evaluation: "Evaluation") -> None:
    """Print the tables, drawn on a terminal and plain elsewhere."""
    from buildseg.evaluation.table import SIZE_HEADER, score_rows, size_rows

    about = evaluation.about
    console = Console()
    rows, sizes = score_rows(evaluation.scores), size_rows(evaluation.scores)
    typer.echo(f"{about['prediction']} against {about['truth']}, on {about['area']}")
    if not console.is_terminal:
        for group, label, value, interval in rows:
            typer.echo(f"{group:<15}{label:<28}{value:>16}  {interval}".rstrip())
        for size in (SIZE_HEADER, *sizes):
            typer.echo("  ".join(f"{cell:>14}" for cell in size))
        return
    table = Table("", "", "value", "95% interval", box=None, header_style="dim")
    for group, same in groupby(rows, lambda row: row.group):
        for place, row in enumerate(same):
            table.add_row("" if place else f"[bold]{group}", row.label, f"[green]{row.value}", f"[dim]{row.interval}")
    by_size = Table(*SIZE_HEADER, box=None, header_style="dim")
    for size in sizes:
        by_size.add_row(*size)
    console.print(table, by_size, sep="\n")
