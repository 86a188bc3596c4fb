"""One position of a feature map, as maps of attention are asked for."""

from torch import Tensor

from tiling.errors import OptionError


def check_position(x: Tensor, row: int, column: int) -> None:
    """Refuse what is not one position of one image.

    Args:
        x: Features, (N, C, H, W).
        row: The position's row.
        column: The position's column.

    Raises:
        OptionError: There is not one image, or the position lies outside of it.
    """
    images, _, height, width = x.shape
    if images != 1 or not (0 <= row < height and 0 <= column < width):
        place = f"row {row}, column {column} of {images} of {height} x {width}"
        raise OptionError(f"a map is of one position of one image, not of {place}")
