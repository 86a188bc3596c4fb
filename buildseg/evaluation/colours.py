"""One colour for each thing that can become of a building, on maps, in curves and in QGIS."""

from buildseg.evaluation.matching import FALSE, MATCHED, MERGED, MISSED, SPLIT

COLOURS = {
    MATCHED: (0.13, 0.65, 0.30),
    MISSED: (0.12, 0.40, 0.85),
    FALSE: (0.90, 0.20, 0.15),
    MERGED: (0.95, 0.60, 0.05),
    SPLIT: (0.62, 0.25, 0.75),
}
