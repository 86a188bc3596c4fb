"""A run that is killed and resumed ends where the uninterrupted one does; a run is repeated from its record."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from buildseg.model_file import read_card
from buildseg.networks import NETWORKS
from buildseg.tiles import open_tiles
from buildseg.training.callbacks import BEST, LAST
from buildseg.training.checkpoint import CHECKPOINT
from buildseg.training.record import read_record
from buildseg.training.run import train
from killed_training import ENTRY, NETWORK, OPTIONS
from test_cli_tile_train import ON_CPU, here  # noqa: F401 - a fixture
from test_training import bright_roofs, put, tiles_of
from tiling.errors import OptionError, TrainingError

TRAIN = ["train", "--network", "unet", "--encoder", "tu-resnet10t", "--encoder-weights", "none"]
TRAIN += ["--option", "decoder_channels=32,16,16,8,8", "--batch-size", 2, "--crop", 64, *ON_CPU]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    tiles_of(folder, 8, 2)
    return folder


def killed(tiles, out, *kills, workers=0):
    """Run it; its process must end well."""
    order = {"tiles": str(tiles), "out": str(out), "workers": workers, "kills": kills}
    script = Path(__file__).with_name("killed_training.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, json.dumps(order)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def curve(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [[float(value) for value in row] for row in list(csv.reader(file))[1:]]


@pytest.fixture
def forgetful(monkeypatch):
    monkeypatch.setitem(NETWORKS, "forgetful", ENTRY)


@pytest.fixture(scope="module")
def whole(tiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    killed(tiles, out)
    return out


def test_a_killed_run_ends_where_the_uninterrupted_one_does(tiles, whole, tmp_path):
    """Killed before its first checkpoint, while it writes one, just after, and between metrics and checkpoint."""
    out = tmp_path / "run"
    killed(tiles, out, "run.yaml", ".checkpoint.*", "checkpoint.ckpt", "metrics.csv")
    assert len(curve(out)) == 3
    for one, other in zip(curve(out), curve(whole), strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    for name in (BEST, LAST):
        one, other = (read_card(folder / name) for folder in (out, whole))
        assert one.training == other.training and one.scores == pytest.approx(other.scores, rel=1e-5)
        weights = [load_file(folder / name) for folder in (out, whole)]
        torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)
    names = [sorted(path.name for path in folder.iterdir() if "tfevents" not in path.name) for folder in (out, whole)]
    assert names[0] == names[1]


def test_processes_that_load_begin_with_the_epoch_that_is_resumed(tiles, whole, tmp_path):
    killed(tiles, tmp_path / "run", "checkpoint.ckpt", "checkpoint.ckpt", workers=1)
    for one, other in zip(curve(tmp_path / "run"), curve(whole), strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    weights = [load_file(folder / LAST) for folder in (tmp_path / "run", whole)]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_a_finished_run_has_nothing_to_resume(tiles, whole, forgetful):
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir() if path.suffix != ".html"}
    result = train(open_tiles([tiles]), whole, NETWORK, OPTIONS, resume=True)
    changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == ["run.yaml"] and result.scores == read_card(result.model).scores


def test_a_run_that_changed_is_not_resumed(tiles, whole, forgetful):
    with pytest.raises(OptionError, match=r"was begun with epochs 3, not 9; leave that out"):
        train(open_tiles([tiles]), whole, NETWORK, replace(OPTIONS, epochs=9), resume=True)
    put(tiles / "train", "99", *bright_roofs(seed=99))
    with pytest.raises(OptionError, match="was begun with other tiles"):
        train(open_tiles([tiles]), whole, NETWORK, OPTIONS, resume=True)
    (whole / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="cannot be read; train anew"):
        train(open_tiles([tiles]), whole, NETWORK, OPTIONS, resume=True)
    torch.save({"callbacks": {"RunCheckpoint": {"made_of": ""}}}, whole / CHECKPOINT)
    with pytest.raises(TrainingError, match="was written by another version of buildseg; train anew"):
        train(open_tiles([tiles]), whole, NETWORK, OPTIONS, resume=True)


def test_there_has_to_be_a_run_to_resume(here, tmp_path):  # noqa: F811
    code, _, errors = here("train", "--resume", "--out", "nowhere", folder=tmp_path)
    assert code == 2 and errors == [
        "error: --resume: there is no run in nowhere; name the folder of one, or begin one with --tiles"
    ]


# ---- the record, on the command line


def test_a_run_is_repeated_from_its_record(tmp_path, here):  # noqa: F811
    tiles_of(tmp_path / "tiles", 4, 1)
    given = ["--loss", "focal", "--augment", "light", "--schedule", "poly", "--seed", 3]
    code, _, errors = here(*TRAIN, "--tiles", "tiles", "--out", "one", "--epochs", 2, *given, folder=tmp_path)
    assert (code, errors) == (0, [])
    (tmp_path / "elsewhere").mkdir()
    again = ["train", "--config", tmp_path / "one" / "run.yaml", "--out", "two"]
    code, _, errors = here(*again, folder=tmp_path / "elsewhere")
    assert (code, errors) == (0, [])
    two = tmp_path / "elsewhere" / "two"
    assert read_record(two / "run.yaml") == read_record(tmp_path / "one" / "run.yaml")
    assert curve(two) == curve(tmp_path / "one")
    code, said, _ = here("train", "--resume", "--out", "one", folder=tmp_path)
    assert code == 0 and " of 2; " in said[0]
    code, _, errors = here(*again[:3], "--out", "three", "--epochs", 1, "--loss", "ohem", folder=tmp_path)
    assert (code, errors) == (0, [])
    before, after = (read_record(tmp_path / name / "run.yaml") for name in ("one", "three"))
    assert {name: after[name] for name in before if before[name] != after[name]} == {"epochs": 1, "loss": "ohem"}
    assert read_card(tmp_path / "three" / BEST).training["options"]["loss"] == "ohem"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no tiles to train on; name their folder with --tiles"),
        (["--config", "none.yaml"], "--config none.yaml does not exist"),
        (["--config", "odd.yaml"], "--config odd.yaml has an unknown option lr; see"),
        (["--tiles", "t", "--resume"], "--resume needs the folder of the run"),
        (["--tiles", "t", "--resume", "--overwrite", "--out", "o"], "give one of them"),
        (["--tiles", "t", "--loss", "hinge"], "--loss hinge is unknown"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(tmp_path, here, arguments, says):  # noqa: F811
    (tmp_path / "odd.yaml").write_text("lr: 1\n")
    code, _, errors = here("train", *arguments, folder=tmp_path)
    assert code == 2 and len(errors) == 1 and says in errors[0]


def test_preview_draws_every_preset(tmp_path, here):  # noqa: F811
    import matplotlib.image

    tiles_of(tmp_path / "tiles", 3, 1)
    code, said, errors = here("preview", "--tiles", "tiles", "--out", "p.png", "--chips", 2, folder=tmp_path)
    assert (code, errors) == (0, []) and said == ["p.png: a row for each of none, light and strong"]
    picture = matplotlib.image.imread(tmp_path / "p.png")[..., :3]
    assert picture.shape[:2] == (594, 720)
    yellow = np_close(picture, (1.0, 0xD4 / 255, 0.0))
    assert all(yellow[row : row + 198].sum() > 20 for row in (0, 198, 396))
    code, _, errors = here("preview", "--tiles", "tiles", "--out", "p.png", folder=tmp_path)
    assert code == 20 and "--overwrite" in errors[0]


def np_close(picture, colour):
    return (abs(picture - colour).max(axis=-1)) < 0.05
