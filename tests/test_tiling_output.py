"""Outputs exist only when they are whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from buildseg.footprints import FootprintFile
from buildseg.footprints.raster import opened_probability
from tiling.errors import FootprintsError, OutputError, ProbabilityError, SceneError
from tiling.opening import open_raster
from tiling.output import check_writable, remove_leftovers, scratch_file, written_whole

NAMES = ["out.tif", "scene[1].tif", "a*b?.tif", "no_suffix", ".hidden.tif", "name with blanks.tif"]


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_the_target_appears_whole_and_alone(tmp_path, name):
    target = tmp_path / name
    with written_whole(target) as partial:
        assert partial.parent == tmp_path
        assert partial.suffix == target.suffix or not target.suffix
        partial.write_text("whole", encoding="utf-8")
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "whole"
    assert contents(tmp_path) == [name]


def test_a_name_that_is_no_text(tmp_path):
    with pytest.raises(OutputError, match="not UTF-8"):
        check_writable(tmp_path / os.fsdecode(b"caf\xe9.tif"))
    assert contents(tmp_path) == []


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("name", NAMES)
def test_a_failure_leaves_nothing(tmp_path, name, failure):
    def write():
        with written_whole(tmp_path / name) as partial:
            partial.write_text("half", encoding="utf-8")
            Path(f"{partial}.aux.xml").write_text("sidecar", encoding="utf-8")
            raise failure

    with pytest.raises(failure):
        write()
    assert contents(tmp_path) == []


def test_a_failure_leaves_the_old_file_and_its_neighbours(tmp_path):
    target = tmp_path / "out.tif"
    target.write_text("old", encoding="utf-8")
    (tmp_path / "out.tif.aux.xml").write_text("of the old", encoding="utf-8")

    def write():
        with written_whole(target, overwrite=True) as partial:
            partial.write_text("half", encoding="utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert contents(tmp_path) == ["out.tif", "out.tif.aux.xml"]
    assert target.read_text(encoding="utf-8") == "old"


PARTS = (".dbf", ".prj", ".qix")


def write_parts(target, *suffixes, **choices):
    with written_whole(target, beside=PARTS, **choices) as partial:
        for suffix in (target.suffix, *suffixes):
            partial.with_suffix(suffix).write_text("new", encoding="utf-8")
            assert not target.with_suffix(suffix).exists() or choices
        if not suffixes:
            raise RuntimeError


@pytest.mark.parametrize("name", ["b.shp", "b[1].c*.shp"])
def test_files_that_belong_together_come_together_or_not_at_all(tmp_path, name):
    target = tmp_path / name
    with pytest.raises(RuntimeError):
        write_parts(target)
    assert contents(tmp_path) == []
    write_parts(target, ".dbf", ".prj")
    assert contents(tmp_path) == sorted([name, f"{target.stem}.dbf", f"{target.stem}.prj"])


@pytest.mark.parametrize("part", PARTS)
def test_files_that_belong_together_are_replaced_together(tmp_path, part):
    target = tmp_path / "b.shp"
    target.with_suffix(part).write_text("old", encoding="utf-8")
    with pytest.raises(OutputError, match=f"b{part} exists already; add --overwrite"):
        write_parts(target, ".dbf")
    assert contents(tmp_path) == [f"b{part}"]
    write_parts(target, ".dbf", overwrite=True)
    assert contents(tmp_path) == ["b.dbf", "b.shp"]
    assert {path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {"new"}


def test_leftovers_go_with_all_that_belongs_to_them(tmp_path):
    for name in (".b.0123abcd.partial.shp", ".b.0123abcd.partial.dbf", ".b.0123abcd.partial_temp.shp"):
        (tmp_path / name).touch()
    others = ["b.shp", ".b.0123abcd.shp", ".b.89abcdef.partial.tif", ".c.0123abcd.partial.shp"]
    for name in others:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "b.shp")
    assert contents(tmp_path) == sorted(others)


def test_two_at_once_do_not_meet(tmp_path):
    target = tmp_path / "out.tif"
    with written_whole(target) as one, written_whole(target, overwrite=True) as two, scratch_file(target) as three:
        assert len({one, two, three}) == 3
        two.write_text("two", encoding="utf-8")
        one.write_text("one", encoding="utf-8")
    assert contents(tmp_path) == ["out.tif"]
    assert target.read_text(encoding="utf-8") == "one"


def test_scratch_is_gone_afterwards_with_all_beside_it(tmp_path):
    with scratch_file(tmp_path / "out[2].tif") as scratch:
        scratch.write_text("passing", encoding="utf-8")
        Path(f"{scratch}.ovr").write_text("sidecar", encoding="utf-8")
        Path(f"{scratch}.msk.ovr.tmp").write_text("sidecar", encoding="utf-8")
    assert contents(tmp_path) == []


def test_overwriting_must_be_asked_for(tmp_path):
    target = tmp_path / "out.tif"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(OutputError, match=r"out.tif exists already; add --overwrite"):
        check_writable(target)
    with pytest.raises(OutputError, match="--overwrite"), written_whole(target):
        pass
    with written_whole(target, overwrite=True) as partial:
        partial.write_text("new", encoding="utf-8")
    assert target.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_no_file(tmp_path, overwrite):
    with pytest.raises(OutputError, match="is a folder; name a file in it"):
        check_writable(tmp_path, overwrite=overwrite)


def test_the_folder_must_be_there(tmp_path):
    (tmp_path / "file").touch()
    for folder in ("missing", "file"):
        with pytest.raises(OutputError, match=rf"{folder} does not exist; create it first"):
            check_writable(tmp_path / folder / "out.tif")


def test_a_check_leaves_nothing(tmp_path):
    check_writable(tmp_path / "out.tif")
    check_writable(tmp_path / "[out].tif")
    assert contents(tmp_path) == []


def test_a_read_only_file_system():
    """The process's own folder under /proc takes no files, from root neither."""
    if not Path("/proc/self").is_dir():
        pytest.skip("the system has no /proc")
    with pytest.raises(OutputError, match=r"/proc/self cannot be written .*; choose another folder") as caught:
        check_writable(Path("/proc/self/out.tif"))
    assert "\n" not in str(caught.value)


REFUSED = """
import os, sys
from pathlib import Path
from tiling.errors import OutputError
from tiling.output import check_writable
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    check_writable(Path(sys.argv[1]))
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "not to be entered"])
def test_a_folder_without_permission(tmp_path, mode):
    """Root may do everything, so the check runs as nobody."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "inner").mkdir()
    closed.chmod(mode)
    target = closed / "inner" / "out.tif" if mode == 0 else closed / "out.tif"
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, target],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    closed.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "cannot be written (Permission denied); choose another folder" in done.stdout


def test_rasters_and_footprints_whose_names_are_no_text(tmp_path):
    name = tmp_path / os.fsdecode(b"caf\xe9.geojson")
    try:
        name.write_text("{}", encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes no such names")
    with pytest.raises(SceneError, match="not UTF-8"):
        open_raster(str(name))
    with pytest.raises(ProbabilityError, match="not UTF-8"), opened_probability(name):
        pass
    with pytest.raises(FootprintsError, match="cannot be read"):
        FootprintFile(name)
