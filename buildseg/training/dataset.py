"""Chips as tensors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor
from torch.utils.data import Dataset

from buildseg.chip_file import ChipFile, read_boundary, read_image, read_mask
from buildseg.classes import IGNORE
from buildseg.contract import Contract
from buildseg.training.augment import Augment, make_augment, mirror, resize
from buildseg.training.cut import draw_cut
from buildseg.training.options import Preset
from buildseg.training.sampling import Draw
from tiling.scene import nearest_gsd

_SAME = 0.02


class Sample(NamedTuple):
    """One or several images with their truth.

    Attributes:
        image: Scaled pixels, float32 of shape (bands, H, W) or (N, bands, H, W).
        target: uint8 of shape (H, W) or (N, H, W): classes, or `IGNORE`.
        boundary: uint8 of the same shape: 1 on boundaries, else 0, or `IGNORE`. Empty where chips have no such label.
    """

    image: Tensor
    target: Tensor
    boundary: Tensor = torch.empty(0, dtype=torch.uint8)


class TrainingCrops(Dataset[Sample]):
    """Random crops of chips; a chip counts as often per epoch as crops fit its area.

    Args:
        chips: What to crop from.
        contract: How pixels are scaled, and at which resolution.
        crop: Side of a crop.
        preset: How much crops are changed.

    Attributes:
        chips: The chip of each crop.
    """

    def __init__(self, chips: Sequence[ChipFile], contract: Contract, crop: int, preset: Preset = "strong") -> None:
        self._contract = contract
        self.chips = [chip for chip in chips for _ in range(max(1, round(pixels_of(chip, contract) / crop**2)))]
        self._crop, self._preset = crop, preset
        self._augment: Augment | None = None

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, draw: Draw) -> Sample:
        chip = self.chips[draw.place]
        cut = draw_cut(chip.shape, self._crop / _magnification(chip, self._contract), self._preset, draw.seed)
        # Where it is cut is known before it is read: of a large chip little is.
        read = _read(chip, self._contract, cut.inside(chip.shape))
        pixels, labels = (mirror(content, cut.beyond(chip.shape)) for content in read)
        pixels, labels = resize(pixels, labels, self._crop, self._crop)
        if self._augment is None:  # made where it runs: loader processes that are not forked cannot be given it
            bands, dtype = len(self._contract.bands), self._contract.dtype
            self._augment = make_augment(bands=bands, dtype=dtype, preset=self._preset)
        return _as_sample(*self._augment(pixels, labels, draw.seed), self._contract)


class WholeChips(Dataset[Sample]):
    """Chips as they are, for validation.

    Args:
        chips: What to show.
        contract: How pixels are scaled, and at which resolution.

    Attributes:
        chips: The same.
    """

    def __init__(self, chips: Sequence[ChipFile], contract: Contract) -> None:
        self.chips = chips
        self._contract = contract

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, index: int) -> Sample:
        return _as_sample(*load_chip(self.chips[index], self._contract), self._contract)


def load_chip(chip: ChipFile, contract: Contract) -> tuple[NDArray[np.generic], NDArray[np.uint8]]:
    """Read a chip at the contract's resolution.

    Returns:
        Pixels of shape (rows, cols, bands), uint8 or else float32, and the target of shape (rows, cols): classes,
        `IGNORE` where the image holds nothing. There the pixels are at the training mean, so that they lend nothing to
        their neighbours when these are resampled or blurred. Where the chip has a boundary label, it and the target are
        one array of shape (rows, cols, 2), the target first.
    """
    rows, cols = (max(1, round(length * _magnification(chip, contract))) for length in chip.shape)
    return resize(*_read(chip, contract), rows, cols)


def _read(
    chip: ChipFile, contract: Contract, part: Window | None = None
) -> tuple[NDArray[np.generic], NDArray[np.uint8]]:
    """Read a chip, or a part of it, at its own resolution; else as `load_chip` does."""
    pixels, valid = read_image(chip.image, part)
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.float32)  # OpenCV does not know all types
    pixels[:, ~valid] = np.asarray(contract.mean)[:, None]
    labels = np.where(valid, read_mask(chip.mask, chip.classes, part), np.uint8(IGNORE))
    if chip.boundary is not None:
        labels = np.stack([labels, np.where(valid, read_boundary(chip.boundary, part), np.uint8(IGNORE))], axis=-1)
    return pixels.transpose(1, 2, 0), labels


def pixels_of(chip: ChipFile, contract: Contract) -> float:
    """Count the pixels of a chip at the contract's resolution."""
    rows, cols = chip.shape
    return rows * cols * _magnification(chip, contract) ** 2


def _magnification(chip: ChipFile, contract: Contract) -> float:
    """Give the pixels at the contract's resolution per pixel of a chip; 1 where they nearly are."""
    if not (chip.gsd and contract.gsd):
        return 1.0
    factor = chip.gsd / nearest_gsd(chip.gsd, contract.gsd, contract.coarsest_gsd)
    return 1.0 if abs(factor - 1) < _SAME else factor


def _as_sample(pixels: NDArray[np.generic], labels: NDArray[np.uint8], contract: Contract) -> Sample:
    target, *more = (labels,) if labels.ndim == 2 else np.moveaxis(labels, -1, 0)
    scaled = contract.scale(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    if (unknown := target == IGNORE).any():
        scaled[:, unknown] = 0  # as prediction does with nodata
    return Sample(torch.from_numpy(scaled), *(torch.from_numpy(np.ascontiguousarray(one)) for one in (target, *more)))
