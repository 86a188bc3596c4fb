"""Peak memory and speed of `buildseg predict` with the shipped model, by the size of the scene.

Run: python benchmarks/predict_memory.py [SIDE ...] [further options of buildseg predict]

Each scene is the sample scene repeated to SIDE x SIDE pixels (a VRT, so the disk stays small) and predicted on the CPU
by the installed program in a process of its own, whose peak resident memory the operating system reports.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rasterio

ROOT = Path(__file__).resolve().parent.parent
LIMIT_GB = 2.0


def repeated_scene(path: Path, side: int) -> None:
    """Write a VRT that repeats the sample scene."""
    source = ROOT / "sample_data" / "scene.tif"
    with rasterio.open(source) as scene:
        crs, step, transform = scene.crs.to_wkt(), scene.width, scene.transform
    bands = []
    for band, colour in enumerate(("Red", "Green", "Blue"), 1):
        tiles = "".join(
            f"<SimpleSource><SourceFilename>{source}</SourceFilename><SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{step}" ySize="{step}"/>'
            f'<DstRect xOff="{col}" yOff="{row}" xSize="{step}" ySize="{step}"/></SimpleSource>'
            for row in range(0, side, step)
            for col in range(0, side, step)
        )
        interpretation = f"<ColorInterp>{colour}</ColorInterp>"
        bands.append(f'<VRTRasterBand dataType="Byte" band="{band}">{interpretation}{tiles}</VRTRasterBand>')
    geotransform = ", ".join(str(value) for value in transform.to_gdal())
    path.write_text(
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>{crs}</SRS>'
        f"<GeoTransform>{geotransform}</GeoTransform>{''.join(bands)}</VRTDataset>",
        encoding="utf-8",
    )


def measure(side: int, folder: Path, options: list[str]) -> None:
    """Predict one scene and print a row of the table."""
    scene, out = folder / f"{side}.vrt", folder / f"{side}.gpkg"
    repeated_scene(scene, side)
    before = time.monotonic()
    program = Path(sys.executable).with_name("buildseg")
    done = subprocess.run(
        [program, "predict", scene, "--out", out, "--device", "cpu", *options],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - before
    # Peak over all children so far: scenes are measured from small to large.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    verdict = "ok" if peak < LIMIT_GB else "OVER"
    print(
        f"{side:>6} {side * side / 1e6:>8.0f} {peak:>8.2f} {verdict:>5} {seconds:>8.0f} "
        f"{side * side / 1e6 / seconds:>8.2f}  {done.stdout.strip().rsplit(': ', 1)[-1]}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sides", type=int, nargs="*", default=[2048, 10_000, 20_000])
    arguments, options = parser.parse_known_args()
    print("  side      Mpx  peak GB  <2GB  seconds    Mpx/s  result")
    with tempfile.TemporaryDirectory() as folder:
        for side in sorted(arguments.sides):
            measure(side, Path(folder), options)


if __name__ == "__main__":
    main()
