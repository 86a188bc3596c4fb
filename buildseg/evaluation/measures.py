"""The measures by name: what the table calls them, and what the JSON does."""

from typing import NamedTuple


class Measure(NamedTuple):
    """One score.

    Attributes:
        key: Its name in the JSON and for ``--fail-under``; it does not change.
        label: What the table calls it.
        group: The part of the table it stands in.
        digits: After the decimal point.
        unit: What it is measured in; empty for numbers without one.
    """

    key: str
    label: str
    group: str
    digits: int = 3
    unit: str = ""


PIXELS, OBJECTS, OUTLINES, COUNTS, CALIBRATION = "pixels", "buildings", "outlines", "counts", "probabilities"

MEASURES = (
    Measure("iou", "IoU", PIXELS),
    Measure("f1", "F1", PIXELS),
    Measure("precision", "precision", PIXELS),
    Measure("recall", "recall", PIXELS),
    Measure("boundary_iou", "boundary IoU", PIXELS),
    Measure("object_precision", "precision at IoU 0.5", OBJECTS),
    Measure("object_recall", "recall at IoU 0.5", OBJECTS),
    Measure("object_f1", "F1 at IoU 0.5", OBJECTS),
    Measure("ap50", "AP50", OBJECTS),
    Measure("ap50_95", "AP50:95", OBJECTS),
    Measure("polis_m", "PoLiS", OUTLINES, 2, "m"),
    Measure("angle_error_deg", "max tangent angle error", OUTLINES, 1, "°"),
    Measure("vertex_ratio", "vertices, of the truth's", OUTLINES, 2),
    Measure("truth_buildings", "buildings in the truth", COUNTS, 0),
    Measure("prediction_buildings", "buildings in the prediction", COUNTS, 0),
    Measure("matched", "matched", COUNTS, 0),
    Measure("missed", "missed", COUNTS, 0),
    Measure("false", "false", COUNTS, 0),
    Measure("merged", "buildings merged with others", COUNTS, 0),
    Measure("split", "buildings split", COUNTS, 0),
    Measure("truth_area_m2", "area in the truth", COUNTS, 0, "m²"),
    Measure("prediction_area_m2", "area in the prediction", COUNTS, 0, "m²"),
    Measure("ece", "expected calibration error", CALIBRATION),
    Measure("best_threshold", "best threshold", CALIBRATION),
    Measure("f1_at_best_threshold", "F1 at the best threshold", CALIBRATION),
)
KEYS = tuple(measure.key for measure in MEASURES)


def written(measure: Measure, value: float | None) -> str:
    """Write a value as the table does, ``-`` where there is none.

    Args:
        measure: Of what.
        value: The value.
    """
    if value is None:
        return "-"
    unit = f" {measure.unit}" if measure.unit not in {"", "°"} else measure.unit
    return f"{value:,.{measure.digits}f}{unit}"
