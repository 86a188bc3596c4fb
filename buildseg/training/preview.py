"""A contact sheet of what augmentation does to chips."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from buildseg.chip_file import ChipFile
from buildseg.classes import BUILDING
from buildseg.contract import Contract
from buildseg.tiles import Tiles
from buildseg.training.dataset import TrainingCrops, WholeChips, load_chip
from buildseg.training.options import PRESETS, TrainOptions
from buildseg.training.pictures import save_figure, viewable
from buildseg.training.run import default_crop
from buildseg.training.sampling import Draw
from buildseg.training.start import make_contract
from tiling.errors import OptionError

_OUTLINE = "#ffd400"
_TRIED = 64


def draw_preview(tiles: Tiles, path: Path, options: TrainOptions, *, chips: int = 4, overwrite: bool = False) -> None:
    """Draw crops as each preset changes them, with the outline of buildings: a row for each preset.

    Args:
        tiles: Their training chips are shown.
        path: PNG to write.
        options: Resolution, crop and seed.
        chips: How many chips are shown, each twice.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OptionError: There is no chip to be shown.
        OutputError: The file exists or cannot be written.
    """
    if chips < 1:
        raise OptionError(f"--chips {chips} is too few; give 1 or more")
    contract = make_contract(tiles, options)
    crop = options.crop or default_crop(tiles, contract)
    chosen = [chip for chip in _chosen(tiles, contract, chips) for _ in range(2)]
    whole_chips = WholeChips(chosen, contract)
    wholes = [whole_chips[index].image.numpy() for index in range(len(chosen))]
    figure = Figure(figsize=(2 * len(chosen), 2.2 * len(PRESETS)), layout="constrained")
    panels = figure.subplots(len(PRESETS), len(chosen), squeeze=False)
    for row, preset in zip(panels, PRESETS, strict=True):
        row[0].set_title(f"--augment {preset}", loc="left")
        for place, (axes, chip, whole) in enumerate(zip(row, chosen, wholes, strict=True)):
            shown = TrainingCrops([chip], contract, crop, preset)[Draw(0, options.seed + place)]
            building = shown.target.numpy() == BUILDING
            axes.imshow(viewable(shown.image.numpy(), like=whole))
            if building.any() and not building.all():
                axes.contour(building, levels=[0.5], colors=_OUTLINE, linewidths=1)
            axes.set_axis_off()
    save_figure(figure, path, overwrite=overwrite)


def _chosen(tiles: Tiles, contract: Contract, number: int) -> list[ChipFile]:
    """Choose chips from all over, those with buildings if there are such."""
    tried = np.unique(np.linspace(0, len(tiles.train) - 1, _TRIED).round().astype(int)).tolist()
    built = [index for index in tried if _has_building(tiles.train[index], contract)] or tried
    spread = np.unique(np.linspace(0, len(built) - 1, number).round().astype(int)).tolist()
    return [tiles.train[built[place]] for place in spread]


def _has_building(chip: ChipFile, contract: Contract) -> bool:
    return bool((load_chip(chip, contract)[1] == BUILDING).any())
