"""PMTiles archives as far as GDAL leaves it to us: what their header says, and those without tiles.

After the PMTiles specification, version 3.
"""

import gzip
import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MIN_ZOOM, MAX_ZOOM = 10, 15
_HEADER = struct.Struct("<7sB8Q")
_REST = struct.Struct("<3Q6B4iB2i")
_GZIP, _VECTOR_TILES = 2, 1


def write_empty(path: Path, layer: str, description: str, columns: Iterable[str]) -> None:
    """Write an archive without tiles, which GDAL does not.

    Args:
        path: The file.
        layer: The one layer that it would have.
        description: What its metadata say about it.
        columns: The layer's attributes.
    """
    fields = dict.fromkeys(columns, "String")
    layers = [{"id": layer, "description": "", "minzoom": MIN_ZOOM, "maxzoom": MAX_ZOOM, "fields": fields}]
    stats = {"layerCount": 1, "layers": [{"layer": layer, "count": 0, "geometry": "Polygon", "attributeCount": 0}]}
    metadata = {"name": layer, "description": description, "format": "pbf", "type": "overlay", "vector_layers": layers}
    directory = gzip.compress(b"\0")
    content = gzip.compress(json.dumps(metadata | {"tilestats": stats}).encode())
    start = _HEADER.size + _REST.size
    end = start + len(directory) + len(content)
    header = _HEADER.pack(
        b"PMTiles", 3, start, len(directory), start + len(directory), len(content), end, 0, end, 0
    ) + _REST.pack(0, 0, 0, 1, _GZIP, _GZIP, _VECTOR_TILES, MIN_ZOOM, MAX_ZOOM, 0, 0, 0, 0, MIN_ZOOM, 0, 0)
    path.write_bytes(header + directory + content)


def check_end(path: Path) -> None:
    """Refuse an archive that is cut short.

    Raises:
        OSError: It is shorter than its header says, or has none.
    """
    *_, start, length = _header(path)
    if path.stat().st_size < start + length:
        raise OSError(f"the archive has {path.stat().st_size} of {start + length} bytes")


def count_of(path: Path) -> int:
    """Say how many features the tiles were made of."""
    return sum(int(layer["count"]) for layer in metadata_of(path)["tilestats"]["layers"])


def metadata_of(path: Path) -> dict[str, Any]:
    """Read an archive's metadata.

    Raises:
        OSError: There is none that is whole.
    """
    start, length = _header(path)[4:6]
    with path.open("rb") as file:
        file.seek(start)
        content: dict[str, Any] = json.loads(gzip.decompress(file.read(length)))
    return content


def _header(path: Path) -> tuple[Any, ...]:
    """Magic, version, and offset and length of root directory, metadata, leaf directories and tiles."""
    with path.open("rb") as file:
        content = file.read(_HEADER.size)
    if len(content) < _HEADER.size or not content.startswith(b"PMTiles\x03"):
        raise OSError("the archive has no header")
    return _HEADER.unpack(content)
