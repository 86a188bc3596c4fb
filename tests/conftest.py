"""What many tests share."""

import importlib
import os
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("network_rules")
# Read when torch is loaded. The suite's tensors are small, and threads that wait for each other do so by spinning:
# beside any other work on the machine, two took five times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_DATA = ROOT / "sample_data"


@pytest.fixture
def load_benchmark(monkeypatch):
    """A function that imports a script of benchmarks/ by its name; the scripts find each other."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def sample_scene():
    """The sample scene: 2048 x 2048 pixels of 0.3 m."""
    return SAMPLE_DATA / "scene.tif"


@pytest.fixture
def sample_labels():
    """Its buildings."""
    return SAMPLE_DATA / "labels.geojson"


@pytest.fixture
def small_disk():
    """Let no file grow beyond a limit, which the writer sees as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)
