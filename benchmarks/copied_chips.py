"""Some chips of a tiles folder in a folder of their own."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from buildseg.chip_file import ChipFile


def copy_chips(chips: Iterable[ChipFile], folder: Path) -> None:
    """Copy chips and their masks.

    Args:
        chips: What to copy.
        folder: Gets images/ and masks/, if it has none yet.
    """
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for chip in chips:
        shutil.copy(chip.image, folder / "images")
        shutil.copy(chip.mask, folder / "masks")
