"""Runs a network over the windows of a scene and gives finished blocks of encoded probabilities."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from buildseg.prediction.network import Network
from buildseg.prediction.stitch import Stitcher, Strip
from buildseg.probability import NODATA, encode
from buildseg.progress import Track, silent
from buildseg.threads import map_ahead
from tiling import Block, Grid, Scene, Window
from tiling.remote import is_remote

_READERS, _READERS_BESIDE_NETWORK = 2, 1
_READ_AHEAD = 4


class Area(Protocol):
    """What of a scene is wanted."""

    def needs(self, window: Window) -> bool:
        """Say whether any pixel of a window is wanted."""

    def needed(self, row: int, col: int, rows: int, cols: int) -> NDArray[np.bool_]:
        """Say which pixels of a rectangle are wanted, shape (rows, cols)."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How the work is laid out on the machine; the result does not depend on it.

    Attributes:
        device: Where the network runs and windows are cut and blended.
        batch_size: Windows per call of the network.
        streams: Calls at once, each in a thread of its own.
        threads: CPU threads of each call. Streams of one thread each never wait for one another, so on a CPU two of
            them are faster than one with two threads, and leave no core idle beside other work.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 2
    streams: int = 1
    threads: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A finished block.

    Attributes:
        block: Where it lies.
        pixels: Encoded probabilities, uint8 of shape (channels, rows, cols).
    """

    block: Block
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Place:
    """A window, and the number of the run that it is computed for."""

    run: int
    window: Window


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A window with its pixels, (bands, size, size) and (size, size); None where it holds nothing wanted."""

    place: _Place
    pixels: Tensor | None = None
    valid: Tensor | None = None


_Predicted = tuple[_Seen, Tensor | None]


def predict_blocks(
    scene: Scene,
    grid: Grid,
    runs: Sequence[Sequence[Block]],
    network: Network,
    pace: Pace,
    *,
    area: Area | None = None,
    track: Track = silent,
) -> Iterator[Part]:
    """Predict blocks of a scene.

    Windows are read in threads while the network computes, and blended and encoded where it computes. Windows
    without a valid pixel never reach it. Memory holds one height of windows over the blocks' width, a block and a
    few batches.

    Args:
        scene: At the resolution of the network.
        grid: The windows over it.
        runs: Blocks that stand one below the other, without gaps; windows that lie in several blocks of a run are
            computed once.
        network: What to run; its attribute `channels` says how many values it gives for a pixel, without it one.
        pace: How.
        area: What of the scene is wanted; None wants all. Other pixels become nodata.
        track: Shows progress, window by window.

    Yields:
        The blocks, in their order.
    """
    wholes = [Block(run[0].row, run[0].col, sum(block.rows for block in run), run[0].cols) for run in runs]
    touching = [grid.touching(whole) for whole in wholes]
    places = (
        _Place(number, Window(row, col, grid.size))
        for number, (rows, cols) in enumerate(touching)
        for row in rows
        for col in cols
    )
    channels = getattr(network, "channels", 1)
    total = sum(len(rows) * len(cols) for rows, cols in touching)
    # Closed by name, as an error's traceback would keep them reading from a scene that is no longer open.
    with (
        _one_thread(),
        closing(_read(scene, places, pace, area)) as seen,
        closing(_forward(seen, network, pace)) as forwarded,
    ):
        predicted = track(forwarded, "Predicting", total)
        for number, group in groupby(predicted, key=lambda pair: pair[0].place.run):
            stitcher = Stitcher(grid, wholes[number], pace.device, channels)
            for part in _parts(runs[number], channels, _stitched(group, stitcher)):
                if area is not None:
                    block = part.block
                    part.pixels[:, ~area.needed(block.row, block.col, block.rows, block.cols)] = NODATA
                yield part


def _read(scene: Scene, places: Iterable[_Place], pace: Pace, area: Area | None) -> Generator[_Seen, None, None]:
    def load(neighbours: list[_Place]) -> list[_Seen]:
        if area is not None and not any(area.needs(place.window) for place in neighbours):
            return [_Seen(place) for place in neighbours]
        return _load(scene, neighbours, pace.device)

    # A resampled pixel may differ in its last bit with the rectangle that it is read in.
    longest = 1 if scene.resampled or area is not None else pace.batch_size
    # Each reader decodes for itself what it shares with the others, which costs a CPU that computes as well.
    readers = _READERS_BESIDE_NETWORK if pace.device.type == "cpu" and not is_remote(scene.path) else _READERS
    for loaded in map_ahead(load, _neighbours(places, longest), threads=readers, ahead=_READ_AHEAD):
        yield from loaded


def _load(scene: Scene, neighbours: list[_Place], device: torch.device) -> list[_Seen]:
    """Read windows of one row in one go, bring them to the device, and cut them there."""
    first, last = neighbours[0].window, neighbours[-1].window
    pixels, valid = scene.read_block(Block(first.row, first.col, first.size, last.col + last.size - first.col))
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.float32)
    on_device, known = _upload(pixels, device), _upload(valid, device)
    seen = []
    for place in neighbours:
        cols = slice(place.window.col - first.col, place.window.col - first.col + first.size)
        filled = bool(valid[:, cols].any())
        seen.append(_Seen(place, on_device[..., cols], known[:, cols]) if filled else _Seen(place))
    return seen


def _upload(array: NDArray[np.generic], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _forward(seen: Iterable[_Seen], network: Network, pace: Pace) -> Generator[_Predicted, None, None]:
    """Yield every window in its order, with its probability where it holds anything."""

    def predict(batch: list[_Seen]) -> list[_Predicted]:
        torch.set_num_threads(pace.threads)
        filled = [(one.pixels, one.valid) for one in batch if one.pixels is not None and one.valid is not None]
        if not filled:
            return [(one, None) for one in batch]
        pixels, valid = zip(*filled, strict=True)
        with torch.inference_mode():
            probabilities = iter(network(torch.stack(pixels), torch.stack(valid)))
        return [(one, None if one.pixels is None else next(probabilities)) for one in batch]

    batches = _batched(seen, pace.batch_size)
    for predicted in map_ahead(predict, batches, threads=pace.streams, ahead=pace.streams + 1):
        yield from predicted


def _stitched(predicted: Iterable[_Predicted], stitcher: Stitcher) -> Iterator[Strip]:
    for seen, probability in predicted:
        if probability is None:
            strip = stitcher.skip(seen.place.window)
        else:
            strip = stitcher.add(seen.place.window, probability, seen.valid)
        if strip is not None:
            yield strip
    strip = stitcher.finish()
    if strip is not None:
        yield strip


def _parts(run: Sequence[Block], channels: int, strips: Iterable[Strip]) -> Iterator[Part]:
    """Encode strips and lay them into blocks."""
    blocks = iter(run)
    block = next(blocks)
    pixels = np.empty((channels, block.rows, block.cols), np.uint8)
    for strip in strips:
        encoded = encode(strip.values, strip.valid).cpu().numpy()
        row = strip.row
        while encoded.shape[1]:
            count = min(encoded.shape[1], block.row + block.rows - row)
            pixels[:, row - block.row :][:, :count] = encoded[:, :count]
            encoded, row = encoded[:, count:], row + count
            if row == block.row + block.rows:
                yield Part(block, pixels)
                block = next(blocks, block)
                pixels = np.empty((channels, block.rows, block.cols), np.uint8)


def _neighbours(places: Iterable[_Place], longest: int) -> Iterator[list[_Place]]:
    """Group windows of one run and one row."""
    group: list[_Place] = []
    for place in places:
        if group and (len(group) == longest or (place.run, place.window.row) != (group[0].run, group[0].window.row)):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _batched(seen: Iterable[_Seen], size: int) -> Iterator[list[_Seen]]:
    """Group windows so that each group has so many that hold anything; the last may have fewer."""
    batch: list[_Seen] = []
    filled = 0
    for one in seen:
        batch.append(one)
        filled += one.pixels is not None
        if filled == size or len(batch) > 64 * size:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let the calling thread blend with one CPU thread: more would spin against those of the network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
