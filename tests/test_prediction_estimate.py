"""Tests of what a prediction is said to take before it runs."""

import re
from typing import ClassVar

import numpy as np
import pytest
import shapely
from rasterio.crs import CRS

import scenes
from bright_model import Brightness, bright_model
from buildseg.area_of_interest import AreaOfInterest
from buildseg.prediction.estimate import estimate_scenes
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.scene_sources import find_scenes

OPTIONS = PredictOptions(overlap=0.25, block=64, machine=Machine("cpu", "fp32"))


def estimated(path, options=OPTIONS, **choices):
    ((source, expected),) = estimate_scenes(find_scenes([str(path)]), [bright_model()], options, **choices)
    assert source.path == str(path)
    return expected


def area(left, upper, cols, rows):
    """A rectangle of pixels."""
    west, north = scenes.PLACE @ (left, upper)
    east, south = scenes.PLACE @ (left + cols, upper + rows)
    return AreaOfInterest(shapely.box(west, south, east, north), CRS.from_string(scenes.UTM).to_wkt())


def test_every_window_is_counted(tmp_path):
    path = scenes.tiled(tmp_path / "s.tif", scenes.picture(3, 150, 220))
    expected = estimated(path)
    # 64 pixels every 48: from 0, 48, 96 and from 0, 48, 96, 144, 192.
    assert (expected.width, expected.height, expected.window, expected.windows) == (220, 150, 64, 3 * 5)
    assert estimated(path, PredictOptions(window=96, overlap=0, block=64)).windows == 2 * 3


def test_only_windows_in_the_area_are_counted(tmp_path):
    path = scenes.tiled(tmp_path / "s.tif", scenes.picture(3, 150, 220))
    # Rows 125 to 150, and 64 above them, lie in the windows at 0 (up to 64), 48 and 96; columns up to 20 and 64 beyond
    # them in those at 0 and 48.
    assert estimated(path, area=area(10, 125, 10, 25)).windows == 6
    # Rows from 136 - 64 on not in the first.
    assert estimated(path, area=area(10, 136, 10, 14)).windows == 4
    assert estimated(path, area=area(0, 0, 220, 150)).windows == 15
    assert estimated(path, area=area(5000, 0, 10, 10)) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (64, 64)])
def test_tiny_scenes(tmp_path, shape):
    expected = estimated(scenes.write(tmp_path / "s.tif", scenes.picture(3, *shape)))
    assert expected.windows == (1 if max(shape) <= 64 else 6)
    assert 0 < expected.probed <= expected.windows
    assert "nan" not in str(expected)


def test_sizes_are_sane(tmp_path):
    pixels = scenes.picture(3, 500, 400)
    expected = estimated(scenes.tiled(tmp_path / "s.tif", pixels))
    assert 100e6 < expected.memory < 20e9
    assert 1_000 < expected.disk < 3 * 500 * 400
    assert 0 < expected.seconds < 60
    large = estimated(scenes.tiled(tmp_path / "l.tif", scenes.picture(3, 1000, 800)))
    assert 2 < large.disk / expected.disk < 8
    assert large.windows / expected.windows == pytest.approx(4, rel=0.1)


class Watched(Brightness):
    """Keeps the sizes of what it has seen."""

    seen: ClassVar[list[int]] = []

    def predict(self, x):
        self.seen.append(x.shape[-1])
        return super().predict(x)


def test_where_nothing_is_to_be_seen_the_network_is_run_all_the_same(tmp_path, monkeypatch):
    """What memory it takes is known only then."""
    monkeypatch.setattr(Watched, "seen", [])
    empty = scenes.with_nodata(tmp_path / "s.tif", scenes.picture(3, 150, 220), np.zeros((150, 220), np.bool_), 0)
    model = bright_model()
    model.network.__class__ = Watched
    list(estimate_scenes(find_scenes([str(empty)]), [model], OPTIONS))
    assert Watched.seen.count(64) == 1


def test_the_text_says_it_in_words(tmp_path):
    text = str(estimated(scenes.tiled(tmp_path / "s.tif", scenes.picture(3, 150, 220))))
    assert "220 x 150 (0.033 megapixels)" in text
    assert "15 of 64 x 64 pixels" in text
    assert re.search(r"memory +\d+(\.\d+)? [MG]B", text)
    assert re.search(r"disk +[1-9]\d*(\.\d+)? kB", text)
    assert re.search(r"time +[\d.]+ \w+ on cpu in fp32, [\d.]+ megapixels/s, by \d+ windows", text)
