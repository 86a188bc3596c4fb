"""From a scene to probabilities and footprints."""

import json
import logging
import threading
from dataclasses import replace

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st

from bright_model import bright_model
from buildseg.footprints import ShapeOptions, VectorizeOptions
from buildseg.model_file import load_model
from buildseg.prediction.conform import InputOptions, open_scene
from buildseg.prediction.engine import Pace, predict_blocks
from buildseg.prediction.job import Request, runs_of
from buildseg.prediction.local import LocalPredictor
from buildseg.prediction.network import TorchNetwork
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.run import Outputs, predict, predict_with
from buildseg.probability import LEVELS, NODATA, encode
from buildseg.threads import map_ahead
from conftest import SAMPLE_DATA
from tiling import BlendWeights, Grid, Scene, cut_blocks
from tiling.errors import ContractError, OptionError, OutputError, SceneError

NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 5_200_000)
SQUARE = (slice(60, 100), slice(80, 140))
HOLES = ((slice(90, 170), slice(200, 260)), (slice(300, 330), slice(0, 140)))


def write_scene(path, pixels, transform=NORTH_UP, crs="EPSG:32632", **profile):
    bands, height, width = pixels.shape
    base = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": pixels.dtype}
    if bands >= 3:
        base["photometric"] = "rgb"
    with rasterio.open(path, "w", crs=crs, transform=transform, **base | profile) as dataset:
        dataset.write(pixels)
    return path


def dark_with_bright_square(shape=(150, 230), dtype="uint8", dark=20, bright=200):
    pixels = np.full((3, *shape), dark, dtype)
    pixels[(slice(None), *SQUARE)] = bright
    return pixels


def holes_in(pixels, *holes):
    """Set rectangles (rows, cols) to 0, which is nodata."""
    for rows, cols in holes:
        pixels[:, rows, cols] = 0
    return pixels


def cut(scene, rows, cols, left_out=()):
    """Cut a scene into blocks, leave some out and group the rest."""
    blocks = cut_blocks(scene.height, scene.width, rows, cols)
    return runs_of([block for number, block in enumerate(blocks) if number not in left_out])


def predicted(path, network, size, overlap, *, cuts=(10_000, 10_000), left_out=(), pace=Pace(), area=None):  # noqa: B008
    """Predict a scene by the blocks of a cut; what is left out of it stays 77."""
    with Scene(path) as scene:
        levels = np.full((scene.height, scene.width), 77, np.uint8)
        runs = cut(scene, *cuts, left_out)
        grid = Grid(scene.height, scene.width, size, overlap)
        parts = list(predict_blocks(scene, grid, runs, network, pace, area=area))
    assert [part.block for part in parts] == [block for run in runs for block in run]
    for part in parts:
        block = part.block
        assert (part.pixels.dtype, part.pixels.shape) == (np.uint8, (1, block.rows, block.cols))
        levels[block.row : block.row + block.rows, block.col : block.col + block.cols] = part.pixels[0]
    return levels


def ramp(pixels, valid):
    """A network whose answer depends on the place in the window, so that blending shows."""
    place = torch.linspace(0, 1, pixels.shape[-1])
    return 0.2 * pixels[:, 0] / 255 + 0.7 * place[:, None] * place + 0.1 * valid


def naive(pixels, size, overlap):
    """Blend all windows in full arrays: levels before they are rounded, and validity, both (rows, cols)."""
    _, rows, cols = pixels.shape
    grid = Grid(rows, cols, size, overlap)
    weights = BlendWeights.of(grid)
    padded = np.pad(pixels, ((0, 0), (0, max(0, size - rows)), (0, max(0, size - cols))), "reflect")
    blended = np.zeros(padded.shape[1:])
    for window in grid:
        here = (slice(window.row, window.row + size), slice(window.col, window.col + size))
        shown = torch.from_numpy(padded[(slice(None), *here)][None])
        values = ramp(shown, (shown > 0).any(dim=1))[0].numpy()
        blended[here] += np.outer(weights.rows[window.row], weights.cols[window.col]) * values
    return LEVELS * blended[:rows, :cols], (pixels > 0).any(axis=0)


def random_pixels(shape, bands=3, dtype="uint8"):
    return np.random.default_rng(sum(shape)).integers(1, 255, (bands, *shape)).astype(dtype)


class Corner:
    """An area: all that lies above and left of a pixel."""

    def __init__(self, row, col):
        self.row, self.col = row, col

    def needs(self, window):
        return window.row < self.row and window.col < self.col

    def needed(self, row, col, rows, cols):
        return (np.arange(row, row + rows) < self.row)[:, None] & (np.arange(col, col + cols) < self.col)


class TestEngine:
    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def test_any_cut_batch_and_streams_give_the_naive_blend(self, tmp_path_factory, data):
        sides = st.integers(1, 150)
        height, width, size = data.draw(sides), data.draw(sides), data.draw(st.integers(8, 64))
        overlap = data.draw(st.integers(0, size - 1 if size < 30 else size // 2))
        hole = [slice(a, a + n) for a, n in data.draw(st.tuples(*[st.tuples(sides, sides)] * 2))]
        pixels = holes_in(random_pixels((height, width)), hole)
        path = write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, nodata=0)
        cuts = data.draw(st.integers(max(1, height // 6), 160)), data.draw(st.integers(max(1, width // 4), 160))
        left_out = data.draw(st.sets(st.integers(0, 8), max_size=4))
        pace = Pace(batch_size=data.draw(st.integers(1, 9)), streams=data.draw(st.integers(1, 3)))
        levels = predicted(path, ramp, size, overlap, cuts=cuts, left_out=left_out, pace=pace)
        wanted = np.zeros((height, width), bool)
        for number, block in enumerate(cut_blocks(height, width, *cuts)):
            rows, cols = slice(block.row, block.row + block.rows), slice(block.col, block.col + block.cols)
            wanted[rows, cols] = number not in left_out
        blended, valid = naive(pixels, size, overlap)
        assert (levels[~wanted] == 77).all()
        assert (levels[wanted & ~valid] == NODATA).all()
        off = np.abs(levels - blended)[wanted & valid]
        assert off.max(initial=0) <= 0.5 + 1e-4

    def test_nothing_of_the_layout_changes_a_single_level(self, tmp_path):
        pixels = holes_in(random_pixels((130, 210)), (slice(0, 70), slice(60, 150)), (slice(100, 104), slice(0, 90)))
        path = write_scene(tmp_path / "s.tif", pixels, nodata=0)
        one = predicted(path, ramp, 32, 9)
        for cuts, batch_size, streams in [
            ((1000, 1000), 7, 1),
            ((1000, 1000), 3, 3),
            ((13, 1000), 2, 1),
            ((64, 50), 1, 2),
            ((31, 7), 4, 2),
        ]:
            pace = Pace(batch_size=batch_size, streams=streams)
            np.testing.assert_array_equal(predicted(path, ramp, 32, 9, cuts=cuts, pace=pace), one)

    @pytest.mark.parametrize(
        ("dtype", "seen"), [("uint8", torch.uint8), ("uint16", torch.float32), ("float32", torch.float32)]
    )
    def test_the_network_sees_the_pixels_as_the_scene_holds_them(self, tmp_path, dtype, seen):
        pixels = holes_in(random_pixels((90, 100), 4, dtype) * 3, (slice(20, 30), slice(0, 100)))
        path, shown = write_scene(tmp_path / "s.tif", pixels, nodata=0), []

        def network(images, valid):
            shown.append((images.clone(), valid.clone()))
            return ramp(images, valid)

        predicted(path, network, 40, 10, pace=Pace(batch_size=4))
        images, valid = (torch.cat(both) for both in zip(*shown, strict=True))
        windows = list(Grid(90, 100, 40, 10))
        assert images.shape == (len(windows), 4, 40, 40)
        assert images.dtype == seen
        for image, known, window in zip(images, valid, windows, strict=True):
            whole = pixels[:, window.row : window.row + 40, window.col : window.col + 40]
            np.testing.assert_array_equal(image.numpy(), whole)
            np.testing.assert_array_equal(known.numpy(), whole.any(axis=0))

    def test_windows_without_data_never_reach_the_network(self, tmp_path):
        pixels = holes_in(random_pixels((64, 256)), (slice(0, 64), slice(0, 200)))
        path, seen = write_scene(tmp_path / "s.tif", pixels, nodata=0), []

        def network(images, valid):
            seen.append(len(images))
            assert valid.flatten(1).any(dim=1).all()
            return ramp(images, valid)

        levels = predicted(path, network, 64, 0, pace=Pace(batch_size=2))
        assert sum(seen) == 1
        np.testing.assert_array_equal(levels == NODATA, pixels[0] == 0)

    def test_a_scene_without_data_needs_no_network(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", np.zeros((3, 90, 700), np.uint8), nodata=0)
        assert (predicted(path, None, 8, 4, cuts=(30, 300)) == NODATA).all()

    @pytest.mark.parametrize("holes", [(), ((slice(0, 50), slice(30, 120)),)])
    def test_batches_are_full_whatever_is_skipped(self, tmp_path, holes):
        path, seen = write_scene(tmp_path / "s.tif", holes_in(random_pixels((90, 200)), *holes), nodata=0), []

        def network(images, valid):
            seen.append(len(images))
            return ramp(images, valid)

        predicted(path, network, 20, 5, cuts=(30, 100), pace=Pace(batch_size=6))
        assert set(seen[:-1]) == {6}

    def test_nothing_is_read_predicted_or_found_outside_the_area(self, tmp_path):
        path, seen = write_scene(tmp_path / "s.tif", random_pixels((100, 120))), []

        def network(images, valid):
            seen.extend(images)
            return ramp(images, valid)

        levels = predicted(path, network, 20, 0, cuts=(33, 120), area=Corner(45, 70))
        assert len(seen) == 3 * 4
        whole = predicted(path, ramp, 20, 0)
        np.testing.assert_array_equal(levels[:45, :70], whole[:45, :70])
        assert (levels[45:] == NODATA).all()
        assert (levels[:, 70:] == NODATA).all()

    def test_windows_of_a_run_are_computed_once(self, tmp_path):
        path, seen = write_scene(tmp_path / "s.tif", random_pixels((100, 60))), []

        def network(images, valid):
            seen.append(len(images))
            return ramp(images, valid)

        predicted(path, network, 20, 10, cuts=(7, 60))
        assert sum(seen) == len(Grid(100, 60, 20, 10))

    def test_no_step_where_windows_begin_and_end(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", np.full((3, 300, 400), 90, np.uint8))
        for size, overlap in ((64, 16), (64, 32), (100, 25)):
            levels = predicted(path, ramp, size, overlap).astype(int)
            grid = Grid(300, 400, size, overlap)
            for axis, starts, length in ((0, grid.row_starts, 300), (1, grid.col_starts, 400)):
                steps = np.abs(np.diff(levels, axis=axis)).max(axis=1 - axis)
                borders = {place for start in starts for place in (start, start + size) if 0 < place < length}
                at_border = np.isin(np.arange(1, length), list(borders))
                assert steps[at_border].max() <= steps[~at_border].max() + 1

    def test_a_failing_read_stops_the_run(self, tmp_path):
        block = {"tiled": True, "blockxsize": 64, "blockysize": 64}
        path = write_scene(tmp_path / "s.tif", random_pixels((400, 400)), **block)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(SceneError, match="damaged or cut short"):
            predicted(path, ramp, 64, 16)

    @pytest.mark.parametrize("streams", [1, 2])
    def test_a_failing_network_stops_the_run_and_all_that_reads_from_the_scene(self, tmp_path, streams):
        path, calls = write_scene(tmp_path / "s.tif", random_pixels((400, 400))), []

        def network(images, valid):
            calls.append(len(images))
            raise ZeroDivisionError

        running = threading.active_count()
        with Scene(path) as scene:
            parts = predict_blocks(scene, Grid(400, 400, 20, 0), cut(scene, 50, 400), network, Pace(streams=streams))
            with pytest.raises(ZeroDivisionError) as caught:
                next(parts)
            assert caught.traceback  # which keeps what was going on alive
            assert threading.active_count() == running
        assert len(calls) <= 6

    def test_what_is_left_off_leaves_no_threads(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", random_pixels((200, 200)))
        running, threads = threading.active_count(), torch.get_num_threads()
        with Scene(path) as scene:
            parts = predict_blocks(scene, Grid(200, 200, 20, 0), cut(scene, 20, 200), ramp, Pace(streams=2))
            next(parts)
            assert threading.active_count() > running
            parts.close()
        assert (threading.active_count(), torch.get_num_threads()) == (running, threads)

    def test_progress_counts_the_windows(self, tmp_path):
        path, counted = write_scene(tmp_path / "s.tif", random_pixels((90, 120))), []

        def track(items, text, total):
            for item in items:
                counted.append(total)
                yield item

        with Scene(path) as scene:
            list(predict_blocks(scene, Grid(90, 120, 30, 5), cut(scene, 40, 50), ramp, Pace(), track=track))
        assert set(counted) == {len(counted)}


class TestMapAhead:
    @given(st.integers(0, 40), st.integers(1, 4), st.integers(1, 5))
    @settings(max_examples=20, deadline=None)
    def test_keeps_the_order_and_holds_no_more_than_asked_for(self, count, threads, ahead):
        taken = []

        def items():
            for number in range(count):
                taken.append(number)
                yield number

        given = []
        for result in map_ahead(lambda number: number * number, items(), threads=threads, ahead=ahead):
            given.append(result)
            assert len(taken) - len(given) < threads + ahead
        assert given == [number * number for number in range(count)]

    def test_an_error_closes_what_the_items_come_from(self):
        closed = []

        def items():
            try:
                yield from range(100)
            finally:
                closed.append(True)

        with pytest.raises(ZeroDivisionError) as caught:
            list(map_ahead(lambda number: 1 // (number - 3), items(), threads=2, ahead=1))
        assert caught.traceback
        assert closed

    def test_works_in_as_many_threads_at_once(self):
        together = threading.Barrier(3, timeout=20)
        assert list(map_ahead(lambda _: together.wait() >= 0, range(6), threads=3, ahead=1)) == [True] * 6


class TestEncode:
    def test_levels(self):
        probability = torch.tensor([0.0, 0.5, 1.0, 0.25, -0.1, 1.2])
        stored = encode(probability, torch.ones(6, dtype=torch.bool))
        assert stored.dtype == torch.uint8
        assert stored.tolist() == [0, 127, LEVELS, 64, 0, LEVELS]

    def test_nodata(self):
        assert encode(torch.ones(2), torch.tensor([True, False])).tolist() == [LEVELS, NODATA]

    def test_what_is_given_does_not_change(self):
        probability = torch.rand(50)
        before = probability.clone()
        encode(probability, probability > 0.5)
        assert probability.equal(before)

    @given(st.floats(0, 1, width=32))
    def test_is_the_nearest_level(self, probability):
        (stored,) = encode(torch.tensor([probability]), torch.ones(1, dtype=torch.bool)).tolist()
        assert abs(stored - probability * LEVELS) <= 0.5 + 1e-4


class TestContract:
    def test_other_resolution_is_resampled_and_said(self, tmp_path, caplog):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        with caplog.at_level(logging.INFO):
            scene, _ = open_scene(path, [bright_model(gsd=0.25).card.contract])
        with scene:
            assert (scene.height, scene.width) == pytest.approx((300, 460), rel=0.01)
            assert scene.gsd == pytest.approx((0.25, 0.25), rel=0.01)
            corner = scene.transform @ (scene.width, scene.height)
        assert corner == pytest.approx(NORTH_UP @ (230, 150))
        assert "resampled" in caplog.text

    def test_nearly_the_same_resolution_is_left_alone(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        scene, _ = open_scene(path, [bright_model(gsd=0.52).card.contract])
        with scene:
            assert (scene.height, scene.width) == (150, 230)

    def test_other_type_is_scaled_by_the_whole_scene(self, tmp_path, caplog):
        rng = np.random.default_rng(2)
        pixels = rng.normal(3000, 400, (3, 150, 230)).clip(0, 65535).astype(np.uint16)
        pixels[:, 0, 0] = 65535
        path = write_scene(tmp_path / "s.tif", pixels)
        with caplog.at_level(logging.INFO):
            scene, (contract,) = open_scene(path, [bright_model().card.contract])
        scene.close()
        scaled = contract.scale(pixels)
        assert abs(scaled.mean()) < 0.05
        assert scaled[:, 1:].std() == pytest.approx(1, abs=0.1)
        assert "own mean and spread" in caplog.text

    def test_bands_are_found_by_colour(self, tmp_path):
        pixels = np.stack([np.full((64, 64), value, np.uint8) for value in (10, 20, 30, 40)])
        path = write_scene(tmp_path / "s.tif", pixels, photometric="minisblack")
        with rasterio.open(path, "r+") as dataset:
            colours = rasterio.enums.ColorInterp
            dataset.colorinterp = [colours.blue, colours.green, colours.red, colours.undefined]
        scene, _ = open_scene(path, [bright_model().card.contract])
        with scene:
            assert scene.bands == (3, 2, 1)

    def test_too_few_bands_are_refused_with_the_remedy(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", np.zeros((1, 64, 64), np.uint8))
        with pytest.raises(SceneError, match=r"1 band .*--bands 1,1,1"):
            open_scene(path, [bright_model().card.contract])
        scene, _ = open_scene(path, [bright_model().card.contract], InputOptions(bands=(1, 1, 1)))
        scene.close()

    def test_wrong_number_of_bands_asked_for(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", np.zeros((4, 64, 64), np.uint8))
        with pytest.raises(ContractError, match=r"3 bands .*--bands names 2"):
            open_scene(path, [bright_model().card.contract], InputOptions(bands=(1, 2)))

    def test_unnamed_bands_are_taken_by_number(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        scene, _ = open_scene(path, [bright_model(bands=("band3", "band1")).card.contract])
        with scene:
            assert scene.bands == (3, 1)


class TestContractsOfSeveral:
    def test_each_is_scaled_by_its_own_or_where_its_type_is_another_by_the_scene(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", random_pixels((64, 64)))
        own, other = bright_model().card.contract, bright_model(dtype="uint16").card.contract
        scene, (kept, changed) = open_scene(path, [own, other])
        scene.close()
        assert kept == own
        assert changed.mean == pytest.approx((128,) * 3, abs=5)
        assert (changed.bands, changed.gsd, changed.window) == (other.bands, other.gsd, other.window)

    @pytest.mark.parametrize(
        ("one", "other", "said"),
        [
            ({}, {"bands": ("blue", "green", "red")}, "other bands .red, green, blue and blue, green, red"),
            ({"gsd": 0.3}, {"gsd": 0.5}, "0.3 m per pixel and 0.5 m per pixel"),
            ({"gsd": 0.3}, {}, "one resolution"),
            ({"gsd": 0.3}, {"gsd": 0.3, "coarsest_gsd": 1.0}, "0.3 m per pixel and 0.3 to 1 m per pixel"),
        ],
    )
    def test_models_that_do_not_agree_are_refused(self, tmp_path, one, other, said):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        with pytest.raises(ContractError, match=said):
            open_scene(path, [bright_model(**one).card.contract, bright_model(**other).card.contract])

    @pytest.mark.parametrize(("finest", "coarsest", "seen"), [(0.3, 1.0, 0.5), (0.1, 0.25, 0.25), (0.8, 1.0, 0.8)])
    def test_a_scene_between_a_models_resolutions_is_left_alone(self, tmp_path, caplog, finest, coarsest, seen):
        caplog.set_level(logging.INFO, "buildseg")
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        scene, _ = open_scene(path, [bright_model(gsd=finest, coarsest_gsd=coarsest).card.contract])
        with scene:
            assert scene.native_gsd == pytest.approx((0.5, 0.5), rel=0.01)
            assert scene.gsd == pytest.approx((seen, seen), rel=0.02)
        said = f"trained on {finest:.2g} to {coarsest:.2g} m per pixel: resampled"
        assert (said in caplog.text) == (seen != 0.5)

    def test_nearly_the_same_resolution_is_the_same(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        scene, _ = open_scene(path, [bright_model(gsd=gsd).card.contract for gsd in (0.3, 0.31)])
        with scene:
            assert scene.gsd == pytest.approx((0.3, 0.3), rel=0.01)


def predict_square(path, out, *, model=None, probability=None, crs="native", **options):
    return predict(
        path,
        Outputs(out, probability),
        model or bright_model(),
        PredictOptions(machine=Machine(device="cpu"), **options),
        VectorizeOptions(crs=crs, shape=ShapeOptions(0)),
    )


def normalized(footprints):
    return footprints.set_geometry(footprints.geometry.normalize())


def ground(transform, rows, cols):
    """The place of rows and columns of a scene."""
    corners = [(cols.start, rows.start), (cols.stop, rows.start), (cols.stop, rows.stop), (cols.start, rows.stop)]
    return shapely.Polygon([transform @ corner for corner in corners])


class TestPredict:
    @pytest.mark.parametrize(
        "transform",
        [
            NORTH_UP,
            Affine(0.5, 0, 500_000, 0, 0.5, 5_200_000),
            Affine.translation(500_000, 5_200_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
        ],
        ids=["north up", "south up", "rotated"],
    )
    def test_footprint_stands_on_the_building(self, tmp_path, transform):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square(), transform)
        out = tmp_path / "b.gpkg"
        result = predict_square(path, out)
        found = geopandas.read_file(out)
        truth = ground(transform, *SQUARE)
        assert result.buildings == len(found) == 1
        footprint = found.geometry.iloc[0]
        assert footprint.intersection(truth).area / footprint.union(truth).area > 0.95
        assert found.area_m2.iloc[0] == pytest.approx(600, rel=0.05)
        assert found.confidence.iloc[0] > 0.95

    def test_resampled_scene_keeps_its_place(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        predict_square(path, tmp_path / "b.gpkg", model=bright_model(gsd=0.3))
        left, bottom, right, top = geopandas.read_file(tmp_path / "b.gpkg").total_bounds
        assert (left, top) == pytest.approx(NORTH_UP @ (80, 60), abs=0.3)
        assert (right, bottom) == pytest.approx(NORTH_UP @ (140, 100), abs=0.3)

    def test_geojson_is_in_degrees(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        predict_square(path, tmp_path / "b.geojson", crs="wgs84")
        content = json.loads((tmp_path / "b.geojson").read_text())
        assert "crs" not in content
        (lon, lat), *_ = content["features"][0]["geometry"]["coordinates"][0]
        assert (lon, lat) == pytest.approx((9.0, 46.95), abs=0.02)

    def test_probability_raster_is_kept(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        predict_square(path, tmp_path / "b.geojson", probability=tmp_path / "p.tif")
        with rasterio.open(tmp_path / "p.tif") as raster:
            assert raster.dtypes == ("uint8",)
            assert raster.nodata == NODATA
            assert raster.scales == pytest.approx((1 / LEVELS,))
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert raster.transform == NORTH_UP
            values = raster.read(1)
        assert values[SQUARE].min() > 250
        assert values[:50].max() < 4
        assert sorted(p.name for p in tmp_path.iterdir()) == ["b.geojson", "b.qml", "p.qml", "p.tif", "s.tif"]

    def test_no_building_on_nodata(self, tmp_path):
        pixels = dark_with_bright_square()
        pixels[:, :80, :] = 0
        path = write_scene(tmp_path / "s.tif", pixels, nodata=0)
        predict_square(path, tmp_path / "b.gpkg", probability=tmp_path / "p.tif")
        footprint = geopandas.read_file(tmp_path / "b.gpkg").geometry.iloc[0]
        assert footprint.bounds[3] <= (NORTH_UP @ (0, 80))[1] + 1e-6
        with rasterio.open(tmp_path / "p.tif") as raster:
            assert (raster.read(1)[:80] == NODATA).all()

    @pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".fgb", ".parquet"])
    def test_scene_without_data_gives_an_empty_file(self, tmp_path, suffix):
        path = write_scene(tmp_path / "s.tif", np.zeros((3, 100, 100), np.uint8), nodata=0)
        out = tmp_path / f"b{suffix}"
        assert predict_square(path, out).buildings == 0
        frame = geopandas.read_parquet(out) if suffix == ".parquet" else geopandas.read_file(out)
        assert frame.empty

    def test_default_model_finds_sample_buildings(self, tmp_path, sample_scene, sample_labels):
        with rasterio.open(sample_scene) as whole:
            window = rasterio.windows.Window(256, 256, 640, 640)
            pixels, crs = whole.read(window=window), whole.crs
            transform = whole.transform @ Affine.translation(256, 256)
        path = write_scene(tmp_path / "s.tif", pixels, transform, crs)
        predict(path, Outputs(tmp_path / "b.gpkg"), load_model(), PredictOptions(machine=Machine(device="cpu")))
        left, bottom, right, top = rasterio.transform.array_bounds(640, 640, transform)
        area = shapely.box(left, bottom, right, top)
        found = geopandas.read_file(tmp_path / "b.gpkg").to_crs(crs).union_all()
        truth = geopandas.read_file(sample_labels).to_crs(crs).union_all() & area
        assert found.intersection(truth).area / found.union(truth).area > 0.5


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A piece of the sample scene with a hole, and the shipped model."""
    with rasterio.open(SAMPLE_DATA / "scene.tif") as whole:
        window = rasterio.windows.Window(300, 420, 380, 330)
        pixels, crs, transform = whole.read(window=window), whole.crs, whole.transform @ Affine.translation(300, 420)
    holes_in(pixels, *HOLES)
    path = write_scene(tmp_path_factory.mktemp("town") / "s.tif", pixels, transform, crs, nodata=0)
    return path, load_model()


@pytest.fixture(scope="module", params=[None, 0.36], ids=["as it is", "resampled"])
def laid_out(request, town, tmp_path_factory):
    """Predict the town in one resolution, laid out in any way: levels and footprints."""
    path, model = town
    card = replace(model.card, contract=replace(model.card.contract, gsd=request.param or model.card.contract.gsd))

    def run(batch_size=2, streams=1, block=None, piece=(2048, 2048)):
        options = PredictOptions(window=128, block=block, machine=Machine("cpu", "fp32", batch_size))
        predictor = LocalPredictor([replace(model, card=card)], options)
        predictor.pace = replace(predictor.pace, streams=streams)
        out = tmp_path_factory.mktemp("out")
        outputs = Outputs(out / "b.gpkg", out / "p.tif")
        polygons = VectorizeOptions(crs="native", block=piece)
        predict_with(predictor, Request(str(path)), outputs, options, polygons)
        with rasterio.open(out / "p.tif") as raster:
            return raster.read(1), geopandas.read_file(out / "b.gpkg")

    return run, run()


class TestSameness:
    @pytest.mark.parametrize(
        "layout",
        [
            {"block": 64},
            {"block": 200, "streams": 2},
            {"block": 4096, "piece": (50, 80)},
            {"piece": (129, 129), "streams": 2},
        ],
        ids=str,
    )
    def test_blocks_streams_and_pieces_change_nothing(self, laid_out, layout):
        run, (levels, footprints) = laid_out
        other_levels, other_footprints = run(**layout)
        np.testing.assert_array_equal(other_levels, levels)
        assert_geodataframe_equal(normalized(other_footprints), normalized(footprints))
        assert len(footprints) > 5

    @pytest.mark.parametrize("batch_size", [1, 5])
    def test_nor_does_the_batch_size(self, laid_out, batch_size):
        run, (levels, footprints) = laid_out
        other_levels, other_footprints = run(batch_size)
        np.testing.assert_array_equal(other_levels, levels)
        assert_geodataframe_equal(normalized(other_footprints), normalized(footprints))

    def test_no_building_on_nodata(self, laid_out, town):
        _, (levels, footprints) = laid_out
        with rasterio.open(town[0]) as scene:
            empty = shapely.union_all([ground(scene.transform, *hole) for hole in HOLES])
            valid, resampled = scene.dataset_mask() > 0, scene.shape != levels.shape
        if not resampled:
            np.testing.assert_array_equal(levels == NODATA, ~valid)
        assert (levels == NODATA).any()
        within = empty.buffer(-0.36 if resampled else 0)  # a pixel that is resampled may reach into a hole
        assert footprints.geometry.intersection(within).area.max() < 1e-6
        assert footprints.geometry.distance(empty).min() < 0.36


def test_no_seams_of_windows_in_what_the_shipped_model_sees(town):
    path, model = town
    with rasterio.open(path) as scene:
        part = write_scene(path.with_name("part.tif"), scene.read()[:, :290, 250:])
    levels = predicted(part, TorchNetwork(model, torch.device("cpu")), 96, 24).astype(int)
    grid = Grid(*levels.shape, 96, 24)
    at_border, elsewhere = [], []
    for axis, starts in ((0, grid.row_starts), (1, grid.col_starts)):
        steps = np.abs(np.diff(levels, axis=axis)).mean(axis=1 - axis)
        borders = [place for start in starts for place in (start, start + 96)]
        is_border = np.isin(np.arange(1, levels.shape[axis]), borders)
        at_border.extend(steps[is_border])
        elsewhere.extend(steps[~is_border])
    assert len(at_border) >= 8
    assert np.mean(at_border) < 1.3 * np.mean(elsewhere)


class TestOutputs:
    def test_everything_is_checked_before_work(self, tmp_path):
        scene = tmp_path / "missing.tif"
        existing = tmp_path / "b.geojson"
        existing.write_text("mine")
        with pytest.raises(OutputError, match="--overwrite"):
            predict(scene, Outputs(existing), bright_model())
        with pytest.raises(OutputError, match="does not exist"):
            predict(scene, Outputs(tmp_path / "no" / "b.geojson"), bright_model())
        with pytest.raises(OptionError, match=r"\.geojson"):
            predict(scene, Outputs(tmp_path / "b.xyz"), bright_model())
        assert existing.read_text() == "mine"

    def test_the_scene_is_never_overwritten(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        before = path.read_bytes()
        with pytest.raises(OutputError, match="would be lost"):
            predict(path, Outputs(tmp_path / "b.gpkg", path, overwrite=True), bright_model())
        assert path.read_bytes() == before

    def test_a_failed_run_leaves_the_old_result(self, tmp_path):
        pixels = np.random.default_rng(1).integers(0, 255, (3, 400, 400), dtype=np.uint8)
        path = write_scene(tmp_path / "s.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
        path.write_bytes(path.read_bytes()[:200_000])
        out, probability = tmp_path / "b.gpkg", tmp_path / "p.tif"
        out.write_text("old")
        with pytest.raises(SceneError, match="damaged"):
            predict(path, Outputs(out, probability, overwrite=True), bright_model())
        assert out.read_text() == "old"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["b.gpkg", "s.tif"]


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ({"window": 16}, "--window"),
        ({"overlap": 1.0}, "--overlap"),
        ({"augmentation": "d5"}, "--tta"),
        ({"scales": ()}, "--scale"),
        ({"scales": (1.0, 0.0)}, "--scale"),
        ({"block": 63}, "--block"),
    ],
)
def test_options_out_of_range(arguments, flag):
    with pytest.raises(OptionError, match=flag):
        PredictOptions(**arguments)


def test_batch_size_out_of_range():
    with pytest.raises(OptionError, match="--batch-size"):
        Machine(batch_size=0)
