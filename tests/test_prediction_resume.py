"""Tests of runs that are cut off: by a kill, a full disk or a person, and of going on with them."""

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from geopandas.testing import assert_geodataframe_equal

import scenes
from buildseg.area_of_interest import AreaOfInterest
from buildseg.footprints import ShapeOptions, VectorizeOptions
from buildseg.prediction.conform import InputOptions
from buildseg.prediction.job import Request, opened_job
from buildseg.prediction.options import Machine
from buildseg.prediction.parts import is_gone
from buildseg.prediction.run import Outputs, predict
from buildseg.progress import silent
from killed_runs import OPTIONS, POLYGONS, sloped_model
from tiling.errors import OutputError

TESTS = Path(__file__).parent
WKT = rasterio.crs.CRS.from_string(scenes.UTM).to_wkt()
HEIGHT, WIDTH = 500, 400


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    waves = 90 + 80 * np.sin(rows / 9) * np.cos(cols / 11)
    path = tmp_path_factory.mktemp("scene") / "town.tif"
    return scenes.write(path, np.stack([waves] * 3).astype(np.uint8), tiled=True, blockxsize=64, blockysize=64)


NAMES = ["found.geojson", "found.qml", "p.qml", "p.tif"]


@pytest.fixture(scope="module")
def whole(scene, tmp_path_factory):
    """The outputs of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    predict(scene, outputs_in(folder), sloped_model(), OPTIONS, POLYGONS)
    return folder


def outputs_in(folder, **choices):
    return Outputs(folder / "found.geojson", folder / "p.tif", **choices)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same_outputs(folder, whole):
    assert names_in(folder) == NAMES
    found, expected = (geopandas.read_file(place / "found.geojson") for place in (folder, whole))
    assert len(expected) > 20
    assert_geodataframe_equal(found, expected)
    with rasterio.open(folder / "p.tif") as one, rasterio.open(whole / "p.tif") as other:
        assert (one.read(1) == other.read(1)).all()


@pytest.fixture(scope="module")
def nursery():
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, TESTS / "killed_runs.py"]
    with subprocess.Popen(command, env=environment, **pipes) as process:
        yield process
        process.stdin.close()
        assert process.wait(20) == 0


def run_for(nursery, scene, folder, seconds, **order):
    """Run in a child that is killed; say how it ended and how many parts it left."""
    nursery.stdin.write(json.dumps({"scene": str(scene), "folder": str(folder), "delay": seconds} | order) + "\n")
    nursery.stdin.flush()
    return json.loads(nursery.stdout.readline())


def test_runs_killed_at_any_moment_give_the_same_outputs(nursery, scene, whole, tmp_path):
    choose = random.Random(0)
    left = []
    for number in itertools.count():
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        for attempt in range(7):
            ended, parts = run_for(nursery, scene, folder, 60 if attempt == 6 else choose.uniform(0.05, 0.7))
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            left.append(parts)
            if is_gone(folder / "found.geojson.parts") and names_in(folder) == NAMES:
                break  # killed between the end of its work and of its process
        assert_same_outputs(folder, whole)
        if len(left) >= 20:
            break
    assert len(set(left)) >= 4


def interrupted_at(window):
    """A person who presses Ctrl-C when so many windows are predicted."""

    def track(items, label, total):
        for number, item in enumerate(items):
            if (label, number) == ("Predicting", window):
                raise KeyboardInterrupt
            yield item

    return track


@pytest.fixture
def cut_off(scene, tmp_path):
    """A folder with parts and nothing else, and how it came to be."""
    own = tmp_path / "town.tif"
    own.write_bytes(scene.read_bytes())
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        run(own, folder, track=interrupted_at(40))
    return own, folder


def run(scene, folder, options=OPTIONS, polygons=POLYGONS, *, model=None, track=silent, area=None, **choices):
    outputs = outputs_in(folder, **choices)
    return predict(scene, outputs, model or sloped_model(), options, polygons, area=area, track=track)


def content(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestInterrupted:
    def test_parts_are_kept_and_said(self, scene, whole, tmp_path, caplog):
        with pytest.raises(KeyboardInterrupt):
            run(scene, tmp_path, track=interrupted_at(40))
        assert [path.name for path in tmp_path.iterdir()] == ["found.geojson.parts"]
        parts = len(list(tmp_path.glob("*/row*.tif")))
        assert 1 <= parts < 8
        assert f"{parts} finished parts are kept in {tmp_path / 'found.geojson.parts'}" in caplog.text
        result = run(scene, tmp_path, resume=True)
        assert result.resumed == parts / 8
        assert_same_outputs(tmp_path, whole)

    def test_nothing_is_kept_before_the_first_part(self, scene, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            run(scene, tmp_path, track=interrupted_at(0))
        assert not list(tmp_path.iterdir())

    def test_parts_are_neither_used_nor_lost_without_a_word(self, cut_off):
        scene, folder = cut_off
        before = content(folder)
        with pytest.raises(OutputError, match=r"finished parts .*--resume.*--overwrite"):
            run(scene, folder)
        assert content(folder) == before

    def test_overwrite_starts_again(self, cut_off, whole):
        scene, folder = cut_off
        for part in folder.glob("*/row*.tif"):
            part.write_bytes(b"of another job")
        assert run(scene, folder, overwrite=True).resumed == 0
        assert_same_outputs(folder, whole)

    @pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
    def test_a_damaged_part_is_computed_again(self, cut_off, whole, share):
        scene, folder = cut_off
        part = folder / "found.geojson.parts" / "row0_col0.tif"
        part.write_bytes(part.read_bytes()[: int(share * part.stat().st_size)])
        result = run(scene, folder, resume=True)
        assert 0 <= result.resumed < 4 / 8
        assert_same_outputs(folder, whole)

    def test_resume_without_parts_is_a_run(self, scene, whole, tmp_path):
        assert run(scene, tmp_path, resume=True).resumed == 0
        assert_same_outputs(tmp_path, whole)

    def test_cut_off_between_the_outputs(self, cut_off, whole, monkeypatch):
        scene, folder = cut_off
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("buildseg.prediction.run.write_footprints", Mock(side_effect=KeyboardInterrupt))
            run(scene, folder, resume=True)
        assert (folder / "p.tif").exists()
        (folder / ".found.0123abcd.partial.geojson").write_text("half")
        with pytest.raises(OutputError, match=r"p\.tif exists already"):
            run(scene, folder)
        run(scene, folder, resume=True)
        assert_same_outputs(folder, whole)

    def test_a_file_of_others_is_kept(self, cut_off):
        scene, folder = cut_off
        (folder / "p.tif").write_text("mine")
        with pytest.raises(OutputError, match=r"p\.tif exists already"):
            run(scene, folder, resume=True)
        assert (folder / "p.tif").read_text() == "mine"

    def test_a_record_that_is_gone(self, cut_off):
        scene, folder = cut_off
        (folder / "found.geojson.parts" / "job.json").write_text("")
        with pytest.raises(OutputError, match=r"job\.json, which says .*--overwrite"):
            run(scene, folder, resume=True)


def with_other_pixels(scene):
    with rasterio.open(scene, "r+") as dataset:
        dataset.write(dataset.read() + np.uint8(1))
    return {}


def touched(scene):
    os.utime(scene, (1, 1))
    return {}


def with_other_pixels_unnoticed(scene):
    """Of the same size, at the same time."""
    kept = scene.stat()
    with_other_pixels(scene)
    os.utime(scene, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert scene.stat().st_size == kept.st_size
    return {}


def with_another_model():
    model = sloped_model()
    model.network.gain.data += 0.01
    return model


OTHERS = {
    "files of the scene": [touched, with_other_pixels],
    "pixels of the scene": [with_other_pixels_unnoticed],
    "model 1": [lambda _: {"model": with_another_model()}],
    "model 2": [lambda _: {"model": [sloped_model()] * 2}],
    "--overlap": [lambda _: {"options": replace(OPTIONS, overlap=0.5)}],
    "--window": [lambda _: {"options": replace(OPTIONS, window=96)}],
    "--tta": [lambda _: {"options": replace(OPTIONS, augmentation="flips")}],
    "--scale": [lambda _: {"options": replace(OPTIONS, scales=(1.0, 1.5))}],
    "--precision": [lambda _: {"options": replace(OPTIONS, machine=Machine("cpu", "bf16"))}],
    "--nodata": [lambda _: {"options": replace(OPTIONS, input=InputOptions(nodata=3))}],
    "bands": [lambda _: {"options": replace(OPTIONS, input=InputOptions(bands=(3, 2, 1)))}],
    "--block": [lambda _: {"options": replace(OPTIONS, block=128)}],
    "--aoi": [lambda _: {"area": AreaOfInterest(shapely.box(690000, 5339900, 690100, 5340000), WKT)}],
}


class TestAnotherJob:
    @pytest.mark.parametrize(("name", "change"), [(name, change) for name in OTHERS for change in OTHERS[name]])
    def test_is_refused_by_name(self, cut_off, name, change):
        scene, folder = cut_off
        changed = change(scene)
        before = content(folder)
        with pytest.raises(OutputError, match=rf"another job \(.*{name} was .* and is .*--overwrite"):
            run(scene, folder, resume=True, **changed)
        assert content(folder) == before

    def test_what_probabilities_do_not_depend_on_may_change(self, cut_off, tmp_path):
        scene, folder = cut_off
        options = replace(OPTIONS, machine=Machine("cpu", "fp32", batch_size=5))
        polygons = VectorizeOptions(threshold=0.7, min_area=20, crs="native", shape=ShapeOptions(0))
        assert run(scene, folder, options, polygons, resume=True).resumed > 0
        expected = tmp_path / "expected"
        expected.mkdir()
        run(scene, expected, OPTIONS, polygons)
        assert_same_outputs(folder, expected)


class TestTwoAtOnce:
    def test_the_second_is_sent_away(self, scene, whole, tmp_path):
        said = []

        def second(items, label, total):
            if label == "Predicting":
                with ThreadPoolExecutor(1) as thread:
                    future = thread.submit(run, scene, tmp_path, overwrite=True, resume=True)
                    said.append(str(future.exception()))
            return items

        run(scene, tmp_path, track=second)
        assert len(said) == 1
        assert "in use by another buildseg" in said[0]
        assert_same_outputs(tmp_path, whole)


class TestFullDisk:
    @pytest.mark.parametrize(
        ("most", "parts", "file"),
        [
            (100, 0, "job.json"),
            (1_000, 0, "probability.vrt"),
            (10_000, 0, "row0_col0.tif"),
            (30_000, 8, "p.tif"),
            (30_000, 8, "found.geojson"),
        ],
    )
    def test_is_one_error_and_leaves_no_half_file(self, nursery, scene, whole, tmp_path, most, parts, file):
        said = tmp_path / "said"
        folder = tmp_path / "out"
        folder.mkdir()
        ended, left = run_for(nursery, scene, folder, 60, most=most, said=str(said), raster=file == "p.tif")
        assert (ended, left) == (OutputError.exit_code, parts)
        assert re.search(rf"{file} cannot be written", said.read_text())
        there = {path.name for path in folder.rglob("*") if path.is_file() and "row" not in path.name}
        assert there == ({"job.json", "lock", "probability.vrt", "finishing"} if parts else set())
        assert run_for(nursery, scene, folder, 60)[0] == 0
        assert_same_outputs(folder, whole)


@pytest.mark.parametrize("side", [100, 200, 300, 700])
def test_looks_tell_scenes_apart_that_differ_in_the_middle_or_on_a_side(tmp_path, side):
    model = sloped_model()

    def looks(changed=None):
        pixels = scenes.picture(height=side, width=side)
        if changed:
            pixels[(0, *changed)] ^= 1
        with opened_job(Request(str(scenes.write(tmp_path / "scene.tif", pixels))), [model], OPTIONS) as job:
            return job.looks()

    half, last = side // 2, side - 1
    places = [None, (half, half), (0, half), (last, half), (half, 0), (half, last)]
    assert len({looks(place) for place in places}) == len(places)
