"""Random changes to training crops; the one place that knows albumentations and OpenCV."""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from buildseg.training.options import Preset

Pixels = NDArray[Any]
Mask = NDArray[np.uint8]
Augment = Callable[[Pixels, Mask, int], tuple[Pixels, Mask]]

_SCALES = {"none": (1.0, 1.0), "light": (0.9, 1.1), "strong": (0.7, 1.4)}


def make_augment(crop: int, *, bands: int, dtype: str, preset: Preset = "strong") -> Augment:
    """Build the augmentation of training crops.

    A crop of random place; but for ``none`` also of random scale and in one of the eight orientations of a square,
    with changes of light; with ``strong`` larger ones, and of colour (three bands only), blur and noise.

    Args:
        crop: Side of the result.
        bands: Number of bands.
        dtype: NumPy name of the pixels' type. Light and colour change on 8-bit images only: for other types
            there is no white to measure them by.
        preset: How much is changed.

    Returns:
        A function of pixels (rows, cols, bands), mask, (rows, cols) or several as (rows, cols, masks), and a seed,
        which alone decides the changes, giving both of size ``crop``.
    """
    smallest, largest = (round(crop * scale) for scale in _SCALES[preset])
    steps = [
        A.PadIfNeeded(largest, largest, position="random", border_mode=cv2.BORDER_REFLECT_101),
        A.RandomSizedCrop((smallest, largest), (crop, crop), area_for_downscale="image"),
    ]
    if preset != "none":
        steps.append(A.SquareSymmetry(p=1))
    pipeline = A.Compose([*steps, *(_light(preset, bands) if dtype == "uint8" else ())])

    def augment(pixels: Pixels, mask: Mask, seed: int) -> tuple[Pixels, Mask]:
        # Each step by a seed of its own: with one for all, the same crops would get all that is rare.
        own, *others = np.random.SeedSequence(seed).generate_state(len(pipeline.transforms) + 1).tolist()
        pipeline.set_random_seed(own)
        for step, other in zip(pipeline.transforms, others, strict=True):
            step.set_random_seed(other)
        changed = pipeline(image=pixels, mask=mask)
        return changed["image"], changed["mask"]

    return augment


def _light(preset: Preset, bands: int) -> list[A.ImageOnlyTransform]:
    if preset == "none":
        return []
    if preset == "light":
        return [A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=0.5)]
    colour = [A.HueSaturationValue(10, 25, 0, p=0.4), A.ToGray(p=0.03)] if bands == 3 else []
    return [
        A.RandomBrightnessContrast(brightness_limit=0.25, contrast_limit=0.25, p=0.6),
        A.RandomGamma(gamma_limit=(70, 140), p=0.3),
        A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.2), p=0.15),
        A.GaussNoise(std_range=(0.01, 0.05), p=0.15),
        *colour,
    ]


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
