"""Trains on labels that lie beside their buildings, with and without `--register-labels`, and prints what it brings.

    python benchmarks/label_offsets.py TILES --out runs/label_offsets

TILES is a tiles folder with good labels of one class, in chips that know their resolution. Of its training masks each
is moved by an offset of its own (normal, of 2 m along rows and along columns), or all by one offset of 2.5 m and a
little more; validation masks stay as they are and score every run, by its last epoch. "found" is the share of the
training chips with buildings and background whose offset the trained network finds to a pixel along rows and columns,
from whole chips. Minutes are those of all cores together. What is finished is kept in the folder and not done again.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rasterio
import torch
from copied_chips import copy_chips
from numpy.typing import NDArray

from buildseg.evaluation.model_run import evaluate_model
from buildseg.evaluation.options import EvaluateOptions
from buildseg.model_file import load_model
from buildseg.tiles import Tiles, open_tiles
from buildseg.training.callbacks import LAST
from buildseg.training.dataset import WholeChips
from buildseg.training.options import NetworkChoice, TrainOptions
from buildseg.training.registration import find_shifts
from buildseg.training.run import train

HEADER = ("labels", "registered", "seed", "IoU", "boundary IoU", "found", "CPU minutes")
KINDS = {"as they are": (0.0, (0.0, 0.0)), "each moved": (2.0, (0.0, 0.0)), "all moved": (0.5, (2.0, -1.5))}
"""Metres: the spread of the chips' own offsets, and the offset of all."""
GSD = 0.7
REACH = 6
"""Pixels of that resolution."""
BOUNDARY = 2.0
"""Metres from outlines that boundary IoU looks at: 3 pixels."""


def main() -> None:
    """Move, train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path, help="tiles folder, with train/ and val/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--encoder", default="tu-efficientnet_lite0")
    parser.add_argument("--encoder-weights", default="none", help="imagenet, none or a file")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    channels = {"decoder_channels": [64, 32, 16, 16, 8]}
    choice = NetworkChoice(None, "unet", arguments.encoder, arguments.encoder_weights, channels)
    tiles = open_tiles([arguments.tiles])
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}")
    for seed in arguments.seeds:
        for kind in KINDS:
            for reach in (0, REACH):
                options = TrainOptions.of(
                    {"epochs": arguments.epochs, "seed": seed, "register_labels": reach}
                    | {"batch_size": 16, "crop": 64, "gsd": GSD, "workers": 0, "device": "cpu", "precision": "fp32"}
                )
                scores = trained(tiles, kind, arguments.out, choice, options)
                cells = [f"{scores[name]:.3f}" for name in ("iou", "boundary_iou", "found")]
                registered = f"{reach} pixels" if reach else "no"
                row = [kind, registered, f"{seed}", *cells, f"{scores['minutes']:.1f}"]
                print(f"| {' | '.join(row)} |", flush=True)


def trained(tiles: Tiles, kind: str, out: Path, choice: NetworkChoice, options: TrainOptions) -> dict[str, float]:
    """Train on moved labels, or read what came of it before.

    Returns:
        Scores on the validation chips and the share of offsets found, 0..1, and minutes of processor time.
    """
    run = out / f"{kind} {options.data.register_labels} {options.seed}".replace(" ", "-")
    record = run / "label_offsets.json"
    if record.exists():
        done: dict[str, float] = json.loads(record.read_text(encoding="utf-8"))
        return done
    folder = out / f"tiles {kind} {options.seed}".replace(" ", "-")
    noisy, offsets = moved_tiles(tiles, folder, kind, options.seed)
    before = os.times()
    train(noisy, run, choice, options, overwrite=True)
    minutes = sum(after - then for after, then in zip(os.times()[:4], before[:4], strict=True)) / 60
    model = run / LAST
    scores = evaluate_model(model, noisy.folders, EvaluateOptions(boundary=BOUNDARY), device="cpu").scores.values
    result = {name: float(scores[name]) for name in ("iou", "boundary_iou")}
    result |= {"found": found(model, noisy, offsets), "minutes": minutes}
    record.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def found(model: Path, tiles: Tiles, offsets: NDArray[np.float64]) -> float:
    """Give the share of offsets, in metres, that a model finds to a pixel from whole training chips."""
    loaded, right = load_model(model), []
    loaded.network.eval()
    chips = WholeChips(tiles.train, loaded.card.contract)
    for index, offset in enumerate(offsets / GSD):
        image, target, _ = chips[index]
        inner = target[REACH:-REACH, REACH:-REACH]
        if inner.min() < inner.max():
            with torch.inference_mode():
                shift = find_shifts(loaded.network(image[None]), target[None], REACH)[0].numpy()
            right.append(bool((abs(shift - offset) <= 1).all()))
    return float(np.mean(right))


def moved_tiles(tiles: Tiles, folder: Path, kind: str, seed: int) -> tuple[Tiles, NDArray[np.float64]]:
    """Write tiles whose training masks are moved.

    Args:
        tiles: With good labels.
        folder: To write them to.
        kind: One of `KINDS`.
        seed: Of the offsets.

    Returns:
        The tiles, and the metres by which each training mask was moved down and right.
    """
    spread, common = KINDS[kind]
    gsd = np.array([[chip.gsd or 1.0] for chip in tiles.train])
    pixels = np.round(np.random.default_rng(seed).normal(common, spread, (len(gsd), 2)) / gsd).astype(int)
    for split, chips in (("train", tiles.train), ("val", tiles.val)):
        copy_chips(chips, folder / split)
    for chip, (down, right) in zip(tiles.train, pixels.tolist(), strict=True):
        with rasterio.open(folder / "train" / "masks" / chip.mask.name, "r+") as file:
            file.write(moved(file.read(1), down, right), 1)
    return open_tiles([folder]), pixels * gsd


def moved(mask: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Move a mask; what comes in from beyond it is that nearest to it."""
    rows, cols = (np.arange(length) - way for length, way in zip(mask.shape, (down, right), strict=True))
    return mask[np.ix_(rows.clip(0, mask.shape[0] - 1), cols.clip(0, mask.shape[1] - 1))]


if __name__ == "__main__":
    main()
