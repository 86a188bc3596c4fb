"""Finds the scenes that are meant by paths, globs, URLs and STAC files."""

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath
from urllib.request import urlopen

import pystac
from pystac.errors import STACError, STACTypeError
from pystac.stac_io import DefaultStacIO

from tiling.errors import SceneError
from tiling.output import is_text

_MAGIC = re.compile(r"[*?\[]")
_API_ITEM = re.compile(r"https?://.+/collections/[^/]+/items/(?![^/]+\.tiff?$)[^/]+")
_TIMEOUT = 30
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
        SceneError: A glob or a STAC file holds none, or an item several, or a name is no text.
    """
    found: dict[str, SceneSource] = {}
    for each in (source for name in names for source in _find(name)):
        if not is_text(each.path):
            raise SceneError(f"{each.path}: the name is not UTF-8, which GDAL needs; rename it")
        found.setdefault(_place(each.path), each)
    taken = {source.name.lower() for source in found.values()}
    seen: set[str] = set()
    sources = []
    for source in found.values():
        name = source.name
        if name.lower() in seen:
            free = (f"{name}_{number}" for number in count(2))
            name = next(other for other in free if other.lower() not in taken | seen)
        seen.add(name.lower())
        sources.append(replace(source, name=name))
    return sources


def _find(name: str) -> Iterator[SceneSource]:
    path, _, asset = name.partition("#")
    if _is_stac(path):
        for match in _expanded(path):
            yield from _of_stac(match, asset)
        return
    for match in _expanded(name):
        if not match or Path(match).is_dir():
            raise SceneError(f"{match or '(nothing)'} is a folder; name the rasters in it: '{Path(match) / '*.tif'}'")
        yield SceneSource(_stem(match), match)


def _expanded(name: str) -> list[str]:
    if _is_remote(name) or Path(name).exists() or not _MAGIC.search(name):
        return [name]
    matches = sorted(glob.glob(name, recursive=True), key=_natural)  # noqa: PTH207 - it takes whole paths
    if not matches:
        raise SceneError(f"{name} matches no file; check the folder and the extension")
    return matches


def _of_stac(href: str, asset: str) -> Iterator[SceneSource]:
    for item in _items(href):
        chosen = item.assets.get(asset) if asset else _choose(item)
        if chosen is None:
            keys = ", ".join(item.assets) or "none"
            what = f"no asset {asset}" if asset else "several rasters or none"
            raise SceneError(f"{href}: the item {item.id} has {what} (assets: {keys}); name one, as in {href}#visual")
        yield SceneSource(_safe(item.id), chosen.get_absolute_href() or chosen.href)


def _items(href: str) -> list[pystac.Item]:
    remedy = "give a STAC item, collection or item collection, or a raster"
    reader = _Reader()
    try:
        record = reader.read_json(href)
        if record.get("type") == "FeatureCollection":
            items = [pystac.Item.from_dict(feature, href=href, migrate=True) for feature in record["features"]]
        else:
            items = _within(reader.stac_object_from_dict(record, href=href))
    except RecursionError as error:
        raise SceneError(f"{href} cannot be read as STAC (its links lead in a circle); {remedy}") from error
    except (STACError, STACTypeError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise SceneError(f"{href} cannot be read as STAC ({reason}); {remedy}") from error
    if not items:
        raise SceneError(f"{href} holds no items; {remedy}")
    return items


def _within(found: pystac.STACObject) -> list[pystac.Item]:
    if isinstance(found, pystac.Catalog):
        # What stands above is not needed, and may be elsewhere or nowhere.
        found.set_root(found)
        return list(found.get_items(recursive=True))
    return [found] if isinstance(found, pystac.Item) else []


class _Reader(DefaultStacIO):
    """Reads STAC files; a server that does not answer is not waited for without end."""

    def read_text_from_href(self, href: str) -> str:
        if not href.startswith(("http://", "https://")):
            return super().read_text_from_href(href)
        with urlopen(href, timeout=_TIMEOUT) as answer:
            return str(answer.read().decode("utf-8"))


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
    return not hidden and (by_type or PurePosixPath(asset.href.partition("?")[0]).suffix.lower() in _RASTER_SUFFIXES)


def _is_stac(name: str) -> bool:
    path = name.partition("?")[0]
    return PurePosixPath(path).suffix.lower() in {".json", ".geojson"} or _API_ITEM.fullmatch(path) is not None


def _place(path: str) -> str:
    """The same for all names of a file."""
    return str(Path(path).resolve()) if not _is_remote(path) and Path(path).exists() else path


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
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]
