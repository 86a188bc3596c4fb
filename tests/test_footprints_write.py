import json
import logging
import resource
import signal
import sqlite3

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal

from buildseg.footprints import check_format, write_footprints
from tiling.errors import OptionError, OutputError

SUFFIXES = [".geojson", ".gpkg", ".fgb", ".parquet"]


def footprints(crs="EPSG:4326", count=3):
    west = np.arange(count) * 1e-3
    outer = shapely.box(west, 47, west + 5e-4, 47.0005, ccw=False)
    courtyard = shapely.box(west + 1e-4, 47.0001, west + 4e-4, 47.0004)
    return geopandas.GeoDataFrame(
        {
            "id": np.arange(1, count + 1),
            "area_m2": np.arange(count) + 0.25,
            "confidence": np.linspace(0.5, 1, count).round(4),
        },
        geometry=shapely.difference(outer, courtyard),
        crs="EPSG:4326",
    ).to_crs(crs)


def read(path):
    frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    return frame.sort_values("id", ignore_index=True)


def decimals(ring):
    return max(len(str(number).partition(".")[2]) for position in ring for number in position)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32631"])
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".GPKG"])
def test_every_format_comes_back_as_it_went(tmp_path, suffix, crs):
    target = tmp_path / f"b{suffix}"
    frame = footprints(crs)
    write_footprints(frame, target)
    back = read(target)
    assert back.crs == frame.crs
    assert (back.geom_type == "Polygon").all()
    assert_geodataframe_equal(back, frame, check_less_precise=True, normalize=True, check_dtype=False)
    assert [file.name for file in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32631"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_footprints_make_a_valid_empty_file(tmp_path, suffix, crs):
    target = tmp_path / f"b{suffix}"
    write_footprints(footprints(crs).iloc[:0], target)
    if suffix == ".geojson":
        content = json.loads(target.read_text())
        assert content["type"] == "FeatureCollection" and content["features"] == []
        back = geopandas.read_file(target)
    else:
        back = read(target)
        assert suffix == ".parquet" or pyogrio.read_info(target)["geometry_type"] == "Polygon"
        assert list(back.columns) == ["id", "area_m2", "confidence", "geometry"]
    assert len(back) == 0
    assert back.crs == crs


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".fgb"])
def test_layer_bears_the_name_of_the_file(tmp_path, suffix):
    target = tmp_path / f"town{suffix}"
    write_footprints(footprints(), target)
    assert pyogrio.list_layers(target)[0, 0] == "town"


def test_geojson_follows_rfc_7946(tmp_path):
    target = tmp_path / "b.geojson"
    frame = footprints().translate(1 / 3e6, 1 / 7e6)
    write_footprints(footprints().set_geometry(frame), target)
    content = json.loads(target.read_text())
    assert content["type"] == "FeatureCollection"
    assert "crs" not in content
    for feature in content["features"]:
        assert set(feature["properties"]) == {"id", "area_m2", "confidence"}
        assert feature["geometry"]["type"] == "Polygon"
        outer, inner = feature["geometry"]["coordinates"]
        assert shapely.LinearRing(outer).is_ccw and not shapely.LinearRing(inner).is_ccw
        assert 4 < decimals(outer) <= 7 and decimals(inner) <= 7
        assert outer[0] == outer[-1]
        assert 0 <= outer[0][0] < 0.01 and 47 <= outer[0][1] < 47.01
        assert shapely.is_valid(shapely.Polygon(outer, [inner]))


def test_geometries_that_break_when_rounded_are_mended(tmp_path):
    neck = 4e-4
    hourglass = shapely.Polygon(
        np.array([[0, 0], [2, 0], [2, 2], [1 + neck, 4], [2, 6], [2, 8], [0, 8], [0, 6], [1 - neck, 4], [0, 2]]) * 5e-5
    )
    speck = shapely.box(1, 1, 1 + 1e-8, 1 + 1e-8)
    frame = geopandas.GeoDataFrame({"id": [1, 2]}, geometry=[hourglass, speck], crs=4326)
    write_footprints(frame, tmp_path / "b.geojson")
    back = geopandas.read_file(tmp_path / "b.geojson")
    assert back["id"].tolist() == [1, 2]
    assert back.is_valid.all() and (back.geom_type == "Polygon").all()
    assert shapely.area(back.geometry.array).sum() == pytest.approx(hourglass.area, rel=1e-2)


def test_geojson_in_another_crs_names_it_and_warns(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        write_footprints(footprints("EPSG:32631"), tmp_path / "b.geojson")
    assert "EPSG:32631" in caplog.text and "RFC 7946" in caplog.text
    content = json.loads((tmp_path / "b.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32631"


def test_geojson_refuses_a_crs_that_it_cannot_name(tmp_path):
    frame = footprints("+proj=laea +lat_0=47 +lon_0=0 +datum=WGS84")
    with pytest.raises(OptionError, match=r"b\.gpkg"):
        write_footprints(frame, tmp_path / "b.geojson")
    write_footprints(frame, tmp_path / "b.gpkg")
    assert read(tmp_path / "b.gpkg").crs == frame.crs


@pytest.mark.parametrize("name", ["b.shp", "b", "b.json", "geojson"])
def test_unknown_extension_is_refused_naming_the_four(tmp_path, name):
    with pytest.raises(OptionError) as caught:
        check_format(tmp_path / name)
    assert all(suffix in str(caught.value) for suffix in SUFFIXES)
    with pytest.raises(OptionError):
        write_footprints(footprints(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_file_is_kept_unless_overwritten(tmp_path, suffix):
    target = tmp_path / f"b{suffix}"
    write_footprints(footprints(count=2), target)
    with pytest.raises(OutputError, match="--overwrite"):
        write_footprints(footprints(), target)
    assert len(read(target)) == 2
    write_footprints(footprints(), target, overwrite=True)
    assert len(read(target)) == 3
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def small_disk():
    """Let no file grow beyond a limit, which the writer sees as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("missing", [100, 0.5])
@pytest.mark.parametrize("suffix", [".geojson", ".fgb", ".parquet"])
def test_full_disk_leaves_nothing(tmp_path, small_disk, suffix, missing):
    frame = footprints(count=3000)
    write_footprints(frame, tmp_path / f"whole{suffix}")
    size = (tmp_path / f"whole{suffix}").stat().st_size
    small_disk(int(size * missing) if missing < 1 else size - missing)
    with pytest.raises(OutputError, match="cannot be written"):
        write_footprints(frame, tmp_path / f"b{suffix}")
    assert [file.name for file in tmp_path.iterdir()] == [f"whole{suffix}"]


def test_full_disk_leaves_no_geopackage_and_no_journal(tmp_path, small_disk):
    small_disk(200_000)
    with pytest.raises(OutputError, match="cannot be written"):
        write_footprints(footprints(count=3000), tmp_path / "b.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_geopackage_passes_its_own_integrity_check(tmp_path):
    write_footprints(footprints(), tmp_path / "b.gpkg")
    with sqlite3.connect(tmp_path / "b.gpkg") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        assert database.execute("select table_name from gpkg_contents").fetchall() == [("b",)]
    database.close()
