"""Trains, is killed and resumes, in processes of its own: for `test_training_resume.py`.

Started with a JSON object: a tiles folder, the run's folder, loading processes, and names of files. As soon as the
first of these is there (or, where it was there before, is a new one), the training is killed; then it is resumed and
killed by the second, and so on; the last resume runs to its end.
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from torch.nn import functional

from buildseg.networks import NETWORKS, NetworkEntry
from buildseg.networks.unet import UNet
from buildseg.tiles import open_tiles
from buildseg.training.options import NetworkChoice, TrainOptions
from buildseg.training.run import train

NETWORK = NetworkChoice(name="forgetful", encoder_weights="none", options={"decoder_channels": [32, 16, 16, 8, 8]})
OPTIONS = TrainOptions.of(
    {"epochs": 3, "batch_size": 2, "crop": 64, "workers": 0, "device": "cpu", "precision": "fp32", "seed": 5}
    | {"ema": 0.9, "accumulate": 2, "freeze_encoder": 1, "encoder_rate": 0.5, "learning_rate": 1e-3}
    | {"register_labels": 4}
)


class Forgetful(UNet):
    """Drops bands of its input at random while it learns."""

    def predict(self, x):
        return super().predict(functional.dropout2d(x, 0.3, self.training))


ENTRY = NetworkEntry(Forgetful, "tu-resnet10t", "drops at random", "nowhere")


def start(order):
    child = os.fork()
    if child == 0:
        options = replace(OPTIONS, workers=order["workers"])
        train(open_tiles([Path(order["tiles"])]), Path(order["out"]), NETWORK, options, resume=True)
        os._exit(0)
    return child


def marks(order, name):
    return {(path, path.stat().st_mtime_ns) for path in Path(order["out"]).glob(name)}


def seen(order, name):
    try:
        return marks(order, name)
    except FileNotFoundError:
        return set()


def main():
    order = json.loads(sys.argv[1])
    NETWORKS["forgetful"] = ENTRY
    for name in order["kills"]:
        before, child = seen(order, name), start(order)
        while not seen(order, name) - before:
            assert os.waitpid(child, os.WNOHANG)[0] == 0, f"it ended before {name} was there"
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    code = os.waitstatus_to_exitcode(os.waitpid(start(order), 0)[1])
    sys.exit(code)


if __name__ == "__main__":
    main()
