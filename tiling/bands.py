"""Which bands of a raster are meant."""

from collections.abc import Sequence

from rasterio.enums import ColorInterp

from tiling.errors import SceneError

Band = int | str


def band_name(interpretation: Sequence[ColorInterp], number: int) -> str:
    """Name a band by its colour, or by its number where the file gives it no colour.

    Args:
        interpretation: The raster's colour interpretation, band by band.
        number: Band number from 1.

    Returns:
        ``red``, ``gray``, ... or ``band4``.
    """
    colour = interpretation[number - 1]
    several = sum(other != ColorInterp.alpha for other in interpretation) > 1
    plain = colour == ColorInterp.undefined or (several and colour == ColorInterp.gray)
    return f"band{number}" if plain else str(colour.name)


def select_bands(path: str, interpretation: Sequence[ColorInterp], wanted: Sequence[Band] | None) -> tuple[int, ...]:
    """Find the bands asked for.

    Colours are looked up in the file's colour interpretation. A file that names no colours but has, alpha
    aside, exactly as many bands as are asked for is taken in its order.

    Args:
        path: The raster, for messages.
        interpretation: Its colour interpretation, band by band.
        wanted: Colour names or numbers from 1; None, or none of them, takes all but alpha.

    Returns:
        Band numbers from 1.

    Raises:
        SceneError: A band is not there.
    """
    colours = [number for number, colour in enumerate(interpretation, 1) if colour != ColorInterp.alpha]
    if interpretation[0] == ColorInterp.palette:
        raise SceneError(f"{path} holds a colour table; expand it first, e.g. with gdal_translate -expand rgb")
    if not colours:
        raise SceneError(f"{path} has nothing but alpha; give a raster with a band of colour or gray")
    if not wanted:
        return tuple(colours)
    by_name = {band_name(interpretation, number): number for number in colours}
    if all(band in by_name for band in wanted if isinstance(band, str)):
        numbers = tuple(by_name[band] if isinstance(band, str) else band for band in wanted)
        _check_numbers(path, numbers, len(interpretation))
        return numbers
    unnamed = not any(name in {"red", "green", "blue"} for name in by_name)
    if unnamed and len(colours) == len(wanted):
        return tuple(colours)
    example = ",".join(str(min(place, len(colours))) for place, _ in enumerate(wanted, 1))
    raise SceneError(
        f"{path} has {_counted(len(colours))} ({', '.join(by_name)}), but {', '.join(map(str, wanted))} are needed; "
        f"say which to use with --bands, e.g. --bands {example}"
    )


def _check_numbers(path: str, numbers: tuple[int, ...], count: int) -> None:
    for number in numbers:
        if not 1 <= number <= count:
            raise SceneError(f"{path} has no band {number}; it has {_counted(count)}, numbered from 1")


def _counted(count: int) -> str:
    return "1 band" if count == 1 else f"{count} bands"
