"""Fine-tunes a model on ten labelled chips of a place it has not seen, and prints what they bring.

    python benchmarks/new_town.py MODEL TOWN --out runs/new_town

``TOWN`` is a tiles folder with ``train/`` and ``val/``. Ten chips of ``train/``, drawn by a seed, make a folder of
their own, of which training keeps one to choose the best model by; ``val/`` is scored once before and once after.
Everything else is the default of ``buildseg train --model``. The same ten chips from random weights show what the model
brought.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import numpy as np

BUILDSEG = str(Path(sys.executable).with_name("buildseg"))
ROWS = {"IoU": "iou", "F1": "f1", "boundary IoU": "boundary_iou", "object F1": "object_f1"}


def main() -> None:
    """Score before, train, score after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model file that has not seen the town")
    parser.add_argument("town", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for chips and runs")
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--draws", type=int, default=3, help="different tens of chips")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--scratch", action="store_true", help="also from random weights")
    arguments = parser.parse_args()
    print(f"| start | {' | '.join(ROWS)} |\n|{' --- |' * (len(ROWS) + 1)}")
    starts = {f"{arguments.model.stem}, as it is": None, "and ten chips": ["--model", str(arguments.model)]}
    if arguments.scratch:
        starts["random weights and ten chips"] = ["--encoder", "tu-resnet10t", "--encoder-weights", "none"]
    for name, start in starts.items():
        models = [arguments.model]
        if start:
            models = [
                trained(draw, start, arguments.out / f"{'tuned' if '--model' in start else 'scratch'}{draw}", arguments)
                for draw in range(arguments.draws)
            ]
        scores = [scored(model, arguments.town, arguments.out) for model in models]
        cells = [spread([score[row] for score in scores]) for row in ROWS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def trained(draw: int, start: list[str], run: Path, arguments: argparse.Namespace) -> Path:
    """Train on chips of the town, or find the model where that was done before."""
    model = run / "best.safetensors"
    if not model.is_file():
        tiles = arguments.out / f"chips{draw}"
        few_chips(arguments.town / "train", tiles, arguments.chips, draw)
        options = ["--epochs", str(arguments.epochs), "--seed", str(draw), "--overwrite"]
        command = [BUILDSEG, "train", "--tiles", str(tiles), "--out", str(run), *start, *options]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return model


def few_chips(source: Path, target: Path, count: int, draw: int) -> None:
    """Copy some of the images with their masks."""
    images = sorted((source / "images").iterdir())
    shutil.rmtree(target, ignore_errors=True)
    for kind in ("images", "masks"):
        (target / kind).mkdir(parents=True)
    for place in np.random.default_rng(draw).choice(len(images), count, replace=False):
        shutil.copy(images[place], target / "images")
        shutil.copy(next((source / "masks").glob(f"{images[place].stem}.*")), target / "masks")


def scored(model: Path, town: Path, out: Path) -> dict[str, float]:
    """Score a model on the town's validation chips."""
    report = out / "scores.json"
    command = [BUILDSEG, "evaluate", "--model", str(model), "--tiles", str(town), "--json", str(report)]
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, "--overwrite"], check=True, stdout=subprocess.DEVNULL)
    scores = json.loads(report.read_text(encoding="utf-8"))
    return {row: scores["scores"][key] for row, key in ROWS.items()}


def spread(values: list[float]) -> str:
    """Give the mean, and how far the draws are from each other."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
