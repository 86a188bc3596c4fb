"""Validation scores of a model, tiles folder by tiles folder.

Run: python benchmarks/model_scores.py TILES ... [--model FILE]

Every validation chip is brought to the model's resolution and predicted whole; the scores are over all labelled pixels
of a folder, at threshold 0.5. Without --model, the model that comes with buildseg is scored.
"""

import argparse
from pathlib import Path

import torch
from torchmetrics.functional.classification import binary_stat_scores

from buildseg.classes import IGNORE
from buildseg.model_file import load_model
from buildseg.tiles import open_tiles
from buildseg.training.dataset import WholeChips


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiles", type=Path, nargs="+")
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    total = torch.zeros(5, dtype=torch.long)
    print(f"{'tiles':<16} {'chips':>5} {'IoU':>6} {'F1':>6} {'precision':>9} {'recall':>6}")
    for folder in arguments.tiles:
        chips = WholeChips(open_tiles([folder]).val, model.card.contract)
        counts = torch.zeros(5, dtype=torch.long)
        for index in range(len(chips)):
            image, target, _ = chips[index]
            with torch.inference_mode():
                logits = model.network(image[None])[0, 0]
            counts += binary_stat_scores(logits, target.long(), ignore_index=IGNORE)
        total += counts
        show(folder.name, len(chips), counts)
    show("all", 0, total)


def show(name: str, chips: int, counts: torch.Tensor) -> None:
    """Print a row from counts of true and false positives, true and false negatives."""
    hit, false, _, missed, _ = counts.tolist()
    precision, recall = hit / max(1, hit + false), hit / max(1, hit + missed)
    iou, f1 = hit / max(1, hit + false + missed), 2 * hit / max(1, 2 * hit + false + missed)
    print(f"{name:<16} {chips or '':>5} {iou:>6.3f} {f1:>6.3f} {precision:>9.3f} {recall:>6.3f}")


if __name__ == "__main__":
    main()
