"""Tests of many scenes: one file each, one for all, and going on where a run was cut off."""

import shutil
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from filelock import FileLock
from geopandas.testing import assert_geodataframe_equal
from rasterio.crs import CRS

import scenes
from bright_model import bright_model
from buildseg.area_of_interest import AreaOfInterest
from buildseg.footprints import ShapeOptions, VectorizeOptions
from buildseg.footprints.formats.provenance import read_provenance
from buildseg.prediction.local import LocalPredictor
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.scenes import Destination, predict_scenes
from buildseg.scene_sources import find_scenes
from tiling.errors import OptionError, OutputError

OPTIONS = PredictOptions(block=64, machine=Machine("cpu", "fp32"))
POLYGONS = VectorizeOptions(crs="EPSG:32632", shape=ShapeOptions(0))
HOUSES = [(20, 30), (20, 190), (90, 150), (200, 60), (120, 300), (260, 330)]
SIDE = 24


def town(height=300, width=400):
    pixels = np.full((3, height, width), 20, np.uint8)
    for row, col in HOUSES:
        pixels[:, row : row + SIDE, col : col + SIDE] = 200
    return pixels


def crop(path, cols, **creation):
    """Some columns of the town, where they lie in it."""
    place = scenes.PLACE @ scenes.PLACE.translation(cols.start, 0)
    return scenes.write(path, town()[..., cols], transform=place, **creation)


@pytest.fixture
def halves(tmp_path):
    """Two scenes that share columns 160 to 240: two houses stand on both, and each edge cuts one of them."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    return [crop(folder / "west.tif", slice(0, 200)), crop(folder / "east.tif", slice(160, 400))]


@pytest.fixture
def predictor():
    return LocalPredictor([bright_model()], OPTIONS)


def run(predictor, paths, destination, polygons=POLYGONS, **choices):
    sources = find_scenes([str(path) for path in paths])
    destination.check(sources)
    return {
        Path(name): text for name, text in predict_scenes(predictor, sources, destination, OPTIONS, polygons, **choices)
    }


def interrupted_in(number):
    """A person who presses Ctrl-C in a scene, when some of its blocks are there."""
    seen = []

    def track(items, label, total):
        if label == "Predicting":
            seen.append(total)
        for count, item in enumerate(items):
            if label == "Predicting" and len(seen) == number and count == total - 1:
                raise KeyboardInterrupt
            yield item

    return track


def names(folder):
    """The files in a folder; of styles only that they are beside an output."""
    files = {path for path in folder.rglob("*") if path.is_file()}
    styles = {path for path in files if path.suffix == ".qml"}
    assert {path.with_suffix("") for path in styles} <= {path.with_suffix("") for path in files - styles}
    return sorted(str(path.relative_to(folder)) for path in files - styles)


def area_over(west, east):
    left, right = 690000 + west / 2, 690000 + east / 2
    return AreaOfInterest(shapely.box(left, 5339800, right, 5340000), CRS.from_string(scenes.UTM).to_wkt())


class TestFolder:
    def test_has_a_file_for_each_scene(self, predictor, halves, tmp_path):
        destination = Destination(tmp_path / "found", tmp_path / "rasters", extension="gpkg")
        said = run(predictor, halves, destination)
        assert names(tmp_path / "found") == ["east.gpkg", "west.gpkg"]
        assert names(tmp_path / "rasters") == ["east.tif", "west.tif"]
        assert [path.name for path in said] == ["west.gpkg", "east.gpkg"]
        assert said[tmp_path / "found" / "west.gpkg"].startswith("4 buildings in 200 x 300 pixels")
        assert len(geopandas.read_file(tmp_path / "found" / "west.gpkg")) == 4

    def test_an_unknown_format_is_refused(self, tmp_path):
        with pytest.raises(OptionError, match=r"--format\.docx"):
            Destination(tmp_path / "found", extension="docx")

    def test_resume_leaves_out_what_is_done(self, predictor, halves, tmp_path):
        destination = Destination(tmp_path / "found", tmp_path / "rasters")
        with pytest.raises(KeyboardInterrupt):
            run(predictor, halves, destination, track=interrupted_in(2))
        before = (tmp_path / "found" / "west.geojson").stat().st_mtime_ns
        with pytest.raises(OutputError, match=r"west\.geojson exists already"):
            run(predictor, halves, destination)
        said = run(predictor, halves, replace(destination, resume=True))
        assert (tmp_path / "found" / "west.geojson").stat().st_mtime_ns == before
        assert said[tmp_path / "found" / "west.geojson"] == "done by an earlier run"
        assert "of it from an earlier run" in said[tmp_path / "found" / "east.geojson"]
        assert names(tmp_path / "found") == ["east.geojson", "west.geojson"]
        assert names(tmp_path / "rasters") == ["east.tif", "west.tif"]

    @pytest.mark.parametrize("left", [(), ("lock",)])
    def test_resume_finds_a_run_done_that_was_killed_as_it_removed_its_parts(self, predictor, halves, tmp_path, left):
        destination = Destination(tmp_path / "found.geojson")
        run(predictor, halves[:1], destination)
        found = (tmp_path / "found.geojson").read_bytes()
        (tmp_path / "found.geojson.parts").mkdir()
        for name in left:
            (tmp_path / "found.geojson.parts" / name).touch()
        said = run(predictor, halves[:1], replace(destination, resume=True))
        assert list(said.values()) == ["left as it was before this run"]
        assert not (tmp_path / "found.geojson.parts").exists()
        assert (tmp_path / "found.geojson").read_bytes() == found

    def test_resume_leaves_alone_what_another_process_makes(self, predictor, halves, tmp_path):
        destination = Destination(tmp_path / "found.geojson")
        run(predictor, halves[:1], destination)
        folder = tmp_path / "found.geojson.parts"
        folder.mkdir()
        with FileLock(folder / "lock"), pytest.raises(OutputError, match="in use by another buildseg"):
            run(predictor, halves[:1], replace(destination, resume=True))
        assert [path.name for path in folder.iterdir()] == ["lock"]

    def test_resume_mixes_no_options(self, predictor, halves, tmp_path):
        destination = Destination(tmp_path / "found")
        with pytest.raises(KeyboardInterrupt):
            run(predictor, halves, destination, track=interrupted_in(2))
        before = names(tmp_path)
        others = replace(POLYGONS, threshold=0.6)
        with pytest.raises(OutputError, match=r"west\.geojson .*--threshold was 0\.5 and is 0\.6"):
            run(predictor, halves, replace(destination, resume=True), others)
        assert names(tmp_path) == before
        run(predictor, halves, replace(destination, overwrite=True), others)
        assert names(tmp_path / "found") == ["east.geojson", "west.geojson"]

    def test_files_of_a_finished_run_are_left_and_said(self, predictor, halves, tmp_path):
        run(predictor, halves[:1], Destination(tmp_path / "found"))
        said = run(predictor, halves, Destination(tmp_path / "found", resume=True))
        assert said[tmp_path / "found" / "west.geojson"] == "left as it was before this run"
        said = run(predictor, halves, Destination(tmp_path / "found", resume=True, overwrite=True))
        assert "buildings" in said[tmp_path / "found" / "west.geojson"]
        assert names(tmp_path / "found") == ["east.geojson", "west.geojson"]

    def test_a_finished_file_of_other_options_is_refused(self, predictor, halves, tmp_path):
        destination = Destination(tmp_path / "west.gpkg")
        run(predictor, halves[:1], destination)
        resumed = replace(destination, resume=True)
        assert run(predictor, halves[:1], resumed)[tmp_path / "west.gpkg"] == "left as it was before this run"
        with pytest.raises(OutputError, match=r"west\.gpkg .*--threshold was 0\.5 and is 0\.6"):
            run(predictor, halves[:1], resumed, replace(POLYGONS, threshold=0.6))

    def test_a_raster_for_several_scenes_is_refused(self, predictor, halves, tmp_path):
        with pytest.raises(OptionError, match="name a folder"):
            run(predictor, halves, Destination(None, tmp_path / "p.tif"))


class TestMerged:
    def test_every_building_comes_once_and_whole(self, predictor, halves, tmp_path):
        whole = scenes.write(tmp_path / "town.tif", town())
        run(predictor, [whole], Destination(tmp_path / "whole.gpkg"))
        run(predictor, halves, Destination(tmp_path / "merged.gpkg"))
        one, merged = (geopandas.read_file(tmp_path / name) for name in ("whole.gpkg", "merged.gpkg"))
        assert len(merged) == len(one) == len(HOUSES)
        assert merged.id.tolist() == list(range(1, len(HOUSES) + 1))
        for outline in one.geometry:
            best = max(merged.geometry, key=lambda other: other.intersection(outline).area)
            assert best.symmetric_difference(outline).area < 0.01 * outline.area
        assert set(merged.scene) == {"west", "east"}
        said = read_provenance(tmp_path / "merged.gpkg")
        assert (said["scenes"], said["--threshold"]) == ("west, east", "0.5")
        assert "scene" not in said and said["model 1"] == read_provenance(tmp_path / "whole.gpkg")["model 1"]
        assert names(tmp_path) == ["merged.gpkg", "scenes/east.tif", "scenes/west.tif", "town.tif", "whole.gpkg"]

    def test_the_order_of_scenes_does_not_matter(self, predictor, halves, tmp_path):
        run(predictor, halves, Destination(tmp_path / "one.parquet"))
        run(predictor, halves[::-1], Destination(tmp_path / "other.parquet"))
        one, other = (
            geopandas.read_parquet(tmp_path / name).sort_values("area_m2").geometry.normalize()
            for name in ("one.parquet", "other.parquet")
        )
        assert set(one.to_wkb()) == set(other.to_wkb())

    @pytest.mark.parametrize("scene", [1, 2])
    def test_goes_on_where_it_was_cut_off(self, predictor, halves, tmp_path, scene):
        run(predictor, halves, Destination(tmp_path / "whole.gpkg"))
        destination = Destination(tmp_path / "found.gpkg")
        with pytest.raises(KeyboardInterrupt):
            run(predictor, halves, destination, track=interrupted_in(scene))
        assert not (tmp_path / "found.gpkg").exists()
        with pytest.raises(OutputError, match=r"holds \d scenes of a run .*--resume .*--overwrite"):
            run(predictor, halves, destination)
        said = run(predictor, halves, replace(destination, resume=True))
        assert ("done by an earlier run" in said.values()) == (scene == 2)
        one, other = (geopandas.read_file(tmp_path / name) for name in ("whole.gpkg", "found.gpkg"))
        assert_geodataframe_equal(one, other)
        assert not (tmp_path / "found.gpkg.scenes").exists()

    def test_cut_off_while_the_last_file_is_removed(self, predictor, halves, tmp_path, monkeypatch):
        destination = Destination(tmp_path / "found.gpkg")

        removed = shutil.rmtree

        def interrupted(folder, *args, **kwargs):
            if str(folder).endswith(".scenes"):
                raise KeyboardInterrupt
            removed(folder, *args, **kwargs)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("buildseg.prediction.scenes.shutil.rmtree", interrupted)
            run(predictor, halves, destination)
        assert (tmp_path / "found.gpkg").exists()
        run(predictor, halves, replace(destination, resume=True))
        assert names(tmp_path) == ["found.gpkg", "scenes/east.tif", "scenes/west.tif"]

    def test_resume_mixes_no_options(self, predictor, halves, tmp_path):
        destination = Destination(tmp_path / "found.gpkg")
        with pytest.raises(KeyboardInterrupt):
            run(predictor, halves, destination, track=interrupted_in(2))
        with pytest.raises(OutputError, match=r"--crs was EPSG:32632 and is wgs84.*--overwrite"):
            run(predictor, halves, replace(destination, resume=True), replace(POLYGONS, crs="wgs84"))
        run(predictor, halves, replace(destination, overwrite=True), replace(POLYGONS, crs="wgs84"))
        assert geopandas.read_file(tmp_path / "found.gpkg").crs == "EPSG:4326"

    def test_a_scene_that_changed_is_noticed(self, predictor, halves, tmp_path):
        destination = Destination(tmp_path / "found.gpkg")
        with pytest.raises(KeyboardInterrupt):
            run(predictor, halves, destination, track=interrupted_in(2))
        crop(halves[0], slice(0, 201))
        with pytest.raises(OutputError, match=r"files of the scene was"):
            run(predictor, halves, replace(destination, resume=True))

    def test_other_crs_are_refused_before_the_work(self, predictor, halves, tmp_path):
        halves.append(scenes.geographic(tmp_path / "far.tif"))
        shown = []

        def track(items, label, total):
            shown.append(label)
            return items

        native = replace(POLYGONS, crs="native")
        with pytest.raises(OptionError, match=r"--crs native: .*EPSG:32632.*EPSG:4326.*--crs EPSG:n"):
            run(predictor, halves, Destination(tmp_path / "found.gpkg"), native, track=track)
        assert not shown
        assert not (tmp_path / "found.gpkg.scenes").exists()
        area = area_over(0, 400)
        run(predictor, halves, Destination(tmp_path / "found.gpkg"), native, area=area)
        assert len(geopandas.read_file(tmp_path / "found.gpkg")) == len(HOUSES)

    def test_scenes_without_buildings(self, predictor, tmp_path):
        dark = [scenes.write(tmp_path / f"{name}.tif", np.full((3, 70, 70), 9, np.uint8)) for name in "ab"]
        assert "0 buildings of 2 scenes" in run(predictor, dark, Destination(tmp_path / "none.gpkg")).values()
        assert geopandas.read_file(tmp_path / "none.gpkg").empty


class TestArea:
    def test_scenes_that_it_does_not_touch_are_left_out(self, predictor, halves, tmp_path):
        said = run(predictor, halves, Destination(tmp_path / "found"), area=area_over(0, 150))
        assert names(tmp_path / "found") == ["west.geojson"]
        assert len(said) == 1

    def test_one_that_touches_none(self, predictor, halves, tmp_path):
        with pytest.raises(OptionError, match="does not touch any"):
            run(predictor, halves, Destination(tmp_path / "found.gpkg"), area=area_over(5000, 6000))
        assert names(tmp_path) == ["scenes/east.tif", "scenes/west.tif"]
        assert not (tmp_path / "found.gpkg.scenes").exists()
