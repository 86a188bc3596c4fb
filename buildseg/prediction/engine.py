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
    """Windows with their pixels; those without a valid pixel have been left out.

    Attributes:
        asked: Number of windows of the grid that it stands for.
        windows: Those that are left.
        inputs: Scaled pixels, (N, bands, size, size).
        valid: (N, size, size).
    """

    asked: int
    windows: list[Window]
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
        if window is None:
            continue
        strip = stitcher.add(window, probability, valid)
        if strip is not None:
            yield strip
    strip = stitcher.finish()
    if strip is not None:
        yield strip


_Predicted = tuple[Window | None, NDArray[np.float32], NDArray[np.bool_]]


def _forward(batches: Iterable[_Batch], network: Network) -> Iterator[_Predicted]:
    """Yield one item per window of the grid, so that progress counts skipped ones too."""
    nothing: _Predicted = (None, np.empty(0, np.float32), np.empty(0, np.bool_))
    for batch in batches:
        if batch.windows:
            yield from zip(batch.windows, network(batch.inputs), batch.valid, strict=True)
        for _ in range(batch.asked - len(batch.windows)):
            yield nothing


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
    read = [(window, *scene.read(window)) for window in windows]
    kept = [(window, pixels, valid) for window, pixels, valid in read if valid.any()]
    if not kept:
        return _Batch(len(windows), [], np.empty(0, np.float32), np.empty(0, np.bool_))
    inputs = contract.scale(np.stack([pixels for _, pixels, _ in kept]))
    valid = np.stack([valid for _, _, valid in kept])
    inputs *= valid[:, None]
    return _Batch(len(windows), [window for window, _, _ in kept], inputs, valid)


def _batched(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    iterator = iter(windows)
    while batch := list(islice(iterator, size)):
        yield batch
