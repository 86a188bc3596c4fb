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


def make_augment(*, bands: int, dtype: str, preset: Preset = "strong") -> Augment:
    """Build the augmentation of training crops, but for their place and scale.

    But for ``none`` one of the eight orientations of a square, with changes of light; with ``strong`` larger ones, and
    of colour (three bands only), blur and noise.

    Args:
        bands: Number of bands.
        dtype: NumPy name of the pixels' type. Light and colour change on 8-bit images only: for other types
            there is no white to measure them by.
        preset: How much is changed.

    Returns:
        A function of square pixels (rows, cols, bands), mask, (rows, cols) or several as (rows, cols, masks), and a
        seed, which alone decides the changes, giving both in the same size.
    """
    symmetry = [] if preset == "none" else [A.SquareSymmetry(p=1)]
    pipeline = A.Compose([*symmetry, *(_light(preset, bands) if dtype == "uint8" else ())])

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


def resize(pixels: Pixels, mask: Mask, rows: int, cols: int) -> tuple[Pixels, Mask]:
    """Change the size of an image and its mask.

    Args:
        pixels: Shape (rows, cols, bands).
        mask: Shape (rows, cols), or (rows, cols, masks).
        rows: Wanted.
        cols: Wanted.
    """
    if mask.shape[:2] == (rows, cols):
        return pixels, mask
    smooth = cv2.INTER_AREA if rows < mask.shape[0] else cv2.INTER_LINEAR
    bands = (np.ascontiguousarray(pixels[..., band]) for band in range(pixels.shape[2]))  # OpenCV averages four at most
    resized = np.stack([cv2.resize(band, (cols, rows), interpolation=smooth) for band in bands])
    labels = cv2.resize(mask, (cols, rows), interpolation=cv2.INTER_NEAREST)
    return resized.transpose(1, 2, 0), labels.astype(np.uint8, copy=False)


def mirror(content: Pixels, beyond: tuple[int, int, int, int]) -> Pixels:
    """Go on beyond the edges with what lies before them.

    Args:
        content: Shape (rows, cols), or (rows, cols, layers).
        beyond: Pixels to add at the top, bottom, left and right.
    """
    if not any(beyond):
        return content
    padded = cv2.copyMakeBorder(np.ascontiguousarray(content), *beyond, cv2.BORDER_REFLECT_101)
    return padded.reshape(*padded.shape[:2], *content.shape[2:])


def use_one_thread(_worker: int = 0) -> None:
    """Keep OpenCV to one thread: in a process that loads, all other cores are the network's."""
    cv2.setNumThreads(1)
