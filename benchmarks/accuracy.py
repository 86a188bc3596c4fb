"""Trains networks under one budget on the same chips, and prints what `buildseg evaluate` says of each.

    python benchmarks/accuracy.py TILES --out runs/accuracy
    python benchmarks/accuracy.py TILES --out runs/accuracy --networks unet danet --seeds 0 1 2
    python benchmarks/accuracy.py TILES --out runs/pretrained --networks unet da-unet --seeds 0 1 2 \
        --encoder tu-efficientnet_lite0 --encoder-weights FILE

With one seed every network sees the same crops in the same order, but for random weights. The model of the last epoch
counts, so that no network gains by many validations. Minutes are processor time, of training with its validations.
With several seeds a score is its mean, lowest and highest; the last column is the IoU less that of the first network,
seed by seed. A run that is finished is kept in the folder and not done again: a benchmark that was broken off goes on.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from buildseg.evaluation.model_run import evaluate_model
from buildseg.evaluation.options import EvaluateOptions
from buildseg.networks import NETWORKS, build_network
from buildseg.networks.cost import measure_cost
from buildseg.tiles import open_tiles
from buildseg.training.callbacks import LAST
from buildseg.training.options import PRESETS, DataOptions, NetworkChoice, TrainOptions
from buildseg.training.run import train

# Encoders that a CPU can train; the others have a small one already, or none to choose.
ENCODERS = {
    "unet": "resnet18",
    "psa-unet": "resnet18",
    "da-unet": "resnet18",
    "danet": "resnet18",
    "ccnet": "resnet18",
    "annnet": "resnet18",
    "hrnet-ocr-psa": "tu-hrnet_w18_small",
}
SCORES = {"iou": "IoU", "f1": "F1", "boundary_iou": "boundary IoU", "object_f1": "object F1"}
HEADER = ("network", "encoder", *SCORES.values(), "CPU minutes", "parameters", "GFLOPs at 512", "IoU gained")
RECORD = "accuracy.json"


@dataclass(frozen=True, slots=True)
class Result:
    """What one run gave.

    Attributes:
        scores: Those of `buildseg evaluate`, by key; None where there is nothing to score.
        minutes: Processor time of training.
    """

    scores: dict[str, float | None]
    minutes: float


def main() -> None:
    """Train, score, print."""
    arguments = parse()
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}")
    first: list[Result] = []
    for name in arguments.networks:
        choice = chosen(name, arguments.encoder, arguments.encoder_weights)
        results = [trained(arguments, choice, seed) for seed in arguments.seeds]
        first = first or results
        print(f"| {' | '.join(cells(choice, results, first))} |", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path, nargs="+", help="tiles folders, with train/ and val/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--gsd", type=float, default=0.5, help="metres per pixel")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--augment", choices=PRESETS, default="light")
    parser.add_argument("--encoder", help="one for all networks that take one; else a small one for each")
    parser.add_argument("--encoder-weights", default="none", help="imagenet, none or a file")
    return parser.parse_args()


def chosen(name: str, encoder: str | None, weights: str) -> NetworkChoice:
    """Choose the encoder of a network, and its weights, where it takes one."""
    own = NETWORKS[name].encoder
    if own is None:
        return NetworkChoice(name=name, encoder_weights="none")
    return NetworkChoice(name=name, encoder=encoder or ENCODERS.get(name, own), encoder_weights=weights)


def trained(arguments: argparse.Namespace, choice: NetworkChoice, seed: int) -> Result:
    """Train one network and score its last epoch, or read what was found before.

    Raises:
        SystemExit: What was found before is of other options.
    """
    options = TrainOptions(
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        crop=arguments.crop,
        gsd=arguments.gsd,
        device="cpu",
        workers=0,
        seed=seed,
        data=DataOptions(augment=arguments.augment),
    )
    folder = arguments.out / f"{choice.name}-{seed}"
    tiles = [path.resolve().name for path in arguments.tiles]
    made_with: dict[str, Any] = {"tiles": tiles, **options.flat(), "network": asdict(choice)}
    record = folder / RECORD
    if record.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
        if known.pop("made_with") != made_with:
            sys.exit(f"{record} is of another budget, encoder or data; give another --out, or take {folder} away")
        return Result(**known)
    before = time.process_time()
    train(open_tiles(arguments.tiles), folder, choice, options, overwrite=True)
    minutes = (time.process_time() - before) / 60
    scores = evaluate_model(folder / LAST, arguments.tiles, EvaluateOptions(), device="cpu").scores.values
    result = Result(dict(scores), minutes)
    record.write_text(json.dumps({"made_with": made_with, **asdict(result)}, indent=2) + "\n", encoding="utf-8")
    return result


def cells(choice: NetworkChoice, results: Sequence[Result], first: Sequence[Result]) -> list[str]:
    """Give the row of a network.

    Args:
        choice: The network.
        results: Of each seed.
        first: Those of the network to compare with, of the same seeds.
    """
    cost = measure_cost(lambda: build_network(choice.name, encoder=choice.encoder), (1, 3, 512, 512))
    gained = [score(mine, "iou") - score(other, "iou") for mine, other in zip(results, first, strict=True)]
    return [
        f"`{choice.name}`",
        f"`{choice.encoder}`" if choice.encoder else "",
        *(spread([score(result, key) for result in results]) for key in SCORES),
        f"{statistics.mean(result.minutes for result in results):.1f}",
        f"{cost.parameters / 1e6:.1f} M",
        f"{cost.gflops:.1f}",
        "" if results is first else spread(gained, "+.3f"),
    ]


def score(result: Result, key: str) -> float:
    """Give a score; 0 where there is nothing to score, for then nothing was found."""
    return result.scores[key] or 0.0


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """Write the mean of values, and the lowest and highest if there are several."""
    mean = f"{statistics.mean(values):{form}}"
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
