"""Memory and time of writing footprints, by format and number.

Run: python benchmarks/footprint_files.py [COUNT ...] [--formats gpkg,fgb]

A town of L-shaped houses, 20 m apart, is generated table by table and written in a process of its own, whose peak
resident memory the operating system reports. The first row of each format writes no footprint: what the libraries take.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import shapely

from buildseg.footprints import write_footprints
from buildseg.footprints.measures import WGS84
from buildseg.footprints.write import FORMATS

ROWS = 10_000
HOUSE = np.array([(0, 0), (10, 0), (10, 6), (6, 6), (6, 9), (0, 9), (0, 0)]) * 1e-5
STEP = 2.5e-4


@dataclass(frozen=True)
class Town:
    """A stream of houses that are made as they are asked for."""

    count: int
    crs: pyproj.CRS = WGS84

    def __iter__(self) -> Iterator[geopandas.GeoDataFrame]:
        """Make the houses, street by street."""
        across = max(1, round(self.count**0.5))
        for start in range(0, max(1, self.count), ROWS):
            number = np.arange(start, min(start + ROWS, self.count))
            corner = np.column_stack([7 + number % across * STEP, 46 + number // across * STEP])
            outlines = (corner[:, None] + HOUSE).round(7)
            yield geopandas.GeoDataFrame(
                {
                    "id": number + 1,
                    "area_m2": 60 + number % 977 / 8,
                    "confidence": 0.5 + number % 499 / 1000,
                    "edge_width_m": 0.3 + number % 97 / 500,
                    "perimeter_m": 38 + number % 89 / 4,
                    "orientation_deg": number % 900 / 10,
                    "vertices": np.full(len(number), 6),
                    "status": np.where(number % 7, "regular", "kept"),
                    "scene": np.full(len(number), "town.tif", object),
                },
                geometry=shapely.polygons(outlines),
                crs=self.crs,
            )


def measure(count: int, suffix: str, folder: Path) -> None:
    """Write one file and print a row of the table."""
    target = folder / f"town{count}{suffix}"
    before = time.monotonic()
    write_footprints(Town(count), target, provenance={"scene": "town.tif"})
    seconds = time.monotonic() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    size = sum(file.stat().st_size for file in folder.glob(f"town{count}.*")) / 1e6
    print(f"{suffix:>9} {count:>10} {peak:>8.0f} {size:>8.0f} {seconds:>8.1f}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[1_000_000, 4_000_000])
    parser.add_argument("--formats", default=",".join(FORMATS))
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print("   format footprints  peak MB  file MB  seconds")
    for name in arguments.formats.split(","):
        for count in (0, *arguments.counts):
            with tempfile.TemporaryDirectory() as folder:
                process = context.Process(target=measure, args=(count, f".{name.removeprefix('.')}", Path(folder)))
                process.start()
                process.join()


if __name__ == "__main__":
    main()
