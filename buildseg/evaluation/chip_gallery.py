"""Pictures of a comparison on chips."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from buildseg.evaluation.chips import Chips
from buildseg.evaluation.objects import Objects
from buildseg.evaluation.scores import PixelTallies
from buildseg.evaluation.views import View, cut_view
from buildseg.training.dataset import load_chip
from buildseg.training.pictures import viewable


@dataclass(frozen=True, slots=True, eq=False)
class ChipGallery:
    """Shows errors over chips.

    Attributes:
        chips: What was looked at.
        objects: Both sides, compared.
        tallies: Pixels by chip.
    """

    chips: Chips
    objects: Objects
    tallies: PixelTallies

    def overview(self) -> View | None:
        """Give nothing: chips have no common ground."""
        return None

    def worst(self, number: int) -> Sequence[View]:
        """Give the chips with the most pixels in error."""
        wrong = self.tallies.pixels[:, 1] + self.tallies.pixels[:, 2]
        order = np.argsort(-wrong, kind="stable")[:number]
        return [self._view(index) for index in order.tolist() if wrong[index]]

    def _view(self, index: int) -> View:
        pixels, _ = load_chip(self.chips.files[index], self.chips.model.card.contract)
        rows, cols = pixels.shape[:2]
        gsd, (left, top) = self.chips.gsd(index, rows), self.chips.origin(index)
        square = shapely.box(left, top, left + cols * gsd, top + rows * gsd)
        hit, false, missed, _ = self.tallies.pixels[index].tolist()
        title = f"{self.chips.files[index].image.stem}: IoU {hit / (hit + false + missed):.3f}"
        extent = (left, left + cols * gsd, top + rows * gsd, top)
        return View(title, viewable(pixels.transpose(2, 0, 1)), extent, *cut_view(self.objects, square))
