"""Draws the pictures of docs/model_card.md: scores by place, and where the model is right and wrong.

Run: python docs/draw_model_card.py scores SHIPPED=FOLDER EARLIER=FOLDER ... PICTURE
     python docs/draw_model_card.py errors TILES ... PICTURE

A folder of scores holds what `buildseg evaluate --json` wrote, one file for each place. The second picture shows of
each tiles folder a bad, a usual and a good validation chip, without its image, whose licence may not allow that.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from buildseg.classes import BUILDING, IGNORE
from buildseg.evaluation.chips import Chips
from buildseg.evaluation.colours import COLOURS
from buildseg.evaluation.matching import FALSE, MATCHED, MISSED
from buildseg.model_file import load_model
from buildseg.tiles import open_tiles

SCORES = {"iou": "IoU", "object_f1": "F1 of buildings at IoU 0.5"}
RANKS = {"a bad chip": 0.1, "a usual one": 0.5, "a good one": 0.9}
MARKS = ("o", "s", "D", "^")
LEAST_SHARE = 0.05


def draw_scores(models: dict[str, Path], picture: Path) -> None:
    """Draw a row for each place, a mark with its interval for each model."""
    places = sorted({path.stem for folder in models.values() for path in folder.glob("*.json")})
    figure = Figure(figsize=(11, 1.2 + 0.55 * len(places)), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(SCORES), sharey=True), SCORES.items(), strict=True):
        for number, (name, folder) in enumerate(models.items()):
            offset = 0.14 * (number - (len(models) - 1) / 2)
            rows = [row for row, place in enumerate(places) if (folder / f"{place}.json").exists()]
            found = [json.loads((folder / f"{places[row]}.json").read_text(encoding="utf-8")) for row in rows]
            values = np.array([one["scores"][key] for one in found])
            bounds = np.array([one["intervals"].get(key, [one["scores"][key]] * 2) for one in found])
            spread = np.abs(bounds - values[:, None]).T
            axes.errorbar(values, np.array(rows) + offset, xerr=spread, fmt=MARKS[number], label=name, capsize=2)
        axes.set(title=label, xlim=(0, 1), yticks=range(len(places)), yticklabels=places)
        axes.grid(axis="x", alpha=0.3)
    figure.axes[0].invert_yaxis()
    figure.axes[0].legend(loc="lower left", frameon=False)
    figure.savefig(picture, dpi=110)


def draw_errors(folders: list[Path], picture: Path) -> None:
    """Draw a row for each tiles folder: hit green, missed blue, false red, no label grey."""
    model = load_model()
    figure = Figure(figsize=(3 * len(RANKS), 3.2 * len(folders)), layout="constrained")
    grid = figure.subplots(len(folders), len(RANKS), squeeze=False)
    for row, folder in zip(grid, folders, strict=True):
        chips = Chips(open_tiles([folder]).val, model, torch.device("cpu"))
        looked = [look(chips, index) for index in range(len(chips.files))]
        ranked = sorted((pair for pair in looked if pair is not None), key=lambda pair: pair[0])
        for axes, (label, rank) in zip(row, RANKS.items(), strict=True):
            iou, colours = ranked[round(rank * (len(ranked) - 1))]
            axes.imshow(colours)
            axes.set_title(f"{folder.name}: {label}, IoU {iou:.2f}", fontsize=9)
            axes.set_axis_off()
    figure.savefig(picture, dpi=80)


def look(chips: Chips, index: int) -> tuple[float, NDArray[np.float64]] | None:
    """Score and colour a chip; none where next to nothing is building."""
    probability, target = chips.predict(index)
    found, truth, known = probability.numpy() >= 0.5, target == BUILDING, target != IGNORE
    if truth.sum() < LEAST_SHARE * known.sum():
        return None
    colours = np.ones((*target.shape, 3))
    colours[~known] = 0.8
    for outcome, where in ((MATCHED, found & truth), (MISSED, ~found & truth), (FALSE, found & ~truth & known)):
        colours[where] = COLOURS[outcome]
    return float((found & truth).sum() / ((found | truth) & known).sum()), colours


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("scores", "errors"))
    parser.add_argument("sources", nargs="+")
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    if arguments.kind == "errors":
        draw_errors([Path(source) for source in arguments.sources], arguments.picture)
    else:
        pairs = (source.split("=", 1) for source in arguments.sources)
        draw_scores({name: Path(folder) for name, folder in pairs}, arguments.picture)


if __name__ == "__main__":
    main()
