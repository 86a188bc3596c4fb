"""Predicts blocks in this process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from buildseg.devices import resolve_device, resolve_precision
from buildseg.model_file import Model
from buildseg.networks.cost import flops_per_pixel
from buildseg.prediction.allocation import keep_freed_memory
from buildseg.prediction.engine import Pace, predict_blocks
from buildseg.prediction.job import Job, identify, runs_of
from buildseg.prediction.network import Arithmetic, Ensemble, Network, TorchNetwork, views
from buildseg.prediction.options import PredictOptions
from buildseg.progress import Track, silent
from tiling import Block
from tiling.raster import encode_block

_BATCH_SIZE = {"cpu": 1, "cuda": 16, "mps": 8}
# On a CPU, more windows at once take more memory and no less time: what a network has in hand outgrows the cache. Where
# it does little with each, what there is to do for each call counts for more: LR-ASPP takes 18,000 operations a pixel.
_LIGHT, _LIGHT_BATCH_SIZE = 20_000, 6
_MOST_STREAMS = 4


@dataclass(frozen=True, slots=True)
class Finished:
    """A block that is done.

    Attributes:
        block: Where it lies.
        content: Its encoded probabilities as the bytes of a GeoTIFF.
    """

    block: Block
    content: bytes


class LocalPredictor:
    """Models made ready for this machine.

    Args:
        models: At least one; their probabilities are averaged.
        options: How to predict.

    Raises:
        OptionError: The device or its arithmetic is not there.
    """

    def __init__(self, models: Sequence[Model], options: PredictOptions) -> None:
        machine = options.machine
        device = resolve_device(machine.device)
        self.models = models
        self.identities = [identify(model) for model in models]
        self.precision = resolve_precision(machine.precision, device)
        shown = views(options.augmentation, options.scales)
        self.arithmetic = Arithmetic(self.precision, machine.compiled, shown)
        self._networks = [TorchNetwork(model, device, self.arithmetic) for model in models]
        self.pace = _pace(device, machine.batch_size or _batch_size(device, models))

    def finish(self, job: Job, blocks: Sequence[Block], track: Track = silent) -> Iterator[Finished]:
        """Predict blocks of a scene.

        Args:
            job: The scene, opened for the same models.
            blocks: Some of its blocks, in its order.
            track: Shows progress, window by window.

        Yields:
            The blocks, in their order.
        """
        profile = job.profile(self.models)
        runs = runs_of(blocks)
        parts = predict_blocks(job.scene, job.grid, runs, self.network(job), self.pace, area=job.area, track=track)
        for part in parts:
            yield Finished(part.block, encode_block(part.pixels, part.block, profile))

    def network(self, job: Job) -> Network:
        """Give the network that takes the pixels of a scene."""
        networks = [one.scaling(contract) for one, contract in zip(self._networks, job.contracts, strict=True)]
        return networks[0] if len(networks) == 1 else Ensemble(networks)


def _batch_size(device: torch.device, models: Sequence[Model]) -> int:
    light = device.type == "cpu" and all(flops_per_pixel(model.network) <= _LIGHT for model in models)
    return _LIGHT_BATCH_SIZE if light else _BATCH_SIZE[device.type]


def _pace(device: torch.device, batch_size: int) -> Pace:
    if device.type != "cpu":
        return Pace(device, batch_size)
    keep_freed_memory()
    threads = torch.get_num_threads()
    streams = min(threads, _MOST_STREAMS)
    return Pace(device, batch_size, streams, threads // streams)
