"""From labelled scenes to a tiles folder: chips, masks, the split by place, and what is written down."""

import itertools
import json
import math
import resource
import signal

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st

import scenes
from buildseg.labels import Labels, read_labels
from buildseg.make_tiles import TileOptions, make_tiles
from buildseg.spatial_split import split_by_blocks
from buildseg.tiles import open_tiles
from tiling.errors import LabelError, OptionError, OutputError, SceneError, TilesError

SIZE = 64
HEIGHT, WIDTH = 270, 330


def buildings(place=scenes.PLACE, height=HEIGHT, width=WIDTH, crs=scenes.UTM, seed=0):
    """Turned rectangles and a ring over a raster, in its CRS."""
    random = np.random.default_rng(seed)
    shapes = [shapely.Point(90, 80).buffer(30) - shapely.Point(90, 80).buffer(12)]
    for _ in range(40):
        col, row, side = random.uniform((0, 0, 6), (width, height, 30))
        house = shapely.box(col, row, col + side, row + side / 2)
        shapes.append(shapely.affinity.rotate(house, random.uniform(0, 90)))
    on_ground = [shapely.transform(shape, lambda p: np.column_stack(place @ tuple(p.T))) for shape in shapes]
    return Labels("buildings.gpkg", geopandas.GeoDataFrame(geometry=on_ground, crs=crs))


@pytest.fixture
def scene(tmp_path):
    return scenes.write(tmp_path / "town.tif", scenes.picture(3, HEIGHT, WIDTH), photometric="rgb")


def tile(paths, out, labels=None, **options):
    return make_tiles(paths, labels or buildings(), out, TileOptions(**{"size": SIZE} | options))


def chips(out, split="*", kind="images"):
    return sorted(out.glob(f"{split}/{kind}/*.tif"))


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.dataset_mask() > 0, dataset.transform, dataset.crs


def drawn_by_shapely(labels, transform, shape):
    """A mask of the pixels whose centre lies in a building."""
    rows, cols = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.contains_xy(labels.frame.union_all(), *(transform @ (cols, rows)))


def outlines(paths):
    boxes = []
    for path in paths:
        with rasterio.open(path) as dataset:
            boxes.append(shapely.box(*dataset.bounds))
    return boxes


def common_ground(one, other):
    return max((a.intersection(b).area / a.area for a, b in itertools.product(one, other)), default=0.0)


# ---- chips and masks


def test_chips_keep_their_place_and_their_pixels(scene, tmp_path):
    summary = tile([scene], tmp_path / "tiles")
    paths = chips(tmp_path / "tiles")
    assert len(paths) == 5 * 6 == summary.train + summary.val + summary.dropped
    whole, _, place, _ = read(scene)
    seen = set()
    for path in paths:
        pixels, valid, transform, crs = read(path)
        col, row = map(round, ~place @ (transform.c, transform.f))
        assert crs == scenes.UTM and valid.all()
        assert transform.almost_equals(place @ Affine.translation(col, row))
        assert np.array_equal(pixels, whole[:, row : row + SIZE, col : col + SIZE])
        assert path.stem == f"000_town_{row:06d}_{col:06d}"
        seen.add((row, col))
    assert seen <= set(itertools.product((0, 64, 128, 192, 206), (0, 64, 128, 192, 256, 266)))
    with rasterio.open(paths[0]) as dataset:
        assert [colour.name for colour in dataset.colorinterp] == ["red", "green", "blue"]
        assert dataset.compression.name == "deflate"


def test_masks_are_the_buildings(scene, tmp_path):
    labels = buildings()
    summary = tile([scene], tmp_path / "tiles", labels)
    total = []
    for image, mask in zip(chips(tmp_path / "tiles"), chips(tmp_path / "tiles", kind="masks"), strict=True):
        assert image.name == mask.name and image.parent.parent == mask.parent.parent
        (drawn,), _, transform, crs = read(mask)
        assert crs == scenes.UTM and transform == read(image)[2]
        assert drawn.dtype == np.uint8 and set(np.unique(drawn)) <= {0, 255}
        assert np.array_equal(drawn == 255, drawn_by_shapely(labels, transform, drawn.shape))
        total.append(drawn > 0)
    assert summary.building_share == pytest.approx(np.mean(total))
    assert 0.1 < summary.building_share < 0.5


def test_labels_in_another_crs_fall_on_the_same_pixels(scene, tmp_path):
    labels = buildings()
    tile([scene], tmp_path / "one", labels)
    tile([scene], tmp_path / "two", Labels(labels.path, labels.frame.to_crs(4326)))
    pairs = zip(chips(tmp_path / "one", kind="masks"), chips(tmp_path / "two", kind="masks"), strict=True)
    differing = [np.mean(read(one)[0] != read(two)[0]) for one, two in pairs]
    assert max(differing) < 1e-3


def test_gsd_resamples_scene_and_labels(scene, tmp_path):
    labels = buildings()
    summary = tile([scene], tmp_path / "tiles", labels, gsd=1.0)
    whole, _, place, _ = read(scene)
    means = whole.reshape(3, HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(2, 4))
    assert summary.gsd == pytest.approx(1.0, rel=1e-3)
    paths = chips(tmp_path / "tiles")
    assert summary.train + summary.val + summary.dropped == 3 * 3
    for path in paths:
        pixels, _, transform, _ = read(path)
        assert transform.a == pytest.approx(1.0) and transform.e == pytest.approx(-1.0)
        col, row = (round(number / 2) for number in ~place @ (transform.c, transform.f))
        assert np.abs(pixels - means[:, row : row + SIZE, col : col + SIZE]).max() <= 1
        (mask,), *_ = read(path.parent.parent / "masks" / path.name)
        assert np.array_equal(mask == 255, drawn_by_shapely(labels, transform, mask.shape))
    assert open_tiles([tmp_path / "tiles"]).gsd == pytest.approx(1.0, rel=1e-3)


def test_min_building_leaves_chips_out(scene, tmp_path):
    tile([scene], tmp_path / "all")
    shares = {path.name: (read(path)[0] > 0).mean() for path in chips(tmp_path / "all", kind="masks")}
    tile([scene], tmp_path / "some", min_building=0.2)
    kept = {path.name for path in chips(tmp_path / "some", kind="masks")}
    assert 3 < len(kept) < len(shares)
    assert {name for name in kept if name in shares} <= {name for name, share in shares.items() if share >= 0.2}
    assert max((share for name, share in shares.items() if name not in kept), default=0) < 0.2


def test_overlap_is_a_share_of_the_chip(scene, tmp_path):
    tile([scene], tmp_path / "tiles", overlap=0.25, val_fraction=0.05)
    index = geopandas.read_file(tmp_path / "tiles" / "index.geojson")
    made = json.loads((tmp_path / "tiles" / "tiles.json").read_text())["split"]
    starts = {tuple(map(int, name.split("/")[-1].removesuffix(".tif").split("_")[-2:])) for name in index.image}
    assert made["train"] + made["val"] + made["dropped"] == 6 * 7
    assert starts <= set(itertools.product((0, 48, 96, 144, 192, 206), (0, 48, 96, 144, 192, 240, 266)))


def test_windows_without_data_are_dropped_and_holes_stay_holes(tmp_path):
    pixels, valid = scenes.picture(3, HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH), bool)
    valid[:, :140] = False
    scene = scenes.with_nodata(tmp_path / "town.tif", pixels, valid, 0)
    tile([scene], tmp_path / "tiles")
    paths = chips(tmp_path / "tiles")
    cols = [int(path.stem.rsplit("_", 1)[1]) for path in paths]
    assert set(cols) == {128, 192, 256, 266}
    for path, col in zip(paths, cols, strict=True):
        found = read(path)[1]
        row = int(path.stem.split("_")[-2])
        assert np.array_equal(found, valid[row : row + SIZE, col : col + SIZE])
    drawn = [read(path)[0][:, read(path)[1]].astype(float) for path in chips(tmp_path / "tiles", "train")]
    recorded = json.loads((tmp_path / "tiles" / "tiles.json").read_text())["statistics"]
    assert recorded["count"] == sum(chip.shape[1] for chip in drawn)
    assert recorded["mean"] == pytest.approx(np.concatenate(drawn, axis=1).mean(axis=1))


def test_scenes_smaller_than_a_chip_are_chips(tmp_path):
    shapes, paths, labels = [(50, 41), (33, 70), (60, 64)], [], []
    for number, shape in enumerate(shapes):
        place = scenes.PLACE @ Affine.translation(500 * number, 0)
        paths.append(scenes.write(tmp_path / f"{number}.tif", scenes.picture(3, *shape), transform=place))
        labels.append(buildings(place, *shape, seed=number).frame)
    everything = Labels("all.gpkg", geopandas.GeoDataFrame(geometry=np.concatenate([f.geometry for f in labels])))
    everything.frame.set_crs(scenes.UTM, inplace=True)
    tile(paths, tmp_path / "tiles", everything, size=96)
    found = sorted(chips(tmp_path / "tiles"), key=lambda path: path.name)
    assert [read(path)[0].shape[1:] for path in found] == shapes
    for path in found:
        (mask,), _, transform, _ = read(path.parent.parent / "masks" / path.name)
        assert np.array_equal(mask > 0, drawn_by_shapely(everything, transform, mask.shape))
    assert open_tiles([tmp_path / "tiles"]).train


@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 4), ("float32", 1), ("uint8", 5)])
def test_pixels_of_every_kind(tmp_path, dtype, bands):
    pixels = scenes.picture(bands, HEIGHT, WIDTH, dtype)
    scene = scenes.write(tmp_path / "town.tif", pixels)
    tile([scene], tmp_path / "tiles")
    tiles = open_tiles([tmp_path / "tiles"])
    assert tiles.dtype == dtype and len(tiles.bands) == bands
    first = min(chips(tmp_path / "tiles"))
    row, col = map(int, first.stem.split("_")[-2:])
    assert np.array_equal(read(first)[0], pixels[:, row : row + SIZE, col : col + SIZE])


def test_bands_are_chosen_by_name_or_number(scene, tmp_path):
    tile([scene], tmp_path / "tiles", bands=("blue", 1))
    tiles = open_tiles([tmp_path / "tiles"])
    assert tiles.bands == ("blue", "red")
    first = min(chips(tmp_path / "tiles"))
    row, col = map(int, first.stem.split("_")[-2:])
    assert np.array_equal(read(first)[0], read(scene)[0][[2, 0], row : row + SIZE, col : col + SIZE])


# ---- what is written down


def test_the_record_says_how_it_was_made(scene, tmp_path):
    second = scenes.write(
        tmp_path / "other.tif",
        scenes.picture(3, 140, 200, seed=5),
        photometric="rgb",
        transform=scenes.PLACE @ Affine.translation(0, 400),
    )
    labels = Labels("b.gpkg", geopandas.GeoDataFrame(geometry=[shapely.box(690000, 5339700, 690150, 5340000)]))
    labels.frame.set_crs(scenes.UTM, inplace=True)
    summary = tile([scene, second], tmp_path / "tiles", labels, seed=3, val_fraction=0.2)
    record = json.loads((tmp_path / "tiles" / "tiles.json").read_text())
    assert record["version"] == 1 and record["made_by"].startswith("buildseg ")
    assert [source["scene"] for source in record["sources"]] == [str(scene), str(second)]
    for source in record["sources"]:
        assert source["crs"] == scenes.UTM
        assert source["gsd"] == source["native_gsd"] == pytest.approx([0.5, 0.5], rel=1e-3)
    assert record["labels"] == {"path": "b.gpkg", "layer": None, "where": None}
    assert record["bands"] == ["red", "green", "blue"] and record["dtype"] == "uint8"
    assert record["options"] == {
        "size": SIZE,
        "overlap": 0.0,
        "min_building": 0.0,
        "val_fraction": 0.2,
        "gsd": None,
        "bands": None,
        "seed": 3,
        "boundaries": False,
        "boundary_width": 0.5,
    }
    counted = {split: len(chips(tmp_path / "tiles", split)) for split in ("train", "val")}
    assert record["split"]["method"] == "spatial blocks"
    assert {split: record["split"][split] for split in counted} == counted
    assert (summary.train, summary.val) == (counted["train"], counted["val"])
    drawn = np.concatenate([read(path)[0].reshape(3, -1) for path in chips(tmp_path / "tiles", "train")], axis=1)
    assert record["statistics"]["count"] == drawn.shape[1]
    assert record["statistics"]["mean"] == pytest.approx(drawn.astype(float).mean(axis=1))
    assert record["statistics"]["std"] == pytest.approx(drawn.astype(float).std(axis=1))
    assert open_tiles([tmp_path / "tiles"]).statistics.mean == tuple(record["statistics"]["mean"])


def test_the_index_leads_to_every_chip(scene, tmp_path):
    tile([scene], tmp_path / "tiles")
    index = geopandas.read_file(tmp_path / "tiles" / "index.geojson")
    assert index.crs == "EPSG:4326"
    assert sorted(index.image) == [str(path.relative_to(tmp_path / "tiles")) for path in chips(tmp_path / "tiles")]
    assert set(index.scene) == {str(scene)}
    for row in index.to_crs(scenes.UTM).itertuples():
        image, mask = (tmp_path / "tiles" / name for name in (row.image, row.mask))
        (outline,) = outlines([image])
        assert row.geometry.hausdorff_distance(outline) < 0.02
        assert image.name == mask.name and image.parent.parent.name == mask.parent.parent.name == row.split
        assert row.building_share == pytest.approx((read(mask)[0] > 0).mean(), abs=1e-4)


# ---- the split


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_training_shares_no_ground_with_validation(scene, tmp_path, overlap):
    place = scenes.PLACE @ Affine.translation(140, 90)
    second = scenes.write(tmp_path / "over.tif", scenes.picture(3, 200, 260), transform=place, photometric="rgb")
    tile([scene, second], tmp_path / "tiles", overlap=overlap)
    train, val = (outlines(chips(tmp_path / "tiles", split)) for split in ("train", "val"))
    assert train and val
    assert common_ground(train, val) < 0.005
    assert common_ground(train[:10], train[10:]) > 0.2


def test_the_seed_decides_the_split(scene, tmp_path):
    names = []
    for number, seed in enumerate((0, 0, 1)):
        tile([scene], tmp_path / f"{number}", seed=seed)
        names.append([path.name for path in chips(tmp_path / f"{number}", "val")])
    assert names[0] == names[1] != names[2]


def squares(rows, cols, overlap=0.0, east=0.0, north=0.0, turn=0.0, latitude=0.0):
    """Outlines of chips of 0.001 degrees a side on the ground, in longitude and latitude."""
    step = 1 - overlap
    corners = itertools.product(np.arange(rows) * step, np.arange(cols) * step)
    boxes = [shapely.box(x, y, x + 1, y + 1) for y, x in corners]
    turned = [shapely.affinity.rotate(box, turn, origin=(0, 0)) for box in boxes]
    scale, corner, origin = [1e-3 / math.cos(math.radians(latitude)), 1e-3], [east, north], [10, latitude]
    return [shapely.transform(box, lambda p: (p + corner) * scale + origin) for box in turned]


@st.composite
def layouts(draw):
    """One to three grids of chips that may lie over each other, a little turned, with some chips missing."""
    latitude = draw(st.sampled_from([0.0, 47.0, -65.0]))
    chips = []
    for _ in range(draw(st.integers(1, 3))):
        chips += squares(
            draw(st.integers(1, 12)),
            draw(st.integers(1, 12)),
            draw(st.sampled_from([0.0, 0.1, 0.5])),
            *draw(st.tuples(*[st.floats(0, 40)] * 2)),
            turn=draw(st.floats(-3, 3)),
            latitude=latitude,
        )
    missing = draw(st.sets(st.integers(0, len(chips) - 1), max_size=len(chips) // 4))
    return [chip for number, chip in enumerate(chips) if number not in missing]


@settings(max_examples=60, deadline=None)
@given(layouts(), st.sampled_from([0.05, 0.1, 0.2, 0.5, 0.8]), st.integers(0, 99))
def test_any_layout_is_split_by_place(outlines, fraction, seed):
    splits = split_by_blocks(outlines, fraction, seed)
    assert splits == split_by_blocks(outlines, fraction, seed)
    shapes = np.array(outlines)
    train, val = (shapes[[split == name for split in splits]] for name in ("train", "val"))
    assert len(val)
    assert common_ground(train, val) < 0.005
    hits = shapely.STRtree(shapes).query(shapely.buffer(shapes, -3e-6), "intersects")
    if hits.shape[1] < len(shapes) ** 2:
        assert len(train)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(4, 20),
    st.integers(5, 20),
    st.sampled_from([0.05, 0.1, 0.2, 0.5, 0.8]),
    st.floats(-3, 3),
    st.integers(0, 99),
)
@example(5, 5, 0.8, 0.0, 3)
def test_about_the_share_asked_for_is_kept_for_validation(rows, cols, fraction, turn, seed):
    splits = split_by_blocks(squares(rows, cols, turn=turn, latitude=47.0), fraction, seed)
    wanted = rows * cols * fraction
    assert splits.count(None) == 0
    assert abs(splits.count("val") - wanted) <= max(1.0, min(wanted, rows * cols - wanted) / 2)


def test_something_is_left_to_train_on():
    assert sorted(split_by_blocks(squares(1, 4), 0.9)) == ["train", "val", "val", "val"]


@pytest.mark.parametrize("latitude", [0.0, 60.0, -75.0])
def test_validation_chips_stand_in_blocks(latitude):
    splits = np.array(split_by_blocks(squares(32, 32, latitude=latitude), 0.1)).reshape(32, 32)
    cells = splits.reshape(8, 4, 8, 4).transpose(0, 2, 1, 3).reshape(64, 16)
    assert {len(set(cell)) for cell in cells} == {1}


def test_an_uneven_layout_does_not_give_its_crowd_away():
    crowd, lonely = squares(4, 4), [squares(1, 1, east=10.0 * n, north=30)[0] for n in range(19)]
    for seed in range(20):
        assert 2 <= split_by_blocks(crowd + lonely, 0.1, seed).count("val") <= 5


@pytest.mark.parametrize("turn", [0, 2, -2])
def test_two_chips_side_by_side_are_one_of_each(turn):
    for seed in range(4):
        assert sorted(split_by_blocks(squares(1, 2, turn=turn), 0.1, seed)) == ["train", "val"]


# ---- the folder


def test_an_existing_folder_is_kept_unless_overwritten(scene, tmp_path):
    out = tmp_path / "tiles"
    tile([scene], out)
    (out / "train" / "images" / "old.tif").write_text("from before")
    with pytest.raises(OutputError, match="exists already; add --overwrite"):
        tile([scene], out)
    assert (out / "train" / "images" / "old.tif").exists()
    make_tiles([scene], buildings(), out, TileOptions(size=128), overwrite=True)
    assert not (out / "train" / "images" / "old.tif").exists()
    assert read(chips(out)[0])[0].shape == (3, 128, 128)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiles", "town.tif"]


def test_only_tiles_are_overwritten(scene, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_text("precious")
    for out in (tmp_path / "photos", scene):
        with pytest.raises(OutputError, match="is no folder that buildseg tile made"):
            make_tiles([scene], buildings(), out, overwrite=True)
    assert (tmp_path / "photos" / "me.jpg").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_folder_to_be_made_in_must_be_there(scene, tmp_path):
    with pytest.raises(OutputError, match="must be a writable folder"):
        tile([scene], tmp_path / "missing" / "tiles")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_the_folder_appears_only_when_whole(scene, tmp_path, failure):
    out, during = tmp_path / "tiles", []

    def stop_half_way(items, label, total):
        for number, item in enumerate(items):
            during.append((out.exists(), len(list(tmp_path.iterdir()))))
            if number == total // 2:
                raise failure
            yield item

    with pytest.raises(failure):
        make_tiles([scene], buildings(), out, TileOptions(size=SIZE), track=stop_half_way)
    assert set(during) == {(False, 2)} and len(during) == 16
    assert list(tmp_path.iterdir()) == [scene]


def test_a_failure_leaves_the_old_tiles(scene, tmp_path):
    out = tmp_path / "tiles"
    tile([scene], out)
    before = chips(out)
    with pytest.raises(TilesError):
        make_tiles([scene], buildings(), out, TileOptions(size=SIZE, min_building=1), overwrite=True)
    assert chips(out) == before


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (3, 600, 600), np.uint8)
    scene = scenes.write(tmp_path / "town.tif", noise)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            tile([scene], tmp_path / "tiles", size=256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == [scene]


# ---- refusals


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"size": 31}, "--size"),
        ({"overlap": 1.0}, "--overlap"),
        ({"overlap": -0.1}, "--overlap"),
        ({"min_building": 1.1}, "--min-building"),
        ({"min_building": math.nan}, "--min-building"),
        ({"val_fraction": 0.0}, "--val-fraction"),
        ({"val_fraction": 1.0}, "--val-fraction"),
        ({"gsd": 0.0}, "--gsd"),
        ({"gsd": math.nan}, "--gsd"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_options_out_of_range_name_their_flag(changes, flag):
    with pytest.raises(OptionError, match=f"^{flag} "):
        TileOptions(**changes)


def test_nothing_left_to_learn_from_is_an_error(scene, tmp_path):
    with pytest.raises(TilesError, match=r"no chip is left.*--min-building"):
        tile([scene], tmp_path / "tiles", min_building=1)
    assert list(tmp_path.iterdir()) == [scene]


@pytest.mark.parametrize("size", [512, 256])
def test_chips_that_cannot_be_parted_are_an_error(scene, tmp_path, size):
    with pytest.raises(TilesError, match=r"cannot be parted.*smaller --size"):
        tile([scene], tmp_path / "tiles", size=size)
    assert list(tmp_path.iterdir()) == [scene]


def test_a_scene_outside_the_labels_is_an_error(scene, tmp_path):
    elsewhere = scenes.write(tmp_path / "far.tif", scenes.picture(), transform=Affine(0.5, 0, 0, 0, -0.5, 4e6))
    with pytest.raises(LabelError, match=r"far\.tif lies outside its labels"):
        tile([scene, elsewhere], tmp_path / "tiles")
    assert not (tmp_path / "tiles").exists()


@pytest.mark.parametrize("pixels", [scenes.picture(5), scenes.picture(3, dtype="uint16")])
def test_scenes_of_two_kinds_are_an_error(scene, tmp_path, pixels):
    other = scenes.write(tmp_path / "other.tif", pixels)
    with pytest.raises(SceneError, match=r"other\.tif holds .* tile scenes of one kind") as caught:
        tile([scene, other], tmp_path / "tiles")
    assert "\n" not in str(caught.value)


def test_chosen_bands_keep_their_names(tmp_path):
    """Else a model trained on infrared would be given another band of the next scene."""
    rng = np.random.default_rng(3)
    path = tmp_path / "four.tif"
    profile = {"driver": "GTiff", "count": 4, "height": 256, "width": 256, "dtype": "uint8"}
    transform = Affine(0.5, 0, 500_000, 0, -0.5, 5_200_000)
    with rasterio.open(path, "w", crs="EPSG:32632", transform=transform, photometric="rgb", alpha="no", **profile) as d:
        d.write(rng.integers(1, 255, (4, 256, 256), dtype=np.uint8))
    house = geopandas.GeoSeries([shapely.box(500_010, 5_199_900, 500_100, 5_199_990)], crs="EPSG:32632")
    house.to_file(tmp_path / "houses.gpkg")
    labels = read_labels(tmp_path / "houses.gpkg")
    make_tiles([path], labels, tmp_path / "tiles", TileOptions(size=64, bands=(1, 2, 4)))
    assert open_tiles([tmp_path / "tiles"]).bands == ("red", "green", "band4")
