"""The benchmark of loading: what it counts, and that both of its rounds learn from the same batches."""

from argparse import Namespace
from types import SimpleNamespace

import pytest

from test_training import FORKED, tiles_of


@pytest.fixture
def loading(load_benchmark):
    return load_benchmark("loading")


@pytest.fixture
def clock(loading, monkeypatch):
    now = SimpleNamespace(wall=100.0, cpu=50.0)
    monkeypatch.setattr(loading, "time", SimpleNamespace(perf_counter=lambda: now.wall))
    monkeypatch.setattr(loading, "cpu_seconds", lambda: now.cpu)
    return now


def test_waiting_is_the_time_until_a_batch_is_there(loading, clock):
    def batches():
        for wait in (5.0, 0.0, 1.0, 0.0):
            clock.wall += wait
            yield wait

    class Learner:
        def learn(self, batch):
            clock.wall += 10.0
            clock.cpu += 20.0 + batch

    assert loading.timed(batches(), Learner()) == loading.Round(step=11.5, waiting=1.5, cpu=21.5)


def test_rounds_are_compared_with_those_beside_them(loading):
    loaded = [loading.Round(*values) for values in ((1.1, 0.11, 3.3), (8.8, 2.2, 9.0), (2.4, 0.12, 6.2))]
    held = [loading.Round(*values) for values in ((1.0, 0, 3.0), (8.0, 0, 6.0), (2.0, 0, 6.2))]
    assert loading.row(loaded, held) == pytest.approx((2.4, 2.0, 1.1, 0.1, 1.1))


@FORKED
def test_the_same_is_learnt_from_memory_and_from_each_loader(loading, monkeypatch, tmp_path, capsys):
    learnt = []

    class Learner:
        def __init__(self, *_):
            pass

        def learn(self, batch):
            learnt.append((batch.image.sum().item(), batch.target.sum().item()))

    monkeypatch.setattr(loading, "Learner", Learner)
    given = {"network": "unet", "encoder": None, "gsd": None, "crop": 64, "batch_size": 2, "device": "cpu"}
    loading.measure(tiles_of(tmp_path / "tiles"), Namespace(workers=[0, 1], steps=3, rounds=2, **given))
    epochs = [learnt[start : start + 3] for start in range(0, len(learnt), 3)]
    assert len(epochs) == 2 + 2 * 4 and len(set(epochs[0])) == 3
    assert all(epoch == epochs[0] for epoch in epochs)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("batches of (2, 3, 64, 64); loading takes ")
    assert [line.split()[0] for line in lines[3:]] == ["0", "1"]
