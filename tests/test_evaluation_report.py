"""The page, in a real browser where there is one, and the errors, in a real QGIS where there is one."""

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from matplotlib.image import imread
from shapely.affinity import translate

from buildseg.evaluation.colours import COLOURS
from buildseg.evaluation.errors_layer import check_errors_file, errors_table, write_errors
from buildseg.evaluation.options import EvaluateOptions
from buildseg.evaluation.report import make_page, write_report
from buildseg.evaluation.run import Prediction, Where, evaluate
from buildseg.labels import read_labels
from tiling.errors import OptionError, OutputError

QGIS_PYTHON = Path("/usr/bin/python3")
UTM = "EPSG:32632"
SAMPLE = Path(__file__).resolve().parent.parent / "sample_data"
SCENE = SAMPLE / "scene.tif"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request):
    """Half of the sample's labels as prediction: some shifted, two joined, one cut, and one made up."""
    folder = tmp_path_factory.mktemp("report")
    labels = geopandas.read_file(SAMPLE / "labels.geojson").to_crs(UTM)
    large = labels[labels.area > 60].geometry.iloc[:80].tolist()
    joined = shapely.union_all([large[0].buffer(9), large[1].buffer(9)]).convex_hull
    half = shapely.box(*large[2].bounds[:3], large[2].centroid.y)
    cut = [large[2].intersection(half).buffer(-0.8), large[2].difference(half).buffer(-0.8)]
    with rasterio.open(SCENE) as scene:
        left, bottom = scene.bounds[:2]
    made_up = shapely.box(left + 60, bottom + 60, left + 72, bottom + 70)
    found = [joined, *cut, *[translate(each, 0.8) for each in large[3:60]], made_up]
    sure = np.linspace(1, 0.3, len(found))
    geopandas.GeoDataFrame({"confidence": sure}, geometry=found, crs=UTM).to_file(folder / "found.gpkg")
    geopandas.GeoDataFrame(geometry=large, crs=UTM).to_crs(4326).to_file(folder / "truth.geojson")
    return folder


@pytest.fixture(scope="module")
def evaluation(folder):
    truth = read_labels(folder / "truth.geojson")
    return evaluate(Prediction(folder / "found.gpkg"), truth, Where(image=SCENE), EvaluateOptions())


@pytest.fixture(scope="module")
def page(evaluation, folder):
    write_report(evaluation, folder / "report.html")
    return folder / "report.html"


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.opened, self.open, self.sources = [], [], []

    def handle_starttag(self, tag, attrs):
        self.opened.append(tag)
        self.sources += [value for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_needs_nothing_beside_it(page):
    text = page.read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.opened.count("img") >= 3 + 1 + 2
    assert tags.sources and all(source.startswith("data:image/") for source in tags.sources)
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style and "<script" not in text


def test_page_says_what_was_measured(page, evaluation):
    text = page.read_text(encoding="utf-8")
    assert "How good is found.gpkg?" in text
    assert f"{evaluation.scores.values['iou']:.3f}" in text
    assert f"{evaluation.scores.values['polis_m']:.2f} m" in text
    for kind in COLOURS:
        assert f"{kind}</li>" in text


def test_page_of_nothing_is_a_page(folder):
    nothing = geopandas.GeoDataFrame({"confidence": []}, geometry=[], crs=4326)
    nothing.to_file(folder / "nothing.geojson")
    truth = read_labels(folder / "nothing.geojson", may_be_empty=True)
    text = make_page(evaluate(Prediction(folder / "nothing.geojson"), truth, Where(), EvaluateOptions()))
    assert (
        "<h2>Scores</h2>" in text and "too few for intervals" in text and "nan" not in text.lower().split("base64")[0]
    )


def test_names_are_escaped(folder):
    name = folder / "a<b>&c.gpkg"
    shutil.copy(folder / "found.gpkg", name)
    text = make_page(evaluate(Prediction(name), read_labels(folder / "truth.geojson"), Where(), EvaluateOptions()))
    assert "a&lt;b&gt;&amp;c.gpkg" in text and "a<b>" not in text


def test_a_report_is_replaced_only_if_asked(page, evaluation):
    with pytest.raises(OutputError, match="exists already"):
        write_report(evaluation, page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_page(page, folder, scheme):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        missing = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    picture = folder / f"{scheme}.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,3600"]
    command += ["--disable-background-networking", f"--user-data-dir={folder / scheme}", f"--screenshot={picture}"]
    command += ["--force-dark-mode"] if scheme == "dark" else []
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    assert picture.exists(), done.stderr
    shown = imread(picture)[..., :3]
    paper = shown[5, 5].mean()
    assert paper > 0.9 if scheme == "light" else paper < 0.2
    margin = np.abs(shown[:, :8] - shown[5, 5]).max(axis=(1, 2))
    assert margin.max() < 0.01  # nothing runs out of the page
    ink = (np.abs(shown - shown[5, 5]).max(axis=2) > 0.25).mean(axis=1)
    assert (ink[:400] > 0.02).any() and (ink[1600:] > 0.2).mean() > 0.2  # words above, pictures below
    green = (shown[..., 1] - shown[..., [0, 2]].max(axis=2) > 0.15).mean()
    assert green > 0.005


def test_errors_hold_both_sides_with_what_became_of_them(evaluation, folder):
    write_errors(evaluation, folder / "errors.gpkg")
    layers = dict(pyogrio.list_layers(folder / "errors.gpkg"))
    assert layers == {"errors": "MultiPolygon", "layer_styles": None}
    assert pyogrio.read_dataframe(folder / "errors.gpkg", layer="layer_styles")["useAsDefault"].tolist() == [True]
    table = geopandas.read_file(folder / "errors.gpkg", layer="errors")
    assert table.crs == "EPSG:4326" and table.is_valid.all()
    found, truth = table[table["side"] == "prediction"], table[table["side"] == "truth"]
    assert len(truth) == 80 and len(found) == 61
    assert truth["what"].value_counts().to_dict() == {"matched": 57, "missed": 20, "merged": 2, "split": 1}
    assert found["what"].value_counts().to_dict() == {"matched": 57, "split": 2, "merged": 1, "false": 1}
    assert table["area_m2"].to_numpy() == pytest.approx(table.to_crs(UTM).area, rel=2e-3)
    matched = found[found["what"] == "matched"]
    assert matched["iou"].between(0.7, 1).all() and matched["polis_m"].between(0.1, 0.9).all()
    assert found["confidence"].between(0.3, 1).all() and truth["confidence"].isna().all()
    assert truth[truth["what"] == "missed"]["polis_m"].isna().all()


def test_errors_need_a_geopackage(evaluation, folder):
    with pytest.raises(OptionError, match=r"call it errors.gpkg"):
        check_errors_file(folder / "errors.geojson")
    assert len(errors_table(evaluation)) == 141


def test_qgis_shows_the_errors_in_their_colours(evaluation, folder):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PROJ_", "GDAL_"))}
    environment["QT_QPA_PLATFORM"] = "offscreen"

    def ask(code):
        call = [str(QGIS_PYTHON), "-c", code]
        return subprocess.run(call, env=environment, capture_output=True, text=True, timeout=120, check=False)

    if not QGIS_PYTHON.exists() or ask("import qgis.core").returncode:
        missing = f"QGIS is not installed for {QGIS_PYTHON} (Debian: apt-get install python3-qgis)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    write_errors(evaluation, folder / "for_qgis.gpkg")
    code = (
        "import os\nfrom qgis.core import QgsApplication, QgsVectorLayer\n"
        "app = QgsApplication([], False)\napp.initQgis()\n"
        f"layer = QgsVectorLayer({str(folder / 'for_qgis.gpkg')!r} + '|layername=errors', 'errors', 'ogr')\n"
        "print(layer.isValid(), layer.featureCount(), layer.renderer().type())\n"
        "print(*(f'{c.value()}={c.symbol().color().name()}' for c in layer.renderer().categories()), flush=True)\n"
        "os._exit(0)\n"
    )
    lines = ask(code).stdout.splitlines()
    assert lines[0] == "True 141 categorizedSymbol"
    wanted = {kind: "#" + "".join(f"{round(255 * part):02x}" for part in colour) for kind, colour in COLOURS.items()}
    assert dict(pair.split("=") for pair in lines[1].split()) == wanted


def test_overview_lies_over_the_image(evaluation):
    view = evaluation.gallery.overview()
    with rasterio.open(SCENE) as scene:
        assert view.extent == (0, scene.width, scene.height, 0)
        labels = read_labels(SAMPLE / "labels.geojson").frame.to_crs(UTM)
        to_pixels = ~scene.transform
    first = shapely.get_coordinates(labels.geometry.iloc[10].centroid)[0]
    there = shapely.Point(to_pixels @ tuple(first))
    assert shapely.distance(view.truth, there).min() < 1
    worst = evaluation.gallery.worst(3)
    assert len(worst) == 3
    assert all(view.image.shape[:2] == (400, 400) or max(view.image.shape[:2]) <= 410 for view in worst)
