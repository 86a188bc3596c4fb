"""How GDAL talks to servers while a remote raster is opened and read."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import rasterio
from rasterio.env import get_gdal_config

_REMOTE = re.compile(
    r"\b(https?|ftp|s3|gs|az|oss)://|/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)[/?_]", re.IGNORECASE
)

# Every thread has a dataset of its own, with its own decoded blocks; what they share are the bytes that GDAL keeps of
# all files. Without SERIAL, GDAL asks for several tiles at once but keeps none of them.
_READING = {
    "GDAL_HTTP_MULTIRANGE": "SERIAL",
    "CPL_VSIL_CURL_CACHE_SIZE": str(128 * 2**20),
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
}
# Nothing is looked for beside the file, and its header comes in one request.
_OPENING = {**_READING, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_INGESTED_BYTES_AT_OPEN": "32768"}

_one_at_a_time = threading.RLock()


def is_remote(path: str) -> bool:
    """Say whether a raster comes over the network.

    Args:
        path: A path, URL or GDAL dataset name.
    """
    return _REMOTE.search(path) is not None


@contextmanager
def opening(path: str) -> Iterator[None]:
    """Prepare GDAL to open a raster; what the user has set himself stays as it is.

    In the main thread settings hold for the whole process. Others wait meanwhile, for a local raster needs the files
    beside it.

    Args:
        path: A path, URL or GDAL dataset name.
    """
    with _one_at_a_time, _settings(_OPENING if is_remote(path) else {}):
        yield


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Prepare GDAL to read from a raster that is open; local ones do not notice.

    Args:
        path: A path, URL or GDAL dataset name.
    """
    with _settings(_READING if is_remote(path) else {}):
        yield


@contextmanager
def _settings(wanted: Mapping[str, str]) -> Iterator[None]:
    unset = {key: value for key, value in wanted.items() if get_gdal_config(key) is None}
    if not unset:
        yield
        return
    with rasterio.Env(**unset):
        yield


def network_reason(path: str, error: BaseException) -> str:
    """Say what went wrong with a remote raster, and what to do.

    Args:
        path: Its address.
        error: From GDAL.
    """
    reason = " ".join(str(error.__cause__ or error).split()).replace("CURL error: ", "")
    if "Range downloading" in reason:
        return f"{path} is on a server that gives whole files only; download it first, and name the file"
    if re.search(r"response code: 40[13]|AccessDenied|InvalidCredentials", reason):
        return f"{path} needs permission ({reason}); check the address, and sign in as GDAL's documentation says"
    if "response code: 404" in reason:
        return f"{path} does not exist on the server; check the address"
    if "not recognized" in reason:
        return f"{path} gives no raster that GDAL can read; check the address, and that the server is not down"
    return f"{path} cannot be read over the network ({reason}); check the address and try again, or download it first"
