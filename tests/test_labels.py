"""Labels: read from any vector format, checked, repaired and brought to the scene."""

import json
import logging

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio.warp
import shapely

import scenes
from buildseg.labels import Labels, extent, read_labels
from tiling import Scene
from tiling.errors import LabelError

HOUSES = [
    shapely.box(690010, 5339930, 690025, 5339950),
    shapely.box(690040, 5339960, 690060, 5339990).difference(shapely.box(690045, 5339970, 690050, 5339980)),
    shapely.Polygon([(690070, 5339940), (690100, 5339945), (690085, 5339980)]),
]


def frame(*shapes, crs=scenes.UTM):
    return geopandas.GeoDataFrame({"name": range(len(shapes))}, geometry=list(shapes), crs=crs)


def write(shapes, path):
    shapes.to_parquet(path) if path.suffix == ".parquet" else shapes.to_file(path, engine="pyogrio")
    return path


@pytest.fixture
def scene(tmp_path):
    """150 x 220 pixels of 0.5 m."""
    with Scene(scenes.write(tmp_path / "scene.tif", scenes.picture())) as opened:
        yield opened


# ---- formats and what may be in them


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp", ".fgb", ".parquet"])
def test_every_format_is_read(tmp_path, suffix):
    houses = frame(*HOUSES).to_crs(4326)
    labels = read_labels(write(houses, tmp_path / f"houses{suffix}"))
    assert labels.path == tmp_path / f"houses{suffix}"
    assert labels.frame.crs == houses.crs
    found = sorted(shapely.normalize(labels.frame.geometry.to_crs(scenes.UTM).array), key=lambda house: house.bounds)
    distances = shapely.hausdorff_distance(found, shapely.normalize(HOUSES))
    assert distances.max() < 0.01
    assert [len(house.interiors) for house in found] == [0, 1, 0]


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".parquet"])
def test_attributes_are_kept_if_wanted(tmp_path, suffix):
    both = shapely.MultiPolygon(HOUSES[::2])
    houses = frame(both, HOUSES[1]).assign(name=["a", "b"], height=[3.0, 4.0]).to_crs(4326)
    kept = read_labels(write(houses, tmp_path / f"houses{suffix}"), keep=["height", "colour"]).frame
    assert list(kept.columns) == ["height", "geometry"]
    assert kept["height"].tolist() == [3.0, 3.0, 4.0]


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".parquet"])
def test_nothing_is_labels_only_if_that_was_said(tmp_path, suffix):
    path = write(frame(*HOUSES).assign(height=3.0).iloc[:0].to_crs(4326), tmp_path / f"houses{suffix}")
    with pytest.raises(LabelError, match="is empty"):
        read_labels(path)
    nothing = read_labels(path, keep=["height"], may_be_empty=True).frame
    assert nothing.empty and nothing.crs == "EPSG:4326"


def test_geometry_column_may_have_any_name(tmp_path):
    frame(*HOUSES).rename_geometry("outline").to_parquet(tmp_path / "houses.parquet")
    assert len(read_labels(tmp_path / "houses.parquet").frame) == 3


def test_parts_heights_and_holes(tmp_path):
    lifted = shapely.force_3d(HOUSES[1], z=431.5)
    labels = read_labels(write(frame(shapely.MultiPolygon(HOUSES[::2]), lifted), tmp_path / "houses.gpkg"))
    assert set(labels.frame.geom_type) == {"Polygon"}
    assert not labels.frame.has_z.any()
    assert labels.frame.area.tolist() == pytest.approx([HOUSES[0].area, HOUSES[2].area, HOUSES[1].area])
    assert len(labels.frame.geometry[2].interiors) == 1


def test_broken_geometry_is_repaired_and_said(tmp_path, caplog):
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    overlapping = shapely.MultiPolygon([shapely.box(20, 0, 30, 10), shapely.box(25, 5, 35, 15)])
    path = write(frame(bow_tie, overlapping, shapely.box(50, 0, 60, 10)), tmp_path / "houses.gpkg")
    with caplog.at_level(logging.WARNING):
        labels = read_labels(path)
    assert labels.frame.is_valid.all()
    assert labels.frame.area.sum() == pytest.approx(50 + 175 + 100)
    assert f"{path}: 2 of 3 geometries were broken and are repaired" in caplog.text


def test_what_is_no_polygon_is_left_out_and_said(tmp_path, caplog):
    path = write(
        frame(HOUSES[0], shapely.LineString(HOUSES[1].exterior), HOUSES[1].centroid), tmp_path / "houses.geojson"
    )
    with caplog.at_level(logging.WARNING):
        labels = read_labels(path)
    assert len(labels.frame) == 1
    assert "2 geometries are no polygons" in caplog.text


def test_sound_labels_are_read_without_a_word(tmp_path, caplog):
    read_labels(write(frame(*HOUSES), tmp_path / "houses.gpkg"))
    assert not caplog.records


def test_missing_geometries_are_passed_over(tmp_path):
    features = [
        {"type": "Feature", "properties": {}, "geometry": None},
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": []}},
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shapely.box(9, 47, 10, 48))},
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert len(read_labels(tmp_path / "a.geojson").frame) == 1


# ---- layers


@pytest.fixture
def two_layers(tmp_path):
    path = tmp_path / "town.gpkg"
    pyogrio.write_dataframe(frame(*HOUSES), path, layer="houses")
    pyogrio.write_dataframe(frame(HOUSES[0]), path, layer="sheds", append=True)
    return path


def test_one_of_several_layers_is_chosen(two_layers):
    assert len(read_labels(two_layers, "houses").frame) == 3
    assert len(read_labels(two_layers, "sheds").frame) == 1


@pytest.mark.parametrize("wanted", [None, "barns"])
def test_several_layers_are_named(two_layers, wanted):
    with pytest.raises(LabelError, match=r"2 layers \(houses, sheds\).*--layer") as caught:
        read_labels(two_layers, wanted)
    assert ("barns" in str(caught.value)) == (wanted == "barns")


def test_a_table_of_styles_is_no_layer_to_choose(tmp_path):
    path = tmp_path / "town.gpkg"
    pyogrio.write_dataframe(frame(*HOUSES), path, layer="houses")
    pyogrio.write_dataframe(pd.DataFrame({"style": ["red"]}), path, layer="layer_styles", append=True)
    assert len(pyogrio.list_layers(path)) == 2
    assert len(read_labels(path).frame) == 3


# ---- conditions


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp", ".fgb"])
def test_a_condition_chooses_by_attributes(tmp_path, suffix):
    path = write(frame(*HOUSES), tmp_path / f"houses{suffix}")
    labels = read_labels(path, where="name <> 1")
    assert labels.where == "name <> 1"
    assert sorted(labels.frame.area) == pytest.approx(sorted((HOUSES[0].area, HOUSES[2].area)), rel=1e-6)


@pytest.mark.parametrize(
    ("suffix", "where", "says"),
    [
        (".gpkg", "name > 5", "has nothing where name > 5"),
        (".gpkg", "colour = 'red'", "check --where"),
        (".geojson", "name = = 1", "check --where"),
        (".parquet", "name = 1", "--where does not work on GeoParquet"),
    ],
)
def test_conditions_that_choose_nothing(tmp_path, suffix, where, says):
    path = write(frame(*HOUSES), tmp_path / f"houses{suffix}")
    with pytest.raises(LabelError) as caught:
        read_labels(path, where=where)
    message = str(caught.value)
    assert message.startswith(str(path)) and says in message and "\n" not in message


# ---- refusals


def nothing(path):
    pass


def words(path):
    path.write_text("just words")


def no_features(path):
    path.write_text('{"type": "FeatureCollection", "features": []}')


def no_rows(path):
    write(frame(*HOUSES).iloc[:0], path)


def null_geometry(path):
    path.write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": null}]}'
    )


def cut_short(path):
    write(frame(*HOUSES), path)
    path.write_bytes(path.read_bytes()[:400])


def without_crs(path):
    write(frame(*HOUSES), path)
    path.with_suffix(".prj").unlink()


def parquet_without_crs(path):
    frame(*HOUSES, crs=None).to_parquet(path)


def lines(path):
    write(frame(*(shapely.LineString(house.exterior) for house in HOUSES)), path)


def raster(path):
    scenes.write(path, scenes.picture())


def table(path):
    path.write_text("a,b\n1,2\n")


def plain_parquet(path):
    pd.DataFrame({"a": [1]}).to_parquet(path)


def folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("a.gpkg", nothing, "does not exist; check the path"),
        ("a.geojson", words, "not a vector file that can be read; give GeoJSON"),
        ("a.geojson", cut_short, "not a vector file"),
        ("a.gpkg", cut_short, "not a vector file"),
        ("a.tif", raster, "not a vector file"),
        ("a.gdb", folder, "not a vector file"),
        ("a.parquet", words, "not a vector file"),
        ("a.parquet", plain_parquet, "not a vector file"),
        ("a.csv", table, "a table without geometry"),
        ("a.geojson", no_features, "is empty; labels must be building outlines"),
        ("a.gpkg", no_rows, "is empty"),
        ("a.parquet", no_rows, "is empty"),
        ("a.geojson", null_geometry, "is empty"),
        ("a.shp", without_crs, "no CRS; assign the right one"),
        ("a.parquet", parquet_without_crs, "no CRS"),
        ("a.gpkg", lines, "no polygons, only Line"),
    ],
)
def test_bad_labels_are_refused_in_a_line(tmp_path, name, make, says):
    path = tmp_path / name
    make(path)
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message


# ---- to the scene


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4258", "EPSG:3857", "EPSG:3035", "EPSG:25833"])
def test_labels_are_reprojected_to_centimetres(scene, tmp_path, crs):
    labels = read_labels(write(frame(*HOUSES).to_crs(crs), tmp_path / "houses.gpkg"))
    near = labels.around(scene)
    assert near.crs.to_epsg() == 32632
    assert shapely.hausdorff_distance(near.array, HOUSES).max() < 0.01
    by_gdal = rasterio.warp.transform_geom(crs, scenes.UTM, list(map(shapely.geometry.mapping, labels.frame.geometry)))
    assert shapely.hausdorff_distance(near.array, [shapely.geometry.shape(house) for house in by_gdal]).max() < 0.01


def test_only_what_touches_the_scene_comes_along(scene, tmp_path):
    beyond = [shapely.box(690110.5, 5339930, 690150, 5339950), shapely.box(680000, 5339930, 680010, 5339950)]
    across = shapely.box(690100, 5339990, 690200, 5340100)
    labels = read_labels(write(frame(beyond[0], HOUSES[2], across, beyond[1], HOUSES[0]), tmp_path / "houses.gpkg"))
    near = labels.around(scene)
    assert near.area.tolist() == pytest.approx([HOUSES[2].area, across.area, HOUSES[0].area])


def test_a_rotated_scene_has_a_rotated_extent(tmp_path):
    with Scene(scenes.rotated(tmp_path / "rotated.tif")) as scene:
        assert extent(scene).area == pytest.approx(110 * 75)
        centre, corner = extent(scene).centroid.buffer(1), shapely.Point(extent(scene).bounds[:2]).buffer(1)
        assert len(Labels(tmp_path, frame(centre, corner)).around(scene)) == 1


@pytest.mark.parametrize(
    ("shape", "crs"),
    [
        (shapely.box(690110.5, 5339930, 690150, 5339950), scenes.UTM),
        (shapely.box(-170, -80, -169, -79), "EPSG:4326"),
        (shapely.box(99, -0.5, 100, 0.5), "EPSG:4326"),
        (HOUSES[0], "EPSG:4326"),
        (HOUSES[0], "EPSG:32633"),
    ],
    ids=["beside", "antipode", "beyond-the-projection", "metres-said-to-be-degrees", "wrong-zone"],
)
def test_a_scene_outside_its_labels_is_an_error(scene, tmp_path, shape, crs):
    with pytest.raises(LabelError) as caught:
        Labels(tmp_path / "labels.gpkg", frame(shape, crs=crs)).around(scene)
    message = str(caught.value)
    assert scene.path in message and "labels.gpkg" in message
    assert "outside its labels" in message and "CRS" in message and "\n" not in message


def test_labels_without_a_place_on_earth_cannot_be_brought(scene, tmp_path):
    site = 'LOCAL_CS["site",UNIT["metre",1],AXIS["X",EAST],AXIS["Y",NORTH]]'
    with pytest.raises(LabelError, match="cannot be brought to the CRS") as caught:
        Labels(tmp_path / "labels.gpkg", frame(*HOUSES, crs=site)).around(scene)
    assert "\n" not in str(caught.value)


def test_a_scene_without_authority_code_is_reached_too(tmp_path):
    own = "+proj=tmerc +lat_0=0 +lon_0=11.5 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m"
    houses = frame(*HOUSES).to_crs(own)
    west, _, _, north = houses.total_bounds
    place = rasterio.Affine(0.5, 0, west - 10, 0, -0.5, north + 10)
    with Scene(scenes.write(tmp_path / "own.tif", scenes.picture(), crs=own, transform=place)) as scene:
        near = Labels(tmp_path, frame(*HOUSES)).around(scene)
    assert np.max(shapely.hausdorff_distance(near.array, houses.geometry.array)) < 0.01
