"""The scores as rows of words."""

from typing import NamedTuple

from buildseg.evaluation.measures import MEASURES, written
from buildseg.evaluation.scores import Scores


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        group: The part of the table it stands in.
        label: What was measured.
        value: How much it is, ``-`` where there was nothing to measure.
        interval: From where to where it is with 95% confidence; empty where that makes no sense.
    """

    group: str
    label: str
    value: str
    interval: str


def score_rows(scores: Scores) -> list[Row]:
    """Give the scores, a row each.

    Args:
        scores: What was measured.
    """
    rows = []
    for measure in MEASURES:
        interval = scores.intervals.get(measure.key)
        between = f"{interval[0]:,.{measure.digits}f} to {interval[1]:,.{measure.digits}f}" if interval else ""
        rows.append(Row(measure.group, measure.label, written(measure, scores.values[measure.key]), between))
    return rows


SIZE_HEADER = ("area, m²", "truth", "prediction", "precision", "recall", "F1", "mean IoU")


def size_rows(scores: Scores) -> list[tuple[str, ...]]:
    """Give the scores by size, under `SIZE_HEADER`.

    Args:
        scores: What was measured.
    """
    return [
        (
            f"{each.from_m2:,.0f} to {each.to_m2:,.0f}" if each.to_m2 else f"{each.from_m2:,.0f} and more",
            f"{each.truth:,}",
            f"{each.prediction:,}",
            *("-" if v is None else f"{v:.3f}" for v in (each.precision, each.recall, each.f1, each.mean_iou)),
        )
        for each in scores.sizes
    ]
