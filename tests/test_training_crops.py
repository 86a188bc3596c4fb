"""Which part of a chip becomes a crop, and that no more of it is read."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

import scenes
from buildseg.chip_file import ChipFile, read_image, read_mask
from buildseg.classes import IGNORE
from buildseg.contract import Contract
from buildseg.training import dataset as dataset_module
from buildseg.training.augment import mirror, resize
from buildseg.training.cut import Cut, draw_cut
from buildseg.training.dataset import TrainingCrops, WholeChips, load_chip
from buildseg.training.loaders import make_loader
from buildseg.training.sampling import Draw
from test_training import FORKED, PLAIN, bright_roofs, changes, put

SIDES = st.integers(1, 300)


def contract(bands, dtype="float32", gsd=0.5):
    return Contract(tuple(map(str, range(bands))), dtype, (0.5,) * bands, (0.25,) * bands, gsd, 64)


# ---- where


@given(SIDES, SIDES, st.floats(1, 400), st.sampled_from(["none", "light", "strong"]), st.integers(0, 2**32 - 1))
def test_a_cut_is_what_lies_inside_the_chip_and_beyond(rows, cols, side, preset, seed):
    cut = draw_cut((rows, cols), side, preset, seed)
    assert cut == draw_cut((rows, cols), side, preset, seed)
    least, most = {"none": (1, 1), "light": (0.9, 1.1), "strong": (0.7, 1.4)}[preset]
    assert least * side - 0.51 <= cut.side <= max(1, most * side + 0.51)
    inside, (top, bottom, left, right) = cut.inside((rows, cols)), cut.beyond((rows, cols))
    assert (inside.height + top + bottom, inside.width + left + right) == (cut.side, cut.side)
    assert inside.row_off >= 0 and inside.row_off + inside.height <= rows
    assert inside.col_off >= 0 and inside.col_off + inside.width <= cols
    assert (inside.height, top + bottom) == (min(cut.side, rows), max(0, cut.side - rows))
    assert (inside.width, left + right) == (min(cut.side, cols), max(0, cut.side - cols))


@pytest.mark.parametrize("extent", [40, 100])
def test_cuts_lie_anywhere_in_the_chip_or_the_chip_anywhere_in_them(extent):
    cuts = [draw_cut((extent, extent), 70, "none", seed) for seed in range(600)]
    for starts in ([cut.row for cut in cuts], [cut.col for cut in cuts]):
        assert (min(starts), max(starts)) == (min(0, extent - 70), max(0, extent - 70))
        assert np.bincount(np.array(starts) - min(starts), minlength=31).min() > 5
    assert abs(np.corrcoef([cut.row for cut in cuts], [cut.col for cut in cuts])[0, 1]) < 0.12


def test_scales_are_drawn_evenly():
    sides = [draw_cut((300, 300), 100, "strong", seed).side for seed in range(2000)]
    assert np.histogram(sides, bins=7, range=(70, 141))[0].min() > 220


@given(SIDES, SIDES, st.integers(-400, 300), st.integers(-400, 300), SIDES)
def test_beyond_its_edge_a_chip_is_mirrored(rows, cols, row, col, side):
    cut = Cut(min(row, rows - 1), min(col, cols - 1), side)
    content = np.arange(rows * cols, dtype=np.float32).reshape(rows, cols)
    margins = cut.beyond((rows, cols))
    content = content[cut.inside((rows, cols)).toslices()]
    if content.size and max(cut.side - content.shape[0], cut.side - content.shape[1]) < 200:
        expected = np.pad(content, (margins[:2], margins[2:]), mode="reflect")
        assert np.array_equal(mirror(content, margins), expected)
        assert np.array_equal(mirror(np.stack([content] * 6, axis=-1), margins)[..., 5], expected)


# ---- what is read


@pytest.mark.parametrize("preset", ["none", "strong"])
@pytest.mark.parametrize(("side", "gsd"), [(300, 0.5), (64, 0.5), (50, 0.5), (300, 0.2), (300, 1.25)])
def test_a_crop_read_in_part_is_that_of_the_whole_chip(tmp_path, preset, side, gsd):
    invalid = np.zeros((side, side), bool)
    invalid[side // 3 : side // 2, side // 3 :] = True
    pixels, mask = bright_roofs(side, 0, 2, "float32")
    chip = put(tmp_path, "0", np.where(invalid, -9999, pixels).astype(np.float32), mask, nodata=-9999, tiled=True)
    crops = TrainingCrops([chip], contract(2, gsd=gsd), 64, preset)
    whole = np.where(invalid, 0.5, pixels).transpose(1, 2, 0).astype(np.float32)
    labels = np.where(invalid, IGNORE, mask).astype(np.uint8)
    for seed in range(6):
        image, target, _ = crops[Draw(0, seed)]
        expected, label = changes(preset, bands=2, dtype="float32", side=64 * gsd / 0.5)(whole, labels, seed)
        expected = np.where(label[..., None] == IGNORE, 0, (expected - 0.5) / 0.25)
        assert np.array_equal(target.numpy(), label)
        assert np.allclose(image.numpy(), expected.transpose(2, 0, 1), atol=1e-5)


def test_no_more_of_a_chip_is_read_than_the_crop_needs(tmp_path, monkeypatch):
    chip = put(tmp_path, "0", *bright_roofs(600, bands=1, dtype="float32"), tiled=True)
    boundary = put(tmp_path / "more", "0", *bright_roofs(600, bands=1, dtype="float32")).mask
    chip = ChipFile(chip.image, chip.mask, 0.5, chip.shape, boundary=boundary)
    read = []
    for name in ("read_image", "read_mask", "read_boundary"):
        function = getattr(dataset_module, name)

        def noted(*arguments, function=function):
            content = function(*arguments)
            read.append((content[0][0] if isinstance(content, tuple) else content).shape)
            return content

        monkeypatch.setattr(dataset_module, name, noted)
    for gsd, most in ((0.5, 90), (0.125, 23), (1.0, 180)):
        crops = TrainingCrops([chip], contract(1, gsd=gsd), 64)
        for seed in range(20):
            assert crops[Draw(0, seed)].boundary.shape == (64, 64)
        assert len(read) == 60 and max(max(shape) for shape in read) <= most
        read.clear()


def test_a_mask_in_a_file_of_its_own_counts(tmp_path):
    """As GDAL writes it beside an image: it must be found though folders are not listed."""
    chip = put(tmp_path, "0", *bright_roofs(64, bands=1, dtype="uint8"))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(chip.image, "r+") as image:
        image.write_mask(scenes.hole(64, 64))
    assert chip.image.with_name("0.tif.msk").exists()
    assert np.array_equal(read_image(chip.image)[1], scenes.hole(64, 64))
    target = TrainingCrops([chip], contract(1, "uint8"), 64, "none")[Draw(0, 0)].target
    assert np.array_equal(target.numpy() == IGNORE, ~scenes.hole(64, 64))
    assert read_mask(chip.mask).max() == 1


# ---- resolution


def test_a_resolution_that_nearly_is_the_models_stays(tmp_path):
    chip = put(tmp_path, "0", *bright_roofs(64, bands=1, dtype="float32"))
    pixels, _ = load_chip(ChipFile(chip.image, chip.mask, 0.509, chip.shape), PLAIN)
    assert np.array_equal(pixels[..., 0], read_image(chip.image)[0][0])
    near = TrainingCrops([ChipFile(chip.image, chip.mask, 0.491, chip.shape)], PLAIN, 64, "none")
    assert np.array_equal(near[Draw(0, 0)].image[0], read_image(chip.image)[0][0])
    assert load_chip(ChipFile(chip.image, chip.mask, 0.49, chip.shape), PLAIN)[0].shape == (63, 63, 1)


@pytest.mark.parametrize("bands", [1, 4, 5, 12])
def test_any_number_of_bands_is_averaged(tmp_path, bands):
    pixels, mask = bright_roofs(64, bands=bands, dtype="float32")
    chip = put(tmp_path, "0", pixels, mask, colours=[scenes.ColorInterp.undefined] * bands)
    image = WholeChips([chip], contract(bands, gsd=1.0))[0].image
    expected = (pixels.reshape(bands, 32, 2, 32, 2).mean(axis=(2, 4)) - 0.5) / 0.25
    assert np.allclose(image.numpy(), expected, atol=1e-5)
    small, _ = resize(pixels.transpose(1, 2, 0), mask.astype(np.uint8), 32, 32)
    assert small.shape == (32, 32, bands)


# ---- in processes of their own


class Threads(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return cv2.getNumThreads(), torch.get_num_threads()


@FORKED
def test_a_process_that_loads_uses_one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        (counts,) = list(make_loader(Threads(), 1, batch_size=2))
        assert [count.tolist() for count in counts] == [[1, 1], [1, 1]] and cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize(("own", "seen"), [(0.5, 100), (0.15, 50), (0.297, 100), (0.27, 90), (1.01, 100), (2.0, 200)])
def test_chips_between_two_resolutions_stay_as_they_are(tmp_path, own, seen):
    several = replace(contract(1, gsd=0.3), coarsest_gsd=1.0)
    chip = put(tmp_path, "0", *bright_roofs(100, bands=1, dtype="float32"), gsd=own)
    pixels, labels = load_chip(chip, several)
    assert pixels.shape == (seen, seen, 1) and labels.shape == (seen, seen)
