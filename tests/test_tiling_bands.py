"""Bands by number and by colour."""

import numpy as np
import pytest
from rasterio.enums import ColorInterp

from tests import scenes
from tiling import Scene, SceneOptions, Window
from tiling.bands import band_name, select_bands
from tiling.errors import SceneError

GRAY, PLAIN, ALPHA, NIR = ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha, ColorInterp.nir
RED, GREEN, BLUE = scenes.RGB
RGB = ("red", "green", "blue")


@pytest.mark.parametrize(
    ("colours", "names"),
    [
        ([GRAY], ["gray"]),
        ([GRAY, ALPHA], ["gray", "alpha"]),
        ([PLAIN], ["band1"]),
        ([RED, GREEN, BLUE, PLAIN], ["red", "green", "blue", "band4"]),
        ([RED, GREEN, BLUE, NIR], ["red", "green", "blue", "nir"]),
        ([GRAY, PLAIN, PLAIN], ["band1", "band2", "band3"]),
    ],
)
def test_names(colours, names):
    assert [band_name(colours, number) for number in range(1, len(colours) + 1)] == names


@pytest.mark.parametrize(
    ("colours", "wanted", "numbers"),
    [
        ([RED, GREEN, BLUE, ALPHA], None, (1, 2, 3)),
        ([ALPHA, RED, GREEN, BLUE], None, (2, 3, 4)),
        ([GRAY, PLAIN, PLAIN, PLAIN], None, (1, 2, 3, 4)),
        ([RED, GREEN, BLUE], (), (1, 2, 3)),
        ([BLUE, GREEN, RED, NIR], RGB, (3, 2, 1)),
        ([BLUE, GREEN, RED, NIR], ("nir", 1), (4, 1)),
        ([RED, GREEN, BLUE, PLAIN], (4, "red"), (4, 1)),
        ([RED, GREEN, BLUE, PLAIN], ("band4",), (4,)),
        ([RED, GREEN, BLUE, ALPHA], (4,), (4,)),
        ([GRAY, PLAIN, PLAIN], RGB, (1, 2, 3)),
        ([GRAY, PLAIN, PLAIN, ALPHA], RGB, (1, 2, 3)),
        ([GRAY, ALPHA], ("gray",), (1,)),
    ],
)
def test_selection(colours, wanted, numbers):
    assert select_bands("scene.tif", colours, wanted) == numbers


@pytest.mark.parametrize(
    ("colours", "wanted", "message"),
    [
        ([GRAY], RGB, r"scene.tif has 1 band \(gray\), but red, green, blue are needed; .* --bands 1,1,1$"),
        ([GRAY, PLAIN, PLAIN, PLAIN], RGB, r"has 4 bands \(band1, band2, band3, band4\).* --bands 1,2,3$"),
        ([RED, GREEN, BLUE], ("red", "green", "blue", "nir"), r"but red, green, blue, nir are needed.* --bands"),
        ([BLUE, GREEN, RED], ("red", "green", "nir"), "are needed"),
        ([RED, GREEN, BLUE], (1, 2, 4), "scene.tif has no band 4; it has 3 bands, numbered from 1"),
        ([GRAY], (0,), "scene.tif has no band 0; it has 1 band, numbered from 1"),
        ([GRAY], (-1,), "no band -1"),
        ([ColorInterp.palette], None, "scene.tif holds a colour table; .* gdal_translate -expand rgb"),
        ([ALPHA], None, "scene.tif has nothing but alpha"),
    ],
)
def test_refusals_name_the_file_and_the_remedy(colours, wanted, message):
    with pytest.raises(SceneError, match=message):
        select_bands("scene.tif", colours, wanted)


@pytest.mark.parametrize("wanted", [("nir", "red"), (4, 1), (3,), (2, 2, 1), RGB, None])
def test_the_scene_reads_them_in_the_order_asked_for(tmp_path, wanted):
    pixels = scenes.picture(4)
    path = scenes.write(tmp_path / "scene.tif", pixels, colours=(BLUE, GREEN, RED, NIR))
    with Scene(path, SceneOptions(bands=wanted)) as scene:
        read, _ = scene.read(Window(5, 9, 32))
        np.testing.assert_array_equal(read, pixels[[number - 1 for number in scene.bands], 5:37, 9:41])
        assert scene.band_names == tuple(("blue", "green", "red", "nir")[number - 1] for number in scene.bands)


def test_bands_of_different_types_cannot_be_mixed(tmp_path):
    left = scenes.write(tmp_path / "bytes.tif", scenes.picture(1))
    right = scenes.write(tmp_path / "floats.tif", scenes.picture(1, dtype="float32"))
    stack = tmp_path / "stack.vrt"
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">{path.name}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for band, (kind, path) in enumerate([("Byte", left), ("Float32", right)], 1)
    )
    head = '<VRTDataset rasterXSize="220" rasterYSize="150"><SRS>EPSG:32632</SRS>'
    stack.write_text(f"{head}<GeoTransform>690000, 0.5, 0, 5340000, 0, -0.5</GeoTransform>{bands}</VRTDataset>")
    with pytest.raises(SceneError, match=r"stack.vrt: bands of different types \(float32, uint8\).*--bands"):
        Scene(stack)
    with Scene(stack, SceneOptions(bands=(2,))) as scene:
        assert scene.dtype == "float32"
