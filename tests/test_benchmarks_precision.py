"""The benchmark of precisions: what it compares."""

import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch

from buildseg.contract import Contract
from buildseg.model_file import ModelCard, save_model
from buildseg.networks import build_network
from scenes import write


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("precision")


@pytest.fixture
def scene_and_model(tmp_path):
    torch.manual_seed(3)
    network = build_network("lraspp", encoder="tu-mobilenetv3_small_100").eval()
    with torch.no_grad():
        network.high_classifier.weight.mul_(40)
    contract = Contract(("red", "green", "blue"), "uint8", (127.0,) * 3, (45.0,) * 3, 0.5, 64)
    save_model(tmp_path / "m.safetensors", network, ModelCard(asdict(network.architecture), contract))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 10, 10), np.uint8).repeat(12, 1).repeat(12, 2)
    return write(tmp_path / "scene.tif", pixels), tmp_path / "m.safetensors"


def test_with_the_same_precision_nothing_differs(benchmark, scene_and_model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["precision.py", *map(str, scene_and_model), "--precision", "fp32"])
    benchmark.main()
    header, _, row = capsys.readouterr().out.splitlines()
    assert header == "| model | precision | within 2 levels | most | F1 |"
    assert row.startswith("| m | fp32 | 100.000% | 0 |")


def test_pixels_further_apart_are_counted(benchmark, scene_and_model, tmp_path, monkeypatch):
    levels = iter([np.array([0, 100, 200, 254], np.int16), np.array([2, 103, 199, 254], np.int16)])
    monkeypatch.setattr(benchmark, "levels", lambda path: next(levels))
    assert benchmark.compared(*scene_and_model, "bf16")[:2] == (0.75, 3)


def test_pixels_without_a_probability_do_not_count(benchmark, tmp_path):
    raster = write(tmp_path / "p.tif", np.array([[[0, 254], [255, 7]]], np.uint8), nodata=255)
    assert benchmark.levels(raster).tolist() == [0, 254, 7]
