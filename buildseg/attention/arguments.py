"""What attention modules are made of and asked for."""

from torch import Tensor

from tiling.errors import OptionError


def check_channels(*channels: int) -> None:
    """Refuse numbers of channels below 1.

    Args:
        channels: The numbers.

    Raises:
        OptionError: One is below 1.
    """
    if min(channels) < 1:
        raise OptionError(f"an attention module needs at least 1 channel, not {min(channels)}")


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
