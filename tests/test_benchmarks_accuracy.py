"""The benchmark of accuracy: its table is what `buildseg evaluate` says, and what is finished is not done again."""

import json
import sys

import numpy as np
import pytest
import rasterio
from affine import Affine

import scenes
from buildseg.evaluation.model_run import evaluate_model
from buildseg.evaluation.options import EvaluateOptions
from buildseg.tiles import open_tiles

SMALL = ["--epochs", 1, "--batch-size", 2, "--crop", 64, "--encoder", "tu-resnet10t"]


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("accuracy")


@pytest.fixture
def massachusetts(load_benchmark):
    return load_benchmark("massachusetts")


@pytest.fixture
def tiles(tmp_path):
    """Six chips of 0.5 m with a bright house each, two of them to validate on."""
    for number in range(6):
        folder = tmp_path / "tiles" / ("val" if number > 3 else "train")
        mask = np.zeros((64, 64), np.uint8)
        mask[10 + number : 40, 12 : 44 - number] = 255
        pixels = np.stack([60 + mask // 2] * 3) + scenes.picture(3, 64, 64, seed=number) // 8
        for name, content in (("images", pixels), ("masks", mask[None])):
            (folder / name).mkdir(parents=True, exist_ok=True)
            scenes.write(folder / name / f"{number}.tif", content)
    return tmp_path / "tiles"


def table(module, monkeypatch, capsys, *arguments):
    """Run a benchmark as a program; give the cells that it prints."""
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
    module.main()
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def test_the_table_is_that_of_evaluate_and_is_not_made_twice(benchmark, tiles, tmp_path, monkeypatch, capsys):
    out, seeds = tmp_path / "runs", ["--seeds", 3, 4]
    asked = [tiles, "--out", out, *SMALL, "--networks", "unet", "bisenetv2", *seeds]
    header, _, *rows = made = table(benchmark, monkeypatch, capsys, *asked)
    assert [row[:2] for row in rows] == [["unet", "tu-resnet10t"], ["bisenetv2", ""]]
    models = {name: [out / f"{name}-{seed}" / "last.safetensors" for seed in (3, 4)] for name in ("unet", "bisenetv2")}
    ious = {}
    for row in rows:
        found = [evaluate_model(model, [tiles], EvaluateOptions()).scores.values for model in models[row[0]]]
        for title, key in (("IoU", "iou"), ("F1", "f1"), ("boundary IoU", "boundary_iou"), ("object F1", "object_f1")):
            one, other = sorted(scores[key] for scores in found)
            assert row[header.index(title)] == f"{(one + other) / 2:.3f} ({one:.3f} to {other:.3f})"
        ious[row[0]] = np.array([scores["iou"] for scores in found])
        assert 0 < json.loads((models[row[0]][0].parent / "accuracy.json").read_text("utf-8"))["minutes"] < 5
    gained = ious["bisenetv2"] - ious["unet"]
    assert [row[-1] for row in rows] == ["", f"{gained.mean():+.3f} ({gained.min():+.3f} to {gained.max():+.3f})"]

    # Broken off in one of the runs, it does this one again, of the same seed, and no other.
    (out / "unet-4" / "accuracy.json").unlink()
    before, train = {path: path.stat().st_mtime_ns for path in out.glob("*/last.safetensors")}, benchmark.train
    trained = []
    monkeypatch.setattr(benchmark, "train", lambda *a, **k: (trained.append(a[1].name), train(*a, **k)))
    minutes = header.index("CPU minutes")
    again = table(benchmark, monkeypatch, capsys, *asked)
    assert trained == ["unet-4"]
    assert [path for path, time in before.items() if path.stat().st_mtime_ns != time] == [models["unet"][1]]
    assert [row[:minutes] + row[minutes + 1 :] for row in again] == [row[:minutes] + row[minutes + 1 :] for row in made]


def test_what_was_found_under_another_budget_is_not_mixed_in(benchmark, tiles, tmp_path, monkeypatch, capsys):
    record = tmp_path / "runs" / "unet-0" / "accuracy.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"made_with": {"epochs": 4}, "scores": {}, "minutes": 1.0}), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"unet-0.*another budget"):
        table(benchmark, monkeypatch, capsys, tiles, "--out", tmp_path / "runs", *SMALL, "--networks", "unet")


def test_every_network_gets_an_encoder_that_it_takes(benchmark):
    encoders = {name: benchmark.chosen(name, None, "none").encoder for name in benchmark.NETWORKS}
    assert encoders.pop("bisenetv2") is None
    assert encoders.pop("lraspp") == "tu-mobilenetv3_large_100"
    assert encoders.pop("hrnet-ocr-psa") == "tu-hrnet_w18_small"
    assert set(encoders.values()) == {"resnet18"}
    mine = benchmark.chosen("unet", "tu-efficientnet_lite0", "weights.safetensors")
    assert (mine.encoder, mine.encoder_weights) == ("tu-efficientnet_lite0", "weights.safetensors")


def test_few_chips_of_a_town_are_as_they_were(load_benchmark, tiles, tmp_path):
    new_town, few = load_benchmark("new_town"), tmp_path / "few"
    drawn = []
    for draw in (0, 0, 1):
        new_town.few_chips(tiles, few, 2, draw)
        copies = sorted(path.relative_to(few) for path in few.glob("*/*.tif"))
        assert [copy.parent.name for copy in copies] == ["images", "images", "masks", "masks"]
        assert all((few / copy).read_bytes() == (tiles / "train" / copy).read_bytes() for copy in copies)
        drawn.append(copies)
    assert drawn[0] == drawn[1] != drawn[2]


def test_scenes_are_cut_where_there_is_an_image(massachusetts, tmp_path, monkeypatch):
    data, out, place = tmp_path / "data", tmp_path / "out", Affine(1, 0, 5000, 0, -1, 9000)
    valid, truth = np.ones((150, 150), bool), scenes.picture(1, 150, 150)[0] // 128 * 255
    valid[:70, :64] = valid[64:128, 100:128] = False
    for split in ("train", "val", "test"):
        for name in ("images", "masks"):
            (data / split / name).mkdir(parents=True)
        scenes.internal_mask(
            data / split / "images" / f"{split}.tif", scenes.picture(3, 150, 150), valid, transform=place
        )
        scenes.write(data / split / "masks" / f"{split}.tif", truth[None], transform=place)
    monkeypatch.setattr(sys, "argv", ["massachusetts", str(data), "--out", str(out), "--size", "64"])
    massachusetts.main()
    chosen, test = open_tiles([out / "chosen"]), open_tiles([out / "test"])
    assert [chip.image.name for chip in chosen.val] == ["val.tif"]
    assert [chip.image.name for chip in test.val] == ["test.tif"]
    # Three by three places: the first holds nothing, one is kept that lacks a part of it.
    assert len(chosen.train) == len(test.train) == 8
    assert {chip.shape for chip in chosen.train} == {(64, 64), (64, 22), (22, 64), (22, 22)}
    with rasterio.open(data / "train/images/train.tif") as scene:
        pixels = scene.read()
    images, masks = (out / "chosen" / "train" / name / "train_64_64.tif" for name in ("images", "masks"))
    with rasterio.open(images) as chip:
        np.testing.assert_array_equal(chip.read(), pixels[:, 64:128, 64:128])
        np.testing.assert_array_equal(chip.dataset_mask() > 0, valid[64:128, 64:128])
        assert (chip.crs, chip.transform) == (scenes.UTM, place @ Affine.translation(64, 64))
    with rasterio.open(masks) as chip:
        np.testing.assert_array_equal(chip.read(1), truth[64:128, 64:128])
    given = [str(data), "--out", str(tmp_path / "cut"), "--size", "64", "--scored", "75"]
    monkeypatch.setattr(sys, "argv", ["massachusetts", *given])
    massachusetts.main()
    # Of the first of four squares a fifth is there: enough to be scored, too little to learn from.
    assert len(open_tiles([tmp_path / "cut" / "test"]).val) == len(open_tiles([tmp_path / "cut" / "chosen"]).val) == 4
    massachusetts.cut_all(data / "train", tmp_path / "learnt", 75)
    assert len(list((tmp_path / "learnt" / "images").iterdir())) == 3
