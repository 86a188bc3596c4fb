"""Bad input ends in one line that names the file and the remedy, an exit code, and no file."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from buildseg.cli.main import run
from safetensors.numpy import save_file

from buildseg.model_file import _KEY

UTM = {"crs": "EPSG:32632", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_200_000)}


def write(path, pixels=None, **profile):
    pixels = np.full((3, 80, 90), 100, np.uint8) if pixels is None else pixels
    bands, height, width = pixels.shape
    base = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **base | profile) as dataset:
        dataset.write(pixels)
    return path


@pytest.fixture
def buildseg(capsys, monkeypatch):
    """Runs the program in this process: its exit code and the lines on standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["buildseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err.splitlines()

    return call


def not_a_raster(folder):
    (folder / "scene.tif").write_text("just words")


def missing(folder):
    pass


def a_folder(folder):
    (folder / "scene.tif").mkdir()


def truncated(folder):
    noise = np.random.default_rng(0).integers(0, 255, (3, 300, 300), dtype=np.uint8)
    path = write(folder / "scene.tif", noise, **UTM)
    path.write_bytes(path.read_bytes()[:150_000])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def no_crs(folder):
    write(folder / "scene.tif", transform=UTM["transform"])


def no_geotransform(folder):
    write(folder / "scene.tif", crs="EPSG:32632")


def one_band(folder):
    write(folder / "scene.tif", np.full((1, 80, 90), 9, np.uint8), **UTM)


def complex_pixels(folder):
    write(folder / "scene.tif", np.full((3, 80, 90), 9, np.complex64), **UTM)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (not_a_raster, "not a raster that GDAL can read; give a GeoTIFF"),
        (missing, "does not exist; check the path"),
        (a_folder, "is a folder; name the rasters in it"),
        (truncated, "cut short: copy it again"),
        (no_crs, "no CRS; assign the right one"),
        (no_geotransform, "no geotransform"),
        (one_band, "--bands 1,1,1"),
        (complex_pixels, "convert it to uint8 or uint16"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_scene(tmp_path, buildseg, make, says):
    make(tmp_path)
    before = sorted(tmp_path.iterdir())
    scene = tmp_path / "scene.tif"
    code, _, lines = buildseg(
        "predict", scene, "--out", tmp_path / "b.geojson", "--probability", tmp_path / "p.tif", "--device", "cpu"
    )
    assert code == 10
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert line == lines[-1]
    assert str(scene) in line
    assert says in line
    assert sorted(tmp_path.iterdir()) == before


def text_model(path):
    path.write_text("not weights")


def foreign_model(path):
    save_file({"w": np.zeros(3, np.float32)}, path)


def newer_model(path):
    save_file(
        {"w": np.zeros(3, np.float32)}, path, metadata={_KEY: json.dumps({"format": 99, "made_by": "buildseg 9"})}
    )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "does not exist"),
        (text_model, "not a buildseg model file"),
        (foreign_model, "not a buildseg model file"),
        (newer_model, "buildseg 9 in model format 99"),
    ],
    ids=["missing", "text", "foreign", "newer"],
)
def test_bad_model(tmp_path, buildseg, make, says):
    scene = write(tmp_path / "scene.tif", **UTM)
    model = tmp_path / "model.safetensors"
    make(model)
    code, _, lines = buildseg("predict", scene, "--model", model, "--out", tmp_path / "b.geojson")
    assert code == 13
    assert len(lines) == 1
    assert str(model) in lines[0]
    assert says in lines[0]
    assert not (tmp_path / "b.geojson").exists()


def test_output_exists(tmp_path, buildseg):
    scene = write(tmp_path / "scene.tif", **UTM)
    (tmp_path / "b.geojson").write_text("mine")
    code, _, lines = buildseg("predict", scene, "--out", tmp_path / "b.geojson")
    assert code == 20
    assert len(lines) == 1
    assert "--overwrite" in lines[0]
    assert (tmp_path / "b.geojson").read_text() == "mine"


def test_output_folder_is_missing(tmp_path, buildseg):
    scene = write(tmp_path / "scene.tif", **UTM)
    code, _, lines = buildseg("predict", scene, "--out", tmp_path / "no" / "b.geojson")
    assert (code, len(lines)) == (20, 1)
    assert "does not exist; create it first" in lines[0]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write to")
def test_output_folder_is_read_only(tmp_path, buildseg):
    scene = write(tmp_path / "scene.tif", **UTM)
    code, _, lines = buildseg("predict", scene, "--out", "/proc/self/b.geojson")
    assert (code, len(lines)) == (20, 1)
    assert "cannot be written" in lines[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--threshold", "1.5"),
        ("--overlap", "1"),
        ("--crs", "EPSG:nonsense"),
        ("--device", "abacus"),
        ("--min-area", "-1"),
    ],
    ids=" ".join,
)
def test_bad_options(tmp_path, buildseg, arguments):
    scene = write(tmp_path / "scene.tif", **UTM)
    code, _, lines = buildseg("predict", scene, "--out", tmp_path / "b.geojson", *arguments)
    assert (code, len(lines)) == (2, 1)
    assert arguments[0] in lines[0]
    assert not (tmp_path / "b.geojson").exists()


def test_unknown_format(tmp_path, buildseg):
    scene = write(tmp_path / "scene.tif", **UTM)
    code, _, lines = buildseg("predict", scene, "--out", tmp_path / "b.docx")
    assert (code, len(lines)) == (2, 1)
    assert ".parquet" in lines[0]


def test_scene_without_data_gives_an_empty_file(tmp_path, buildseg):
    scene = write(tmp_path / "scene.tif", np.zeros((3, 80, 90), np.uint8), nodata=0, **UTM)
    code, out, _ = buildseg("predict", scene, "--out", tmp_path / "b.geojson", "--device", "cpu")
    assert code == 0
    assert "0 buildings" in out
    content = json.loads((tmp_path / "b.geojson").read_text())
    assert (content["type"], content["features"]) == ("FeatureCollection", [])


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.zeros((3, 80, 90), np.uint8), "band"),
        (np.zeros((1, 80, 90), np.float32), "uint8"),
    ],
    ids=["three bands", "float"],
)
def test_vectorize_refuses_other_rasters(tmp_path, buildseg, pixels, says):
    raster = write(tmp_path / "p.tif", pixels, **UTM)
    code, _, lines = buildseg("vectorize", raster, "--out", tmp_path / "b.geojson")
    assert (code, len(lines)) == (15, 1)
    assert str(raster) in lines[0]
    assert says in lines[0]
    assert not (tmp_path / "b.geojson").exists()


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["buildseg", "--debug", "info", str(tmp_path / "missing.tif")])
    with pytest.raises(Exception, match="does not exist"):
        run()


def test_an_interrupt_is_said(buildseg, tmp_path, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("buildseg.model_file.load_model", interrupted)
    scene = write(tmp_path / "scene.tif", **UTM)
    assert buildseg("predict", scene, "--out", tmp_path / "b.geojson") == (130, "", ["interrupted"])
