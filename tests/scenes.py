"""Small real rasters for tests, drawn from a seed: one function for each way in which a scene can be stored."""

import warnings
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning

UTM = "EPSG:32632"
PLACE = Affine(0.5, 0, 690000, 0, -0.5, 5340000)
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def picture(bands=3, height=150, width=220, dtype="uint8", seed=0):
    """Waves and noise over a good part of the type's range, and nowhere 0."""
    random = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    waves = [np.sin(rows / (7 + band)) * np.cos(cols / (11 - band % 5)) for band in range(bands)]
    share = 0.5 + 0.3 * np.array(waves) + random.uniform(-0.15, 0.15, (bands, height, width))
    if np.dtype(dtype).kind == "f":
        return share.astype(dtype)
    return (1 + share * (np.iinfo(dtype).max - 2)).astype(dtype)


def hole(height=150, width=220):
    """Validity of shape (height, width), False in a rectangle and in the lower right corner."""
    valid = np.ones((height, width), bool)
    valid[height // 4 : height // 2, width // 3 : width // 2] = False
    valid[-height // 5 :, -width // 6 :] = False
    return valid


def write(path, pixels, *, crs=UTM, transform=PLACE, colours=None, **creation) -> Path:
    """Write pixels of shape (bands, height, width) as a GeoTIFF; ``creation`` goes to GDAL."""
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype}
    place = {"crs": crs, "transform": transform}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **place, **creation) as dataset:
            if colours:
                dataset.colorinterp = colours
            dataset.write(pixels)
    return Path(path)


def striped(path, pixels=None, **creation) -> Path:
    return write(path, picture() if pixels is None else pixels, tiled=False, blockysize=7, **creation)


def tiled(path, pixels=None, **creation) -> Path:
    block = {"tiled": True, "blockxsize": 64, "blockysize": 32}
    return write(path, picture() if pixels is None else pixels, **block, compress="deflate", **creation)


def jpeg(path, pixels=None) -> Path:
    pixels = picture() if pixels is None else pixels
    return write(path, pixels, compress="jpeg", photometric="ycbcr", tiled=True, blockxsize=64, blockysize=64)


def transparent(path, valid, dtype="uint8") -> Path:
    """RGB and alpha, which is 0 outside ``valid``."""
    pixels = picture(3, *valid.shape, dtype)
    alpha = np.where(valid, np.iinfo(dtype).max, 0).astype(dtype)
    return write(path, np.concatenate([pixels, alpha[None]]), colours=(*RGB, ColorInterp.alpha))


def with_nodata(path, pixels, valid, value, *, declared=True, **creation) -> Path:
    """Pixels of ``value`` outside ``valid``; the file says what they mean if ``declared``."""
    return write(
        path, np.where(valid, pixels, value).astype(pixels.dtype), nodata=value if declared else None, **creation
    )


def internal_mask(path, pixels, valid, **creation) -> Path:
    """A mask inside the file; garbage below it."""
    return _masked(path, pixels, valid, internal=True, **creation)


def sidecar_mask(path, pixels, valid, **creation) -> Path:
    """A mask beside the file, in ``.msk``; garbage below it."""
    return _masked(path, pixels, valid, internal=False, **creation)


def _masked(path, pixels, valid, *, internal, **creation) -> Path:
    garbage = np.iinfo(pixels.dtype).max
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        write(path, np.where(valid, pixels, garbage).astype(pixels.dtype), **creation)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(valid)
    return Path(path)


def geographic(path, pixels=None, latitude=60.0) -> Path:
    place = Affine(1e-5, 0, 10, 0, -5e-6, latitude)
    return write(path, picture() if pixels is None else pixels, crs="EPSG:4326", transform=place)


def new_york_feet(path) -> Path:
    return write(path, picture(), crs="EPSG:2263", transform=Affine(1, 0, 1000000, 0, -1, 200000))


def web_mercator(path) -> Path:
    """At 60 degrees north, where a metre of the CRS is half a metre on the ground."""
    return write(path, picture(), crs="EPSG:3857", transform=Affine(0.6, 0, 1113000, 0, -0.6, 8399738))


def rotated(path, pixels=None) -> Path:
    place = PLACE @ Affine.rotation(33)
    return write(path, picture() if pixels is None else pixels, transform=place)


def south_up(path, pixels=None) -> Path:
    place = Affine(0.5, 0, 690000, 0, 0.5, 5340000)
    return write(path, picture() if pixels is None else pixels, transform=place)


def without_crs(path) -> Path:
    return write(path, picture(), crs=None)


def without_geotransform(path) -> Path:
    return write(path, picture(), transform=None)


def control_points_only(path) -> Path:
    corners = [(0, 0), (0, 220), (150, 0), (150, 220)]
    points = [GroundControlPoint(row, col, *(PLACE @ (col, row))) for row, col in corners]
    return write(path, picture(), crs=UTM, transform=None, gcps=points)


def palette(path) -> Path:
    write(path, picture(1), photometric="palette")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {value: (value, 255 - value, 0, 255) for value in range(256)})
    return Path(path)


def truncated(path, share=0.6) -> Path:
    """A file of which only the first part was copied; its header is whole."""
    whole = tiled(Path(path).with_suffix(".whole.tif"), picture(3, 400, 400))
    Path(path).write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    whole.unlink()
    return Path(path)


def with_overviews(path, pixels, levels=(2, 4), shifted=0, **creation) -> Path:
    """A tiled file with averaged overviews, from pixels that were ``shifted`` lower, so that they can be told apart."""
    tiled(path, pixels - np.asarray(shifted, pixels.dtype), **creation)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews(levels, Resampling.average)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(pixels)
    return Path(path)


def mosaic(path, left, right) -> Path:
    """A VRT of two files of one size, side by side."""
    with rasterio.open(left) as one:
        rows, cols, count, wkt, place = one.height, one.width, one.count, one.crs.wkt, one.transform.to_gdal()
    sources = [
        f"""<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{RGB[band - 1].name.title()}</ColorInterp>"""
        + "".join(
            f"""<SimpleSource><SourceFilename relativeToVRT="1">{Path(source).name}</SourceFilename>
            <SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" xSize="{cols}" ySize="{rows}"/>
            <DstRect xOff="{start}" yOff="0" xSize="{cols}" ySize="{rows}"/></SimpleSource>"""
            for source, start in ((left, 0), (right, cols))
        )
        + "</VRTRasterBand>"
        for band in range(1, count + 1)
    ]
    head = f'<VRTDataset rasterXSize="{2 * cols}" rasterYSize="{rows}"><SRS>{wkt.replace(chr(34), "&quot;")}</SRS>'
    body = f"<GeoTransform>{', '.join(map(str, place))}</GeoTransform>{''.join(sources)}</VRTDataset>"
    Path(path).write_text(head + body, encoding="utf-8")
    return Path(path)
