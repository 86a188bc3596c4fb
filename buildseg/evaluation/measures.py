"""The measures by name: what the table calls them, and what the JSON does."""

from typing import NamedTuple


class Measure(NamedTuple):
    """One score.

    Attributes:
        key: Its name in the JSON and for ``--fail-under``; it does not change.
        label: What the table calls it.
        group: The part of the table it stands in.
        meaning: What it says, in a sentence.
        digits: After the decimal point.
        unit: What it is measured in; empty for numbers without one.
    """

    key: str
    label: str
    group: str
    meaning: str
    digits: int = 3
    unit: str = ""


PIXELS, OBJECTS, OUTLINES, COUNTS, CALIBRATION = "pixels", "buildings", "outlines", "counts", "probabilities"

MEASURES = (
    Measure("iou", "IoU", PIXELS, "Building on both sides, of what is building on either."),
    Measure("f1", "F1", PIXELS, "The harmonic mean of precision and recall."),
    Measure("precision", "precision", PIXELS, "The share of what was found that is building."),
    Measure("recall", "recall", PIXELS, "The share of what is building that was found."),
    Measure("boundary_iou", "boundary IoU", PIXELS, "IoU of the strips along the inner side of outlines."),
    Measure("object_precision", "precision at IoU 0.5", OBJECTS, "The share of footprints that match a building."),
    Measure("object_recall", "recall at IoU 0.5", OBJECTS, "The share of buildings that a footprint matches."),
    Measure("object_f1", "F1 at IoU 0.5", OBJECTS, "The harmonic mean of these two."),
    Measure("ap50", "AP50", OBJECTS, "Precision averaged over all recalls, from the most confident footprint down."),
    Measure("ap50_95", "AP50:95", OBJECTS, "The same, averaged over IoUs of 0.5 to 0.95 that make a match."),
    Measure("polis_m", "PoLiS", OUTLINES, "Mean distance between vertices and the other side's outline.", 2, "m"),
    Measure(
        "angle_error_deg",
        "max tangent angle error",
        OUTLINES,
        "The largest angle between outlines, per building.",
        1,
        "°",
    ),
    Measure("vertex_ratio", "vertices, of the truth's", OUTLINES, "Vertices of a footprint over its building's.", 2),
    Measure("truth_buildings", "in the truth", COUNTS, "Buildings that were compared.", 0),
    Measure("prediction_buildings", "in the prediction", COUNTS, "Footprints that were compared.", 0),
    Measure("matched", "matched", COUNTS, "One footprint, one building, an IoU of 0.5 or more.", 0),
    Measure("missed", "missed", COUNTS, "Buildings that no footprint stands for.", 0),
    Measure("false", "false", COUNTS, "Footprints that stand for no building.", 0),
    Measure("merged", "merged", COUNTS, "Buildings that one footprint joins with others.", 0),
    Measure("split", "split", COUNTS, "Buildings that several footprints share.", 0),
    Measure("truth_area_m2", "area in the truth", COUNTS, "Of all buildings.", 0, "m²"),
    Measure("prediction_area_m2", "area in the prediction", COUNTS, "Of all footprints.", 0, "m²"),
    Measure("ece", "expected calibration error", CALIBRATION, "How far probabilities are from being frequencies."),
    Measure("best_threshold", "best threshold", CALIBRATION, "Where F1 would be highest."),
    Measure("f1_at_best_threshold", "F1 there", CALIBRATION, "Of pixels; of buildings where footprints came alone."),
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
