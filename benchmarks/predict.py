"""Speed and memory of prediction: ours against the network alone over the same windows, and against peers.

Run: python benchmarks/predict.py [--networks lraspp psa-unet] [--sides 4096 8192] [--repeats 3] [--peers ...]

The scene is a drawn town (deflate GeoTIFF, 0.3 m), the windows are 512 pixels with a quarter shared, the models are
trained on the drawn town for a minute. Every run is a process of its own; every repeat runs all systems one after the
other, and medians are printed, so that the machine's moods fall on all of them. Not timed: imports, loading and
preparing models.

"bare" is the network alone: as many windows, in the same precision and batches, from scaled images in memory, as
PyTorch runs it in channels-last memory on all cores. "bare, prepared" is the same of the network as we run it: batch
normalisation and activations joined to convolutions, one thread for each of several streams. "ours" runs from opening
the scene to the finished file: footprints as GeoJSON, or the probability raster alone. What the peers do is said in
predict_peers.py.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median

import predict_peers
import torch

from buildseg.model_file import load_model
from buildseg.networks.output import building_probability
from buildseg.prediction.job import Request
from buildseg.prediction.local import LocalPredictor
from buildseg.prediction.network import TorchNetwork
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.run import Outputs, predict_with
from tiling import Grid, overlap_pixels

ENCODERS = {"lraspp": None, "psa-unet": "resnet34"}
BARS = {"lraspp": 1.4, "psa-unet": 1.1}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def bare(model_file: Path, machine: Machine, side: int) -> float:
    """Run the network alone, as PyTorch does: seconds."""
    model = load_model(model_file)
    predictor = LocalPredictor([load_model(model_file)], PredictOptions(machine=machine))
    size, device = model.card.contract.window, predictor.pace.device
    kind = TYPES[predictor.precision]
    network = model.network.to(device=device, dtype=kind, memory_format=torch.channels_last)
    images = torch.randn(predictor.pace.batch_size, 3, size, size, device=device).to(kind)
    images = images.contiguous(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.inference_mode():
            building_probability(network(images))

    return repeated(forward, windows(side, size) / len(images), 1, torch.get_num_threads(), device)


def bare_prepared(model_file: Path, machine: Machine, side: int) -> float:
    """Run the network alone, as we do: seconds."""
    options = PredictOptions(machine=machine)
    predictor = LocalPredictor([load_model(model_file)], options)
    size, pace = predictor.models[0].card.contract.window, predictor.pace
    images = torch.randn(pace.batch_size, 3, size, size, device=pace.device)
    network = TorchNetwork(load_model(model_file), pace.device, predictor.arithmetic)
    batches = windows(side, size) / pace.batch_size
    return repeated(lambda: network.forward(images), batches, pace.streams, pace.threads, pace.device)


def windows(side: int, size: int) -> int:
    """Count the windows of a scene."""
    return len(Grid(side, side, size, overlap_pixels(size, 0.25)))


def repeated(run: Callable[[], object], times: float, streams: int, threads: int, device: torch.device) -> float:
    """Run something so many times, in so many streams: seconds."""

    def work(count: int) -> None:
        torch.set_num_threads(threads)
        for _ in range(count):
            run()

    run()
    shares = [len(range(stream, round(times), streams)) for stream in range(streams)]
    started = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(work, shares))
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def ours(model_file: Path, machine: Machine, scene: Path, out: Path) -> float:
    """Predict a scene: seconds. The output's extension says whether footprints are drawn."""
    options = PredictOptions(machine=machine)
    predictor = LocalPredictor([load_model(model_file)], options)
    raster = out.suffix == ".tif"
    outputs = Outputs(None if raster else out, out if raster else None, overwrite=True)
    import_module("buildseg.footprints")  # which is else imported when the first footprints are drawn
    started = time.perf_counter()
    predict_with(predictor, Request(str(scene)), outputs, options)
    return time.perf_counter() - started


def peer(name: str, model_file: Path, scene: Path, out: Path) -> float:
    """Predict a scene with a peer: seconds."""
    seconds: float = getattr(predict_peers, name)(scene, load_model(model_file), out)
    return seconds


def compare(network: str, side: int, folder: Path, arguments: argparse.Namespace) -> None:
    """Measure all systems on one scene, and print a row for each."""
    scene = folder / f"{side}.tif"
    if not scene.exists():
        predict_peers.drawn_scene(scene, side, seed=0)
    predict_peers.trained_model(network, ENCODERS[network], folder)
    model = folder / f"{network}-{ENCODERS[network] or 'default'}.safetensors"
    machine = Machine(device=arguments.device, precision=arguments.precision)
    outs = {"ours": folder / "ours.geojson", "ours, no polygons": folder / "ours.tif"}
    systems: dict[str, Callable[[], float]] = {
        "bare": partial(bare, model, machine, side),
        "bare, prepared": partial(bare_prepared, model, machine, side),
        **{name: partial(ours, model, machine, scene, out) for name, out in outs.items()},
    }
    for name in arguments.peers:
        outs[name] = folder / f"{name}.{'tif' if name == 'monai' else 'geojson'}"
        systems[name] = partial(peer, name, model, scene, outs[name])
    seconds, peaks = defaultdict(list), defaultdict(list)
    for _ in range(arguments.repeats):
        for name, run in systems.items():
            taken, peak = predict_peers.peak_memory(run)
            seconds[name].append(taken)
            peaks[name].append(peak)
    times = {name: median(each) for name, each in seconds.items()}
    print(f"{network}, {side} x {side}, {windows(side, 512)} windows, {arguments.precision} on {arguments.device}")
    print("                    seconds    Mpx/s   of bare  of prepared  of ours   peak GB   built")
    for name, taken in times.items():
        ratios = [taken / times[other] for other in ("bare", "bare, prepared", "ours")]
        built = f"{predict_peers.built_share(scene, outs[name]):.4f}" if name in outs else ""
        bar = BARS[network]
        verdict = ("ok" if ratios[0] <= bar else f"over {bar} of bare") if name == "ours" else ""
        print(
            f"  {name:17} {taken:8.2f} {side * side / 1e6 / taken:8.2f} {ratios[0]:9.2f} {ratios[1]:12.2f} "
            f"{ratios[2]:8.2f} {median(peaks[name]) / 1e9:9.2f}  {built:>6}  {verdict}",
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--sides", nargs="+", type=int, default=[4096, 8192])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=predict_peers.PEERS, default=list(predict_peers.PEERS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--folder", type=Path, help="Keep scenes and models here for the next time.")
    arguments = parser.parse_args()
    arguments.peers = [peer for peer in arguments.peers if predict_peers.installed(peer)]
    with tempfile.TemporaryDirectory() as passing:
        folder = arguments.folder or Path(passing)
        folder.mkdir(exist_ok=True)
        for network in arguments.networks:
            for side in arguments.sides:
                compare(network, side, folder, arguments)


if __name__ == "__main__":
    main()
