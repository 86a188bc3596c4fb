"""Blocks of houses: plots with a villa, a drive and a garden each."""

from itertools import pairwise

import numpy as np
from shapely.geometry import LineString

from canvas import Box
from ground import Cover, Tree
from plan import Rect
from roofs import FLATS, SLATES, TILES, Part
from town import QUARTER, Town

Side = tuple[int, int]
TURNS: dict[Side, float] = {(0, 1): 0.0, (0, -1): np.pi, (1, 0): -QUARTER, (-1, 0): QUARTER}


def fill_houses(town: Town, rect: Rect) -> None:
    """Two rows of plots back to back along the block's longer side."""
    inner = rect.shrunk(4.8)
    town.cover(inner, "lawn")
    for plot, street in _plots(town.rng, inner):
        width, depth = plot.size if street[0] == 0 else plot.size[::-1]
        lot = town.bend.box(plot.middle, width, depth, TURNS[street])
        town.lay(lot.inner(0, 0, width - 0.6, depth - 0.6), str(town.rng.choice(["lawn", "lush lawn", "rough lawn"])))
        if town.rng.random() < 0.94:
            _house(town, lot)
        _garden(town, lot)


def _plots(rng: np.random.Generator, rect: Rect) -> list[tuple[Rect, Side]]:
    """Plots of a block, each with the side on which its street lies."""
    along_u = rect.size[0] >= rect.size[1]
    length = max(rect.size)
    count = max(1, round(length / 21))
    edges = np.linspace(0, length, count + 1)
    edges[1:-1] += rng.uniform(-2.2, 2.2, count - 1)
    plots: list[tuple[Rect, Side]] = []
    for start, stop in pairwise(edges):
        for side in (-1, 1):
            if along_u:
                half = (rect.top, rect.middle[1]) if side < 0 else (rect.middle[1], rect.bottom)
                plots.append((Rect(rect.left + start, half[0], rect.left + stop, half[1]), (0, side)))
            else:
                half = (rect.left, rect.middle[0]) if side < 0 else (rect.middle[0], rect.right)
                plots.append((Rect(half[0], rect.top + start, half[1], rect.top + stop), (side, 0)))
    return plots


def _house(town: Town, lot: Box) -> None:
    """A house, its drive, terrace and garage. The lot's v axis points to the street."""
    rng, width, street = town.rng, lot.length, lot.width / 2
    front = rng.uniform(4.0, 8.0)
    length, deep = min(width - 6.0, rng.uniform(9.5, 16.0)), rng.uniform(8.5, 11.5)
    u = float(rng.choice([-1, 1]) * max(0.0, (width - length) / 2 - 2.2) * 0.8)
    site = lot.inner(u, street - front - deep / 2, length, deep)
    drive = (-1 if u > 0 else 1) * (width / 2 - 2.1)
    town.lay(lot.inner(drive, street - front / 2 - 3, 3.4, front + 6), _drive_material(rng))
    town.lay(lot.inner(u, street - front - deep - 1.6, 0.7 * length, 3.6), "paving")
    town.lay(lot.inner((u + drive) / 2, street - front + 1, abs(u - drive), 1.3), "paving")
    _villa(town, Box(site.x, site.y, length, deep, site.angle + rng.normal(0, 0.025)))
    if rng.random() < 0.5:
        garage = lot.inner(drive, street - front - 7.5, 3.4, 6.2)
        town.build("flat", [Part(garage, "flat", 2.7)], "flat", town.pick(FLATS))
    if rng.random() < 0.6:
        town.stand(lot.at(drive, street - front / 2 - 0.5), lot.angle + QUARTER)


def _drive_material(rng: np.random.Generator) -> str:
    return str(rng.choice(["paving", "old asphalt", "gravel"], p=[0.5, 0.3, 0.2]))


def _villa(town: Town, site: Box) -> None:
    """A house of one of the common forms on its site."""
    rng = town.rng
    form = str(rng.choice(["gable", "hip"], p=[0.66, 0.34]))
    rgb = town.pick(TILES if rng.random() < 0.8 else SLATES)
    eave, slope = rng.uniform(4.0, 6.2), rng.uniform(0.42, 0.72)
    shape = str(rng.choice(["plain", "turned", "L", "T", "modern"], p=[0.44, 0.16, 0.2, 0.1, 0.1]))
    if shape == "modern":
        parts = [Part(site, "flat", 6.2)]
        if rng.random() < 0.6:
            parts.append(Part(site.inner(0.2 * site.length, -site.width / 2, 0.5 * site.length, 6), "flat", 3.3))
        town.build("flat", parts, "flat", town.pick(FLATS))
        return
    if shape == "turned":
        site = Box(site.x, site.y, max(site.width, 9.5), min(site.length, 9.0), site.angle + QUARTER)
    parts = [Part(site, form, eave, slope)]
    if shape in ("L", "T"):
        wing = rng.uniform(5.5, 7.0)
        along = 0.0 if shape == "T" else float(rng.choice([-1, 1])) * (site.length - wing) / 2
        reach = site.width / 2 + rng.uniform(3.0, 4.5)
        parts.append(Part(site.turned(along, -reach / 2, reach, wing), form, eave, slope))
    town.build(form if len(parts) == 1 else shape, parts, "tile", rgb)


def _garden(town: Town, lot: Box) -> None:
    """Hedges, a pool or a bed, a shed, bushes and trees."""
    rng = town.rng
    half, deep = lot.length / 2 - 0.4, lot.width / 2 - 0.4
    if rng.random() < 0.62:
        corners = [lot.at(-half, deep - 1), lot.at(-half, -deep), lot.at(half, -deep), lot.at(half, deep - 1)]
        town.hedges.append((LineString(corners), rng.uniform(0.7, 1.2), rng.uniform(1.2, 2.0)))
    if rng.random() < 0.14:
        pool = lot.inner(rng.uniform(-0.15, 0.15) * lot.length, -deep + 5.5, 8, 4).polygon()
        town.covers += [Cover(pool.buffer(1.2), "paving"), Cover(pool, "pool")]
    elif rng.random() < 0.22:
        town.lay(lot.inner(rng.uniform(-0.2, 0.2) * lot.length, -deep + 4.5, 7, 5), "earth")
    if rng.random() < 0.3:
        shed = lot.inner(float(rng.choice([-1, 1])) * (half - 2.6), -deep + 2.6, 3.4, 2.6)
        town.build("shed", [Part(shed, "gable", 2.1, 0.4)], "tile", town.pick(TILES))
    for _ in range(rng.integers(3, 9)):
        place = lot.at(rng.uniform(-0.46, 0.46) * lot.length, rng.uniform(-0.46, 0.42) * lot.width)
        radius = float(np.clip(rng.gamma(2.2, 0.9), 0.6, 4.4))
        town.trees.append(Tree(*place, radius, bool(rng.random() < 0.2)))
