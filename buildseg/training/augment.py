"""Random changes to training crops; the one place that knows albumentations and OpenCV."""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
Mask = NDArray[np.uint8]
Augment = Callable[[Pixels, Mask], tuple[Pixels, Mask]]

SMALLEST_SCALE = 0.7
LARGEST_SCALE = 1.4


def make_augment(crop: int, *, bands: int, dtype: str, seed: int) -> Augment:
    """Build the augmentation of training crops.

    A crop of random place and scale, one of the eight orientations of a square, then changes of light,
    colour (three bands only), blur and noise, each with a probability.

    Args:
        crop: Side of the result.
        bands: Number of bands.
        dtype: NumPy name of the pixels' type. Light and colour change on 8-bit images only: for other types
            there is no white to measure them by.
        seed: Of its random numbers.

    Returns:
        A function of pixels (rows, cols, bands) and mask, (rows, cols) or several as (rows, cols, masks), giving both
        of size ``crop``.
    """
    largest = round(crop * LARGEST_SCALE)
    geometry = [
        A.PadIfNeeded(largest, largest, position="random", border_mode=cv2.BORDER_REFLECT_101),
        A.RandomSizedCrop((round(crop * SMALLEST_SCALE), largest), (crop, crop), area_for_downscale="image"),
        A.SquareSymmetry(p=1),
    ]
    light = [
        A.RandomBrightnessContrast(brightness_limit=0.25, contrast_limit=0.25, p=0.6),
        A.RandomGamma(gamma_limit=(70, 140), p=0.3),
        A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.2), p=0.15),
        A.GaussNoise(std_range=(0.01, 0.05), p=0.15),
    ]
    colour = [A.HueSaturationValue(10, 25, 0, p=0.4), A.ToGray(p=0.03)] if bands == 3 else []
    pipeline = A.Compose([*geometry, *((*light, *colour) if dtype == "uint8" else ())], seed=seed)

    def augment(pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
        changed = pipeline(image=pixels, mask=mask)
        return changed["image"], changed["mask"]

    return augment


def resample(pixels: Pixels, mask: Mask, factor: float) -> tuple[Pixels, Mask]:
    """Change the resolution of an image and its mask.

    Args:
        pixels: Shape (rows, cols, bands).
        mask: Shape (rows, cols), or (rows, cols, masks).
        factor: Pixels out per pixel in along a side.
    """
    if abs(factor - 1) < 0.02:
        return pixels, mask
    rows, cols = (max(1, round(length * factor)) for length in mask.shape[:2])
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(pixels), (cols, rows), interpolation=smooth)
    labels = cv2.resize(mask, (cols, rows), interpolation=cv2.INTER_NEAREST)
    return resized.reshape(rows, cols, -1), labels.astype(np.uint8, copy=False)
