"""Whether loading holds up the network: steps of training with the real loader, against the same steps from memory.

    python benchmarks/loading.py [TILES ...] [--network NAME] [--gsd 0.3] [--crop 256] [--workers 0 1 2]

Without TILES, the sample scene is cut into chips. A round is an epoch of the same batches, from memory (compute time)
and at once again from a loader (step time, the wait for the first batch included), so that what else the machine does
weighs on both; medians of the rounds are printed. "waiting" is the share of a step until its batch is there: that is
holding up. Where the network computes on the cores that load, as without a GPU, its steps also get longer by the cores
that loading takes: "CPU" is processor time over processor time, which does not depend on what else the machine does.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import torch
from torch.utils.data import DataLoader

from buildseg.devices import fast_half_precision, resolve_device
from buildseg.labels import read_labels
from buildseg.make_tiles import TileOptions, make_tiles
from buildseg.networks import build_network
from buildseg.threads import usable_cores
from buildseg.tiles import Tiles, open_tiles
from buildseg.training.dataset import Sample, TrainingCrops
from buildseg.training.loaders import make_loader
from buildseg.training.module import SegmentationModule
from buildseg.training.optimization import make_optimizer
from buildseg.training.options import TrainOptions
from buildseg.training.run import default_crop
from buildseg.training.sampling import EpochSampler
from buildseg.training.start import make_contract

SAMPLE = Path(__file__).resolve().parent.parent / "sample_data"
HEADER = ("workers", "step", "compute", "ratio", "waiting", "CPU")


@dataclass(frozen=True, slots=True)
class Round:
    """What an epoch took, per step.

    Attributes:
        step: Seconds.
        waiting: Seconds of it until the batch was there.
        cpu: Seconds of processor time, of the processes that load too.
    """

    step: float
    waiting: float
    cpu: float


class Learner:
    """Does what a step of `buildseg train` does to the network.

    Args:
        name: Of the network.
        encoder: Of the network; None takes its own.
        bands: Of the images.
        device: Where it computes.
    """

    def __init__(self, name: str, encoder: str | None, bands: int, device: torch.device) -> None:
        options = TrainOptions()
        network = build_network(name, in_channels=bands, encoder=encoder, encoder_weights=None)
        self._module = SegmentationModule(network, options).to(device).train()
        self._module.log = lambda *_, **__: None  # type: ignore[method-assign]
        self._optimizer = make_optimizer(network, options.optimizer)
        self._device = device
        self._half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(fast_half_precision(device) or "")

    def learn(self, batch: Sample) -> None:
        """Take one step, and wait until it is done."""
        moved = Sample(*(part.to(self._device, non_blocking=True) for part in batch))
        self._optimizer.zero_grad()
        with torch.autocast(self._device.type, self._half, enabled=self._half is not None):
            loss = self._module.training_step(moved, 0)
        if not torch.isfinite(loss):  # as training looks, which waits for the GPU
            raise SystemExit("the loss is no number any more")
        loss.backward()
        self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def timed(batches: Iterable[Sample], learner: Learner) -> Round:
    """Train an epoch."""
    waiting, steps, cpu, begun = 0.0, 0, cpu_seconds(), time.perf_counter()
    source = iter(batches)
    while True:
        asked = time.perf_counter()
        batch = next(source, None)
        if batch is None:
            break
        waiting += time.perf_counter() - asked
        learner.learn(batch)
        steps += 1
    return Round(*(value / steps for value in (time.perf_counter() - begun, waiting, cpu_seconds() - cpu)))


def cpu_seconds() -> float:
    """Give the processor time of this process and of those that it has started and that still live."""
    children = [child.cpu_times() for child in psutil.Process().children()]
    return time.process_time() + sum(each.user + each.system for each in children)


def row(loaded: Sequence[Round], held: Sequence[Round]) -> tuple[float, ...]:
    """Compare rounds with a loader to those from memory, each beside it.

    Returns:
        Seconds of a step and of its computing, their ratio, the share of a step spent waiting, and the ratio of
        processor times.
    """
    pairs = list(zip(loaded, held, strict=True))
    return (
        median(one.step for one in loaded),
        median(one.step for one in held),
        median(one.step / other.step for one, other in pairs),
        median(one.waiting / one.step for one in loaded),
        median(one.cpu / other.cpu for one, other in pairs),
    )


def measure(tiles: Tiles, arguments: argparse.Namespace) -> None:
    """Train and print the table."""
    device, options = resolve_device(arguments.device), TrainOptions(gsd=arguments.gsd, crop=arguments.crop)
    contract = make_contract(tiles, options)
    crops = TrainingCrops(tiles.train, contract, options.crop or default_crop(tiles, contract))
    size, count = arguments.batch_size, arguments.batch_size * arguments.steps

    def loader(workers: int) -> DataLoader[Sample]:
        return make_loader(crops, workers, size, sampler=EpochSampler(len(crops), count, seed=0), drop_last=True)

    torch.manual_seed(0)
    learner = Learner(arguments.network, arguments.encoder, len(tiles.bands), device)
    begun = time.process_time()
    batches = list(loader(0))
    crop = (time.process_time() - begun) / count
    loaders = {workers: loader(workers) for workers in arguments.workers}
    for each in loaders.values():
        timed(each, learner)
    rounds: dict[int, tuple[list[Round], list[Round]]] = {workers: ([], []) for workers in loaders}
    for _ in range(arguments.rounds):
        for workers, (loaded, held) in rounds.items():
            held.append(timed(batches, learner))
            loaded.append(timed(loaders[workers], learner))
    print(f"{arguments.network} on {device}, {torch.get_num_threads()} threads")
    print(f"batches of {tuple(batches[0].image.shape)}; loading takes {crop * 1e3:.1f} ms a crop")
    print("".join(f"{name:>12}" for name in HEADER))
    for workers, results in rounds.items():
        step, compute, ratio, waiting, cpu = row(*results)
        print(f"{workers:>12}{step * 1e3:>9.1f} ms{compute * 1e3:>9.1f} ms{ratio:>12.3f}{waiting:>12.2%}{cpu:>12.3f}")


def sample_tiles(folder: Path) -> Tiles:
    """Cut the sample scene into chips."""
    labels = read_labels(SAMPLE / "labels.geojson")
    make_tiles([SAMPLE / "scene.tif"], labels, folder / "tiles", TileOptions(size=256))
    return open_tiles([folder / "tiles"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path, nargs="*", help="tiles folders; none takes the sample scene")
    parser.add_argument("--network", default="psa-unet")
    parser.add_argument("--encoder")
    parser.add_argument("--gsd", type=float, help="metres per pixel; the tiles' own unless said otherwise")
    parser.add_argument("--crop", type=int, help="side of a crop; as `buildseg train` chooses unless said otherwise")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="processes that load")
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of the network; all cores unless said otherwise")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(arguments.threads or usable_cores())
        measure(open_tiles(arguments.tiles) if arguments.tiles else sample_tiles(Path(folder)), arguments)


if __name__ == "__main__":
    main()
