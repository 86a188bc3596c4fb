"""Trains every network from random weights under one small budget on the same chips, and prints how far each gets.

    python benchmarks/learning.py TILES --out runs/learning

Each network's last epoch counts, so that no network gains by many validations. Minutes are those of all cores
together: they do not depend on what else the machine does. What is finished is kept in the folder and not done
again: a run that was broken off goes on where it was.
"""

import argparse
import json
import os
from pathlib import Path

from buildseg.model_file import read_card
from buildseg.networks import NETWORKS, build_network
from buildseg.networks.cost import NetworkCost, measure_cost
from buildseg.tiles import Tiles, open_tiles
from buildseg.training.options import NetworkChoice, TrainOptions
from buildseg.training.run import train

# Encoders of a size that two CPU cores can train; the others have one for small machines already, or none.
ENCODERS = {
    "unet": "resnet18",
    "psa-unet": "resnet18",
    "da-unet": "resnet18",
    "danet": "resnet18",
    "ccnet": "resnet18",
    "annnet": "resnet18",
    "hrnet-ocr-psa": "tu-hrnet_w18_small",
}
HEADER = ("network", "encoder", "IoU", "F1", "CPU minutes", "parameters", "GFLOPs at 512")


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path, nargs="+", help="tiles folders, with train/ and val/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--gsd", type=float, default=0.5, help="metres per pixel")
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tiles = open_tiles(arguments.tiles)
    options = TrainOptions(
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        crop=arguments.crop,
        gsd=arguments.gsd,
        workers=1,
        seed=arguments.seed,
    )
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}")
    for name in arguments.networks:
        scores = trained(name, tiles, arguments.out / name, options)
        encoder = ENCODERS.get(name, NETWORKS[name].encoder)
        cost = cost_of(name, encoder)
        cells = [
            f"`{name}`",
            f"`{encoder}`" if encoder else "",
            f"{scores['val_iou']:.3f}",
            f"{scores['val_f1']:.3f}",
            f"{scores['minutes']:.1f}",
            f"{cost.parameters / 1e6:.1f} M",
            f"{cost.gflops:.1f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def trained(name: str, tiles: Tiles, folder: Path, options: TrainOptions) -> dict[str, float]:
    """Train one network, or read what it reached before.

    Returns:
        The last epoch's validation scores, 0..1, and the minutes of processor time that training took.
    """
    record = folder / "learning.json"
    if record.exists():
        done: dict[str, float] = json.loads(record.read_text(encoding="utf-8"))
        return done
    choice = NetworkChoice(name=name, encoder=ENCODERS.get(name), encoder_weights="none")
    before = os.times()
    train(tiles, folder, choice, options, overwrite=True)
    minutes = sum(after - then for after, then in zip(os.times()[:4], before[:4], strict=True)) / 60
    scores = dict(read_card(folder / "last.safetensors").scores) | {"minutes": minutes}
    record.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    return scores


def cost_of(name: str, encoder: str | None) -> NetworkCost:
    """Count what a prediction of 512 x 512 pixels costs."""
    return measure_cost(lambda: build_network(name, encoder=encoder), (1, 3, 512, 512))


if __name__ == "__main__":
    main()
