"""Memory and cost per pixel of prediction without a network, by the size of the scene.

Run: python benchmarks/large_scene.py [SIDE ...]

Each scene is a sparse GeoTIFF of SIDE x SIDE RGB pixels, all of them valid, and is predicted with 512-pixel windows, a
quarter shared, in a process of its own. In the network's place stands a function that takes the mean of the bands, so
that what is measured is all the rest: reading, blending, encoding, writing, and looking for footprints.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import rasterio
from predict_peers import PLACE, peak_memory
from torch import Tensor

from buildseg.model_file import load_model
from buildseg.prediction.job import Job, Request
from buildseg.prediction.local import LocalPredictor
from buildseg.prediction.network import Network
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.run import Outputs, predict_with

LIMIT_GB = 2.0


class WithoutNetwork(LocalPredictor):
    """Predicts the brightness of pixels."""

    def network(self, job: Job) -> Network:
        """Give a function in the network's place."""
        return mean_of_bands


def mean_of_bands(pixels: Tensor, valid: Tensor) -> Tensor:
    """Take the mean of the bands, 0..1."""
    return pixels.float().mean(dim=1) / 255


def predicted(scene: Path) -> float:
    """Predict a scene: seconds."""
    options = PredictOptions(window=512, machine=Machine(device="cpu"))
    predictor = WithoutNetwork([load_model()], options)
    started = time.perf_counter()
    predict_with(predictor, Request(str(scene)), Outputs(scene.with_suffix(".gpkg")), options)
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", type=int, nargs="*", default=[10_000, 30_000, 100_000])
    print("  side   megapixels   peak GB        seconds   ns per pixel")
    with tempfile.TemporaryDirectory() as folder:
        for side in parser.parse_args().sides:
            scene = Path(folder) / f"{side}.tif"
            shape = {"height": side, "width": side, "count": 3, "dtype": "uint8", "photometric": "rgb"}
            tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "bigtiff": "yes"}
            rasterio.open(scene, "w", driver="GTiff", crs="EPSG:32632", transform=PLACE, **shape, **tiles).close()
            seconds, peak = peak_memory(partial(predicted, scene))
            verdict = "ok" if peak < LIMIT_GB * 1e9 else "OVER"
            print(
                f"{side:>6} {side * side / 1e6:>12,.0f} {peak / 1e9:>9.2f} {verdict:>4} {seconds:>9.0f} "
                f"{seconds / side / side * 1e9:>14.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
