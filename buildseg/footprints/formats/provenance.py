"""How footprints came to be: kept in the file where the format has a place for it, else beside it."""

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet
import pyogrio

from buildseg.footprints.formats.pmtiles import metadata_of

MEMBER = "provenance"
BESIDE = (".shp", ".geojsonl")
_HEAD_LINES = 20


def sidecar(path: Path) -> str:
    """Give the ending of the sidecar of a file: in place of its extension, which it begins with."""
    return f"{path.suffix}.provenance.json"


def write_beside(path: Path, provenance: Mapping[str, str]) -> None:
    """Write the sidecar of a file whose format has no place for provenance.

    Args:
        path: The file.
        provenance: What there is to say; if nothing, no sidecar is written.
    """
    if provenance:
        path.with_suffix(sidecar(path)).write_text(in_json(provenance, indent=1), encoding="utf-8")


def in_json(provenance: Mapping[str, str], indent: int | None = None) -> str:
    """Put provenance into one text."""
    return json.dumps(dict(provenance), indent=indent, ensure_ascii=False)


def read_provenance(path: Path) -> dict[str, str]:
    """Read what a footprint file, or the sidecar of one, says of how it came to be.

    Args:
        path: A file in any of our formats, not necessarily ours.

    Returns:
        Each thing by its name; empty if it says nothing.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in BESIDE:
            return _mapping(path.with_suffix(sidecar(path)).read_text(encoding="utf-8"))
        if suffix == ".geojson":
            return _mapping(_member(path))
        if suffix == ".parquet":
            return _mapping((pyarrow.parquet.read_metadata(path).metadata or {}).get(MEMBER.encode(), b"{}"))
        if suffix == ".pmtiles":
            return _mapping(metadata_of(path).get("description", "{}"))
        return dict(pyogrio.read_info(path, layer=0)["layer_metadata"] or {})
    except (OSError, ValueError):
        return {}


def _member(path: Path) -> str:
    """Find the member of a GeoJSON file of ours, which stands on a line of its own before the features."""
    with path.open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(_HEAD_LINES), strict=False):
            if line.startswith(f'"{MEMBER}":'):
                return line.partition(":")[2].strip().rstrip(",")
    return "{}"


def _mapping(text: str | bytes) -> dict[str, str]:
    content = json.loads(text)
    return {str(name): str(value) for name, value in content.items()} if isinstance(content, dict) else {}
