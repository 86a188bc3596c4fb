"""A model of ours as GeoDeep runs it: an ONNX file that says how to tile and what its classes are."""

import json
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import geodeep
import onnx
import rasterio
import torch
from geodeep.inference import create_session
from torch import Tensor, nn

from buildseg.model_file import Model
from buildseg.networks.output import building_probability

CLASSES = {"0": "ground", "1": "building"}


class ForGeoDeep(nn.Module):
    """A network behind GeoDeep's input and output.

    Args:
        model: Of three bands of uint8: GeoDeep divides such pixels by 255 and knows no other scaling.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        contract = model.card.contract
        self.network = model.network.eval()
        self.register_buffer("mean", torch.tensor(contract.mean)[:, None, None] / 255)
        self.register_buffer("std", torch.tensor(contract.std)[:, None, None] / 255)

    def forward(self, x: Tensor) -> Tensor:
        """Label a window: (1, 3, size, size) in 0..1 to the shares of ground and building, (1, 2, size, size)."""
        building = building_probability(self.network((x - self.mean) / self.std))
        return torch.stack([1 - building, building], dim=1)


def segment(scene: Path, model: Model, out: Path, overlap: float) -> float:
    """Predict with GeoDeep: see `predict_peers.geodeep`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with rasterio.open(scene) as dataset:
            export(model, path, dataset.res[0], overlap)
        # GeoDeep makes its session inside of what is timed: it is given one.
        with patch("geodeep.geodeep.create_session", return_value=create_session(str(path))):
            started = time.perf_counter()
            found = geodeep.segment(str(scene), str(path), output_type="geojson", classes=[CLASSES["1"]])
            out.write_text(found, encoding="utf-8")
            return time.perf_counter() - started


def export(model: Model, path: Path, gsd: float, overlap: float) -> None:
    """Write the ONNX file.

    Args:
        model: Its window size becomes the size of GeoDeep's tiles, which is fixed in the graph.
        path: The file to write.
        gsd: Metres per pixel at which GeoDeep is to read the scene. It takes a scene's own pixels if they are no finer.
        overlap: Share of a window that neighbours have in common.
    """
    size = model.card.contract.window
    torch.onnx.export(ForGeoDeep(model).eval(), (torch.zeros(1, 3, size, size),), path, dynamo=True, verbose=False)
    graph = onnx.load(path)
    said = {
        "model_type": "Segmentor",
        "resolution": round(gsd * 100, 2),
        "tiles_overlap": 100 * overlap,
        "seg_thresh": 0.5,
        # A sieve of (2 * 1)^2 pixels. The default of 11 drops all buildings below 484 pixels.
        "seg_small_segment": 1,
        "class_names": CLASSES,
    }
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in said.items()})
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    onnx.save(graph, path)
