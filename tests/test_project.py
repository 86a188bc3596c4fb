"""The project's own promises: checks pass, the wheel is whole, help is quick."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("lint-imports",)],
    ids=" ".join,
)
def test_static_checks_pass(command):
    done = run(BIN / command[0], *command[1:], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_packages_list_names_every_package():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = settings.split("\npackages = [", 1)[1].split("]", 1)[0]
    listed = set(re.findall(r'"([\w.]+)"', section))
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("buildseg", "tiling", "cli")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert listed == {f"buildseg.{name}" if name.split(".")[0] == "cli" else name for name in found}


def test_help_leaves_torch_alone():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from buildseg.cli.main import app\n"
        "done = CliRunner().invoke(app, ['--help'])\n"
        "assert done.exit_code == 0 and 'predict' in done.output\n"
        "heavy = {'torch', 'lightning', 'geopandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr


COMMANDS = ["tile", "preview", "train", "predict", "vectorize", "merge", "evaluate", "info", "models", "explain"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command):
    done = run(BIN / "buildseg", command, "--help")
    assert done.returncode == 0
    assert "Example: buildseg" in done.stdout
    assert f"buildseg {command}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    done = run("git", "-C", ROOT, "checkout-index", "--all", f"--prefix={source}/")
    assert done.returncode == 0, done.stderr
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_two_packages_and_the_model(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"buildseg", "tiling"}
    data = {"models/default.safetensors", "footprints/style.qml", "evaluation/report.css", "py.typed"}
    assert {"tiling/py.typed", *(f"buildseg/{name}" for name in data)} <= set(names)


def test_wheel_runs_the_main_job_in_a_clean_environment(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    dependencies = Path(run(sys.executable, "-c", "import numpy; print(numpy.__file__)").stdout.strip()).parents[1]
    (site / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
    installed = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    assert installed.returncode == 0, installed.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    where = run(python, "-c", "import buildseg; print(buildseg.__file__)", cwd=elsewhere, env=environment)
    assert where.stdout.startswith(str(site))
    done = run(
        tmp_path / "env" / "bin" / "buildseg",
        "predict",
        ROOT / "sample_data" / "scene.tif",
        "--out",
        "buildings.geojson",
        cwd=elsewhere,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "buildings.geojson").stat().st_size > 10_000
