"""Validation chips, and the model that looks at them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from buildseg.chip_file import ChipFile
from buildseg.model_file import Model
from buildseg.networks.output import building_probability
from buildseg.training.dataset import WholeChips

_APART = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Chips:
    """Validation chips and the model that looks at them.

    Attributes:
        files: The chips.
        model: The model.
        device: Where it runs.
    """

    files: Sequence[ChipFile]
    model: Model
    device: torch.device

    def predict(self, index: int) -> tuple[Tensor, NDArray[np.uint8]]:
        """Look at a chip, at the model's resolution.

        Args:
            index: Of the chip.

        Returns:
            Probability of building, float32, and target, both of shape (rows, cols).
        """
        sample, network = WholeChips(self.files, self.model.card.contract)[index], self.model.network
        with torch.inference_mode():
            logits = network(sample.image[None].to(self.device))
        probability = building_probability(logits, boundary=network.architecture.boundary)[0].cpu()
        return probability, sample.target.numpy()

    def gsd(self, index: int, rows: int) -> float:
        """Give the metres per pixel of a chip that has so many rows when it is looked at; 1 if nobody knows."""
        chip = self.files[index]
        return chip.gsd * chip.shape[0] / rows if chip.gsd else self.model.card.contract.gsd or 1.0

    def origin(self, index: int) -> tuple[float, float]:
        """Give the place of a chip's corner among the others, in metres: all lie in a row, far apart."""
        widest = max(max(chip.shape) * (chip.gsd or 1.0) for chip in self.files)
        return index * (widest + _APART), 0.0
