"""One footprint file of several: `buildseg merge`."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from buildseg import __version__
from buildseg.footprints.formats.provenance import read_provenance
from buildseg.footprints.ground import check_crs, chosen_crs
from buildseg.footprints.merge import merge_footprints
from buildseg.footprints.read import FootprintFile, layers_of
from buildseg.footprints.write import check_format, files_of, write_footprints
from tiling.errors import OptionError
from tiling.output import check_writable

_log = logging.getLogger(__name__)


def merge_files(paths: Sequence[Path], target: Path, crs: str = "wgs84", *, overwrite: bool = False) -> tuple[int, int]:
    """Join the footprints of several files: see `merge_footprints`.

    What the files say of how they came to be is carried over, each thing under the name of its file.

    Args:
        paths: Files of polygons, in any format and CRS.
        target: The file to write.
        crs: "wgs84", "native" (that of the first file) or "EPSG:n".
        overwrite: Whether existing files may be replaced.

    Returns:
        How many footprints the files have, and how many were written.

    Raises:
        FootprintsError: A file cannot be read or placed on earth.
        OptionError: A file is given twice, or the format or CRS does not fit.
        OutputError: The target exists, is one of the files, or cannot be written.
    """
    check_format(target, crs)
    check_crs(crs)
    if len({path.resolve() for path in paths}) < len(paths):
        raise OptionError("a file is given twice; give each once")
    for path in paths:
        for file in files_of(target):
            check_writable(file, overwrite=overwrite, scene=path)
    common = chosen_crs(crs, FootprintFile(paths[0]).crs)
    stems = Counter(path.stem for path in paths)
    files = {path.stem if stems[path.stem] == 1 else str(path): FootprintFile(path, common) for path in paths}
    for path in paths:
        if len(layers := layers_of(path)) > 1:
            _log.warning("%s has several layers; only %s is read", path, layers[0])
    merged = merge_footprints(files)
    provenance = {"buildseg": __version__, "merged": ", ".join(map(str, paths))}
    for name, path in zip(files, paths, strict=True):
        provenance |= {f"{name}: {key}": value for key, value in read_provenance(path).items()}
    write_footprints(merged, target, provenance=provenance, overwrite=overwrite)
    return sum(file.count for file in files.values()), merged.count
