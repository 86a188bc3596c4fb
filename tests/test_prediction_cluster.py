"""Tests of predicting on a Dask cluster: real schedulers and workers, as processes of this machine."""

import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import geopandas
import numpy as np
import pytest
from geopandas.testing import assert_geodataframe_equal

import buildseg.prediction.cluster
import scenes
from buildseg.footprints import VectorizeOptions
from buildseg.prediction.cluster import ClusterPredictor, connected, local_cluster
from buildseg.prediction.job import Request
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.placement import Placement, opened_predictor
from buildseg.prediction.run import Outputs, predict, predict_with
from killed_runs import mortal_model, sloped_model
from tiling.errors import OptionError, SceneError

TESTS = Path(__file__).parent
OPTIONS = PredictOptions(block=64, machine=Machine("cpu", "fp32"))
POLYGONS = VectorizeOptions()
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}


@contextmanager
def started(program, *arguments, said, environment=None):
    """Start a program of Dask, and give its process and what it said."""
    command = [sys.executable, "-m", f"distributed.cli.{program}", *arguments]
    with subprocess.Popen(command, env=ENVIRONMENT | (environment or {}), stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if re.search(said, line):
                break
        else:
            pytest.fail("".join(lines))
        try:
            yield process, re.search(said, lines[-1])
        finally:
            process.kill()


@pytest.fixture(scope="module")
def scheduler():
    local = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    with started("dask_scheduler", *local, said=r"Scheduler at: +(tcp://\S+)") as (_, found):
        yield found[1]


def worker(scheduler, **environment):
    options = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1")
    return started("dask_worker", scheduler, *options, said="Registered to", environment=environment)


@pytest.fixture(scope="module")
def cluster(scheduler):
    """The address of a scheduler with two workers, which stay as long as the tests."""
    with worker(scheduler), worker(scheduler):
        yield scheduler


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    rows, cols = np.mgrid[:500, :400]
    waves = 90 + 80 * np.sin(rows / 9) * np.cos(cols / 11)
    return scenes.write(tmp_path_factory.mktemp("scene") / "town.tif", np.stack([waves] * 3).astype(np.uint8))


@pytest.fixture(scope="module")
def expected(scene, tmp_path_factory):
    target = tmp_path_factory.mktemp("expected") / "found.parquet"
    predict(scene, Outputs(target), sloped_model(), OPTIONS, POLYGONS)
    return geopandas.read_parquet(target)


def run(client, scene, target, model=None, **choices):
    predictor = ClusterPredictor(client, [model or sloped_model()], OPTIONS)
    try:
        return predict_with(predictor, Request(str(scene)), Outputs(target), OPTIONS, POLYGONS, **choices)
    finally:
        predictor.close()


def assert_nothing_left(client):
    for _ in range(200):
        gc.collect()  # a traceback that something keeps would keep its futures
        tasks = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
        if not tasks:
            break
        time.sleep(0.05)
    assert not tasks
    kept = client.run(lambda dask_worker: [name for name in dask_worker.plugins if "buildseg" in name])
    assert len(kept) == 2
    assert not any(kept.values())


def test_a_cluster_gives_the_same_footprints(cluster, scene, expected, tmp_path):
    with opened_predictor([sloped_model()], OPTIONS, Placement(cluster)) as predictor:
        predict_with(predictor, Request(str(scene)), Outputs(tmp_path / "f.parquet"), OPTIONS, POLYGONS)
    assert len(expected) > 50
    assert_geodataframe_equal(geopandas.read_parquet(tmp_path / "f.parquet"), expected)
    with connected(cluster) as client:
        assert_nothing_left(client)


def test_two_runs_on_one_cluster_keep_their_models(cluster, scene, expected, tmp_path):
    other = sloped_model()
    other.network.gain.data *= 0.25
    with connected(cluster) as client, connected(cluster) as second:
        started_second = []

        def track(items, label, total):
            for item in items:
                if not started_second:
                    started_second.append(ClusterPredictor(second, [other], OPTIONS))
                yield item

        run(client, scene, tmp_path / "f.parquet", track=track)
        started_second[0].close()
        assert_nothing_left(client)
    assert_geodataframe_equal(geopandas.read_parquet(tmp_path / "f.parquet"), expected)


def test_a_worker_that_is_lost_is_replaced(cluster, scene, expected, tmp_path):
    with worker(cluster) as (process, _), connected(cluster) as client:
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 3

        def track(items, label, total):
            for number, item in enumerate(items):
                if label == "Predicting" and number == 0:
                    process.send_signal(signal.SIGKILL)
                yield item

        run(client, scene, tmp_path / "f.parquet", sloped_model(seconds=0.02), track=track)
        assert process.wait(10) == -signal.SIGKILL
        assert_nothing_left(client)
    assert_geodataframe_equal(geopandas.read_parquet(tmp_path / "f.parquet"), expected)


def test_a_worker_that_is_lost_as_it_gets_the_model(cluster, scene, expected, tmp_path):
    with worker(cluster, DIES_OF_MODELS="1") as (process, _), connected(cluster) as client:
        run(client, scene, tmp_path / "f.parquet", mortal_model())
        assert process.wait(10) == -signal.SIGKILL
        assert_nothing_left(client)
    assert_geodataframe_equal(geopandas.read_parquet(tmp_path / "f.parquet"), expected)


def test_workers_that_are_all_lost_as_they_get_the_model(scheduler, cluster, monkeypatch):
    monkeypatch.setattr(buildseg.prediction.cluster, "_TRIES", 1)
    with worker(cluster, DIES_OF_MODELS="1"), connected(cluster) as client:
        with pytest.raises(OptionError, match="loses its workers"):
            ClusterPredictor(client, [mortal_model()], OPTIONS)
        assert_nothing_left(client)


def test_an_interrupted_run_leaves_no_tasks(cluster, scene, tmp_path):
    def track(items, label, total):
        for item in items:
            yield item
            raise KeyboardInterrupt

    with connected(cluster) as client:
        with pytest.raises(KeyboardInterrupt):
            run(client, scene, tmp_path / "f.parquet", sloped_model(seconds=0.02), track=track)
        assert_nothing_left(client)


def test_another_scene_under_the_same_name(cluster, tmp_path):
    """Workers stand in another folder than this process, as on machines of their own."""
    here = tmp_path / "here"
    here.mkdir()
    scenes.write(here / "town.tif", scenes.picture(3, 200, 200))
    with connected(cluster) as client, pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        with pytest.raises(SceneError, match=r"town\.tif"):
            run(client, "town.tif", tmp_path / "f.parquet")
        there = tmp_path / "there"
        there.mkdir()
        scenes.write(there / "town.tif", scenes.picture(3, 200, 200, seed=1))
        before = client.run(os.getcwd)
        client.run(os.chdir, str(there))
        with pytest.raises(SceneError, match="is another file on a worker"):
            run(client, "town.tif", tmp_path / "f.parquet")
        client.run(os.chdir, next(iter(before.values())))
        assert_nothing_left(client)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "127.0.0.1:port"])
def test_no_scheduler_answers(address):
    start = time.monotonic()
    said = f"--dask {address}: no scheduler answers .*dask scheduler"
    with pytest.raises(OptionError, match=said), connected(address):
        pass
    assert time.monotonic() - start < 5


def test_a_cluster_without_workers():
    local = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    with (
        started("dask_scheduler", *local, said=r"Scheduler at: +(tcp://\S+)") as (_, found),
        pytest.raises(OptionError, match=r"no workers.*dask worker"),
        connected(found[1]),
    ):
        pass


def test_a_device_that_workers_lack(cluster):
    options = PredictOptions(machine=Machine("mps"))
    with pytest.raises(OptionError, match="mps"), opened_predictor([sloped_model()], options, Placement(cluster)):
        pass


def seen_devices(dask_worker):
    return os.getenv("CUDA_VISIBLE_DEVICES"), os.getenv("OMP_NUM_THREADS")


def test_workers_of_this_machine(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    with local_cluster(1, ("0", "3")) as client:
        assert sorted(client.run(seen_devices).values()) == [("0", threads), ("3", threads)]
        before = client.run(os.getpid)
        for worker_process in before.values():  # as an interrupt on a terminal reaches all
            os.kill(worker_process, signal.SIGINT)
        assert client.run(os.getpid) == before


@pytest.mark.parametrize(
    "choices", [{"scheduler": "tcp://a:1", "workers": 2}, {"workers": 1, "devices": ("0",)}, {"workers": 0}]
)
def test_placements_that_make_no_sense(choices):
    with pytest.raises(OptionError, match="--workers"):
        Placement(**choices)


def test_without_dask():
    code = """
        import sys
        sys.modules["distributed"] = None
        from buildseg.prediction.options import PredictOptions
        from buildseg.prediction.placement import Placement, opened_predictor
        from tiling.errors import OptionError
        try:
            with opened_predictor([], PredictOptions(), Placement(workers=2)):
                pass
        except OptionError as error:
            print(error)
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout
    assert said == "Dask is not installed; install it with: pip install 'buildseg[distributed]'\n"
