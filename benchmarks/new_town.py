"""Fine-tunes a model on ten labelled chips of a place it has not seen, and prints what they bring.

    python benchmarks/new_town.py MODEL TOWN --out runs/new_town

``TOWN`` is a tiles folder with ``train/`` and ``val/``. Ten chips of ``train/``, drawn by a seed, make a folder of
their own, of which training keeps one to choose the best model by; ``val/`` is scored once before and once after.
Everything else is the default of ``buildseg train --model``. The same ten chips from random weights show what the model
brought.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from accuracy import SCORES, spread
from copied_chips import copy_chips

from buildseg.evaluation.model_run import evaluate_model
from buildseg.evaluation.options import EvaluateOptions
from buildseg.tiles import open_tiles
from buildseg.training.callbacks import BEST

BUILDSEG = str(Path(sys.executable).with_name("buildseg"))


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
    print(f"| start | {' | '.join(SCORES.values())} |\n|{' --- |' * (len(SCORES) + 1)}")
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
        scores = [scored(model, arguments.town) for model in models]
        cells = [spread([score[key] for score in scores]) for key in SCORES]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def trained(draw: int, start: list[str], run: Path, arguments: argparse.Namespace) -> Path:
    """Train on chips of the town, or find the model where that was done before."""
    model = run / BEST
    if not model.is_file():
        tiles = arguments.out / f"chips{draw}"
        few_chips(arguments.town, tiles, arguments.chips, draw)
        options = ["--epochs", str(arguments.epochs), "--seed", str(draw), "--overwrite"]
        command = [BUILDSEG, "train", "--tiles", str(tiles), "--out", str(run), *start, *options]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return model


def few_chips(town: Path, target: Path, count: int, draw: int) -> None:
    """Copy some of the training chips."""
    chips = open_tiles([town]).train
    shutil.rmtree(target, ignore_errors=True)
    copy_chips((chips[place] for place in np.random.default_rng(draw).choice(len(chips), count, replace=False)), target)


def scored(model: Path, town: Path) -> dict[str, float]:
    """Score a model on the town's validation chips."""
    scores = evaluate_model(model, [town], EvaluateOptions()).scores.values
    return {key: scores[key] or 0.0 for key in SCORES}


if __name__ == "__main__":
    main()
