import json
import re
import sys
from pathlib import Path

import geopandas
import pytest
from buildseg.cli.main import run
from shapely.affinity import translate

from buildseg.evaluation.measures import KEYS

ROOT = Path(__file__).resolve().parent.parent
DOCS = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


@pytest.fixture
def buildseg(capsys, monkeypatch, tmp_path):
    """Runs the program in this process and folder: its exit code, output, and lines on standard error."""

    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["buildseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err.splitlines()

    return call


@pytest.fixture(autouse=True)
def sides(tmp_path, sample_labels):
    labels = geopandas.read_file(sample_labels).to_crs("EPSG:32632").iloc[:60]
    labels.to_file(tmp_path / "truth.gpkg")
    found = [translate(house, 0.5) for house in labels.geometry.iloc[6:]]
    sure = [0.5 + place / 200 for place in range(54)]
    geopandas.GeoDataFrame({"confidence": sure}, geometry=found, crs="EPSG:32632").to_file(tmp_path / "found.gpkg")


SIDES = ("evaluate", "found.gpkg", "--truth", "truth.gpkg")


def test_table_says_what_was_compared_and_every_score(buildseg):
    code, out, errors = buildseg(*SIDES)
    assert (code, errors) == (0, [])
    lines = out.splitlines()
    assert lines[0] == "found.gpkg against truth.gpkg, on the rectangle around the truth"
    assert len(lines) == 1 + len(KEYS) + 1 + 5
    assert re.search(r"buildings +recall at IoU 0.5 +0\.\d{3}  0\.\d{3} to [01]\.\d{3}$", out, re.MULTILINE)
    assert re.search(r"counts +in the truth +60$", out, re.MULTILINE)


def test_all_files_are_written_and_not_replaced(buildseg, tmp_path):
    outputs = ("--report", "report.html", "--errors", "errors.gpkg", "--json", "scores.json")
    assert buildseg(*SIDES, *outputs)[0] == 0
    assert {"report.html", "errors.gpkg", "scores.json"} <= {path.name for path in tmp_path.iterdir()}
    code, out, errors = buildseg(*SIDES, *outputs)
    assert code == 20 and "report.html exists already" in errors[0] and not out
    assert buildseg(*SIDES, *outputs, "--overwrite")[0] == 0


def test_json_has_the_keys_that_are_documented(buildseg, tmp_path):
    buildseg(*SIDES, "--json", "scores.json")
    record = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    documented = set(re.findall(r"`(\w+)`", DOCS))
    keys = {*record, *record["scores"], *record["about"], *record["sizes"][0], *record["reliability"][0]}
    assert keys <= documented
    assert list(record["scores"]) == list(KEYS)
    assert set(record["intervals"]) <= set(KEYS) and record["version"] == 1
    assert record["scores"]["object_recall"] == pytest.approx(54 / 60, abs=0.2)


@pytest.mark.parametrize(
    ("limits", "code", "says"),
    [
        (("--fail-under", "iou=0.1", "--fail-under", "ap50=0.1", "--fail-over", "polis_m=3"), 0, None),
        (("--fail-under", "iou=0.99"), 19, r"iou is 0\.\d{4}, under the limit of 0.99"),
        (("--fail-over", "polis_m=0.01", "--fail-under", "f1=0.1"), 19, r"polis_m is 0\.\d{4}, over the limit of 0.01"),
        (("--fail-under", "kappa=0.5"), 2, "there is no score kappa; choose from iou, "),
        (("--fail-under", "iou=high"), 2, "--fail-under iou=high is no NAME=NUMBER"),
    ],
)
def test_limits_decide_the_exit_code(buildseg, limits, code, says):
    ended, out, errors = buildseg(*SIDES, *limits)
    assert ended == code
    assert (code != 2) == bool(out)
    assert not errors if says is None else re.search(says, errors[0])


def test_what_cannot_be_measured_holds_no_limit(buildseg, tmp_path):
    geopandas.read_file(tmp_path / "found.gpkg").drop(columns="confidence").to_file(tmp_path / "bare.gpkg")
    code, _, errors = buildseg("evaluate", "bare.gpkg", "--truth", "truth.gpkg", "--fail-under", "ap50=0.1")
    assert code == 19 and "ap50 could not be measured" in errors[0]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("evaluate", "found.gpkg"), 2, "give PREDICTION and --truth"),
        ((*SIDES, "--tiles", "tiles"), 2, "leave out PREDICTION, --truth"),
        (("evaluate", "--tiles", "tiles", "--confidence", "sure"), 2, "leave out --confidence"),
        (
            ("evaluate", "p.tif", "--truth", "truth.gpkg", "--confidence", "sure"),
            2,
            "leave it out for a probability raster",
        ),
        ((*SIDES, "--confidence", "shure"), 2, "has no attribute 'shure'"),
        ((*SIDES, "--model", "m.safetensors"), 2, "--model needs --tiles"),
        ((*SIDES, "--errors", "errors.shp"), 2, "call it errors.gpkg"),
        ((*SIDES, "--boundary", "-1"), 2, "--boundary -1 is no length"),
        (("evaluate", "none.gpkg", "--truth", "truth.gpkg"), 11, "none.gpkg does not exist"),
        (("evaluate", "none.tif", "--truth", "truth.gpkg"), 15, "none.tif does not exist"),
        (("evaluate", "--tiles", "none"), 12, "none is not a folder"),
        ((*SIDES, "--image", "none.tif"), 10, "none.tif"),
        ((*SIDES, "--where", "fid > 999"), 11, "truth.gpkg has nothing where fid > 999"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(buildseg, tmp_path, arguments, code, says):
    before = sorted(tmp_path.iterdir())
    ended, out, errors = buildseg(*arguments)
    assert (ended, out) == (code, "")
    assert len(errors) == 1 and says in errors[0]
    assert sorted(tmp_path.iterdir()) == before


def test_full_disk_is_a_line_and_leaves_nothing(buildseg, tmp_path, small_disk):
    before = sorted(tmp_path.iterdir())
    small_disk(2000)
    code, _, errors = buildseg(*SIDES, "--report", "report.html")
    assert code == 20 and len(errors) == 1
    assert re.fullmatch(r"error: .*File too large; make room, or choose another folder", errors[0])
    assert sorted(tmp_path.iterdir()) == before
