import datetime
import json
import logging
import re
import sqlite3
from collections.abc import Iterator

import geopandas
import numpy as np
import pandas
import pyarrow.parquet
import pyogrio
import pyproj
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal

from buildseg.footprints import InMemory, check_format, files_of, write_footprints, write_raster_style
from buildseg.footprints.formats.pmtiles import MAX_ZOOM, check_end
from buildseg.footprints.formats.provenance import read_provenance
from tiling.errors import OptionError, OutputError, ProbabilityError

SUFFIXES = [".geojson", ".geojsonl", ".gpkg", ".fgb", ".parquet", ".shp", ".pmtiles"]
ANY_CRS = [".geojson", ".gpkg", ".GPKG", ".fgb", ".parquet", ".shp"]
IN_DEGREES = [".geojsonl", ".pmtiles"]
PROVENANCE = {"model": "town é 1a2b", "scene": 'a "b", c.tif', "--threshold": "0.5"}


def footprints(crs="EPSG:4326", count=3):
    west = np.arange(count) * 1e-3
    outer = shapely.box(west, 47, west + 5e-4, 47.0005, ccw=False)
    courtyard = shapely.box(west + 1e-4, 47.0001, west + 4e-4, 47.0004)
    return geopandas.GeoDataFrame(
        {
            "id": np.arange(1, count + 1),
            "area_m2": np.arange(count) + 0.25,
            "confidence": np.linspace(0.5, 1, count).round(4),
            "edge_width_m": np.linspace(0.3, 0.7, count),
            "vertices": np.full(count, 8),
            "status": np.array(["regular", "kept"] * count)[:count],
        },
        geometry=shapely.difference(outer, courtyard),
        crs="EPSG:4326",
    ).to_crs(crs)


class Tables:
    """A stream of tables, which may fail on its way."""

    def __init__(self, tables, error=None):
        self.tables, self.error = tables, error
        self.crs: pyproj.CRS = tables[0].crs
        self.count = sum(map(len, tables))

    def __iter__(self) -> Iterator[geopandas.GeoDataFrame]:
        yield from self.tables
        if self.error:
            raise self.error


def read(path):
    frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    if path.suffix == ".shp":
        frame = frame.rename(columns={"edge_m": "edge_width_m"})
    if path.suffix == ".pmtiles":
        frame = frame.drop(columns="mvt_id").dissolve("id", as_index=False)
    return frame.sort_values("id", ignore_index=True)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def expected_names(target, *, provenance=False):
    own = {file.name for file in files_of(target)}
    style = set() if target.suffix == ".pmtiles" else {f"{target.stem}.qml"}
    beside = {f"{target.name}.provenance.json"} if provenance and target.suffix in {".shp", ".geojsonl"} else set()
    return sorted(own | style | beside)


def decimals(ring):
    return max(len(str(number).partition(".")[2]) for position in ring for number in position)


@pytest.mark.parametrize(
    ("suffix", "crs"),
    [*((suffix, crs) for suffix in ANY_CRS for crs in ("EPSG:4326", "EPSG:32631")), (".geojsonl", "EPSG:4326")],
)
def test_every_format_comes_back_as_it_went(tmp_path, suffix, crs):
    target = tmp_path / f"b{suffix}"
    frame = footprints(crs)
    write_footprints(InMemory(frame), target)
    back = read(target)
    assert back.crs == frame.crs
    assert (back.geom_type == "Polygon").all()
    columns = dict(zip(back.columns, back.dtypes, strict=True))
    assert columns["vertices"].kind == columns["id"].kind == "i" and columns["area_m2"].kind == "f"
    back = back[frame.columns]
    assert_geodataframe_equal(back, frame, check_less_precise=True, normalize=True, check_dtype=False)
    assert names(tmp_path) == expected_names(target)


def test_pmtiles_hold_all_footprints(tmp_path):
    write_footprints(InMemory(footprints(count=50)), tmp_path / "town.pmtiles")
    back = read(tmp_path / "town.pmtiles").to_crs("EPSG:4326")
    assert back["id"].tolist() == list(range(1, 51))
    assert back["status"].tolist() == footprints(count=50)["status"].tolist()
    true = footprints(count=50)
    moved = shapely.hausdorff_distance(back.geometry.array, true.geometry.array)
    assert moved.max() < 2 * 360 / 2**MAX_ZOOM / 4096
    about = pyogrio.read_info(tmp_path / "town.pmtiles")["dataset_metadata"]
    assert (about["minzoom"], about["maxzoom"], about["name"]) == ("10", "15", "town")
    assert names(tmp_path) == ["town.pmtiles"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_of_a_stream_all_arrive(tmp_path, suffix):
    frame = footprints(count=40)
    text_comes_late = frame.assign(status=None).iloc[:0]
    write_footprints(Tables([text_comes_late, frame.iloc[:15], frame.iloc[15:]]), tmp_path / f"b{suffix}")
    back = read(tmp_path / f"b{suffix}")
    assert back["id"].tolist() == frame["id"].tolist()
    assert back["status"].tolist() == frame["status"].tolist()


@pytest.mark.parametrize("error", [ProbabilityError("damaged"), KeyboardInterrupt(), OSError("no such part")])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stream_that_fails_says_why_and_leaves_nothing(tmp_path, suffix, error):
    with pytest.raises(type(error)) as caught:
        write_footprints(Tables([footprints()], error), tmp_path / f"b{suffix}", provenance=PROVENANCE)
    assert caught.value is error
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_provenance_comes_back(tmp_path, suffix):
    target = tmp_path / f"b{suffix}"
    write_footprints(InMemory(footprints()), target, provenance=PROVENANCE)
    assert read_provenance(target) == PROVENANCE
    assert names(tmp_path) == expected_names(target, provenance=True)
    write_footprints(InMemory(footprints()), target, overwrite=True)
    assert read_provenance(target) == {}
    assert names(tmp_path) == expected_names(target)


@pytest.mark.parametrize("suffix", [*ANY_CRS, *IN_DEGREES])
def test_no_footprints_make_a_valid_empty_file(tmp_path, suffix):
    for crs in ["EPSG:4326"] if suffix in IN_DEGREES else ["EPSG:4326", "EPSG:32631"]:
        target = tmp_path / f"{crs[5:]}{suffix}"
        write_footprints(InMemory(footprints(crs).iloc[:0]), target)
        if suffix == ".geojsonl":
            assert target.stat().st_size == 0
            continue
        back = geopandas.read_parquet(target) if suffix == ".parquet" else geopandas.read_file(target)
        assert len(back) == 0
        if suffix == ".pmtiles":
            assert {"id", "status"} <= set(back.columns)
            continue
        assert back.crs == crs
        if suffix == ".geojson":
            content = json.loads(target.read_text())
            assert content["type"] == "FeatureCollection" and content["features"] == []
        else:
            assert suffix == ".parquet" or pyogrio.read_info(target)["geometry_type"] == "Polygon"
            assert len(back.columns) == len(footprints().columns)


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".fgb", ".shp", ".pmtiles"])
def test_layer_bears_the_name_of_the_file(tmp_path, suffix):
    target = tmp_path / f"town{suffix}"
    write_footprints(InMemory(footprints()), target)
    assert pyogrio.list_layers(target)[:, 0].tolist() == ["town"]


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".shp"])
def test_names_that_differ_in_capitals_only(tmp_path, suffix):
    frame = footprints()[["id", "geometry"]].assign(Name="a", name="b", NAME="c", FID=7)
    write_footprints(InMemory(frame), tmp_path / f"b{suffix}")
    (row, *_) = geopandas.read_file(tmp_path / f"b{suffix}").drop(columns=["id", "geometry"]).to_dict("records")
    assert row == {"Name": "a", "name_2": "b", "NAME_3": "c", "FID_2": 7}


@pytest.mark.parametrize("stem", ["gpkg_town", "sqlite_town", "rtree_town"])
def test_names_that_geopackage_keeps_to_itself(tmp_path, stem):
    write_footprints(InMemory(footprints()), tmp_path / f"{stem}.gpkg")
    assert pyogrio.list_layers(tmp_path / f"{stem}.gpkg")[0, 0] == f"footprints_{stem}"


def features_of(path):
    if path.suffix == ".geojson":
        content = json.loads(path.read_text())
        assert content["type"] == "FeatureCollection" and content["provenance"] == PROVENANCE
        assert "crs" not in content
        return content["features"]
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("suffix", [".geojson", ".geojsonl"])
def test_geojson_follows_rfc_7946(tmp_path, suffix):
    target = tmp_path / f"b{suffix}"
    frame = footprints().translate(1 / 3e6, 1 / 7e6)
    write_footprints(InMemory(footprints().set_geometry(frame)), target, provenance=PROVENANCE)
    features = features_of(target)
    assert len(features) == 3
    for feature in features:
        assert feature["type"] == "Feature"
        assert set(feature["properties"]) == set(footprints().columns) - {"geometry"}
        assert feature["geometry"]["type"] == "Polygon"
        outer, inner = feature["geometry"]["coordinates"]
        assert shapely.LinearRing(outer).is_ccw and not shapely.LinearRing(inner).is_ccw
        assert 4 < decimals(outer) <= 7 and decimals(inner) <= 7
        assert outer[0] == outer[-1]
        assert 0 <= outer[0][0] < 0.01 and 47 <= outer[0][1] < 47.01
        assert shapely.is_valid(shapely.Polygon(outer, [inner]))


@pytest.mark.parametrize("suffix", [".geojson", ".geojsonl"])
def test_what_json_has_no_words_for(tmp_path, suffix):
    """Dates, missing values and numbers that are none, as files of others bring them; text of all kinds."""
    columns = {
        "id": [1, 2],
        "built": pandas.to_datetime(["1999-12-31 23:59:58", None]),
        "seen": [datetime.date(2024, 2, 29), None],
        "height_m": [np.inf, np.nan],
        "levels": pandas.array([3, None], dtype="Int64"),
        "street": ['Straße "7"\n\\', None],
        "heated": [True, False],
    }
    target = tmp_path / f"b{suffix}"
    write_footprints(InMemory(geopandas.GeoDataFrame(columns, geometry=footprints(count=2).geometry)), target)
    text = target.read_text(encoding="utf-8")
    features = (
        json.loads(text)["features"] if suffix == ".geojson" else [json.loads(line) for line in text.splitlines()]
    )
    assert [feature["properties"] for feature in features] == [
        {
            "id": 1,
            "built": "1999-12-31T23:59:58",
            "seen": "2024-02-29",
            "height_m": None,
            "levels": 3,
            "street": 'Straße "7"\n\\',
            "heated": True,
        },
        {"id": 2, "built": None, "seen": None, "height_m": None, "levels": None, "street": None, "heated": False},
    ]


def test_no_number_has_more_decimals_than_it_needs(tmp_path):
    corners = np.random.default_rng(0).uniform((-180, -80), (179, 80), (3000, 2)).round(7)
    frame = geopandas.GeoDataFrame({"id": range(3000)}, geometry=shapely.box(*corners.T, *(corners + 1e-4).T), crs=4326)
    write_footprints(InMemory(frame), tmp_path / "b.geojson")
    text = (tmp_path / "b.geojson").read_text()
    assert len(re.findall(r"\.\d{7}\b", text)) > 20_000
    assert not re.search(r"\.\d{8}", text)
    back = geopandas.read_file(tmp_path / "b.geojson")
    assert np.array_equal(shapely.bounds(back.geometry.array), shapely.bounds(frame.geometry.array).round(7))


def test_geometries_that_break_when_rounded_are_mended(tmp_path):
    neck = 4e-4
    hourglass = shapely.Polygon(
        np.array([[0, 0], [2, 0], [2, 2], [1 + neck, 4], [2, 6], [2, 8], [0, 8], [0, 6], [1 - neck, 4], [0, 2]]) * 5e-5
    )
    speck = shapely.box(1, 1, 1 + 1e-8, 1 + 1e-8)
    whole = shapely.box(2, 2, 2.001, 2.001)
    frame = geopandas.GeoDataFrame({"id": [1, 2, 3]}, geometry=[hourglass, speck, whole], crs=4326)
    write_footprints(Tables([frame.iloc[:2], frame.iloc[2:]]), tmp_path / "b.geojson")
    back = geopandas.read_file(tmp_path / "b.geojson")
    assert back["id"].tolist() == [1, 2, 3]
    assert back.is_valid.all() and (back.geom_type == "Polygon").all()
    assert shapely.area(back.geometry.array).sum() == pytest.approx(hourglass.area + whole.area, rel=1e-2)


def test_geojson_in_another_crs_names_it_and_warns(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        write_footprints(InMemory(footprints("EPSG:32631")), tmp_path / "b.geojson", provenance=PROVENANCE)
    assert "EPSG:32631" in caplog.text and "RFC 7946" in caplog.text
    content = json.loads((tmp_path / "b.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32631"
    assert content["provenance"] == PROVENANCE


def test_geojson_refuses_a_crs_that_it_cannot_name(tmp_path):
    frame = footprints("+proj=laea +lat_0=47 +lon_0=0 +datum=WGS84")
    with pytest.raises(OptionError, match=r"b\.gpkg"):
        write_footprints(InMemory(frame), tmp_path / "b.geojson")
    write_footprints(InMemory(frame), tmp_path / "b.gpkg")
    assert read(tmp_path / "b.gpkg").crs == frame.crs


@pytest.mark.parametrize("suffix", IN_DEGREES)
def test_formats_in_degrees_refuse_another_crs(tmp_path, suffix):
    target = tmp_path / f"b{suffix}"
    for crs in ("native", "EPSG:32631"):
        with pytest.raises(OptionError, match=rf"--crs {crs}: {suffix} .*write b\.gpkg"):
            check_format(target, crs)
    for crs in ("wgs84", "EPSG:4326"):
        check_format(target, crs)
    with pytest.raises(OptionError, match=rf"--crs EPSG:32631: {suffix}"):
        write_footprints(InMemory(footprints("EPSG:32631")), target)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["b.docx", "b", "b.json", "geojson"])
def test_unknown_extension_is_refused_naming_all(tmp_path, name):
    with pytest.raises(OptionError) as caught:
        check_format(tmp_path / name)
    assert all(suffix in str(caught.value) for suffix in SUFFIXES)
    with pytest.raises(OptionError):
        write_footprints(InMemory(footprints()), tmp_path / name)
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_file_is_kept_unless_overwritten(tmp_path, suffix):
    target = tmp_path / f"b{suffix}"
    write_footprints(InMemory(footprints(count=2)), target)
    with pytest.raises(OutputError, match="--overwrite"):
        write_footprints(InMemory(footprints()), target)
    assert len(read(target)) == 2
    write_footprints(InMemory(footprints()), target, overwrite=True)
    assert len(read(target)) == 3
    assert names(tmp_path) == expected_names(target)


class TestShapefile:
    def test_says_what_it_shortens(self, tmp_path, caplog):
        long = footprints().rename(columns={"status": "a_long_name_1"}).assign(a_long_name_2="x")
        write_footprints(InMemory(long), tmp_path / "b.shp")
        (record,) = caplog.records
        assert record.levelname == "WARNING" and "\n" not in record.getMessage()
        for words in ("edge_width_m is edge_m", "a_long_name_1 is a_long_nam", "a_long_name_2 is a_long_n_2"):
            assert words in record.getMessage()
        assert set(pyogrio.read_info(tmp_path / "b.shp")["fields"]) >= {"edge_m", "a_long_nam", "a_long_n_2"}

    def test_is_utf_8_and_names_its_crs(self, tmp_path):
        write_footprints(InMemory(footprints("EPSG:32631").assign(scene="Bâle 東")), tmp_path / "b.shp")
        assert (tmp_path / "b.cpg").read_text() == "UTF-8"
        assert "UTM_Zone_31N" in (tmp_path / "b.prj").read_text()
        assert set(geopandas.read_file(tmp_path / "b.shp")["scene"]) == {"Bâle 東"}

    @pytest.mark.parametrize("part", [".shx", ".dbf", ".prj", ".cpg", ".sbn"])
    def test_a_part_that_is_there_is_kept_unless_overwritten(self, tmp_path, part):
        (tmp_path / f"b{part}").write_text("mine")
        with pytest.raises(OutputError, match=f"b{part} exists already"):
            write_footprints(InMemory(footprints()), tmp_path / "b.shp")
        assert names(tmp_path) == [f"b{part}"]
        write_footprints(InMemory(footprints()), tmp_path / "b.shp", overwrite=True)
        assert names(tmp_path) == expected_names(tmp_path / "b.shp")
        assert len(read(tmp_path / "b.shp")) == 3


class TestParquet:
    """Against GeoParquet 1.1."""

    def written(self, folder, crs="EPSG:4326", count=120_000):
        west = np.arange(count) * 1e-5
        boxes = shapely.box(west, 47, west + 5e-6, 47.0005)
        frame = geopandas.GeoDataFrame({"id": np.arange(count)}, geometry=boxes, crs="EPSG:4326").to_crs(crs)
        write_footprints(InMemory(frame), folder / "b.parquet", provenance=PROVENANCE)
        return frame, pyarrow.parquet.ParquetFile(folder / "b.parquet")

    def test_metadata(self, tmp_path):
        frame, file = self.written(tmp_path, count=50)
        geo = json.loads(file.metadata.metadata[b"geo"])
        assert geo["version"] == "1.1.0" and geo["primary_column"] == "geometry"
        assert set(geo["columns"]) == {"geometry"}
        column = geo["columns"]["geometry"]
        assert column["encoding"] == "WKB" and column["geometry_types"] == ["Polygon"]
        assert pyproj.CRS.from_json_dict(column["crs"]) == frame.crs
        assert column["bbox"] == frame.total_bounds.tolist()
        sides = ["xmin", "ymin", "xmax", "ymax"]
        assert column["covering"] == {"bbox": {side: ["bbox", side] for side in sides}}
        schema = file.schema_arrow
        assert schema.field("geometry").type == pyarrow.binary()
        assert [(field.name, field.type) for field in schema.field("bbox").type] == [
            (side, pyarrow.float64()) for side in sides
        ]
        rows = pyarrow.parquet.read_table(tmp_path / "b.parquet")
        assert [list(box.values()) for box in rows["bbox"].to_pylist()] == frame.bounds.to_numpy().tolist()

    def test_readers_can_skip(self, tmp_path):
        frame, file = self.written(tmp_path)
        assert file.metadata.num_row_groups == 3
        east = [file.metadata.row_group(number).column(2).statistics for number in range(3)]
        assert file.metadata.row_group(0).column(2).path_in_schema == "bbox.xmin"
        assert east[0].max < east[1].min < east[1].max < east[2].min
        some = geopandas.read_parquet(tmp_path / "b.parquet", bbox=(0, 46, 1e-5, 48))
        assert some["id"].tolist() == [0, 1]
        assert "bbox" not in some.columns and len(frame) > len(some)


class TestStyle:
    def test_one_that_is_there_is_kept_unless_overwritten(self, tmp_path, caplog):
        (tmp_path / "b.qml").write_text("mine")
        with caplog.at_level(logging.INFO):
            write_footprints(InMemory(footprints()), tmp_path / "b.fgb")
            write_raster_style(tmp_path / "b.tif")
        assert (tmp_path / "b.qml").read_text() == "mine"
        assert "b.qml was there before" in caplog.text
        write_footprints(InMemory(footprints()), tmp_path / "b.fgb", overwrite=True)
        assert "singlebandpseudocolor" in (tmp_path / "b.qml").read_text()

    def test_files_of_one_stem_share_it(self, tmp_path):
        for name in ("b.fgb", "b.gpkg"):
            write_footprints(InMemory(footprints()), tmp_path / name)
        write_raster_style(tmp_path / "b.tif")
        assert names(tmp_path) == ["b.fgb", "b.gpkg", "b.qml"]

    def test_what_a_killed_run_left_of_one_goes(self, tmp_path):
        (tmp_path / ".b.0123abcd.partial.qml").write_text("half")
        write_raster_style(tmp_path / "b.tif")
        assert names(tmp_path) == ["b.qml"]

    def test_none_without_confidence(self, tmp_path):
        write_footprints(InMemory(footprints().drop(columns="confidence")), tmp_path / "b.fgb")
        assert names(tmp_path) == ["b.fgb"]


@pytest.mark.parametrize("missing", [100, 0.5])
@pytest.mark.parametrize("suffix", [".geojson", ".geojsonl", ".fgb", ".parquet", ".shp", ".pmtiles"])
def test_full_disk_leaves_nothing(tmp_path, small_disk, suffix, missing):
    frame = footprints(count=3000)
    write_footprints(InMemory(frame), tmp_path / f"whole{suffix}")
    size = (tmp_path / f"whole{suffix}").stat().st_size
    small_disk(int(size * missing) if missing < 1 else size - missing)
    with pytest.raises(OutputError, match="cannot be written"):
        write_footprints(InMemory(frame), tmp_path / f"b{suffix}")
    assert names(tmp_path) == expected_names(tmp_path / f"whole{suffix}")


@pytest.mark.parametrize("missing", [1, 2, 4])
def test_full_disk_at_the_end_of_geojson(tmp_path, small_disk, missing):
    for folder in ("whole", "cut"):
        (tmp_path / folder).mkdir()
    write_footprints(InMemory(footprints(count=3000)), tmp_path / "whole" / "b.geojson")
    small_disk((tmp_path / "whole" / "b.geojson").stat().st_size - missing - 1)  # the last byte ends the line
    with pytest.raises(OutputError, match="cannot be written"):
        write_footprints(InMemory(footprints(count=3000)), tmp_path / "cut" / "b.geojson")
    assert names(tmp_path / "cut") == []


def test_full_disk_at_the_attributes_of_a_shapefile(tmp_path, small_disk):
    frame = footprints(count=3000).assign(scene="a long name of some scene" * 5)
    write_footprints(InMemory(frame), tmp_path / "whole.shp")
    size = (tmp_path / "whole.dbf").stat().st_size
    assert size > (tmp_path / "whole.shp").stat().st_size
    small_disk(size - 60)
    with pytest.raises(OutputError, match="cannot be written"):
        write_footprints(InMemory(frame), tmp_path / "b.shp")
    assert names(tmp_path) == expected_names(tmp_path / "whole.shp")


def test_full_disk_leaves_no_geopackage_and_no_journal(tmp_path, small_disk):
    small_disk(200_000)
    with pytest.raises(OutputError, match="cannot be written"):
        write_footprints(InMemory(footprints(count=3000)), tmp_path / "b.gpkg")
    assert names(tmp_path) == []


def test_geopackage_passes_its_own_integrity_check(tmp_path):
    write_footprints(InMemory(footprints()), tmp_path / "b.gpkg")
    with sqlite3.connect(tmp_path / "b.gpkg") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        assert database.execute("select table_name from gpkg_contents").fetchall() == [("b",)]
    database.close()


def test_pmtiles_that_are_cut_short_are_noticed(tmp_path):
    write_footprints(InMemory(footprints()), tmp_path / "b.pmtiles")
    content = (tmp_path / "b.pmtiles").read_bytes()
    check_end(tmp_path / "b.pmtiles")
    for cut, says in ((1, "bytes"), (len(content) - 60, "no header")):
        (tmp_path / "b.pmtiles").write_bytes(content[:-cut])
        with pytest.raises(OSError, match=says):
            check_end(tmp_path / "b.pmtiles")


def test_memory_does_not_grow_with_the_tables(tmp_path):
    """What Python and Arrow hold while 100 tables go by, beside what one table takes."""
    frame = footprints(count=2_000)

    class Repeated(Tables):
        def __iter__(self):
            for number in range(self.count // len(frame)):
                self.peak = max(self.peak, pyarrow.total_allocated_bytes())
                yield frame.assign(id=np.arange(len(frame)) + number * len(frame) + 1)

    peaks = {}
    for tables in (3, 100):
        stream = Repeated([frame])
        stream.count, stream.peak = tables * len(frame), 0
        for suffix in (".fgb", ".parquet"):
            write_footprints(stream, tmp_path / f"{tables}{suffix}")
        peaks[tables] = stream.peak
    assert peaks[100] < 2 * peaks[3] + 20_000_000
