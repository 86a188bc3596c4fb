"""Tests of joining the footprints of scenes that overlap, as tables and as files."""

import json
import sys

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from buildseg.cli.main import run
from hypothesis import given, settings
from hypothesis import strategies as st

from buildseg.footprints import FootprintFile, InMemory, merge_footprints, write_footprints
from buildseg.footprints.formats.provenance import read_provenance
from buildseg.footprints.merge_files import merge_files
from buildseg.footprints.read import _TYPES
from tiling.errors import FootprintsError, OptionError, OutputError

UTM = "EPSG:32632"
PLACE = np.array([500_000, 5_200_000])
SUFFIXES = [".geojson", ".geojsonl", ".gpkg", ".fgb", ".parquet", ".shp"]


def table(boxes, confidence=0.9, crs=UTM):
    """Footprints as `vectorize` gives them; each box is (left, bottom, width, height) in metres."""
    polygons = [shapely.box(left, bottom, left + width, bottom + height) for left, bottom, width, height in boxes]
    columns = {
        "id": np.arange(1, len(polygons) + 1),
        "area_m2": np.array([polygon.area for polygon in polygons], float).round(2),
        "confidence": np.broadcast_to(np.asarray(confidence, float), len(polygons)),
    }
    return geopandas.GeoDataFrame(columns, geometry=np.array(polygons, object), crs=crs)


class Pieces:
    """A stream of tables of a few rows."""

    def __init__(self, frame):
        self.frame, self.crs, self.count = frame, frame.crs, len(frame)

    def __iter__(self):
        for start in range(0, max(1, len(self.frame)), 3):
            yield self.frame.iloc[start : start + 3]


def merge(frames):
    merged = merge_footprints({name: Pieces(frame) for name, frame in frames.items()})
    together = pd.concat(merged, ignore_index=True)
    assert merged.count == len(together)
    assert together.id.tolist() == list(range(1, len(together) + 1))
    return geopandas.GeoDataFrame(together, geometry="geometry", crs=merged.crs)


def boxes(left=0, right=30):
    place, side = st.integers(left, right), st.integers(1, 9)
    return st.lists(st.tuples(place, st.integers(0, 30), side, side), max_size=8)


def sure(boxes):
    """Some boxes and how sure the network is of each."""
    return boxes.flatmap(
        lambda drawn: st.lists(st.sampled_from([0.6, 0.7, 0.8, 0.9]), min_size=len(drawn), max_size=len(drawn)).map(
            lambda confidence: table(drawn, confidence)
        )
    )


def shared(one, other):
    """What two polygons share, of the smaller."""
    return one.intersection(other).area / min(one.area, other.area)


def rows_of(frame):
    return {(scene, polygon.wkb) for scene, polygon in zip(frame.scene, frame.geometry, strict=True)}


@given(st.lists(sure(boxes()), min_size=1, max_size=4))
def test_each_building_is_kept_once(drawn):
    frames = {f"scene{number}": one for number, one in enumerate(drawn)}
    merged = merge(frames)
    kept = list(zip(merged.scene, merged.geometry, merged.confidence, strict=True))
    for number, (scene, polygon, _) in enumerate(kept):
        for other_scene, other, _ in kept[:number]:
            assert scene == other_scene or shared(polygon, other) < 0.5
    there = rows_of(merged)
    for name, frame in frames.items():
        for polygon, confidence in zip(frame.geometry, frame.confidence, strict=True):
            if (name, polygon.wkb) in there:
                continue
            # Every one that is missing gave way to a more confident one, or one of the same confidence and no smaller,
            # or, being cut, to any.
            cut = any(
                shared(polygon, other) >= 0.5 and other.area > 1.1 * polygon.area
                for scene, frame in frames.items()
                for other in frame.geometry
                if scene != name
            )
            assert any(
                shared(polygon, other) >= 0.5 and (cut or (sureness, other.area) >= (confidence, polygon.area))
                for scene, other, sureness in kept
                if scene != name
            )


@settings(max_examples=30)
@given(boxes())
def test_one_scene_is_left_as_it_is(drawn):
    frame = table(drawn)
    merged = merge({"only": frame})
    assert merged.geometry.to_wkb().tolist() == frame.geometry.to_wkb().tolist()
    assert merged.columns.tolist() == ["id", "area_m2", "confidence", "scene", "geometry"]


@settings(max_examples=30)
@given(boxes(0, 30), boxes(40, 70))
def test_scenes_apart_lose_nothing(west, east):
    merged = merge({"west": table(west), "east": table(east)})
    assert merged.scene.tolist() == ["west"] * len(west) + ["east"] * len(east)
    assert merged.crs == UTM


@settings(max_examples=30)
@given(boxes(), boxes())
def test_the_order_of_scenes_matters_only_among_equals(one, other):
    # Areas that all differ, far above what they are compared to.
    widened = [(*box[:3], box[3] + number / 64) for number, box in enumerate([*one, *other])]
    first, second = table(widened[: len(one)]), table(widened[len(one) :])
    if len({polygon.area for polygon in [*first.geometry, *second.geometry]}) < len(widened):
        return
    assert rows_of(merge({"a": first, "b": second})) == rows_of(merge({"b": second, "a": first}))


FAR = [(-200, -200, 9, 9), (200, -200, 9, 9), (200, 200, 9, 9), (-200, 200, 9, 9)]


def test_the_more_confident_is_kept():
    sure_of, unsure = table([*FAR, (0, 0, 9, 9)], 0.9), table([*FAR, (0, 0, 9, 10)], 0.8)
    assert set(merge({"a": unsure, "b": sure_of}).scene) == {"b"}


def test_of_one_blob_and_confident_houses_in_it_the_houses_are_kept():
    houses, blob = table([*FAR, (0, 0, 9, 9), (10, 0, 9, 9)], 0.9), table([*FAR, (0, 0, 19, 9)], 0.7)
    assert set(merge({"blob": blob, "houses": houses}).scene) == {"houses"}
    assert len(merge({"blob": blob, "houses": houses})) == 6


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_what_an_edge_left_of_a_building_gives_way_however_confident(confidence):
    cut = table([(-200, 0, 9, 9), (-200, 200, 9, 9), (0, 50, 4, 10)], confidence)
    whole = table([(0, 50, 10, 10), (200, 0, 9, 9), (-9, 200, 9, 9)], 0.9)
    merged = merge({"cut": cut, "whole": whole})
    assert merged[merged.intersects(shapely.box(0, 50, 10, 60))].area_m2.tolist() == [100]
    assert len(merged) == 5


def test_the_edge_of_a_scene_that_is_turned():
    """A scene in UTM has slanting edges in degrees."""
    turned = shapely.affinity.rotate
    scene = shapely.box(0, 0, 986, 1000)
    town = [shapely.box(x, y, x + 12, y + 8) for x in range(900, 1100, 20) for y in range(0, 1000, 20)]
    west = [house.intersection(scene) for house in town if house.intersects(scene)]
    east = [house for house in town if house.bounds[0] > 910]
    frames = {}
    for name, houses, confidence in (("west", west, 0.9), ("east", east, 0.8)):
        polygons = [turned(house, 20, origin=(0, 0)) for house in houses if house.area]
        columns = {"id": range(len(polygons)), "area_m2": [polygon.area for polygon in polygons]}
        frames[name] = geopandas.GeoDataFrame(columns, geometry=polygons, crs=UTM).assign(confidence=confidence)
    merged = merge(frames)
    assert len(merged) == len(town)
    assert merged.area.min() > 95.9


def test_of_equal_ones_the_first_is_kept():
    assert merge({"b": table([(0, 0, 5, 5)]), "a": table([(0, 0, 5, 5)])}).scene.tolist() == ["b"]


def test_one_that_is_dropped_drops_no_other():
    chain = {"a": table([(0, 0, 12, 10)]), "b": table([(5, 0, 11, 10)]), "c": table([(11, 0, 10, 10)])}
    assert merge(chain).scene.tolist() == ["a", "c"]


def test_different_crs_are_refused():
    with pytest.raises(OptionError, match=r"--crs native.*EPSG:n"):
        merge({"a": table([(0, 0, 5, 5)]), "b": table([], crs="EPSG:4326")})


def test_scenes_without_footprints():
    merged = merge({"a": table([]), "b": table([])})
    assert merged.empty
    assert merged.crs == UTM


def test_columns_of_all_are_kept():
    one = table([(0, 0, 5, 5)]).assign(vertices=4, status="kept", floors=2, scene="north.tif")
    two = table([(50, 0, 5, 5)]).drop(columns="confidence").assign(floors=2.5, status=7)
    merged = merge({"one": one, "two": two})
    assert merged.scene.tolist() == ["north.tif", "two"]
    assert merged.floors.tolist() == [2, 2.5]
    assert merged.vertices.dtype == "Int64" and merged.vertices.isna().tolist() == [False, True]
    assert merged.status.tolist() == ["kept", "7"]
    assert merged.confidence.isna().tolist() == [False, True]


class TestFiles:
    @pytest.fixture
    def frames(self):
        """Two scenes that share the middle one of five houses, of which the west has but a part."""
        houses = [(place * 100, 0, 12, 10) for place in range(5)]
        west, east = table([*houses[:2], (200, 0, 6, 10)], 0.95), table(houses[2:], 0.8)
        move = lambda frame: frame.set_geometry(frame.translate(*PLACE), crs=UTM)  # noqa: E731
        return {"west": move(west), "east": move(east)}

    @pytest.fixture
    def files(self, frames, tmp_path):
        def write(*suffixes, crs=(UTM, UTM)):
            paths = []
            for (name, frame), suffix, own in zip(frames.items(), suffixes, crs, strict=True):
                paths.append(tmp_path / f"{name}{suffix}")
                wanted = "EPSG:4326" if suffix == ".geojsonl" else own
                write_footprints(InMemory(frame.to_crs(wanted)), paths[-1], provenance={"model": f"of {name}"})
            return paths

        return write

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_every_format_is_read_and_brought_to_one_crs(self, files, tmp_path, suffix):
        paths = files(suffix, ".gpkg", crs=(UTM, "EPSG:3035"))
        assert merge_files(paths, tmp_path / "all.parquet", UTM) == (6, 5)
        merged = geopandas.read_parquet(tmp_path / "all.parquet")
        assert merged.crs == UTM
        assert merged.id.tolist() == [1, 2, 3, 4, 5]
        assert merged.scene.tolist() == ["west"] * 2 + ["east"] * 3
        assert merged.area.tolist() == pytest.approx([120] * 5, abs=1)
        assert merged.confidence.tolist() == [0.95] * 2 + [0.8] * 3
        about = read_provenance(tmp_path / "all.parquet")
        assert about["west: model"] == "of west" and about["east: model"] == "of east" and "buildseg" in about

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_file_comes_back_with_its_columns(self, frames, tmp_path, suffix):
        frame = frames["west"].to_crs("EPSG:4326").assign(edge_width_m=0.5, orientation_deg=20.0, status="kept")
        write_footprints(InMemory(frame), tmp_path / f"b{suffix}")
        (back,) = FootprintFile(tmp_path / f"b{suffix}")
        assert set(back.columns) == set(frame.columns)
        assert back.orientation_deg.tolist() == [20] * 3 and back.confidence.tolist() == [0.95] * 3

    @pytest.mark.parametrize(("crs", "epsg"), [("wgs84", 4326), ("native", 3035), ("EPSG:32632", 32632)])
    def test_crs_of_the_output(self, files, tmp_path, crs, epsg):
        merge_files(files(".fgb", ".gpkg", crs=("EPSG:3035", UTM)), tmp_path / "all.gpkg", crs)
        merged = geopandas.read_file(tmp_path / "all.gpkg")
        assert merged.crs.to_epsg() == epsg
        assert len(merged) == 5

    def test_a_foreign_file(self, frames, files, tmp_path):
        """Without confidence, area or scene; with parts, heights, a bow tie, a point and nothing."""
        east = frames["east"].geometry
        left = PLACE + np.array([800, 0])
        bow = shapely.Polygon(left + np.array([(0, 0), (10, 10), (10, 0), (0, 10)]))
        parts = shapely.force_3d(shapely.MultiPolygon([*east[1:]]), 7.0)
        geometry = [east[0], parts, bow, shapely.Point(left), None]
        geopandas.GeoDataFrame({"name": list("abcde")}, geometry=geometry, crs=UTM).to_file(tmp_path / "osm.gpkg")
        (west, _) = files(".gpkg", ".gpkg")
        assert merge_files([west, tmp_path / "osm.gpkg"], tmp_path / "all.fgb", UTM) == (8, 7)
        merged = geopandas.read_file(tmp_path / "all.fgb").sort_values("id", ignore_index=True)
        assert merged["name"].tolist()[2:] == ["a", "b", "b", "c", "c"]
        assert merged.area_m2.tolist() == pytest.approx([120] * 5 + [25] * 2, abs=0.5)
        assert merged.confidence.isna().sum() == 5 and merged.is_valid.all()
        assert merged.scene.tolist() == ["west"] * 2 + ["osm"] * 5

    def test_confidence_in_words_is_none(self, files, frames, tmp_path):
        frames["east"].assign(confidence="high").to_file(tmp_path / "words.gpkg")
        (west, _) = files(".gpkg", ".gpkg")
        assert merge_files([west, tmp_path / "words.gpkg"], tmp_path / "all.gpkg") == (6, 5)

    @pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".fgb", ".parquet"])
    def test_columns_of_others_come_whole(self, tmp_path, suffix):
        """Where some values are missing, numbers stay whole and yes stays yes; bytes, which JSON cannot hold, go."""
        columns = {
            "osm": pd.array([2**53 + 1, None, 7], dtype="Int64"),
            "heated": pd.array([True, None, False], dtype="boolean"),
            "levels": pd.array([3, 4, None], dtype="Int32"),
        }
        frame = geopandas.GeoDataFrame(columns, geometry=shapely.box([0, 9, 18], 0, [5, 14, 23], 5), crs=UTM)
        if suffix == ".parquet":
            frame["picture"] = [b"\xff\x00", None, b"\xfe"]
        path = tmp_path / f"others{suffix}"
        frame.to_parquet(path) if suffix == ".parquet" else frame.to_file(path)
        for out in (".geojson", ".gpkg"):
            merge_files([path], tmp_path / f"all{out}")
            back = pyogrio.read_dataframe(
                tmp_path / f"all{out}", use_arrow=True, arrow_to_pandas_kwargs={"types_mapper": _TYPES.get}
            )
            for name, values in columns.items():
                assert sorted(map(str, back[name])) == sorted(map(str, values))
            assert "picture" not in back

    def test_other_layers_are_told_of(self, files, frames, tmp_path, caplog):
        (west, _) = files(".gpkg", ".gpkg")
        frames["east"].to_file(west, layer="second", mode="a")
        assert merge_files([west], tmp_path / "all.gpkg") == (3, 3)
        assert [record.message for record in caplog.records] == [f"{west} has several layers; only west is read"]

    def test_parts_are_measured_anew(self, frames, tmp_path):
        whole = frames["west"].dissolve().assign(perimeter_m=1.0, vertices=1)
        whole.to_file(tmp_path / "whole.gpkg")
        merge_files([tmp_path / "whole.gpkg"], tmp_path / "all.gpkg")
        parts = geopandas.read_file(tmp_path / "all.gpkg")
        assert parts["perimeter_m"].tolist() == pytest.approx([44, 44, 32], abs=0.1)
        assert parts["vertices"].tolist() == [4, 4, 4]

    def test_files_of_one_name(self, frames, tmp_path):
        paths = [tmp_path / name / "town.fgb" for name in frames]
        for path, frame in zip(paths, frames.values(), strict=True):
            path.parent.mkdir()
            write_footprints(InMemory(frame), path)
        merge_files(paths, tmp_path / "all.gpkg")
        assert set(geopandas.read_file(tmp_path / "all.gpkg").scene) == set(map(str, paths))

    def test_bad_input(self, files, tmp_path):
        west, east = files(".gpkg", ".pmtiles", crs=(UTM, "EPSG:4326"))
        (tmp_path / "text.geojson").write_text("no json")
        (tmp_path / "table.parquet").write_bytes(b"")
        (tmp_path / "none.geojsonl").touch()
        geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)]).to_parquet(tmp_path / "bare.parquet")
        pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "rows.parquet")
        geopandas.GeoDataFrame(geometry=shapely.points([(0, 0), (1, 1)]), crs=UTM).to_file(tmp_path / "points.gpkg")
        metres = geopandas.GeoDataFrame(geometry=[shapely.box(400_000, 5_317_000, 400_010, 5_317_010)], crs=4326)
        metres.to_parquet(tmp_path / "metres.parquet")
        endless = shapely.set_coordinates(shapely.box(0, 0, 1, 1), [(0, 0), (0, np.inf), (1, 1), (1, 0), (0, 0)])
        geopandas.GeoDataFrame(geometry=[endless], crs=UTM).to_parquet(tmp_path / "endless.parquet")
        for path, says in (
            (tmp_path / "missing.gpkg", "does not exist"),
            (east, "tiles cut buildings"),
            (tmp_path / "text.geojson", "cannot be read"),
            (tmp_path / "table.parquet", "cannot be read"),
            (tmp_path / "bare.parquet", "no CRS"),
            (tmp_path / "rows.parquet", "without geometries"),
            (tmp_path / "points.gpkg", "none of its 2 geometries is a polygon"),
            (tmp_path / "metres.parquet", r", 5317000\) is no longitude and latitude"),
            (tmp_path / "endless.parquet", "no numbers"),
        ):
            with pytest.raises(FootprintsError, match=says) as caught:
                merge_files([west, path], tmp_path / "all.gpkg")
            assert str(path) in str(caught.value)
        for target, error, says in (
            (tmp_path / "all.docx", OptionError, "extension"),
            (west, OutputError, "would be lost"),
            (tmp_path / "no" / "all.gpkg", OutputError, "create it first"),
        ):
            with pytest.raises(error, match=says):
                merge_files([west], target, overwrite=True)
        with pytest.raises(OptionError, match="twice"):
            merge_files([west, west], tmp_path / "all.gpkg")
        with pytest.raises(OptionError, match="--crs EPSG:x"):
            merge_files([west], tmp_path / "all.gpkg", "EPSG:x")
        assert merge_files([west, tmp_path / "none.geojsonl"], tmp_path / "all.gpkg") == (3, 3)

    def test_the_command(self, files, tmp_path, monkeypatch, capsys):
        out = tmp_path / "all.geojson"
        monkeypatch.setattr(sys, "argv", ["buildseg", "merge", *map(str, files(".gpkg", ".fgb")), "--out", str(out)])
        with pytest.raises(SystemExit) as stopped:
            run()
        assert not stopped.value.code
        assert f"{out}: 5 buildings of 6 footprints in 2 files" in capsys.readouterr().out
        assert len(json.loads(out.read_text())["features"]) == 5
