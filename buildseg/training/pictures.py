"""What a person looks at during and after training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from buildseg.classes import BUILDING, IGNORE
from tiling.output import written_whole

FOUND, MISSED, FALSE = (0.13, 0.65, 0.30), (0.12, 0.40, 0.85), (0.90, 0.20, 0.15)
_NAMES = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_iou": "validation IoU",
    "val_f1": "validation F1",
}


class Example(NamedTuple):
    """A chip to be shown.

    Attributes:
        name: What it is.
        image: Shape (rows, cols, 3), 0..1.
        target: Shape (rows, cols): classes, and `IGNORE`.
        probability: Of building, shape (rows, cols), 0..1.
    """

    name: str
    image: NDArray[np.float32]
    target: NDArray[np.uint8]
    probability: NDArray[np.float32]


def draw_curves(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Draw losses and scores over the epochs.

    Args:
        path: PNG to write.
        history: Logged values of each epoch.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, score = figure.subplots(1, 2)
    epochs = range(1, len(history) + 1)
    for axes, names in ((loss, ("train_loss", "val_loss")), (score, ("val_iou", "val_f1"))):
        for name in names:
            values = [entry.get(name, np.nan) for entry in history]
            axes.plot(epochs, values, marker=".", label=f"{_NAMES[name]} ({values[-1]:.3f})")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right")
    loss.set_title("loss")
    best = max(range(len(history)), key=lambda index: (history[index].get("val_iou", 0.0), index))
    score.set_title(f"best IoU {history[best].get('val_iou', 0.0):.3f} in epoch {best + 1}")
    score.set_ylim(0, 1)
    score.axvline(best + 1, color="gray", linestyle=":")
    save_figure(figure, path, overwrite=True)


def draw_examples(path: Path, examples: Sequence[Example], title: str) -> None:
    """Draw images beside truth and prediction.

    Args:
        path: PNG to write.
        examples: The rows of the picture.
        title: Of the whole picture.
    """
    figure = Figure(figsize=(12, 3 * len(examples) + 1), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(examples), 4, squeeze=False)
    for axes, name in zip(panels[0, 1:], ("truth", "probability", "prediction"), strict=True):
        axes.set_title(name)
    for row, (name, image, target, probability) in zip(panels, examples, strict=True):
        row[0].set_title(name, fontsize="medium")
        row[0].imshow(image)
        row[1].imshow(np.where(target == IGNORE, 0.5, target == BUILDING), cmap="gray", vmin=0, vmax=1)
        row[2].imshow(probability, cmap="magma", vmin=0, vmax=1)
        row[3].imshow(_compare(image, target, probability))
        for axes in row:
            axes.set_axis_off()
    colours = {"found": FOUND, "missed": MISSED, "falsely found": FALSE}
    patches = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches))
    save_figure(figure, path, overwrite=True)


def viewable(pixels: NDArray[np.generic], like: NDArray[np.generic] | None = None) -> NDArray[np.float32]:
    """Make a picture of any bands: the first three (or the first, grey), stretched to their 2nd and 98th percentile.

    Args:
        pixels: Shape (bands, rows, cols).
        like: Pixels whose percentiles are taken instead, so that the two can be compared.

    Returns:
        Shape (rows, cols, 3), 0..1.
    """
    chosen = slice(3) if len(pixels) >= 3 else [0, 0, 0]
    low, high = np.percentile((pixels if like is None else like)[chosen].astype(np.float64), (2, 98))
    stretched = (pixels[chosen] - low) / max(high - low, 1e-6)
    picture: NDArray[np.float32] = np.clip(stretched, 0, 1).astype(np.float32)
    return picture.transpose(1, 2, 0)


def _compare(
    image: NDArray[np.float32], target: NDArray[np.uint8], probability: NDArray[np.float32]
) -> NDArray[np.float32]:
    truth, found, known = target == BUILDING, probability >= 0.5, target != IGNORE
    picture = image * 0.6
    for chosen, colour in ((truth & found, FOUND), (truth & ~found, MISSED), (~truth & found & known, FALSE)):
        picture[chosen] = 0.4 * picture[chosen] + 0.6 * np.array(colour, np.float32)
    return picture


def save_figure(figure: Figure, path: Path, *, overwrite: bool = False) -> None:
    """Write a figure as PNG.

    Args:
        figure: What to write.
        path: The file.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists or cannot be written.
    """
    with written_whole(path, overwrite=overwrite) as partial:
        figure.savefig(partial, dpi=90)
