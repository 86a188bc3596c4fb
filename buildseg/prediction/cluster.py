"""Predicts blocks on the workers of a Dask cluster."""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from threading import Lock
from typing import cast

from distributed import Client, Future, Nanny, Scheduler, SpecCluster, Worker, WorkerPlugin, as_completed, get_worker
from distributed.comm.addressing import get_address_host_port
from distributed.comm.core import CommClosedError

from buildseg.model_file import Model
from buildseg.prediction.job import Job, Request, identify, opened_job, runs_of
from buildseg.prediction.local import Finished, LocalPredictor
from buildseg.prediction.options import PredictOptions
from buildseg.progress import Track, silent
from tiling import Block
from tiling.errors import BuildsegError, OptionError, SceneError

_LONGEST_RUN = 16
_TASKS_PER_WORKER = 2
_PATIENCE, _START = 5, 120
_TRIES, _MOMENT = 5, 1
# A terminal sends an interrupt to workers too, which would fill it with what they were doing.
_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
_HIDDEN = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}


class ClusterPredictor:
    """Models made ready on the workers of a cluster; scenes must be reachable from them under the same name.

    Every worker keeps the models until `close`, workers that join later included. A worker that is lost has its blocks
    done by another.

    Args:
        client: Connected to a scheduler with at least one worker.
        models: At least one; their probabilities are averaged.
        options: How to predict; the device is chosen on each worker.

    Raises:
        OptionError: No worker came, or one lacks the device or its arithmetic.
    """

    def __init__(self, client: Client, models: Sequence[Model], options: PredictOptions) -> None:
        self.models = models
        self.identities = [identify(model) for model in models]
        self._client = client
        # Others may use the cluster at the same time, with other models.
        self._name = f"buildseg-{secrets.token_hex(8)}"
        try:
            self._make_ready(_ReadyModels(models, options))
            self.precision: str = client.submit(_precision, self._name, pure=False).result()
        except BaseException:
            self.close()
            raise

    def _make_ready(self, plugin: "_ReadyModels") -> None:
        for _ in range(_TRIES):
            try:
                self._client.register_plugin(plugin, name=self._name)
                return
            except CommClosedError as error:  # a worker was lost meanwhile; the scheduler needs a moment to see it
                lost = error
                time.sleep(_MOMENT)
        raise OptionError(
            f"the cluster loses its workers while the model is sent to them ({lost}); see what they say, for instance "
            "whether their memory suffices"
        ) from lost

    def close(self) -> None:
        """Take the models off the workers, as far as they are there."""
        with suppress(OSError, ValueError):
            self._client.unregister_worker_plugin(self._name)

    def finish(self, job: Job, blocks: Sequence[Block], track: Track = silent) -> Iterator[Finished]:
        """Predict blocks of a scene.

        Args:
            job: The scene, opened for the same models.
            blocks: Some of its blocks, in its order.
            track: Shows progress, task by task.

        Yields:
            The blocks, as they are finished.

        Raises:
            SceneError: A worker cannot read the scene, or sees another one under its name.
        """
        workers = max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))
        runs = _divided(runs_of(blocks), workers)
        waiting = iter(runs)
        shown = (job.scene.width, job.scene.height, job.looks())

        def submit(run: list[Block]) -> Future[list[Finished]]:
            return self._client.submit(_finish_run, self._name, job.request, shown, run, pure=False)

        live = {submit(run) for run in islice(waiting, workers * _TASKS_PER_WORKER)}
        done = as_completed(list(live), loop=self._client.loop)
        try:
            for future in track(done, "Predicting", len(runs)):
                live.discard(future)
                try:
                    finished = future.result()
                finally:
                    future.release()
                yield from finished
                for run in islice(waiting, 1):
                    live.add(another := submit(run))
                    done.add(another)
        finally:
            # Those too that are done, but were not taken any more.
            self._client.cancel(list(live))


@contextmanager
def connected(scheduler: str) -> Iterator[Client]:
    """Connect to a running cluster.

    Args:
        scheduler: Its address, such as tcp://scheduler:8786.

    Raises:
        OptionError: Nothing answers there, or it has no workers.
    """
    try:
        # A client that never got through would hang on for a while, and then complain.
        socket.create_connection(get_address_host_port(scheduler), _PATIENCE).close()
        client = Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise OptionError(
            f"--dask {scheduler}: no scheduler answers ({error}); start one with: dask scheduler"
        ) from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise OptionError(
                f"--dask {scheduler}: the cluster has no workers; start some with: dask worker {scheduler}"
            )
        yield client


@contextmanager
def local_cluster(workers: int, devices: Sequence[str] = ()) -> Iterator[Client]:
    """Start workers on this machine, each a process of its own.

    Args:
        workers: How many, where no devices are named.
        devices: CUDA devices, one worker for each.

    Yields:
        A client of it.

    Raises:
        OptionError: The workers do not start.
    """
    count = len(devices) or workers
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    seen = [{"CUDA_VISIBLE_DEVICES": device} for device in devices] or [{}] * count
    common = {"nthreads": 1, "host": "127.0.0.1", **_HIDDEN, "silence_logs": logging.CRITICAL, "preload": [_DEAF]}
    specs = {
        number: {"cls": Nanny, "options": {**common, "env": {**environment, **own}}} for number, own in enumerate(seen)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, **_HIDDEN}}
    with (
        SpecCluster(workers=specs, scheduler=scheduler, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        try:
            client.wait_for_workers(count, timeout=_START)
        except TimeoutError as error:
            raise OptionError(f"{count} workers did not start within {_START} s; give a smaller --workers") from error
        yield client


def _divided(runs: Sequence[list[Block]], workers: int) -> list[list[Block]]:
    """Cut runs so that every worker has some, and not more than one in four windows is computed twice."""
    blocks = sum(map(len, runs))
    length = max(1, min(_LONGEST_RUN, blocks // (workers * _TASKS_PER_WORKER)))
    return [run[start : start + length] for run in runs for start in range(0, len(run), length)]


class _ReadyModels(WorkerPlugin):
    """Keeps the models, and the scene that is worked on, in a worker."""

    def __init__(self, models: Sequence[Model], options: PredictOptions) -> None:
        self._models = models
        self._options = options

    def setup(self, worker: Worker) -> None:
        self.lock = Lock()
        self._request: Request | None = None
        self._open = ExitStack()
        self.predictor = LocalPredictor(self._models, self._options)

    def job(self, request: Request) -> Job:
        """Give the scene, opened; it stays open until another is asked for."""
        if request != self._request:
            self._open.close()
            self._job = self._open.enter_context(opened_job(request, self._models, self._options))
            self._request = request
        return self._job

    async def teardown(self, worker: Worker) -> None:
        # A read that is under way is waited for, and the worker must answer meanwhile.
        await asyncio.to_thread(self._open.close)


def _plugin(name: str) -> _ReadyModels:
    return cast(_ReadyModels, get_worker().plugins[name])


def _precision(name: str) -> str:
    return _plugin(name).predictor.precision


def _finish_run(name: str, request: Request, shown: tuple[int, int, str], run: list[Block]) -> list[Finished]:
    plugin = _plugin(name)
    try:
        with plugin.lock:
            job = plugin.job(request)
            if (job.scene.width, job.scene.height, job.looks()) != shown:
                raise SceneError(
                    f"{request.path} is another file on a worker than here; put the scene where all machines see it"
                )
            return list(plugin.predictor.finish(job, run))
    except BuildsegError as error:
        # It is sent with what it stems from, and GDAL's errors cannot be.
        error.__cause__ = error.__context__ = None
        raise
