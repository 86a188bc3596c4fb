"""The benchmark of several resolutions: what it makes of chips, and that it scores them."""

import sys

import numpy as np
import pytest

from buildseg.chip_file import read_image, read_mask
from buildseg.classes import BUILDING
from buildseg.tiles import open_tiles
from test_training import bright_roofs, put


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("resolutions")


def tiles_of(folder, gsd):
    for split in ("train", "val"):
        put(folder / split, "0", *bright_roofs(64, seed=1), gsd=gsd)
    return folder


@pytest.mark.parametrize(("own", "asked", "side"), [(0.5, 1.0, 32), (0.5, 0.75, 43), (0.5, 0.3, 64)])
def test_chips_get_coarser_and_never_finer(tmp_path, benchmark, own, asked, side):
    source, target = tiles_of(tmp_path / "tiles", own), tmp_path / "coarser"
    benchmark.coarser_tiles(source, target, asked, 0.3)
    (before,), (after,) = open_tiles([source]).val, open_tiles([target]).val
    assert after.shape == (side, side)
    assert after.gsd == pytest.approx(max(own, asked), rel=0.01)
    old, new = (read_mask(chip.mask, 1) == BUILDING for chip in (before, after))
    assert new.mean() == pytest.approx(old.mean(), abs=0.03)
    pixels = [read_image(chip.image)[0] for chip in (before, after)]
    assert pixels[1].mean() == pytest.approx(pixels[0].mean(), rel=0.01)
    if side == 32:
        blocks = pixels[0].reshape(3, 32, 2, 32, 2).mean((2, 4))
        np.testing.assert_allclose(pixels[1], blocks, atol=0.51)


def test_a_model_is_scored_at_each(tmp_path, benchmark, capsys, monkeypatch):
    tiles = tiles_of(tmp_path / "town", 0.3)
    monkeypatch.setattr(
        sys, "argv", ["resolutions.py", str(tiles), "--out", str(tmp_path / "out"), "--gsd", "0.3", "0.6"]
    )
    benchmark.main()
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[:2] for row in rows[2:]] == [["| town", "0.3"], ["| town", "0.6"]]
