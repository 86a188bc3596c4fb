"""Which scenes are meant by what is typed; STAC files are made by pystac itself."""

import json
import os
import re
from datetime import datetime, timezone
from pathlib import Path

import pystac
import pytest

from buildseg.scene_sources import find_scenes
from tests import scenes
from tiling import Scene
from tiling.errors import SceneError

COG = pystac.MediaType.COG


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test reaches a server."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was asked for {args}")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def paths(*names):
    return [source.path for source in find_scenes(names)]


def named(*names):
    return [source.name for source in find_scenes(names)]


def refusal(*names):
    with pytest.raises(SceneError) as caught:
        find_scenes(names)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestNames:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("scene.tif", "scene"), ("folder/north west.tif", "north_west"), ("a.b.tif", "a.b"), ("café.tif", "café"),
            ("...tif", "scene"), ("https://host/a/b.tif?sig=x%2Fy&to=/c.d", "b"), ("s3://bucket/key/k.tif", "k"),
            ("/vsicurl/https://host/b.tif?part=1", "b"), ("/vsizip/x.zip/y.tif", "y"),
            ("NETCDF:file.nc:var", "NETCDF_file"),
            ('NETCDF:"a/b.nc":var', "b"), ("C:\\data\\x y.tif", "x_y"), ("host.jp2", "host"),
        ],
    )  # fmt: skip
    def test_are_fit_for_files(self, here, path, name):
        assert find_scenes([path])[0].path == path
        assert named(path) == [name]

    def test_are_unique_whatever_the_case(self):
        scenes_of_folders = ["a/scene.tif", "b/Scene.tif", "c/scene.tif", "scene_2.tif", "scene_3.tif"]
        found = named(*scenes_of_folders)
        assert len({name.lower() for name in found}) == 5
        assert (found[0], found[3], found[4]) == ("scene", "scene_2", "scene_3")

    def test_a_scene_named_twice_comes_once(self, here):
        touch("one.tif", "two.tif")
        assert paths("two.tif", "*.tif", str(here / "one.tif"), "./two.tif") == ["two.tif", "one.tif"]
        assert paths("https://h/a.tif", "https://h/a.tif") == ["https://h/a.tif"]


class TestGlobs:
    def test_in_natural_order(self, here):
        touch("s10.tif", "s2.tif", "s1.tif", "s2.png", "other.tif")
        assert paths("s*.tif") == ["s1.tif", "s2.tif", "s10.tif"]

    def test_order_of_odd_digits(self, here):
        touch("1²2.tif", "1²10.tif")
        assert paths("1*.tif") == ["1²2.tif", "1²10.tif"]

    def test_order_of_the_arguments(self, here):
        touch("b/1.tif", "b/2.tif", "a/3.tif")
        assert paths("b/*.tif", "a/*.tif") == ["b/1.tif", "b/2.tif", "a/3.tif"]

    def test_folders_within_folders(self, here):
        touch("x/1.tif", "x/y/2.tif", "x/y/z/3.tif")
        assert paths("x/**/*.tif") == ["x/1.tif", "x/y/2.tif", "x/y/z/3.tif"]

    def test_a_file_that_looks_like_one(self, here):
        touch("plan[1].tif", "plan1.tif")
        assert paths("plan[1].tif") == ["plan[1].tif"]
        assert paths("plan[12].tif") == ["plan1.tif"]

    def test_without_a_match(self, here):
        assert refusal("*.tif") == "*.tif matches no file; check the folder and the extension"

    def test_a_name_that_is_no_text(self, here):
        try:
            (here / os.fsdecode(b"caf\xe9.tif")).touch()
        except OSError:
            pytest.skip("this file system takes no such names")
        assert "not UTF-8" in refusal("*.tif")

    def test_a_folder(self, here):
        touch("tiles/a.tif")
        assert refusal("tiles") == "tiles is a folder; name the rasters in it: 'tiles/*.tif'"
        assert "is a folder" in refusal("til*")

    def test_addresses_are_none(self):
        assert paths("https://host/a.tif?x=[1]", "/vsis3/bucket/a*.tif") == [
            "https://host/a.tif?x=[1]",
            "/vsis3/bucket/a*.tif",
        ]


def item(name="town", **assets):
    made = pystac.Item(name, None, None, datetime(2024, 5, 1, tzinfo=timezone.utc), {})
    for key, asset in assets.items():
        made.add_asset(
            key.rstrip("_"), asset if isinstance(asset, pystac.Asset) else pystac.Asset(asset, media_type=COG)
        )
    return made


def saved(path, made):
    """As a file, without links that name the place where it was made."""
    record = made if isinstance(made, dict) else made.to_dict(include_self_link=False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(record), encoding="utf-8")
    return str(path)


class TestItems:
    def test_relative_address_is_from_the_file(self, here):
        name = saved("deep/item.json", item(image="./rasters/a.tif"))
        (source,) = find_scenes([name])
        assert source.name == "town"
        assert source.path == str(here / "deep/rasters/a.tif")

    def test_can_be_opened(self, here):
        scenes.tiled(here / "a.tif")
        name = saved("item.json", item(image="a.tif"))
        for spelling in (name, str(here / name), f"{name}#image"):
            with Scene(paths(spelling)[0]) as scene:
                assert scene.width == 220

    @pytest.mark.parametrize(
        "address", ["https://host/x/a.tif", "s3://bucket/a.tif", "https://host/a.tif?sig=x%2Fy", "/data/a.tif"]
    )
    def test_absolute_address_stays(self, here, address):
        assert paths(saved("item.json", item(image=address))) == [address]

    def test_the_place_of_the_file_counts_and_not_where_it_was(self, here):
        made = item(image="a.tif")
        made.set_self_href("https://host/items/town.json")
        saved("item.json", made.to_dict())
        assert paths("item.json") == [str(here / "a.tif")]

    def test_name_is_fit_for_a_file(self, here):
        assert named(saved("item.json", item("a/b:c ../d", image="a.tif"))) == ["a_b_c_.._d"]

    def test_several_by_a_glob(self, here):
        for number in (10, 9):
            saved(f"items/{number}.json", item(f"i{number}", image=f"{number}.tif", other="x.tif"))
        assert named("items/*.json#image") == ["i9", "i10"]

    @pytest.mark.parametrize("version", ["0.9.0", "1.0.0", "1.1.0"])
    def test_versions(self, here, version):
        record = item(image="a.tif").to_dict(include_self_link=False)
        assert paths(saved("item.json", record | {"stac_version": version})) == [str(here / "a.tif")]
        collection = {"type": "FeatureCollection", "features": [record | {"stac_version": version}]}
        assert paths(saved("items.json", collection)) == [str(here / "a.tif")]


class TestChoiceOfAsset:
    def chosen(self, **assets):
        return Path(paths(saved("item.json", item(**assets)))[0]).name

    def test_the_only_raster(self, here):
        notes = pystac.Asset("notes.pdf", media_type="application/pdf")
        assert self.chosen(notes=notes, image="a.tif") == "a.tif"
        assert self.chosen(notes=notes, image=pystac.Asset("b.jp2")) == "b.jp2"
        assert self.chosen(notes=notes, image=pystac.Asset("https://h/b.tif?sig=1")) == "b.tif?sig=1"

    def test_small_pictures_are_none(self, here):
        small = pystac.Asset("t.tif", media_type=COG, roles=["thumbnail"])
        assert self.chosen(small=small, image="a.tif") == "a.tif"

    def test_the_visual_one(self, here):
        assert self.chosen(B02="b2.tif", visual="v.tif", B03="b3.tif") == "v.tif"
        by_role = pystac.Asset("v.tif", media_type=COG, roles=["visual"])
        assert self.chosen(B02="b2.tif", rgb=by_role) == "v.tif"

    def test_the_only_one_with_data(self, here):
        data = pystac.Asset("d.tif", media_type=COG, roles=["data"])
        assert self.chosen(mask="m.tif", image=data) == "d.tif"

    def test_by_name(self, here):
        name = saved("item.json", item(B02="b2.tif", B03="b3.tif"))
        assert paths(f"{name}#B03") == [str(here / "b3.tif")]

    def test_too_many_or_none(self, here):
        name = saved("item.json", item(B02="b2.tif", B03="b3.tif"))
        assert refusal(name) == (
            "item.json: the item town has several rasters or none (assets: B02, B03); name one, as in item.json#visual"
        )
        assert "has no asset B04 (assets: B02, B03)" in refusal(f"{name}#B04")
        assert "(assets: none)" in refusal(saved("item.json", item()))


class TestCollections:
    @pytest.fixture
    def catalog(self, here):
        """Two collections; the files name each other relatively."""
        catalog = pystac.Catalog("all", "of it")
        extent = pystac.Extent(pystac.SpatialExtent([[0, 0, 1, 1]]), pystac.TemporalExtent([[None, None]]))
        for town in ("east", "west"):
            collection = pystac.Collection(town, town, extent)
            collection.add_items([item(f"{town}{number}", image=f"./{town}{number}.tif") for number in (1, 2)])
            catalog.add_child(collection)
        catalog.normalize_and_save(str(here / "stac"), pystac.CatalogType.SELF_CONTAINED)
        return here / "stac"

    def test_collection(self, catalog):
        found = find_scenes([str(catalog / "east/collection.json")])
        assert [(source.name, source.path) for source in found] == [
            (f"east{number}", str(catalog / f"east/east{number}/east{number}.tif")) for number in (1, 2)
        ]

    def test_catalog(self, catalog):
        assert named(str(catalog / "catalog.json")) == ["east1", "east2", "west1", "west2"]

    def test_what_stands_above_is_not_asked_for(self, catalog):
        file = catalog / "east/collection.json"
        text = re.sub(r'"\.\./catalog\.json"', '"https://host/catalog.json"', file.read_text(encoding="utf-8"))
        assert "https://host" in text
        file.write_text(text, encoding="utf-8")
        assert named(str(file)) == ["east1", "east2"]

    def test_a_missing_item(self, catalog):
        (catalog / "east/east2/east2.json").unlink()
        message = refusal(str(catalog / "east/collection.json"))
        assert "cannot be read as STAC" in message
        assert "east2.json" in message

    def test_links_in_a_circle(self, catalog):
        file = catalog / "east/collection.json"
        record = json.loads(file.read_text(encoding="utf-8"))
        record["links"].append({"rel": "child", "href": "./collection.json"})
        file.write_text(json.dumps(record), encoding="utf-8")
        assert "lead in a circle" in refusal(str(file))

    def test_item_collection(self, here):
        items = [item("a", image="rasters/a.tif"), item("b", image="https://host/b.tif")]
        name = saved("found/items.geojson", pystac.ItemCollection(items).to_dict())
        assert paths(name) == [str(here / "found/rasters/a.tif"), "https://host/b.tif"]

    def test_of_nothing(self, here):
        assert "holds no items; give a STAC item" in refusal(saved("a.json", pystac.ItemCollection([]).to_dict()))
        assert "holds no items; give a STAC item" in refusal(saved("a.json", pystac.Catalog("all", "of it")))


class TestNoStac:
    @pytest.mark.parametrize(
        "content",
        [
            b"{", b"", b"[1]", b'"text"', b'{"a": 1}', b'{"type": "FeatureCollection"}', b"\xff\xfe",
            b'{"type": "Feature", "properties": {}, "geometry": null}',
            b'{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": null}]}',
            b'{"type": "FeatureCollection", "features": [3]}',
            b'{"type": "Feature", "stac_version": "1.0.0", "id": "a", "assets": 3, "links": 4}',
        ],
    )  # fmt: skip
    def test_other_files(self, here, content):
        Path("a.json").write_bytes(content)
        message = refusal("a.json")
        assert message.startswith("a.json cannot be read as STAC (")
        assert message.endswith("; give a STAC item, collection or item collection, or a raster")

    def test_a_missing_file(self, here):
        assert "none.json cannot be read as STAC ([Errno 2] No such file" in refusal("none.json")


class TestAddresses:
    """Of STAC files on servers."""

    @pytest.fixture
    def answers(self, monkeypatch):
        """What a server would say, by address."""
        answers = {}

        def read(self, href):
            if href not in answers:
                raise OSError(f"HTTP Error 404: {href}")
            return json.dumps(answers[href])

        monkeypatch.setattr("buildseg.scene_sources._Reader.read_text_from_href", read)
        return answers

    @pytest.mark.parametrize(
        "address",
        [
            "https://host/stac/town.json",
            "https://host/stac/town.json?key=1",
            "https://host/collections/naip/items/a.b.1",
        ],
    )
    def test_items(self, answers, address):
        answers[address] = item(image="./a.tif").to_dict(include_self_link=False)
        (source,) = find_scenes([address])
        assert source.path.startswith("https://host/")
        assert source.path.endswith("/a.tif")
        assert paths(f"{address}#image") == [source.path]

    def test_rasters_below_items_are_rasters(self, answers):
        assert paths("https://host/collections/naip/items/a.tif") == ["https://host/collections/naip/items/a.tif"]

    def test_none_there(self, answers):
        assert "cannot be read as STAC (HTTP Error 404" in refusal("https://host/none.json")
