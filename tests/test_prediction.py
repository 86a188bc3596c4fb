"""From a scene to probabilities and footprints."""

import json
import logging

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from bright_model import bright_model
from buildseg.footprints import VectorizeOptions
from buildseg.model_file import load_model
from buildseg.prediction.conform import InputOptions, open_scene
from buildseg.prediction.engine import predict_strips
from buildseg.prediction.run import Outputs, PredictOptions, predict
from buildseg.probability import LEVELS, NODATA, encode
from tiling import BlendWeights, Grid
from tiling.errors import ContractError, OptionError, OutputError, SceneError

NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 5_200_000)
SQUARE = (slice(60, 100), slice(80, 140))


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


def strips_of(path, model, network, *, size=64, overlap=16, batch_size=3):
    scene, contract = open_scene(path, model.card.contract)
    with scene:
        grid = Grid(scene.height, scene.width, size, overlap)
        strips = list(predict_strips(scene, grid, contract, network, batch_size=batch_size))
    assert [strip.row for strip in strips] == list(np.cumsum([0, *(len(strip.values) for strip in strips)]))[:-1]
    return np.concatenate([s.values for s in strips]), np.concatenate([s.valid for s in strips])


def ramp(inputs):
    """A network whose answer depends on the place in the window, so that blending shows."""
    place = np.linspace(0, 1, inputs.shape[-1], dtype=np.float32)
    return (inputs[:, 0] * 0.1 + place[:, None] * place).astype(np.float32)


class TestEngine:
    @settings(max_examples=20, deadline=None)
    @given(
        shape=st.tuples(st.integers(1, 150), st.integers(1, 150)),
        size=st.integers(8, 64),
        overlap=st.floats(0, 0.9),
        batch_size=st.integers(1, 9),
    )
    def test_equals_the_naive_blend(self, tmp_path_factory, shape, size, overlap, batch_size):
        folder = tmp_path_factory.mktemp("scene")
        pixels = np.random.default_rng(0).integers(0, 255, (3, *shape), dtype=np.uint8)
        path = write_scene(folder / "scene.tif", pixels)
        model = bright_model()
        shared = min(int(size * overlap), size - 1)
        values, valid = strips_of(path, model, ramp, size=size, overlap=shared, batch_size=batch_size)
        grid = Grid(*shape, size, shared)
        weights = BlendWeights.of(grid)
        padded = np.pad(pixels, ((0, 0), (0, max(0, size - shape[0])), (0, max(0, size - shape[1]))), "reflect")
        naive = np.zeros((1, *padded.shape[1:]), np.float64)
        for window in grid:
            here = (slice(window.row, window.row + size), slice(window.col, window.col + size))
            inputs = model.card.contract.scale(padded[(slice(None), *here)][None])
            naive[(0, *here)] += weights.apply(window, ramp(inputs)[0])
        assert valid.all()
        np.testing.assert_allclose(values, naive[0, : shape[0], : shape[1]], atol=1e-5)

    def test_batch_size_changes_nothing(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", np.random.default_rng(1).integers(0, 255, (3, 90, 130), dtype=np.uint8))
        one, _ = strips_of(path, bright_model(), ramp, batch_size=1)
        many, _ = strips_of(path, bright_model(), ramp, batch_size=7)
        np.testing.assert_array_equal(one, many)

    def test_windows_without_data_never_reach_the_network(self, tmp_path):
        pixels = np.zeros((3, 64, 256), np.uint8)
        pixels[:, :, 200:] = 90
        path = write_scene(tmp_path / "s.tif", pixels, nodata=0)
        seen = []

        def network(inputs):
            seen.append(len(inputs))
            return ramp(inputs)

        _, valid = strips_of(path, bright_model(), network, overlap=0, batch_size=2)
        assert sum(seen) == 1
        np.testing.assert_array_equal(valid, pixels[0] > 0)

    def test_a_failing_read_stops_the_run(self, tmp_path):
        path = write_scene(
            tmp_path / "s.tif",
            np.random.default_rng(1).integers(0, 255, (3, 400, 400), dtype=np.uint8),
            tiled=True,
            blockxsize=64,
            blockysize=64,
        )
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(SceneError, match="damaged or cut short"):
            strips_of(path, bright_model(), ramp)


class TestEncode:
    def test_levels(self):
        probability = np.array([0.0, 0.5, 1.0, 0.25, -0.1, 1.2], np.float32)
        stored = encode(probability, np.array([True] * 6))
        assert stored.tolist() == [0, 127, LEVELS, 64, 0, LEVELS]

    def test_nodata(self):
        assert encode(np.ones(2, np.float32), np.array([True, False])).tolist() == [LEVELS, NODATA]


class TestContract:
    def test_other_resolution_is_resampled_and_said(self, tmp_path, caplog):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        with caplog.at_level(logging.INFO):
            scene, _ = open_scene(path, bright_model(gsd=0.25).card.contract)
        with scene:
            assert (scene.height, scene.width) == pytest.approx((300, 460), rel=0.01)
            assert scene.gsd == pytest.approx((0.25, 0.25), rel=0.01)
            corner = scene.transform @ (scene.width, scene.height)
        assert corner == pytest.approx(NORTH_UP @ (230, 150))
        assert "resampled" in caplog.text

    def test_nearly_the_same_resolution_is_left_alone(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        scene, _ = open_scene(path, bright_model(gsd=0.52).card.contract)
        with scene:
            assert (scene.height, scene.width) == (150, 230)

    def test_other_type_is_scaled_by_the_whole_scene(self, tmp_path, caplog):
        rng = np.random.default_rng(2)
        pixels = rng.normal(3000, 400, (3, 150, 230)).clip(0, 65535).astype(np.uint16)
        pixels[:, 0, 0] = 65535
        path = write_scene(tmp_path / "s.tif", pixels)
        with caplog.at_level(logging.INFO):
            scene, contract = open_scene(path, bright_model().card.contract)
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
        scene, _ = open_scene(path, bright_model().card.contract)
        with scene:
            assert scene.bands == (3, 2, 1)

    def test_too_few_bands_are_refused_with_the_remedy(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", np.zeros((1, 64, 64), np.uint8))
        with pytest.raises(SceneError, match=r"1 band .*--bands 1,1,1"):
            open_scene(path, bright_model().card.contract)
        scene, _ = open_scene(path, bright_model().card.contract, InputOptions(bands=(1, 1, 1)))
        scene.close()

    def test_wrong_number_of_bands_asked_for(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", np.zeros((4, 64, 64), np.uint8))
        with pytest.raises(ContractError, match=r"3 bands .*--bands names 2"):
            open_scene(path, bright_model().card.contract, InputOptions(bands=(1, 2)))

    def test_unnamed_bands_are_taken_by_number(self, tmp_path):
        path = write_scene(tmp_path / "s.tif", dark_with_bright_square())
        scene, _ = open_scene(path, bright_model(bands=("band3", "band1")).card.contract)
        with scene:
            assert scene.bands == (3, 1)


def predict_square(path, out, *, model=None, probability=None, crs="native", **options):
    return predict(
        path,
        Outputs(out, probability),
        model or bright_model(),
        PredictOptions(device="cpu", **options),
        VectorizeOptions(crs=crs, simplify=0),
    )


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
        rows, cols = SQUARE
        corners = [(cols.start, rows.start), (cols.stop, rows.start), (cols.stop, rows.stop), (cols.start, rows.stop)]
        truth = shapely.Polygon([transform @ corner for corner in corners])
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
        assert sorted(p.name for p in tmp_path.iterdir()) == ["b.geojson", "p.tif", "s.tif"]

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
        predict(path, Outputs(tmp_path / "b.gpkg"), load_model(), PredictOptions(device="cpu"))
        left, bottom, right, top = rasterio.transform.array_bounds(640, 640, transform)
        area = shapely.box(left, bottom, right, top)
        found = geopandas.read_file(tmp_path / "b.gpkg").to_crs(crs).union_all()
        truth = geopandas.read_file(sample_labels).to_crs(crs).union_all() & area
        assert found.intersection(truth).area / found.union(truth).area > 0.5


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
        with pytest.raises(OutputError, match="scene itself"):
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
    [({"window": 16}, "--window"), ({"overlap": 1.0}, "--overlap"), ({"batch_size": 0}, "--batch-size")],
)
def test_options_out_of_range(arguments, flag):
    with pytest.raises(OptionError, match=flag):
        PredictOptions(**arguments)
