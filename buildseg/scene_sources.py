"""Finds the scenes that are meant by paths, globs, URLs and STAC files."""

import glob
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pystac
from pystac.errors import STACError

from tiling.errors import SceneError

_MAGIC = re.compile(r"[*?\[]")
_RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-geotiff")
_RASTER_SUFFIXES = {".tif", ".tiff", ".jp2", ".vrt"}


@dataclass(frozen=True, slots=True)
class SceneSource:
    """One scene.

    Attributes:
        name: A name for its output files, without extension, that no other scene of the same call has.
        path: What `tiling.Scene` opens.
    """

    name: str
    path: str


def find_scenes(names: Sequence[str]) -> list[SceneSource]:
    """Find scenes.

    Args:
        names: Each a path, a glob, a URL, a GDAL dataset name, or a STAC item, collection or item collection, by path
            or URL; ``item.json#asset`` names one of several rasters.

    Returns:
        The scenes in the order of the names, those of a glob by name; one that is named twice comes once.

    Raises:
        SceneError: A glob or a STAC file holds none, or an item several.
    """
    found = {source.path: source for name in names for source in _find(name)}
    taken: Counter[str] = Counter()
    sources = []
    for source in found.values():
        taken[source.name.lower()] += 1
        number = taken[source.name.lower()]
        sources.append(source if number == 1 else replace(source, name=f"{source.name}_{number}"))
    return sources


def _find(name: str) -> Iterator[SceneSource]:
    path, _, asset = name.partition("#")
    if PurePosixPath(path.partition("?")[0]).suffix.lower() in {".json", ".geojson"}:
        yield from _of_stac(path, asset)
    elif _is_remote(name) or Path(name).exists() or not _MAGIC.search(name):
        if Path(name).is_dir():
            raise SceneError(f"{name} is a folder; name the rasters in it, such as '{Path(name) / '*.tif'}'")
        yield SceneSource(_stem(name), name)
    else:
        matches = sorted(glob.glob(name, recursive=True), key=_natural)  # noqa: PTH207 - it takes whole paths
        if not matches:
            raise SceneError(f"{name} matches no file; check the folder and the extension")
        for match in matches:
            yield SceneSource(_stem(match), match)


def _of_stac(href: str, asset: str) -> Iterator[SceneSource]:
    for item in _items(href):
        chosen = item.assets.get(asset) if asset else _choose(item)
        if chosen is None:
            keys = ", ".join(item.assets) or "none"
            what = f"no asset {asset}" if asset else "several rasters or none"
            raise SceneError(f"{href}: the item {item.id} has {what} (assets: {keys}); name one, as in {href}#visual")
        target = chosen.get_absolute_href() or chosen.href
        yield SceneSource(_safe(item.id), target)


def _items(href: str) -> Iterator[pystac.Item]:
    remedy = "give a STAC item, collection or item collection, or a raster"
    try:
        record = pystac.StacIO.default().read_json(href)
        if record.get("type") == "FeatureCollection":
            # One by one, for the items' own base: their assets may be named from there.
            for feature in record["features"]:
                item = pystac.Item.from_dict(feature, preserve_dict=False)
                item.set_self_href(href)
                yield item
            return
        found = pystac.read_file(href)
    except (STACError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise SceneError(f"{href} cannot be read as STAC ({reason}); {remedy}") from error
    if isinstance(found, pystac.Item):
        yield found
        return
    items = found.get_items(recursive=True) if isinstance(found, pystac.Catalog) else iter(())
    first = next(items, None)
    if first is None:
        raise SceneError(f"{href} holds no items; {remedy}")
    yield first
    yield from items


def _choose(item: pystac.Item) -> pystac.Asset | None:
    """Find the one raster to look at: the only one, the visual one, or the only one with data."""
    rasters = {key: asset for key, asset in item.assets.items() if _is_raster(asset)}
    if len(rasters) == 1:
        return next(iter(rasters.values()))
    if "visual" in rasters:
        return rasters["visual"]
    for role in ("visual", "data"):
        playing = [asset for asset in rasters.values() if role in (asset.roles or [])]
        if len(playing) == 1:
            return playing[0]
    return None


def _is_raster(asset: pystac.Asset) -> bool:
    hidden = {"thumbnail", "overview", "metadata"} & set(asset.roles or [])
    by_type = (asset.media_type or "").startswith(_RASTER_TYPES)
    return not hidden and (by_type or PurePosixPath(asset.href).suffix.lower() in _RASTER_SUFFIXES)


def _is_remote(name: str) -> bool:
    return "://" in name or name.startswith("/vsi")


def _stem(name: str) -> str:
    """The file's name without folder, query and extension."""
    path = name.partition("?")[0] if "://" in name else name
    return _safe(PurePosixPath(path.replace("\\", "/")).stem)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "scene"


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort scene2 before scene10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
