"""Draws attention over an image."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from buildseg.explaining.maps import ModuleMaps
from tiling.output import written_whole

_PANEL = (3.6, 3.4)
_HEAD = 0.9
_LETTERS = 58
_LONGEST_NAME = 48
_DPI = 110
_ALPHA = 0.65
_GREY_FROM = -0.4  # dark roofs are still seen through dark colours


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The part of a scene that is drawn.

    Attributes:
        title: What it is.
        image: Colours, (rows, cols, 3), 0..1.
        probability: Of building, (rows, cols), 0..1, NaN where the scene holds nothing.
        row: Row of the pixel that is looked at.
        col: Its column.
        covered: Side of the square, in pixels, that the maps cover: image and padding.
    """

    title: str
    image: NDArray[np.float32]
    probability: NDArray[np.float32]
    row: int
    col: int
    covered: int


@dataclass(frozen=True, slots=True, eq=False)
class _Panel:
    """One map: its title, its values, their colours and the values at the ends of these."""

    title: str
    values: NDArray[np.float32]
    colours: str
    low: float
    high: float
    label: str = ""
    attention: bool = False


def draw(view: View, modules: Sequence[ModuleMaps]) -> Figure:
    """Draw the image, the probability, and what each module makes of the pixel, which is ringed everywhere.

    Args:
        view: What the maps are drawn over.
        modules: What is drawn, in this order; the maps of one stay together in a row where they fit.

    Returns:
        The figure.
    """
    groups = [list(_panels(module)) for module in modules]
    columns, places = _grid([2, *map(len, groups)])
    rows = 1 + places[-1][0]
    figure = Figure(figsize=(columns * _PANEL[0], rows * _PANEL[1] + _HEAD), layout="constrained", dpi=_DPI)
    figure.suptitle(view.title, fontsize=12)
    figure.supxlabel("\n".join(wrap(_explanation(modules), columns * _LETTERS)), fontsize=8.5)
    layout = figure.add_gridspec(rows, columns)
    axes = [figure.add_subplot(layout[place]) for place in places]
    _draw_image(axes[0], view)
    _draw_map(axes[1], view, _Panel("probability of building", view.probability, "viridis", 0, 1))
    for axis, panel in zip(axes[2:], (panel for group in groups for panel in group), strict=True):
        _draw_map(axis, view, panel)
    return figure


def save(figure: Figure, path: Path, *, overwrite: bool) -> None:
    """Write the picture as it was drawn.

    Args:
        figure: The picture.
        path: PNG to write.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists or cannot be written.
    """
    with written_whole(path, overwrite=overwrite) as partial:
        figure.savefig(partial, dpi=_DPI)


def _explanation(modules: Sequence[ModuleMaps]) -> str:
    """What is drawn, in words, for those who see such a picture for the first time."""
    gated = [module.gated for module in modules if module.position is not None]
    sentences = (
        (False in gated, "Weight: how much the pixel attends to each position; all weights sum to 1."),
        (True in gated, "Gates: how much of each position and of each channel passes, whichever pixel is looked at."),
        (
            any(module.channels for module in modules),
            "Channels: those that respond most at the pixel, in standard deviations (SD) above their mean.",
        ),
    )
    return " ".join(sentence for holds, sentence in sentences if holds)


def _panels(module: ModuleMaps) -> Iterator[_Panel]:
    name = module.name if len(module.name) <= _LONGEST_NAME else f"...{module.name[3 - _LONGEST_NAME :]}"
    if module.position is not None:
        title = f"{name}\n{module.kind}, {_size(module.position)}"
        low = float(module.position.min()) if module.gated else 0.0
        label = "spatial gate" if module.gated else "weight"
        yield _Panel(title, module.position, "inferno", low, float(module.position.max()), label, attention=True)
    for channel in module.channels:
        values = channel.values
        title = f"{name}\nchannel {channel.number}, {_size(values)}\n{channel.weight}, {channel.deviations:+.1f} SD"
        yield _Panel(title, values, "viridis", float(values.min()), float(values.max()), "feature")


def _size(values: NDArray[np.float32]) -> str:
    return " x ".join(map(str, values.shape))


def _grid(groups: Sequence[int]) -> tuple[int, list[tuple[int, int]]]:
    """Columns, and row and column of each panel; a group is broken over two rows only if it must."""
    columns = sum(groups) if sum(groups) <= 4 else max(3, *groups)
    places: list[tuple[int, int]] = []
    free = 0
    for size in groups:
        if free % columns + size > columns:
            free += -free % columns
        places.extend(divmod(free + panel, columns) for panel in range(size))
        free += size
    return columns, places


def _draw_image(axis: Axes, view: View) -> None:
    axis.imshow(view.image)
    _finish(axis, view, "image, with the pixel that is looked at")


def _draw_map(axis: Axes, view: View, panel: _Panel) -> None:
    if panel.attention:
        axis.imshow(view.image.mean(axis=2), cmap="gray", vmin=_GREY_FROM, vmax=1)
    side = view.covered if panel.label else 0
    high = panel.high if panel.high > panel.low else panel.low + 1
    norm = Normalize(panel.low, high)
    axis.imshow(
        panel.values,
        extent=(-0.5, side - 0.5, side - 0.5, -0.5) if side else None,
        cmap=panel.colours,
        norm=norm,
        interpolation="nearest",
        alpha=_ALPHA if panel.attention else None,
    )
    # As high as the map, and without its transparency.
    strip = axis.inset_axes((1.02, 0, 0.045, 1))
    bar = axis.figure.colorbar(ScalarMappable(norm, panel.colours), cax=strip)
    _mark_values(bar, panel.low, high, panel.label)
    _finish(axis, view, panel.title)


def _mark_values(bar: Colorbar, low: float, high: float, label: str) -> None:
    """Mark round values in few digits, small ones as multiples of a power of ten."""
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    largest = max(abs(low), abs(high))
    power = math.floor(math.log10(largest)) if largest < 0.01 else 0
    digits = max(0, power - math.floor(math.log10(ticks[1] - ticks[0])))
    marked = [tick for tick in ticks if low <= tick <= high]
    bar.set_ticks(marked, labels=[f"{tick / 10**power:.{digits}f}" for tick in marked])
    bar.ax.tick_params(labelsize=7.5)
    bar.set_label(f"{label} ($10^{{{power}}}$)" if power else label, fontsize=8)


def _finish(axis: Axes, view: View, title: str) -> None:
    rows, cols = view.image.shape[:2]
    axis.set_title(title, fontsize=8.5)
    axis.set(xlim=(-0.5, cols - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[])
    outline = [withStroke(linewidth=3.6, foreground="black")]
    axis.plot(view.col, view.row, "o", ms=11, mfc="none", mec="white", mew=1.6, path_effects=outline, clip_on=False)
