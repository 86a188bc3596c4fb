"""Runs a network over the windows of a scene and streams out blended probabilities."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from buildseg.contract import Contract
from buildseg.progress import Track, silent
from tiling import BlendWeights, Grid, Scene, Stitcher, Strip, Window

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From scaled windows (N, bands, size, size) to building probabilities (N, size, size) in 0..1."""

_READERS = 2
_BATCHES_AHEAD = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Windows, with the pixels of those N that hold any.

    Attributes:
        windows: All of them, in grid order.
        filled: Which of them have a valid pixel.
        inputs: Scaled pixels, (N, bands, size, size).
        valid: (N, size, size).
    """

    windows: list[Window]
    filled: list[bool]
    inputs: NDArray[np.float32]
    valid: NDArray[np.bool_]


def predict_strips(
    scene: Scene,
    grid: Grid,
    contract: Contract,
    network: Network,
    *,
    batch_size: int,
    track: Track = silent,
) -> Iterator[Strip]:
    """Predict a scene from the top down.

    Windows are read and scaled in threads while the network computes. Windows without a valid pixel never reach it.
    Memory holds one height of windows over the scene's width and a few batches.

    Args:
        scene: At the resolution of the contract.
        grid: The windows over it.
        contract: How pixels are scaled.
        network: What to run.
        batch_size: Windows per call of the network.
        track: Shows progress, window by window.

    Yields:
        Finished rows, without gaps; values are probabilities in 0..1.
    """
    stitcher = Stitcher(grid, BlendWeights.of(grid))
    batches = _read_ahead(scene, contract, _batched(grid, batch_size))
    for window, probability, valid in track(_forward(batches, network), "Predicting", len(grid)):
        strip = stitcher.skip(window) if probability is None else stitcher.add(window, probability, valid)
        if strip is not None:
            yield strip
    strip = stitcher.finish()
    if strip is not None:
        yield strip


_Predicted = tuple[Window, NDArray[np.float32] | None, NDArray[np.bool_] | None]


def _forward(batches: Iterable[_Batch], network: Network) -> Iterator[_Predicted]:
    """Yield every window of the grid in its order, without probability where it holds nothing."""
    for batch in batches:
        probabilities = iter(network(batch.inputs) if any(batch.filled) else ())
        valid = iter(batch.valid)
        for window, filled in zip(batch.windows, batch.filled, strict=True):
            yield (window, next(probabilities), next(valid)) if filled else (window, None, None)


def _read_ahead(scene: Scene, contract: Contract, batches: Iterator[list[Window]]) -> Iterator[_Batch]:
    with ThreadPoolExecutor(_READERS, thread_name_prefix="reader") as readers:
        pending: deque[Future[_Batch]] = deque()
        try:
            for windows in batches:
                pending.append(readers.submit(_read_batch, scene, contract, windows))
                if len(pending) > _BATCHES_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _read_batch(scene: Scene, contract: Contract, windows: list[Window]) -> _Batch:
    read = [scene.read(window) for window in windows]
    filled = [bool(valid.any()) for _, valid in read]
    if not any(filled):
        return _Batch(windows, filled, np.empty(0, np.float32), np.empty(0, np.bool_))
    inputs = contract.scale(np.stack([pixels for pixels, valid in read if valid.any()]))
    valid = np.stack([valid for _, valid in read if valid.any()])
    inputs *= valid[:, None]
    return _Batch(windows, filled, inputs, valid)


def _batched(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    iterator = iter(windows)
    while batch := list(islice(iterator, size)):
        yield batch
