"""What stands on the other blocks: terraces, courts, flats, halls, fields, parks."""

from collections.abc import Callable

import numpy as np
from shapely.geometry import LineString, Point, Polygon

from canvas import Box
from ground import Cover, Tree
from houses import fill_houses
from plan import Block, Rect
from roofs import FLATS, SHEETS, SLATES, TILES, Part
from town import QUARTER, Town


def fill(town: Town, block: Block) -> None:
    """Put on a block what its use asks for."""
    FILLERS[block.use](town, block.rect)


def _rows(town: Town, rect: Rect) -> None:
    """Terraces along both long sides of the block."""
    inner = rect.shrunk(4.8)
    town.cover(inner, "lush lawn")
    block = town.lengthwise(inner)
    rgb = town.pick(TILES if town.rng.random() < 0.7 else SLATES)
    units = int((block.length - 8) / 6.5)
    for side in (-1, 1):
        town.lay(block.inner(0, side * (block.width / 2 - 2), block.length - 2, 3.8), "paving")
        v = side * (block.width / 2 - 8.8)
        pieces = ((-0.25, units // 2), (0.25, units // 2)) if units > 9 else ((0.0, units),)
        for shift, count in pieces:
            length = 6.5 * count - (2 if len(pieces) > 1 else 0)
            site = block.inner(shift * block.length, v, length, 9.6)
            town.build("row", [Part(site, "gable", 5.6, 0.58)], "tile", rgb)
        _narrow_gardens(town, block, side, v)
    middle = LineString([block.at(-block.length / 2, 0), block.at(block.length / 2, 0)])
    town.hedges.append((middle, 1.0, 1.7))


def _narrow_gardens(town: Town, block: Box, side: int, v: float) -> None:
    rng = town.rng
    for u in np.arange(-block.length / 2 + 4, block.length / 2 - 3, 6.5):
        town.hedges.append((LineString([block.at(u, v - side * 6), block.at(u, side * 1.2)]), 0.6, 1.4))
        town.lay(block.inner(float(u) + 3.2, v - side * 6.2, 5, 2.6), str(rng.choice(["paving", "gravel", "lawn"])))
        if rng.random() < 0.6:
            town.trees.append(Tree(*block.at(u + 3, side * rng.uniform(2, 8)), rng.uniform(0.8, 2.4)))
        if rng.random() < 0.5:
            town.stand(block.at(u, side * (block.width / 2 - 2.2)), block.angle + QUARTER)


def _centre(town: Town, rect: Rect) -> None:
    """Wings of tall pitched roofs around a court, or now and then a square."""
    rng = town.rng
    inner = rect.shrunk(5.2)
    town.cover(inner, "pavement")
    block = town.lengthwise(inner)
    if rng.random() < 0.12:
        for u in np.arange(-0.4, 0.41, 0.2):
            town.trees += [Tree(*block.at(u * block.length, v * block.width), 2.9) for v in (-0.35, 0.35)]
        return
    deep, length, width = rng.uniform(11, 13), block.length - 9, block.width - 9
    court = block.inner(0, 0, length - 2 * deep, width - 2 * deep)
    town.lay(court, "lawn" if rng.random() < 0.5 else "old asphalt")
    form, eave = str(rng.choice(["hip", "gable"])), rng.uniform(9, 12)
    wings = [Part(block.inner(0, side * (width - deep) / 2, length, deep), form, eave, 0.55) for side in (-1, 1)]
    wings += [Part(block.turned(side * (length - deep) / 2, 0, width, deep), form, eave, 0.55) for side in (-1, 1)]
    del wings[rng.integers(len(wings))]
    town.build("court", wings, "tile", town.pick(TILES if rng.random() < 0.75 else SLATES))
    house = court.inner(0, 0, min(12.0, 0.4 * court.length), min(8.0, 0.4 * court.width))
    town.build("flat", [Part(house, "flat", 4)], "flat", town.pick(FLATS))
    for _ in range(5):
        place = court.at(rng.uniform(-0.4, 0.4) * court.length, rng.uniform(-0.4, 0.4) * court.width)
        town.trees.append(Tree(*place, rng.uniform(1.5, 3.2)))


def _flats(town: Town, rect: Rect) -> None:
    """Slabs of flats between lawns, with a car park."""
    rng = town.rng
    inner = rect.shrunk(5.2)
    town.cover(inner, "lawn")
    block = town.lengthwise(inner)
    for v in (-0.27, 0.27):
        length = block.length - rng.uniform(14, 24)
        site = block.inner(rng.uniform(-4, 4), v * block.width, length, rng.uniform(12, 14.5))
        parts = [Part(site, "flat", rng.uniform(10, 14))]
        if rng.random() < 0.4:
            parts.append(Part(site.inner(0.3 * length, 3, 9, site.width + 4), "flat", parts[0].eave + 0.3))
        town.build("flat", parts, "flat", town.pick(FLATS))
        town.lay(site.inner(0, 10, length, 2.0), "paving")
    town.park(block.inner(0, 0, 0.6 * block.length, 9), 0.6)
    town.plant(inner, 34, 1.2, 4.2)


def _industry(town: Town, rect: Rect) -> None:
    """A large hall or two on an asphalt yard."""
    rng = town.rng
    inner = rect.shrunk(5.5)
    town.cover(inner, "old asphalt")
    block = town.lengthwise(inner)
    split = rng.random() < 0.4
    for shift in (-0.25, 0.25) if split else (0.0,):
        length = block.length * (0.42 if split else 0.78) - rng.uniform(0, 8)
        width = block.width * rng.uniform(0.5, 0.6)
        site = block.inner(shift * block.length, -0.14 * block.width, length, width)
        form = str(rng.choice(["flat", "gable", "saw"], p=[0.5, 0.35, 0.15]))
        hall = Part(site, form, rng.uniform(7, 10), 0.14 if form == "gable" else 0.22)
        town.build("hall", [hall], "sheet", town.pick(SHEETS))
        if rng.random() < 0.6:
            office = site.inner(-0.3 * length, width / 2 + 7.5, min(24.0, 0.5 * length), 11)
            town.build("flat", [Part(office, "flat", 7)], "flat", town.pick(FLATS))
    town.park(block.inner(0, block.width / 2 - 4, 0.85 * block.length, 7.5), 0.5)
    for u in rng.uniform(-0.4, 0.4, 4) * block.length:
        town.cars.append(block.inner(float(u), block.width / 2 - 12, 11.5, 2.5))
    for u in np.arange(-0.48, 0.5, 0.07):
        town.trees.append(Tree(*block.at(u * block.length, -block.width / 2 + 1), rng.uniform(1.2, 2.6)))


def _bare(town: Town, rect: Rect) -> None:
    """A building site: earth, gravel, wheel tracks and stacks of material."""
    rng = town.rng
    inner = rect.shrunk(4)
    town.cover(inner, "rough lawn")
    site = inner.shrunk(5)
    town.cover(site, "earth")
    for _ in range(9):
        u, v = rng.uniform(site.left, site.right), rng.uniform(site.top, site.bottom)
        bearings = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        radii = rng.uniform(3, 9) * (1 + 0.25 * np.sin(2 * bearings + u) + 0.2 * np.sin(3 * bearings + v))
        x, y = town.bend.point(u, v)
        blob = [(x + r * np.cos(b), y + r * np.sin(b)) for r, b in zip(radii, bearings, strict=True)]
        town.covers.append(Cover(Polygon(blob), str(rng.choice(["gravel", "mud", "rough lawn"]))))
    for _ in range(5):
        ends = [(rng.uniform(site.left, site.right), rng.uniform(site.top, site.bottom)) for _ in range(3)]
        town.covers.append(Cover(town.bend.line(ends).buffer(0.4), "mud"))
    town.plant(inner, 12, 0.6, 1.8)


def _field(town: Town, rect: Rect) -> None:
    town.fields.append((rect.shrunk(2.2), float(town.rng.choice([0.0, QUARTER]))))


def _forest(town: Town, rect: Rect) -> None:
    inner = rect.shrunk(6)
    town.cover(inner, "forest floor")
    town.plant(inner, int(inner.size[0] * inner.size[1] / 22), 2.2, 4.8, conifers=0.3)


def _park(town: Town, rect: Rect) -> None:
    """Meadows with groups of trees, paths and a pitch; the lake is drawn over them."""
    rng = town.rng
    inner = rect.shrunk(6)
    town.cover(inner, "meadow")
    for v in (52.0, 128.0, 262.0):
        line = town.bend.line([(inner.left, v), (-250.0, v + 18), (inner.right, v - 12)])
        town.covers.append(Cover(line.buffer(1.3), "track"))
    for _ in range(46):
        u, v = rng.uniform(inner.left, inner.right), rng.uniform(inner.top, inner.bottom)
        spread = rng.uniform(4, 22)
        group = Rect(u - spread, v - spread, u + spread, v + spread)
        town.plant(group, int(rng.integers(2, 16)), 1.0, 4.8)
    _pitch(town, town.bend.box((-150.0, 88.0), 68, 44))


def _pitch(town: Town, pitch: Box) -> None:
    """A football pitch: mown stripes and white lines."""
    for number, u in enumerate(np.arange(-pitch.length / 2 - 1.5, pitch.length / 2 + 1, 5.5)):
        stripe = pitch.inner(float(u) + 2.75, 0, 5.5, pitch.width + 4)
        town.lay(stripe, "lush lawn" if number % 2 else "lawn")
    frame = pitch.polygon().exterior
    halves = LineString([pitch.at(0, -pitch.width / 2), pitch.at(0, pitch.width / 2)])
    boxes = [pitch.inner(s * (pitch.length / 2 - 5), 0, 10, 24).polygon().exterior for s in (-1, 1)]
    for line in (frame, halves, Point(pitch.x, pitch.y).buffer(6).exterior, *boxes):
        town.covers.append(Cover(line.buffer(0.09), "marking"))
    town.trees = [tree for tree in town.trees if not pitch.polygon().contains(Point(tree.x, tree.y))]


FILLERS: dict[str, Callable[[Town, Rect], None]] = {
    "houses": fill_houses,
    "rows": _rows,
    "centre": _centre,
    "flats": _flats,
    "industry": _industry,
    "bare": _bare,
    "field": _field,
    "forest": _forest,
    "park": _park,
}
