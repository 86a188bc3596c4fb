"""Where the work is done: in this process, in several on this machine, or on a cluster."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from buildseg.model_file import Model
from buildseg.prediction.local import LocalPredictor
from buildseg.prediction.options import PredictOptions
from buildseg.prediction.run import Predictor
from tiling.errors import OptionError


@dataclass(frozen=True, slots=True)
class Placement:
    """Who predicts.

    Attributes:
        scheduler: Address of a running Dask scheduler.
        workers: Processes to start on this machine.
        devices: CUDA devices to start a process for.

    Raises:
        OptionError: More than one is given, or there would be no worker.
    """

    scheduler: str | None = None
    workers: int | None = None
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if sum(map(bool, (self.scheduler, self.workers is not None, self.devices))) > 1:
            raise OptionError("--dask, --workers and --devices exclude one another; give one of them")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"--workers {self.workers} is out of range; give 1 or more")


@contextmanager
def opened_predictor(models: Sequence[Model], options: PredictOptions, placement: Placement) -> Iterator[Predictor]:
    """Make models ready where they shall run.

    Args:
        models: At least one; their probabilities are averaged.
        options: How to predict.
        placement: Where.

    Raises:
        OptionError: Dask is not installed, the cluster cannot be reached, or a device is not there.
    """
    if not (placement.scheduler or placement.workers or placement.devices):
        yield LocalPredictor(models, options)
        return
    try:
        from buildseg.prediction.cluster import ClusterPredictor, connected, local_cluster
    except ModuleNotFoundError as error:
        raise OptionError("Dask is not installed; install it with: pip install 'buildseg[distributed]'") from error
    if placement.devices:
        options = replace(options, machine=replace(options.machine, device="cuda"))
    if placement.scheduler:
        cluster = connected(placement.scheduler)
    else:
        cluster = local_cluster(placement.workers or 1, placement.devices)
    with cluster as client, closing(ClusterPredictor(client, models, options)) as predictor:
        yield predictor
