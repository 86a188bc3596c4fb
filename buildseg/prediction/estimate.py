"""What a prediction will take, from a short probe."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from buildseg.area_of_interest import AreaOfInterest
from buildseg.model_file import Model
from buildseg.prediction.job import Job, Request, opened_job
from buildseg.prediction.local import LocalPredictor
from buildseg.prediction.options import PredictOptions
from buildseg.scene_sources import SceneSource
from tiling import Block, Window
from tiling.scene import BLOCK_CACHE_BYTES

_PROBED_BATCHES, _PROBED_WINDOWS = 3, 12
# What lies idle between what is in use, after a while; and what drawing takes.
_GAPS = 100 * 2**20


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one scene takes.

    Attributes:
        width: Columns at the models' resolution.
        height: Rows.
        windows: Windows to compute; those that turn out to be empty cost next to nothing.
        window: Their side in pixels.
        probed: Windows that the estimate rests on.
        seconds: Time for all.
        memory: Peak bytes of the process.
        disk: Bytes beside the output while it runs.
        precision: The arithmetic.
        device: Where.
    """

    width: int
    height: int
    windows: int
    window: int
    probed: int
    seconds: float
    memory: int
    disk: int
    precision: str
    device: str

    def __str__(self) -> str:
        megapixels = self.width * self.height / 1e6
        figures = ",.1f" if megapixels >= 1 else ".2g"
        return "\n".join(
            (
                f"  pixels   {self.width} x {self.height} ({megapixels:{figures}} megapixels)",
                f"  windows  {self.windows:,} of {self.window} x {self.window} pixels",
                f"  memory   {_sized(self.memory)}",
                f"  disk     {_sized(self.disk)} beside the output while it runs",
                f"  time     {_said(self.seconds)} on {self.device} in {self.precision}, "
                f"{megapixels / self.seconds:.2f} megapixels/s, by {self.probed} windows",
            )
        )


def estimate_scenes(
    sources: Sequence[SceneSource], models: Sequence[Model], options: PredictOptions, area: AreaOfInterest | None = None
) -> Iterator[tuple[SceneSource, Estimate | None]]:
    """Estimate scenes one after the other, each by a short probe on this machine.

    Args:
        sources: The scenes.
        models: What they would be predicted with.
        options: How.
        area: Where to look.

    Yields:
        Each scene with what it takes, None where the area does not touch it.
    """
    predictor = LocalPredictor(models, options)
    for source in sources:
        with opened_job(Request(source.path, area), models, options) as job:
            yield source, None if job.area is not None and job.area.empty else estimate(predictor, job)


def estimate(predictor: LocalPredictor, job: Job) -> Estimate:
    """Predict a small block in the middle of a scene, and scale up.

    Args:
        predictor: Models that are ready.
        job: The scene, opened for them.

    Returns:
        What the whole scene would take on this machine.
    """
    probe = _probe(predictor, job)
    _run_network(predictor, job)
    for finished in predictor.finish(job, [probe]):
        bytes_per_pixel = len(finished.content) / (probe.rows * probe.cols)
    started = time.monotonic()
    for _ in predictor.finish(job, [probe]):
        pass
    elapsed = time.monotonic() - started
    probed = _count(job, probe)
    windows = sum(_count(job, block) for block in _columns(job))
    widest, tallest = max(block.cols for block in job.blocks), max(block.rows for block in job.blocks)
    # Values and validity of one height of windows and their copy as a strip, then a block, waiting, encoded and stored.
    channels = len(job.profile(predictor.models).descriptions)
    growing = (8 * channels + 2) * job.grid.size * widest + 3 * channels * tallest * widest
    decoded = len(job.scene.bands) * job.scene.height * job.scene.width * np.dtype(job.scene.dtype).itemsize
    return Estimate(
        width=job.scene.width,
        height=job.scene.height,
        windows=windows,
        window=job.grid.size,
        probed=probed,
        seconds=elapsed * windows / probed,
        memory=psutil.Process().memory_info().rss + 2 * growing + min(decoded, BLOCK_CACHE_BYTES) + _GAPS,
        disk=round(bytes_per_pixel * job.scene.width * job.scene.height),
        precision=predictor.precision,
        device=str(predictor.pace.device),
    )


def _run_network(predictor: LocalPredictor, job: Job) -> None:
    """See what memory the network takes, even where the probe holds no valid pixel."""
    size = job.grid.size
    pixels = torch.zeros((predictor.pace.batch_size, len(job.scene.bands), size, size), device=predictor.pace.device)
    predictor.network(job)(pixels, torch.ones_like(pixels[:, 0], dtype=torch.bool))


def _probe(predictor: LocalPredictor, job: Job) -> Block:
    """A block in the scene's middle, or in that of the area: a dozen windows, a few batches for every stream."""
    scene, size = job.scene, job.grid.size
    row, col = scene.height // 2, scene.width // 2
    if job.area is not None:
        point = job.area.geometry.representative_point()
        row, col = int(point.y), int(point.x)
    wanted = max(_PROBED_WINDOWS, _PROBED_BATCHES * predictor.pace.batch_size * predictor.pace.streams)
    cols = min(scene.width, size * wanted)
    return Block(min(row, scene.height - 1), max(0, min(col - cols // 2, scene.width - cols)), 1, cols)


def _columns(job: Job) -> list[Block]:
    """The columns of blocks: within one, no window is computed twice."""
    spans = sorted({(block.col, block.cols) for block in job.blocks})
    return [Block(0, col, job.scene.height, cols) for col, cols in spans]


def _count(job: Job, block: Block) -> int:
    rows, cols = job.grid.touching(block)
    if job.area is None:
        return len(rows) * len(cols)
    return sum(job.area.needs(Window(row, col, job.grid.size)) for row in rows for col in cols)


def _sized(count: float) -> str:
    """Put a number of bytes into words with two figures or more."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _said(seconds: float) -> str:
    """Put a time into words with two figures."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}" if seconds < 100 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.2g} seconds"
