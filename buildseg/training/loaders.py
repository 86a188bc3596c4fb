"""What brings chips to the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from buildseg.training.augment import use_one_thread
from buildseg.training.dataset import Sample, TrainingCrops, WholeChips
from buildseg.training.options import TrainOptions
from buildseg.training.processes import Processes, processes
from buildseg.training.sampling import EpochSampler, balanced_weights, folder_weights
from tiling.errors import BuildsegError, TrainingError


def train_loader(crops: TrainingCrops, options: TrainOptions, group: Processes | None = None) -> DataLoader[Sample]:
    """Shuffle; every batch is a full one, for the sake of batch normalisation, so that few crops come repeatedly.

    Args:
        crops: What to learn from.
        options: How.
        group: The processes that share the crops.
    """
    group = group or processes(1)
    data = options.data
    weights = None
    if data.sampling == "balanced":
        weights = balanced_weights(crops.chips)
    elif data.sampling == "folders":
        weights = folder_weights(crops.chips, data.folder_power)
    count = max(data.crops or len(crops), options.batch_size * group.count)
    sampler = EpochSampler(len(crops), count, options.seed, weights, (group.rank, group.count))
    return make_loader(crops, options.workers, options.batch_size, sampler=sampler, drop_last=True)


def make_loader(
    dataset: TrainingCrops | WholeChips,
    workers: int,
    batch_size: int,
    **settings: Any,  # noqa: ANN401 - torch's
) -> DataLoader[Sample]:
    """Make a loader whose processes live as long as it does.

    Args:
        dataset: What to load.
        workers: Processes that load.
        batch_size: Samples per batch.
        **settings: Further arguments of torch's loader.
    """
    settings |= {"persistent_workers": workers > 0, "pin_memory": torch.cuda.is_available()}
    return DataLoader(dataset, batch_size, num_workers=workers, worker_init_fn=use_one_thread, **settings)


@contextmanager
def plain_faults() -> Iterator[None]:
    """Say what went wrong in a process that loads as it would be said without one.

    Raises:
        BuildsegError: What was raised there, without the traceback that torch puts into its message.
        TrainingError: Such a process has ended.
    """
    try:
        yield
    except BuildsegError as error:
        wrapped, kind = str(error).startswith("Caught "), type(error)
        if not wrapped:
            raise
        raise kind(str(error).rpartition(f"{kind.__name__}: ")[2].strip()) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            f"a process that loads chips was ended from outside ({str(error).strip()}), as happens where memory runs "
            "short; go on with --resume, and with fewer --workers"
        ) from error
