"""What the benchmark of moved labels trains on, and how it is started."""

import sys

import numpy as np
import pytest

from buildseg.chip_file import read_mask
from test_training import tiles_of


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("label_offsets")


def test_masks_move_by_what_is_said_and_validation_stays(tmp_path, benchmark):
    tiles = tiles_of(tmp_path / "clean", 3, 1)
    noisy, offsets = benchmark.moved_tiles(tiles, tmp_path / "noisy", "each moved", 0)
    pixels = np.round(offsets / 0.5, 2)
    assert (pixels == np.round(pixels)).all() and np.abs(pixels).max() > 2
    for before, after, (down, right) in zip(tiles.train, noisy.train, pixels.astype(int), strict=True):
        whole, moved = read_mask(before.mask), read_mask(after.mask)
        rows, cols = (np.clip(np.arange(64) - way, 0, 63) for way in (down, right))
        assert np.array_equal(moved, whole[rows][:, cols]) and before.mask.name == after.mask.name
    assert np.array_equal(read_mask(tiles.val[0].mask), read_mask(noisy.val[0].mask))
    _, common = benchmark.moved_tiles(tiles, tmp_path / "common", "all moved", 0)
    assert common.mean(axis=0) == pytest.approx([2.0, -1.5], abs=1.2)
    assert not benchmark.moved_tiles(tiles, tmp_path / "same", "as they are", 0)[1].any()


def test_rows_of_the_table_are_made_from_what_is_finished(tmp_path, benchmark, monkeypatch, capsys):
    tiles_of(tmp_path / "clean", 2, 1)
    done = {"iou": 0.5, "boundary_iou": 0.25, "found": 0.125, "minutes": 3.0}
    seen = []
    monkeypatch.setattr(benchmark, "trained", lambda *given: seen.append(given) or done)
    monkeypatch.setattr(sys, "argv", ["label_offsets", str(tmp_path / "clean"), "--out", "o", "--seeds", "3"])
    benchmark.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| as they are | no | 3 | 0.500 | 0.250 | 0.125 | 3.0 |" and len(lines) == 8
    assert [given[-1].data.register_labels for given in seen] == [0, 6] * 3
