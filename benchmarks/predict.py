"""Speed and memory of prediction: ours against the bare forward pass of the same windows, and against peers.

Run: python benchmarks/predict.py [--networks lraspp psa-unet] [--sides 4096 8192] [--repeats 3] [--peers ...]

The scene is a drawn town (deflate GeoTIFF, 0.3 m), the windows are 512 pixels with a quarter shared, the models are
trained on the drawn town for a minute. Every repeat runs all systems one after the other, and medians are printed, so
that the machine's moods fall on all of them. Not timed: imports, loading and preparing models.

"bare" is the forward pass alone, of as many windows, by the same network in the same precision, batches and threads,
on scaled images that are in memory. "ours" runs from opening the scene to the finished file: footprints as GeoJSON, or
the probability raster alone. What the peers do is said in predict_peers.py.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import predict_peers
import rasterio
import torch

from buildseg.model_file import Model
from buildseg.prediction.job import Job, Request, opened_job
from buildseg.prediction.local import LocalPredictor
from buildseg.prediction.network import TorchNetwork
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.run import Outputs, predict_with

ENCODERS = {"lraspp": None, "psa-unet": "resnet34"}
BARS = {"lraspp": 1.4, "psa-unet": 1.1}


def bare(predictor: LocalPredictor, job: Job) -> float:
    """Run the network alone over as many windows as the scene has: seconds."""
    network, pace = predictor.network(job), predictor.pace
    assert isinstance(network, TorchNetwork)  # noqa: S101 - one model
    images = torch.randn(pace.batch_size, len(job.scene.bands), job.grid.size, job.grid.size, device=pace.device)
    batches = -(-len(job.grid) // pace.batch_size)

    def work(count: int) -> None:
        torch.set_num_threads(pace.threads)
        for _ in range(count):
            network.forward(images)

    started = time.perf_counter()
    shares = [len(range(stream, batches, pace.streams)) for stream in range(pace.streams)]
    with ThreadPoolExecutor(pace.streams) as pool:
        list(pool.map(work, shares))
    if pace.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def ours(scene: Path, model: Model, out: Path, options: PredictOptions) -> float:
    """Predict with a model that is made ready first: seconds."""
    return timed(LocalPredictor([model], options), scene, out, options)


def timed(predictor: LocalPredictor, scene: Path, out: Path, options: PredictOptions) -> float:
    """Predict a scene: seconds. The output's extension says whether footprints are drawn."""
    raster = out.suffix == ".tif"
    outputs = Outputs(None if raster else out, out if raster else None, overwrite=True)
    started = time.perf_counter()
    predict_with(predictor, Request(str(scene)), outputs, options)
    return time.perf_counter() - started


def compare(network: str, side: int, folder: Path, arguments: argparse.Namespace) -> None:
    """Measure all systems on one scene, and print a row for each."""
    scene = folder / f"{side}.tif"
    if not scene.exists():
        predict_peers.drawn_scene(scene, side, seed=0)
    model = predict_peers.trained_model(network, ENCODERS[network], folder)
    options = PredictOptions(machine=Machine(device=arguments.device, precision=arguments.precision))
    predictor = LocalPredictor([model], options)
    out, raster = folder / "ours.geojson", folder / "ours.tif"
    with opened_job(Request(str(scene)), [model], options) as job:
        systems: dict[str, Callable[[], float]] = {
            "bare": partial(bare, predictor, job),
            "ours": partial(timed, predictor, scene, out, options),
            "ours, no polygons": partial(timed, predictor, scene, raster, options),
        }
        outs = {"ours": out, "ours, no polygons": raster}
        for peer in arguments.peers:
            outs[peer] = folder / f"{peer}.{'tif' if peer == 'monai' else 'geojson'}"
            systems[peer] = partial(getattr(predict_peers, peer), scene, model, outs[peer])
        seconds = defaultdict(list)
        for _ in range(arguments.repeats):
            for name, run in systems.items():
                seconds[name].append(run())
    peaks = {} if arguments.no_memory else measured_peaks(scene, model, outs, options)
    print(f"{network}, {side} x {side}, {len(job.grid)} windows, {predictor.precision} on {predictor.pace.device}")
    for name, times in seconds.items():
        middle = median(times)
        ratio, faster = middle / median(seconds["bare"]), middle / median(seconds["ours"])
        built = f"{predict_peers.built_share(scene, outs[name]):9.4f}" if name in outs else " " * 9
        peak = f"{peaks[name] / 1e9:6.2f}" if name in peaks else " " * 6
        verdict = "" if name != "ours" else ("ok" if ratio <= BARS[network] else f"over {BARS[network]}")
        print(
            f"  {name:18} {middle:8.2f} s {side * side / 1e6 / middle:8.2f} Mpx/s {ratio:6.2f} of bare "
            f"{faster:6.2f} of ours {peak} GB {built} built  {verdict}",
            flush=True,
        )


def measured_peaks(scene: Path, model: Model, outs: dict[str, Path], options: PredictOptions) -> dict[str, int]:
    """Run every system once more, each in a process of its own, for the most memory that it held."""
    peaks = {}
    for name, out in outs.items():
        if name.startswith("ours"):
            run = partial(ours, scene, model, out, options)
        else:
            run = partial(getattr(predict_peers, name), scene, model, out)
        peaks[name] = predict_peers.peak_memory(run)[1]
    return peaks


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--sides", nargs="+", type=int, default=[4096, 8192])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=predict_peers.PEERS, default=list(predict_peers.PEERS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--no-memory", action="store_true", help="Leave out the runs that measure memory.")
    parser.add_argument("--folder", type=Path, help="Keep scenes and models here for the next time.")
    arguments = parser.parse_args()
    arguments.peers = [peer for peer in arguments.peers if predict_peers.installed(peer)]
    with tempfile.TemporaryDirectory() as passing, rasterio.Env():
        folder = arguments.folder or Path(passing)
        folder.mkdir(exist_ok=True)
        for network in arguments.networks:
            for side in arguments.sides:
                compare(network, side, folder, arguments)


if __name__ == "__main__":
    main()
