"""Trains as one of several processes, which the environment tells it of: for `test_training_processes.py`.

Started with a tiles folder and a folder for the run, it writes what this process knows in the end beside the run.
"""

import json
import sys
from pathlib import Path

from buildseg.tiles import open_tiles
from buildseg.training import run
from buildseg.training.module import SegmentationModule
from buildseg.training.options import NetworkChoice, TrainOptions
from buildseg.training.processes import processes

NETWORK = NetworkChoice(
    name="unet", encoder="tu-resnet10t", encoder_weights="none", options={"decoder_channels": [32, 16, 16, 8, 8]}
)
OPTIONS = TrainOptions.of(
    {"epochs": 1, "batch_size": 2, "crop": 64, "workers": 0, "device": "cpu", "precision": "fp32"}
    | {"warmup": 0.0, "learning_rate": 5e-3}
)


class Noting(SegmentationModule):
    """Notes its losses."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.losses = []
        Noting.last = self

    def training_step(self, batch, batch_index):
        loss = super().training_step(batch, batch_index)
        self.losses.append(loss.item())
        return loss


def main():
    tiles, out = map(Path, sys.argv[1:])
    run.SegmentationModule = Noting
    result = run.train(open_tiles([tiles]), out, NETWORK, OPTIONS)
    known = {"losses": Noting.last.losses, "ious": Noting.last.chip_ious.tolist(), "scores": result.scores}
    out.with_name(f"{processes(1).rank}.json").write_text(json.dumps(known))


if __name__ == "__main__":
    main()
