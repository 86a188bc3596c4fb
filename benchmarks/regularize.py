"""Measures `buildseg.footprints.regularize` against Building-Regulariser on the same contours, in one run.

    python benchmarks/regularize.py DATA [--full]

DATA holds label_rasters/, banepa/, kampala/ and massachusetts/. Accuracy is of pairs of a contour and the true outline
that it overlaps by more than half; IoU, PoLiS in metres, the max tangent angle error and vertices per building are
means over them. Gaps are what a closing of 0.75 m fills between row houses, overlaps what neighbours have in common,
both in m2 and less those of the contours. Building-Regulariser runs as its README says: once with its defaults, once
with a simplify_tolerance of 2.5 pixels. All run on one core. "kept" is the share that stayed a contour; a dash where a
method does not say.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from regularize_cases import Case, label_polygons, label_rasters, predictions, row_houses

from buildseg.evaluation.outlines import angle_error, iou, polis
from buildseg.footprints.regularize import RegularizeOptions, regularize

HEADER = (
    "buildings",
    "method",
    "IoU",
    "PoLiS m",
    "angle error",
    "vertices",
    "gaps m2",
    "overlaps m2",
    "farthest m",
    "polygons/s",
    "kept",
)
Made = tuple[NDArray[np.object_], float | None]


def main() -> None:
    """Make the cases, run the methods, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--full", action="store_true", help="whole rasters, more of all: some ten minutes")
    arguments = parser.parse_args()
    data, full = arguments.data, arguments.full
    methods: dict[str, Callable[[Case], Made]] = {
        "contour": lambda case: (case.contours, None),
        "Building-Regulariser": lambda case: theirs(case, 0.5),
        "Building-Regulariser, 2.5 pixels": lambda case: theirs(case, 2.5 * case.gsd),
        "buildseg, 3 pixels": lambda case: ours(case, 3),
        "buildseg, 4 pixels": lambda case: ours(case, 4),
    }
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}")
    for case in (
        row_houses(0),
        label_rasters(data / "label_rasters", 5000 if full else 1500),
        label_polygons(data, 8 if full else 1),
        predictions(data, 1000 if full else 700, 3 if full else 1),
    ):
        for name, method in methods.items():
            started = time.perf_counter()
            made, kept = method(case)
            seconds = time.perf_counter() - started
            row = [f"{case.name}, {len(case.truths)}", name, *measured(case, made)]
            speed = "" if name == "contour" else f"{len(made) / seconds:.0f}"
            print(f"| {' | '.join([*row, speed, '-' if kept is None else f'{kept:.1%}'])} |", flush=True)


def ours(case: Case, pixels: float) -> Made:
    """Regularise with a bound of so many pixels."""
    made, status = regularize(case.contours, case.groups, RegularizeOptions(pixels * case.gsd))
    return made, float((status == "kept").mean())


def theirs(case: Case, tolerance: float) -> Made:
    """Regularise with Building-Regulariser; what it leaves of a building in parts is put together, empty if nothing."""
    from buildingregulariser import regularize_geodataframe

    table = gpd.GeoDataFrame({"building": np.arange(len(case.contours))}, geometry=case.contours, crs="EPSG:32632")
    done = regularize_geodataframe(table, simplify_tolerance=tolerance, num_cores=1)
    by_building = done.dissolve("building").geometry.reindex(range(len(case.contours)))
    return np.array([shapely.Polygon() if shape is None else shape for shape in by_building]), None


def measured(case: Case, made: NDArray[np.object_]) -> list[str]:
    """The columns from IoU to the farthest that any outline is from its contour."""
    there = ~shapely.is_empty(made)
    alike, truths, contours = made[there], case.truths[there], case.contours[there]
    rings = shapely.get_num_coordinates(alike) - [
        sum(1 + len(part.interiors) for part in shapely.get_parts(shape)) for shape in alike
    ]
    # Adding 0 makes of -0.00 what it is.
    gap = f"{round(gaps(made) - gaps(case.contours), 2) + 0:.2f}" if len(set(case.groups)) < len(case.groups) else "-"
    far = shapely.hausdorff_distance(shapely.boundary(alike), shapely.boundary(contours), densify=0.1)
    return [
        f"{iou(made, case.truths).mean():.4f}",
        f"{polis(alike, truths).mean():.3f}",
        f"{np.nanmean(angle_error(alike, truths)):.2f}",
        f"{rings.mean():.1f}",
        gap,
        f"{round(overlaps(made) - overlaps(case.contours), 2) + 0:.2f}",
        f"{far.max():.2f}",
    ]


def gaps(polygons: NDArray[np.object_]) -> float:
    """Area that a closing with square corners fills."""
    whole = shapely.union_all(polygons)
    grown = shapely.buffer(whole, 0.75, join_style="mitre")
    return float(shapely.area(shapely.difference(shapely.buffer(grown, -0.75, join_style="mitre"), whole)))


def overlaps(polygons: NDArray[np.object_]) -> float:
    """Area that polygons share, pair by pair."""
    one, other = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    pairs = one < other
    return float(shapely.area(shapely.intersection(polygons[one[pairs]], polygons[other[pairs]])).sum())


if __name__ == "__main__":
    main()
