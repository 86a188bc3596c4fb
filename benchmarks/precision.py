"""How near the precision that prediction chooses comes to float32.

Run: python benchmarks/precision.py SCENE MODEL... [--precision auto]

Each model predicts the scene twice, in float32 and as it would by itself. Printed are the share of pixels whose
probabilities are at most two of 254 levels apart, the most levels that any are apart, and the F1 of the footprints
against those of float32 (a pair from an IoU of 0.5 on). A scene and models are left by `predict.py --folder`.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from buildseg.evaluation.options import EvaluateOptions
from buildseg.evaluation.run import Prediction, Where, evaluate
from buildseg.labels import read_labels
from buildseg.model_file import load_model
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.run import Outputs, predict

NEAR = 2
HEADER = ("model", "precision", "within 2 levels", "most", "F1")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}")
    for model in arguments.models:
        near, most, f1 = compared(arguments.scene, model, arguments.precision)
        print(f"| {model.stem} | {arguments.precision} | {near:.3%} | {most} | {f1:.4f} |", flush=True)


def compared(scene: Path, model: Path, precision: str) -> tuple[float, int, float]:
    """Predict a scene in float32 and otherwise.

    Returns:
        The share of its pixels that are near, the most levels between the two, and the F1 of footprints.
    """
    with tempfile.TemporaryDirectory() as folder:
        rasters, footprints = [], []
        for kind in ("fp32", precision):
            target = Path(folder) / f"{len(rasters)}.gpkg"
            options = PredictOptions(machine=Machine(precision=kind))
            predict(scene, Outputs(target, target.with_suffix(".tif")), load_model(model), options)
            rasters.append(levels(target.with_suffix(".tif")))
            footprints.append(target)
        truth = read_labels(footprints[0], may_be_empty=True)
        scores = evaluate(Prediction(footprints[1]), truth, Where(), EvaluateOptions()).scores.values
    apart = np.abs(rasters[0] - rasters[1])
    return float((apart <= NEAR).mean()), int(apart.max()), float(scores["object_f1"] or 0)


def levels(raster: Path) -> NDArray[np.int16]:
    """Read the probabilities of pixels that have one, 0 to 254."""
    with rasterio.open(raster) as dataset:
        values = dataset.read(1)
        return values[values != dataset.nodata].astype(np.int16)


if __name__ == "__main__":
    main()
