"""The README's command blocks run as they stand."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio
from affine import Affine

from readme_blocks import blocks

ROOT = Path(__file__).resolve().parent.parent
SET_UP = {"main-job", "tests"}
SIDE = 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that looks like the checkout to the README's commands, with a quarter of the sample scene."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "sample_data").mkdir()
    shutil.copy(ROOT / "sample_data" / "labels.geojson", folder / "sample_data")
    with rasterio.open(ROOT / "sample_data" / "scene.tif") as whole:
        profile = whole.profile | {
            "height": SIDE,
            "width": SIDE,
            "transform": whole.transform @ Affine.translation(SIDE, 0),
        }
        with rasterio.open(folder / "sample_data" / "scene.tif", "w", **profile) as part:
            part.write(whole.read(window=rasterio.windows.Window(SIDE, 0, SIDE, SIDE)))
    return folder


def test_set_up_lines_are_there():
    named = {name for name, _ in blocks("sh") if name}
    assert named >= SET_UP


def test_command_blocks_run_in_order(folder):
    commands = [text for name, text in blocks("sh") if name not in SET_UP]
    for command in ("tile", "train", "predict", "vectorize", "evaluate", "info"):
        assert any(f"buildseg {command} " in text for text in commands)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert json.loads((folder / "mytown.geojson").read_text(encoding="utf-8"))["type"] == "FeatureCollection"
    assert (folder / "runs" / "mytown" / "curves.png").exists()


def test_python_blocks_run(folder):
    for _, code in blocks("python"):
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stderr}"
