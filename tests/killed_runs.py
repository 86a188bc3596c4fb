"""Runs predictions in forked children and kills them: `python killed_runs.py` is started by a test.

Torch takes seconds to import; here that is done once. Each line of standard input is a JSON object: ``scene``,
``folder`` and ``delay``, in seconds; whether there is a ``raster``; and for a disk that is full ``most`` and ``said``.
For each a child predicts, and is killed after the delay if it is not done. The answer is a line: how the child ended,
0 or -9, and how many parts it left.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch

from bright_model import Brightness, bright_model
from buildseg.footprints import VectorizeOptions
from buildseg.model_file import Model
from buildseg.networks import NetworkOutput
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.run import Outputs, predict
from tiling.errors import OutputError

OPTIONS = PredictOptions(block=64, machine=Machine("cpu", "fp32", batch_size=2))
POLYGONS = VectorizeOptions()


class Sloped(Brightness):
    """Adds a slope over the window, so that the blending shows; it can be slow."""

    seconds = 0.0

    def predict(self, x):
        time.sleep(self.seconds)
        slope = torch.linspace(-1, 1, x.shape[-1])
        return NetworkOutput(super().predict(x).logits + slope + slope[:, None])


def sloped_model(seconds=0.0):
    card = bright_model().card
    network = Sloped(len(card.contract.bands)).eval()
    network.seconds = seconds
    return Model(network, card)


class Mortal(Sloped):
    """Kills the process that it is sent to, where that says so."""

    def __setstate__(self, state):
        if "DIES_OF_MODELS" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        super().__setstate__(state)


def mortal_model():
    model = sloped_model()
    model.network.__class__ = Mortal
    return model


def run(order, outputs, model):
    """Predict; where a file may have no more than ``most`` bytes, write the error to ``said``."""
    if "most" in order:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["most"], resource.RLIM_INFINITY))
    try:
        predict(order["scene"], outputs, model, OPTIONS, POLYGONS)
    except OutputError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path(order["said"]).write_text(str(error))
        return error.exit_code
    return 0


def main():
    model = sloped_model(seconds=0.005)
    for line in sys.stdin:
        order = json.loads(line)
        folder = Path(order["folder"])
        outputs = Outputs(
            folder / "found.geojson", folder / "p.tif" if order.get("raster", True) else None, resume=True
        )
        child = os.fork()
        if child == 0:
            os._exit(run(order, outputs, model))
        deadline = time.monotonic() + order["delay"]
        pid = 0
        while pid == 0 and time.monotonic() < deadline:
            pid, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.001)
        if pid == 0:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        parts = len(list(folder.glob("found.geojson.parts/row*.tif")))
        print(json.dumps([os.waitstatus_to_exitcode(status), parts]), flush=True)


if __name__ == "__main__":
    main()
