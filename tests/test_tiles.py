"""Tiles folders, ours and other people's: paired, checked, measured."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

import scenes
from buildseg.chip_file import read_image, read_mask
from buildseg.statistics import BandStatistics
from buildseg.tiles import open_tiles
from tiling.errors import TilesError

SHAPE = (40, 56)


def picture(seed, mode="RGB"):
    """A noisy picture of the mode's kind; the first quarter of an alpha band is transparent."""
    random = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 60000, SHAPE, np.uint16))
    pixels = random.integers(0, 256, (*SHAPE, len(mode)), np.uint8)
    if mode.endswith("A"):
        pixels[..., -1] = 255
        pixels[:10, :14, -1] = 0
    return Image.fromarray(pixels.squeeze(), mode="L" if mode == "L" else None)


def blocks(high=255):
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:20, 5:30] = high
    return mask


def put(folder, stem, image=None, mask=None, suffixes=(".png", ".png")):
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    image = picture(int(stem)) if image is None else image
    image.save(folder / "images" / f"{stem}{suffixes[0]}")
    mask = Image.fromarray(blocks()) if mask is None else mask
    mask.save(folder / "masks" / f"{stem}{suffixes[1]}")


def pairs(folder, count=4, **options):
    for number in range(count):
        put(folder, f"{number:02d}", **options)
    return folder


def put_tif(folder, stem, pixels, mask=None, **creation):
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    scenes.write(folder / "images" / f"{stem}.tif", pixels, **creation)
    shape = pixels.shape[1:]
    mask = np.zeros((1, *shape), np.uint8) if mask is None else mask
    place = {key: creation[key] for key in ("crs", "transform") if key in creation}
    scenes.write(folder / "masks" / f"{stem}.tif", mask, **place)


def numpys(images):
    flat = np.concatenate([np.asarray(image, np.float64).reshape(-1, 3) for image in images])
    return flat.mean(axis=0), flat.std(axis=0)


# ---- what is taken for tiles


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".PNG", ".JPG"])
@pytest.mark.parametrize("mask_suffix", [".png", ".tif"])
def test_pictures_of_every_format_are_tiles(tmp_path, suffix, mask_suffix):
    tiles = open_tiles([pairs(tmp_path, suffixes=(suffix, mask_suffix))])
    assert (tiles.bands, tiles.dtype, tiles.gsd) == (("red", "green", "blue"), "uint8", None)
    assert len(tiles.train) == 3 and len(tiles.val) == 1
    assert tiles.train[0].shape == SHAPE
    pixels, valid = read_image(tiles.train[1].image)
    assert valid.all()
    assert read_mask(tiles.train[1].mask).tolist() == (blocks() > 0).tolist()
    if suffix.lower() not in {".jpg", ".jpeg"}:
        assert np.array_equal(pixels.transpose(1, 2, 0), np.asarray(picture(1)))


@pytest.mark.parametrize(
    ("mode", "bands", "dtype"),
    [
        ("L", ("gray",), "uint8"),
        ("LA", ("gray",), "uint8"),
        ("RGBA", ("red", "green", "blue"), "uint8"),
        ("I;16", ("gray",), "uint16"),
    ],
)
def test_alpha_is_validity_and_no_band(tmp_path, mode, bands, dtype):
    for number in range(3):
        put(tmp_path, f"{number}", picture(number, mode))
    tiles = open_tiles([tmp_path])
    assert (tiles.bands, tiles.dtype) == (bands, dtype)
    pixels, valid = read_image(tiles.train[0].image)
    assert pixels.shape == (len(bands), *SHAPE)
    assert (~valid).sum() == (140 if mode.endswith("A") else 0)
    drawn = [np.asarray(picture(number, mode)).reshape(*SHAPE, -1) for number in range(2)]
    kept = np.concatenate([image[valid][:, : len(bands)] for image in drawn]).astype(np.float64)
    assert tiles.statistics.count == len(kept)
    assert tiles.statistics.mean == pytest.approx(kept.mean(axis=0))
    assert tiles.statistics.std == pytest.approx(kept.std(axis=0))


@pytest.mark.parametrize(
    "mask",
    [
        Image.fromarray(blocks(1)),
        Image.fromarray(blocks(255)),
        Image.fromarray(blocks(255)).convert("RGB"),
        Image.fromarray(blocks(255)).convert("RGBA"),
        Image.fromarray(blocks(255)).convert("LA"),
        Image.fromarray(blocks(255)).convert("1"),
    ],
    ids=["0-1", "0-255", "RGB", "RGBA", "LA", "1-bit"],
)
def test_masks_of_every_kind_say_the_same(tmp_path, mask):
    tiles = open_tiles([pairs(tmp_path, mask=mask)])
    assert np.array_equal(read_mask(tiles.train[0].mask), blocks() > 0)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_masks_of_one_value_are_fine(tmp_path, value):
    tiles = open_tiles([pairs(tmp_path, mask=Image.fromarray(np.full(SHAPE, value, np.uint8)))])
    assert read_mask(tiles.train[0].mask).mean() == (value > 0)


@pytest.mark.parametrize(("count", "fraction", "kept"), [(2, 0.1, 1), (10, 0.1, 1), (20, 0.1, 2), (20, 0.5, 10)])
def test_the_last_of_a_plain_folder_are_for_validation(tmp_path, count, fraction, kept):
    tiles = open_tiles([pairs(tmp_path, count)], val_fraction=fraction)
    stems = [chip.image.stem for chip in (*tiles.train, *tiles.val)]
    assert stems == [f"{number:02d}" for number in range(count)]
    assert len(tiles.val) == kept


def test_train_and_val_folders_are_taken_as_they_are(tmp_path):
    pairs(tmp_path / "train", 2)
    put(tmp_path / "val", "77")
    tiles = open_tiles([tmp_path])
    assert [chip.image.parent.parent.name for chip in tiles.train] == ["train"] * 2
    assert [chip.mask for chip in tiles.val] == [tmp_path / "val" / "masks" / "77.png"]
    mean, std = numpys([picture(0), picture(1)])
    assert tiles.statistics.mean == pytest.approx(mean) and tiles.statistics.std == pytest.approx(std)


def test_other_files_do_not_matter(tmp_path):
    pairs(tmp_path)
    (tmp_path / "images" / "notes.txt").write_text("taken in May")
    (tmp_path / "images" / "._00.png").write_text("left by another system")
    (tmp_path / "masks" / "99.png").write_bytes((tmp_path / "masks" / "00.png").read_bytes())
    assert len(open_tiles([tmp_path]).train) == 3


def test_several_folders_are_one(tmp_path):
    one, two = pairs(tmp_path / "one", 3), tmp_path / "two"
    for number in range(10, 16):
        put(two, f"{number}")
    tiles = open_tiles([one, two])
    assert tiles.folders == (one, two)
    assert len(tiles.train) == 7 and len(tiles.val) == 2
    mean, std = numpys([picture(number) for number in (0, 1, 10, 11, 12, 13, 14)])
    assert tiles.statistics.count == 7 * SHAPE[0] * SHAPE[1]
    assert tiles.statistics.mean == pytest.approx(mean) and tiles.statistics.std == pytest.approx(std)


def record(**changes):
    """What `buildseg tile` wrote, with changes; a change to None leaves it out."""
    statistics = {"count": 5, "mean": [1, 2, 3], "std": [4, 5, 6]}
    content = {"version": 1, "bands": ["red", "green", "band4"], "statistics": statistics} | changes
    return json.dumps({name: value for name, value in content.items() if value is not None})


def test_the_record_of_a_folder_spares_measuring(tmp_path):
    pairs(tmp_path)
    (tmp_path / "tiles.json").write_text(record())
    tiles = open_tiles([tmp_path])
    assert tiles.statistics == BandStatistics(5, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert tiles.bands == ("red", "green", "band4")


def test_each_file_is_opened_once(tmp_path, monkeypatch):
    pairs(tmp_path, 6)
    opened, really_open = [], rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda path, *rest: (opened.append(path), really_open(path, *rest))[1])
    open_tiles([tmp_path])
    assert len(opened) == len(set(opened)) == 12


# ---- georeference, nodata


def test_metres_per_pixel_come_from_image_or_mask(tmp_path):
    place = Affine(0.25, 0, 690000, 0, -0.25, 5340000)
    for number, scale in enumerate((1, 1, 4, 1)):
        put_tif(tmp_path, f"{number}", scenes.picture(3, *SHAPE), crs=scenes.UTM, transform=place @ Affine.scale(scale))
    scenes.write(tmp_path / "images" / "0.tif", scenes.picture(3, *SHAPE), crs=None)
    tiles = open_tiles([tmp_path])
    assert [chip.gsd for chip in tiles.train] == pytest.approx([0.25, 0.25, 1.0], rel=1e-2)
    assert tiles.gsd == pytest.approx(0.25, rel=1e-2)


def test_nodata_masks_and_no_numbers_are_not_valid(tmp_path):
    valid = scenes.hole(*SHAPE)
    pixels = scenes.picture(2, *SHAPE, "float32")
    absent = np.where(valid, pixels, np.nan).astype(np.float32)
    infinite = np.where(valid, pixels, np.inf).astype(np.float32)
    put_tif(tmp_path, "0", absent)
    put_tif(tmp_path, "1", np.where(valid, pixels, -9999).astype(np.float32), nodata=-9999)
    put_tif(tmp_path, "2", infinite)
    put_tif(tmp_path, "3", pixels)
    tiles = open_tiles([tmp_path])
    for chip in tiles.train:
        read, found = read_image(chip.image)
        assert np.array_equal(found, valid)
        assert np.isfinite(read).all()
    chosen = pixels[:, valid].astype(np.float64)
    assert tiles.statistics.count == 3 * valid.sum()
    assert tiles.statistics.mean == pytest.approx(chosen.mean(axis=1))
    assert tiles.statistics.std == pytest.approx(chosen.std(axis=1))


# ---- refusals


def missing(folder):
    return folder


def a_file(folder):
    folder.write_text("no folder")


def empty(folder):
    folder.mkdir()


def without_images(folder):
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)


def without_masks(folder):
    put(folder, "0")
    (folder / "masks" / "0.png").unlink()
    (folder / "masks").rmdir()


def image_without_mask(folder):
    (pairs(folder) / "masks" / "02.png").unlink()


def sizes_differ(folder):
    pairs(folder)
    Image.fromarray(blocks()[:-1]).save(folder / "masks" / "01.png")


def classes(folder):
    pairs(folder, mask=Image.fromarray(blocks(7)))


def mixed_marks(folder):
    mask = blocks(1)
    mask[0, 0] = 255
    pairs(folder, mask=Image.fromarray(mask))


def shares(folder):
    pairs(folder, mask=Image.fromarray(blocks(1).astype(np.float32) / 2), suffixes=(".png", ".tif"))


def no_numbers(folder):
    mask = np.where(blocks(), np.nan, 0).astype(np.float32)
    pairs(folder, mask=Image.fromarray(mask), suffixes=(".png", ".tif"))


def blurred(folder):
    pairs(folder, suffixes=(".png", ".jpg"))


def colourful(folder):
    pairs(folder, mask=picture(3))


def other_bands(folder):
    put(pairs(folder), "02", picture(0, "L"))


def other_type(folder):
    for number in range(4):
        put(folder, f"{number}", picture(number, "I;16" if number == 3 else "L"))


def colour_table(folder):
    for number in range(3):
        put(folder, f"{number}", picture(number).quantize(16))


def complex_pixels(folder):
    for number in range(3):
        put_tif(folder, f"{number}", np.ones((1, *SHAPE), np.complex64))


def no_picture(folder):
    (pairs(folder) / "images" / "01.png").write_text("no picture")


def cut_short(folder):
    path = pairs(folder, suffixes=(".tif", ".png")) / "images" / "01.tif"
    path.write_bytes(path.read_bytes()[:-4000])


def no_mask_picture(folder):
    (pairs(folder) / "masks" / "03.png").write_text("no picture")


def just_one(folder):
    pairs(folder, 1)


def train_only(folder):
    pairs(folder / "train")


def test_masks_without_a_building_are_said(tmp_path, caplog):
    pairs(tmp_path / "tiles", mask=Image.fromarray(blocks(0)))
    open_tiles([tmp_path / "tiles"])
    assert "no building in any of 3 training masks" in caplog.text


@pytest.mark.parametrize(
    ("make", "named", "says"),
    [
        (missing, "", "is not a folder; make tiles with: buildseg tile"),
        (a_file, "", "is not a folder"),
        (empty, "images", "does not exist; tiles are a folder with images/ and masks/"),
        (without_images, "", "holds no images; expected GeoTIFF, PNG or JPEG"),
        (without_masks, "masks", "does not exist"),
        (image_without_mask, "images/02.png", "has no mask of the same name"),
        (sizes_differ, "images/01.png", "is 56 x 40 pixels but"),
        (classes, "masks/00.png", "holds 0, 7; masks must hold 0 for background and 255"),
        (mixed_marks, "masks/00.png", "holds 0, 1, 255"),
        (shares, "masks/00.tif", "holds 0.0, 0.5"),
        (no_numbers, "masks/00.tif", "holds 0.0, nan"),
        (blurred, "masks/00.jpg", "PNG or TIFF, because JPEG blurs"),
        (colourful, "masks/00.png", "is a colour picture"),
        (other_bands, "images/00.png", "02.png gray as uint8; all images must be of one kind"),
        (other_type, "images/0.png", "3.png gray as uint16; all images"),
        (colour_table, "images/0.png", "colour table"),
        (complex_pixels, "images/0.tif", "pixels of type complex64 are no image"),
        (no_picture, "images/01.png", "cannot be read as an image"),
        (cut_short, "images/01.tif", "cannot be read as an image"),
        (no_mask_picture, "masks/03.png", "cannot be read as an image"),
        (just_one, "", "has 0 chips to train and 1 to validate on"),
        (train_only, "", "has 4 chips to train and 0 to validate on"),
    ],
)
def test_bad_tiles_are_refused_in_a_line(tmp_path, make, named, says):
    folder = tmp_path / "tiles"
    make(folder)
    with pytest.raises(TilesError) as caught:
        open_tiles([folder])
    message = str(caught.value)
    assert message.startswith(str(folder / named))
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is damaged; make the tiles again"),
        ("[]", "is damaged"),
        ("null", "is damaged"),
        (record(version=None), "is damaged"),
        (record(version="first"), "is damaged"),
        (record(bands=None), "is damaged"),
        (record(bands=3), "is damaged"),
        (record(bands=["red"]), "is not of these images, which have 3 bands"),
        (record(statistics=None), "is damaged"),
        (record(statistics={"mean": [1, 1, 1]}), "is damaged"),
        (record(statistics={"count": 1, "mean": 1, "std": [1]}), "is damaged"),
        (record(statistics={"count": 1, "mean": ["a"], "std": [1]}), "is damaged"),
        (record(statistics={"count": 1, "mean": [1, 2], "std": [1, 2]}), "is not of these images"),
        (b"\xff\xfe\x00\x01", "is damaged"),
        ('{"version": 2}', "comes from a newer buildseg (version 2); update"),
    ],
)
def test_bad_records_are_refused_in_a_line(tmp_path, content, says):
    pairs(tmp_path)
    (tmp_path / "tiles.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(TilesError) as caught:
        open_tiles([tmp_path])
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "tiles.json"))
    assert says in message
    assert "\n" not in message


def test_folders_of_two_kinds_are_refused(tmp_path):
    one, two = pairs(tmp_path / "one"), pairs(tmp_path / "two", image=picture(0, "L"))
    with pytest.raises(TilesError, match=r"two holds gray as uint8, but .*one red, green, blue as uint8"):
        open_tiles([one, two])
