"""`buildseg tile`, `train` and `info` as a person runs them.

What matters most runs as the installed program in a process of its own; the rest in this process, which spares
seconds of imports.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from buildseg.cli.main import run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import scenes
from buildseg.model_file import load_model
from buildseg.tiles import open_tiles

PROGRAM = Path(sysconfig.get_path("scripts")) / "buildseg"
TINY = ["--network", "unet", "--encoder", "tu-resnet10t", "--option", "decoder_channels=32,16,16,8,8"]
ON_CPU = ["--workers", "0", "--device", "cpu", "--precision", "fp32"]
SHORT = ["--epochs", "1", "--batch-size", "2", "--crop", "64", *ON_CPU]


def command(*arguments):
    return [str(PROGRAM), *map(str, arguments)]


def environment(**changes):
    return os.environ | {"OMP_NUM_THREADS": "1"} | changes


def buildseg(*arguments, folder, **changes):
    """Exit code, lines on standard output, lines on standard error."""
    options = {"capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(command(*arguments), check=False, cwd=folder, env=environment(**changes), **options)
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


@pytest.fixture
def here(monkeypatch, capsys):
    """The same in this process."""

    def call(*arguments, folder):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["buildseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out.splitlines(), captured.err.splitlines()

    return call


def write_town(folder):
    """A scene of dark ground with bright roofs, and the roofs in degrees."""
    random = np.random.default_rng(0)
    pixels = random.integers(40, 80, (3, 256, 256), np.uint8)
    roofs = []
    for row in range(10, 240, 40):
        for col in range(10, 240, 40):
            height, width = random.integers(12, 24, 2)
            pixels[:, row : row + height, col : col + width] += 120
            corners = [scenes.PLACE @ corner for corner in ((col, row), (col + width, row + height))]
            roofs.append(shapely.box(*corners[0], *corners[1]))
    scenes.write(folder / "town.tif", pixels, photometric="rgb")
    labels = geopandas.GeoDataFrame(geometry=roofs, crs=scenes.UTM).to_crs(4326)
    labels.to_file(folder / "roofs.geojson")
    return folder


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return write_town(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def tiled(town):
    done = buildseg("tile", "town.tif", "--labels", "roofs.geojson", "--out", "tiles", "--size", 64, folder=town)
    return town, done


@pytest.fixture(scope="module")
def trained(tiled):
    town, _ = tiled
    arguments = ["--tiles", "tiles", "--out", "runs/town", *TINY, "--encoder-weights", "none", *SHORT]
    return town, buildseg("train", *arguments, folder=town)


# ---- the path that works


def test_tile_says_what_it_made(tiled):
    town, (code, said, errors) = tiled
    assert (code, errors) == (0, [])
    (line,) = said
    made = json.loads((town / "tiles" / "tiles.json").read_text())["split"]
    assert made["train"] + made["val"] == 16 and made["dropped"] == 0
    assert line == (
        f"tiles: {made['train']} chips to train, {made['val']} to validate (0 between them left out), "
        f"{made['building_share']:.1%} building, 0.5 m per pixel"
    )
    tiles = open_tiles([town / "tiles"])
    assert (len(tiles.train), len(tiles.val)) == (made["train"], made["val"])


def test_train_says_what_it_reached(trained):
    town, (code, said, errors) = trained
    assert (code, errors) == (0, [])
    (line,) = said
    assert line.startswith("runs/town/best.safetensors: validation IoU 0.")
    assert " in epoch 1 of 1; " in line
    card = load_model(town / "runs" / "town" / "best.safetensors").card
    assert f"IoU {card.scores['val_iou']:.3f}, F1 {card.scores['val_f1']:.3f} " in line
    assert card.training["options"]["batch_size"] == 2 and card.training["tiles"] == ["tiles"]


def test_info_describes_the_model_and_the_scene(trained, here):
    town, _ = trained
    code, said, errors = buildseg("info", "runs/town/best.safetensors", folder=town)
    assert (code, errors) == (0, [])
    facts = dict(line.split("  ", 1) for line in said)
    assert facts["network"].strip() == "unet on tu-resnet10t"
    assert facts["bands"].strip() == "red, green, blue as uint8"
    assert facts["trained on"].strip().startswith("14 chips of tiles; 1 epoch,")
    code, said, errors = here("info", folder=town)
    assert (code, errors) == (0, [])
    assert said[0].split()[:2] == ["file", "default.safetensors,"]
    code, said, errors = here("info", "town.tif", folder=town)
    assert (code, errors) == (0, [])
    assert any("256 x 256 pixels" in line for line in said) and any("EPSG:32632" in line for line in said)


def test_options_of_tile_reach_the_folder(town, tmp_path, here):
    options = ["--size", 96, "--overlap", 0.25, "--min-building", 0.01, "--val-fraction", 0.2, "--bands", "3,2,1"]
    paths = [town / "town.tif", "--labels", town / "roofs.geojson", "--out", "t", "--seed", 4, "--gsd", 0.3]
    code, _, errors = here("tile", *paths, *options, folder=tmp_path)
    assert (code, errors) == (0, [])
    record = json.loads((tmp_path / "t" / "tiles.json").read_text())
    assert record["options"] == {
        "size": 96,
        "overlap": 0.25,
        "min_building": 0.01,
        "val_fraction": 0.2,
        "gsd": 0.3,
        "bands": [3, 2, 1],
        "seed": 4,
        "boundaries": False,
        "boundary_width": 0.5,
    }
    assert record["bands"] == ["blue", "green", "red"]


def test_scenes_inside_archives_are_tiled(town, tmp_path, here):
    with zipfile.ZipFile(tmp_path / "town.zip", "w") as archive:
        archive.write(town / "town.tif", "town.tif")
    scene = f"/vsizip/{tmp_path}/town.zip/town.tif"
    arguments = [scene, "--labels", town / "roofs.geojson", "--out", "tiles", "--size", 64]
    code, _, errors = here("tile", *arguments, folder=tmp_path)
    assert (code, errors) == (0, [])
    assert json.loads((tmp_path / "tiles" / "tiles.json").read_text())["sources"][0]["scene"] == scene


# ---- errors


def contents(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def refused(call, folder, *arguments, code, says, **changes):
    """The program must end with this code and one line that says all this, and leave the folder as it was."""
    before = contents(folder)
    found, said, errors = call(*arguments, folder=folder, **changes)
    assert found == code and said == []
    assert len(errors) == 1 and errors[0].startswith("error: "), errors
    for part in says:
        assert part in errors[0]
    assert contents(folder) == before


@pytest.fixture
def yard(town, tmp_path):
    """A folder of its own with the town in it."""
    for name in ("town.tif", "roofs.geojson"):
        shutil.copy(town / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["town.tif", "-l", "none.gpkg", "-o", "t"], 11, ["none.gpkg does not exist"]),
        (["town.tif", "-l", "town.tif", "-o", "t"], 11, ["town.tif is not a vector file"]),
        (["roofs.geojson", "-l", "roofs.geojson", "-o", "t"], 10, ["roofs.geojson is not a raster"]),
        (["town.tif", "-l", "roofs.geojson", "-o", "no/t"], 20, ["no/t cannot be made", "writable folder"]),
        (["town.tif", "-l", "roofs.geojson", "-o", "town.tif"], 20, ["town.tif exists already", "--overwrite"]),
        (["town.tif", "-l", "roofs.geojson", "-o", "t", "--seed", "-1"], 2, ["--seed -1 is out of range"]),
        (["town.tif", "-l", "roofs.geojson", "-o", "t", "--size", "256"], 12, ["cannot be parted", "--size"]),
        (["town.tif", "-l", "roofs.geojson", "-o", "t", "--bands", "nir"], 10, ["town.tif has 3 bands", "nir"]),
    ],
)
def test_tile_refuses_in_a_line(yard, here, arguments, code, says):
    refused(here, yard, "tile", *arguments, code=code, says=says)


def test_the_installed_program_refuses_in_a_line(yard):
    tile = ["tile", "town.tif", "-l", "none.gpkg", "-o", "t"]
    refused(buildseg, yard, *tile, code=11, says=["none.gpkg does not exist; check the path"])
    refused(buildseg, yard, "info", "roofs.geojson", code=10, says=["roofs.geojson is not a raster"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-t", "town.tif"], 12, ["town.tif is not a folder", "buildseg tile"]),
        (["-t", "tiles", "--network", "segmenter"], 2, ["unknown network 'segmenter'"]),
        (["-t", "tiles", "-O", "decoder_channels=a,b"], 2, ["decoder_channels takes 3 to 5", "['a', 'b']"]),
        (["-t", "tiles", "--option", "layout"], 2, ["--option layout is no NAME=VALUE"]),
        (["-t", "tiles", "--option", "a=1", "--option", "a=2"], 2, ["--option a is given twice"]),
        (["-t", "tiles", "--classes", "0"], 2, ["--classes 0"]),
        (["-t", "tiles", "--model", "x.safetensors", "--network", "unet"], 2, ["leave out --network"]),
        (["-t", "tiles", "--model", "roofs.geojson"], 13, ["roofs.geojson is not a buildseg model file"]),
        (["-t", "tiles", "--device", "cuda:99"], 2, ["--device cuda:99 is not available"]),
        (["-t", "tiles", "--out", "roofs.geojson"], 20, ["roofs.geojson is a file"]),
        (["-t", "tiles", "--epochs", "0"], 2, ["--epochs 0"]),
    ],
)
def test_train_refuses_in_a_line(yard, tiled, here, arguments, code, says):
    shutil.copytree(tiled[0] / "tiles", yard / "tiles")
    refused(here, yard, "train", *arguments, code=code, says=says)


def test_train_without_a_network_names_the_remedies(yard, tiled):
    shutil.copytree(tiled[0] / "tiles", yard / "tiles")
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(yard.parent / "hub")}
    direct = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    arguments = ["--tiles", "tiles", "--encoder", "resnet18", *SHORT]
    remedies = ["http://127.0.0.1:9", "--encoder-weights none", "a local .safetensors"]
    refused(buildseg, yard, "train", *arguments, code=16, says=remedies, **closed, **direct)


def test_two_processes_train_together(tiled, tmp_path):
    arguments = ["--tiles", tiled[0] / "tiles", "--out", "run", *TINY, "--encoder-weights", "none", *SHORT]
    code, said, errors = buildseg("train", *arguments, "--devices", 2, "--freeze-encoder", 1, folder=tmp_path)
    assert (code, errors) == (0, []) and len(said) == 1 and said[0].startswith("run/best.safetensors: validation IoU")
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 2
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert events.Scalars("train_loss")[-1].step == 7 // 2 - 1  # of 14 chips, each has 7, in batches of 2


def test_an_interrupt_ends_training_and_keeps_whole_models(tiled, tmp_path):
    arguments = ["--tiles", tiled[0] / "tiles", "--out", "run", *TINY, "--encoder-weights", "none", *SHORT]
    endless = command("train", *arguments, "--epochs", 1000)
    # Where the suite runs in the background of a script, it ignores interrupts, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(endless, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    try:
        for _ in range(2000):
            if (tmp_path / "run" / "metrics.csv").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert len(errors.splitlines()) <= 1
    assert load_model(tmp_path / "run" / "best.safetensors").card.scores["val_iou"] >= 0
    assert not list(tmp_path.rglob("*.partial*"))
