"""What stands on each block of the plan: houses with gardens, terraces, flats, halls, parks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import shapely
from canvas import Box, Rgb
from ground import Cover, Tree
from plan import Bend, Block, Rect
from roofs import FLATS, SHEETS, SLATES, TILES, Building, Part
from shapely.geometry import LineString, Point, Polygon

QUARTER = np.pi / 2


@dataclass(slots=True)
class Town:
    """Everything that is drawn on the ground, in the order of the blocks."""

    rng: np.random.Generator
    bend: Bend
    covers: list[Cover] = field(default_factory=list)
    fields: list[tuple[Rect, float]] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    hedges: list[tuple[LineString, float, float]] = field(default_factory=list)
    cars: list[Box] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    _outlines: list[Polygon] = field(default_factory=list)

    def cover(self, rect: Rect, material: str) -> None:
        """Put a material on a rectangle of the plan."""
        self.covers.append(Cover(self.bend.polygon(rect), material))

    def build(self, kind: str, parts: list[Part], cover: str, rgb: Rgb) -> None:
        """Add a building unless it stands in the way of another."""
        shade = self.rng.normal(1, 0.05)
        building = Building(kind, tuple(parts), cover, tuple(min(250.0, shade * level) for level in rgb))  # type: ignore[arg-type]
        outline = building.outline()
        if not self._outlines or shapely.distance(outline, self._outlines).min() > 0.6:
            self.buildings.append(building)
            self._outlines.append(outline)

    def plant(self, rect: Rect, count: int, low: float, high: float, conifers: float = 0.15) -> None:
        """Scatter trees over a rectangle."""
        for _ in range(count):
            u, v = self.rng.uniform(rect.left, rect.right), self.rng.uniform(rect.top, rect.bottom)
            conifer = self.rng.random() < conifers
            radius = self.rng.uniform(low, high) * (0.75 if conifer else 1)
            self.trees.append(Tree(*self.bend.point(u, v), radius, conifer))

    def park(self, rect: Rect, share: float) -> None:
        """Asphalt with rows of parking places, some of them taken."""
        self.cover(rect, "old asphalt")
        width, depth = rect.size
        turn = 0.0 if width >= depth else QUARTER
        long, short = max(width, depth), min(width, depth)
        lot = self.bend.box(rect.middle, long, short, turn)
        for v in np.arange(-short / 2 + 2.6, short / 2 - 2.4, 8.2):
            for u in np.arange(-long / 2 + 1.5, long / 2 - 1, 2.6):
                line = lot.inner(u - 1.3, v, 0.12, 4.8)
                self.covers.append(Cover(line.polygon(), "marking"))
                if self.rng.random() < share:
                    place = lot.inner(u + self.rng.normal(0, 0.1), v + self.rng.normal(0, 0.2), 1, 1)
                    heading = place.angle + QUARTER * self.rng.choice([-1, 1])
                    self.cars.append(Box(place.x, place.y, self.rng.uniform(4.0, 4.8), 1.8, heading))


def fill(town: Town, block: Block) -> None:
    """Put on a block what its use asks for."""
    FILLERS[block.use](town, block.rect)


def _houses(town: Town, rect: Rect) -> None:
    """Two rows of plots back to back along the block's longer side."""
    inner = rect.shrunk(4.8)
    town.cover(inner, "lawn")
    for plot, street in _plots(town.rng, inner):
        _house(town, plot, street)


Side = tuple[int, int]


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


def _house(town: Town, plot: Rect, street: Side) -> None:
    """A house with its garden. The lot's u axis runs along the street and its v axis towards it."""
    rng = town.rng
    turn = {(0, 1): 0.0, (0, -1): np.pi, (1, 0): -QUARTER, (-1, 0): QUARTER}[street]
    width, depth = plot.size if street[0] == 0 else plot.size[::-1]
    lot = town.bend.box(plot.middle, width, depth, turn)
    town.covers.append(
        Cover(
            lot.inner(0, 0, width - 0.6, depth - 0.6).polygon(),
            str(rng.choice(["lawn", "lush lawn", "rough lawn"])),
        )
    )
    if rng.random() < 0.06:
        _garden(town, lot)
        return
    front = rng.uniform(4.5, 7.5)
    length, deep = min(width - 6.5, rng.uniform(10.5, 15.5)), rng.uniform(9, 11.5)
    u = rng.choice([-1, 1]) * max(0.0, (width - length) / 2 - 2.2) * 0.8
    site = lot.inner(u, depth / 2 - front - deep / 2, length, deep)
    _villa(town, site)
    drive = -np.sign(u) * (width / 2 - 2.1) if u else width / 2 - 2.1
    ground = "paving" if rng.random() < 0.5 else ("old asphalt" if rng.random() < 0.6 else "gravel")
    town.covers.append(Cover(lot.inner(drive, depth / 2 - front / 2 - 3, 3.4, front + 6).polygon(), ground))
    town.covers.append(
        Cover(lot.inner(u, depth / 2 - front - deep - 1.6, 0.7 * length, 3.6).polygon(), "paving")
    )
    town.covers.append(
        Cover(lot.inner((u + drive) / 2, depth / 2 - front + 1, abs(u - drive), 1.3).polygon(), "paving")
    )
    if rng.random() < 0.5:
        garage = lot.inner(drive, depth / 2 - front - 7.5, 3.4, 6.2)
        town.build("flat", [Part(garage, "flat", 2.7)], "flat", FLATS[rng.integers(len(FLATS))])
    if rng.random() < 0.6:
        town.cars.append(Box(*lot.at(drive, depth / 2 - front / 2 - 0.5), 4.4, 1.8, lot.angle + QUARTER))
    _garden(town, lot)


def _villa(town: Town, site: Box) -> None:
    """A house of one of the common forms on its site."""
    rng = town.rng
    form = str(rng.choice(["gable", "hip"], p=[0.62, 0.38]))
    tiled = rng.random() < 0.8
    palette = TILES if tiled else SLATES
    rgb = palette[rng.integers(len(palette))]
    eave, slope = rng.uniform(4.0, 6.2), rng.uniform(0.42, 0.68)
    shape = rng.choice(["plain", "turned", "L", "T", "modern"], p=[0.44, 0.16, 0.2, 0.1, 0.1])
    if shape == "modern":
        town.build("flat", [Part(site, "flat", 6.2)], "flat", FLATS[rng.integers(len(FLATS))])
        return
    if shape == "turned":
        site = Box(site.x, site.y, max(site.width, 9.5), min(site.length, 9.0), site.angle + QUARTER)
    parts = [Part(site, form, eave, slope)]
    if shape in ("L", "T"):
        wing = rng.uniform(5.5, 7.0)
        along = 0.0 if shape == "T" else rng.choice([-1, 1]) * (site.length - wing) / 2
        reach = site.width / 2 + rng.uniform(3.0, 4.5)
        parts.append(
            Part(Box(*site.at(along, -reach / 2), reach, wing, site.angle + QUARTER), form, eave, slope)
        )
    kind = form if len(parts) == 1 else str(shape)
    town.build(kind, parts, "tile", rgb)


def _garden(town: Town, lot: Box) -> None:
    """Hedges, a pool, a shed and trees."""
    rng = town.rng
    half, deep = lot.length / 2 - 0.4, lot.width / 2 - 0.4
    if rng.random() < 0.62:
        corners = [lot.at(-half, deep - 1), lot.at(-half, -deep), lot.at(half, -deep), lot.at(half, deep - 1)]
        town.hedges.append((LineString(corners), rng.uniform(0.7, 1.2), rng.uniform(1.2, 2.0)))
    if rng.random() < 0.14:
        pool = lot.inner(rng.uniform(-0.15, 0.15) * lot.length, -deep + 5.5, 8, 4)
        town.covers += [Cover(pool.polygon().buffer(1.2), "paving"), Cover(pool.polygon().buffer(0), "pool")]
    elif rng.random() < 0.22:
        bed = lot.inner(rng.uniform(-0.2, 0.2) * lot.length, -deep + 4.5, 7, 5)
        town.covers.append(Cover(bed.polygon(), "earth"))
    if rng.random() < 0.3:
        shed = lot.inner(rng.choice([-1, 1]) * (half - 2.6), -deep + 2.6, 3.4, 2.6)
        town.build("shed", [Part(shed, "gable", 2.1, 0.4)], "tile", TILES[rng.integers(len(TILES))])
    for _ in range(rng.integers(2, 7)):
        place = lot.at(rng.uniform(-0.46, 0.46) * lot.length, rng.uniform(-0.46, 0.42) * lot.width)
        town.trees.append(
            Tree(*place, float(np.clip(rng.gamma(3, 0.75), 0.7, 4.2)), bool(rng.random() < 0.2))
        )


def _rows(town: Town, rect: Rect) -> None:
    """Terraces along both long sides of the block, with narrow gardens behind."""
    rng = town.rng
    inner = rect.shrunk(4.8)
    town.cover(inner, "lush lawn")
    block = _lengthwise(town, inner)
    palette = TILES if rng.random() < 0.7 else SLATES
    rgb = palette[rng.integers(len(palette))]
    for side in (-1, 1):
        v = side * (block.width / 2 - 4 - 4.8)
        town.covers.append(
            Cover(block.inner(0, side * (block.width / 2 - 2), block.length - 2, 3.8).polygon(), "paving")
        )
        units = int((block.length - 8) / 6.5)
        parted = units > 9
        for shift, count in ((-0.25, units // 2), (0.25, units // 2)) if parted else ((0.0, units),):
            site = block.inner(shift * block.length, v, 6.5 * count - 2 * parted, 9.6)
            town.build("row", [Part(site, "gable", 5.6, 0.55)], "tile", rgb)
        for u in np.arange(-block.length / 2 + 4, block.length / 2 - 3, 6.5):
            town.hedges.append((LineString([block.at(u, v - side * 6), block.at(u, side * 1.2)]), 0.6, 1.4))
            if rng.random() < 0.45:
                town.trees.append(Tree(*block.at(u + 3, side * rng.uniform(2, 8)), rng.uniform(0.8, 2.4)))
            if rng.random() < 0.5:
                town.cars.append(
                    Box(*block.at(u, side * (block.width / 2 - 2.2)), 4.3, 1.8, block.angle + QUARTER)
                )
    town.hedges.append(
        (LineString([block.at(-block.length / 2, 0), block.at(block.length / 2, 0)]), 1.0, 1.7)
    )


def _lengthwise(town: Town, rect: Rect) -> Box:
    """The block as an undistorted box whose u axis is its longer side."""
    width, depth = rect.size
    return town.bend.box(
        rect.middle, max(width, depth), min(width, depth), 0.0 if width >= depth else QUARTER
    )


def _centre(town: Town, rect: Rect) -> None:
    """Wings of tall pitched roofs around a court."""
    rng = town.rng
    inner = rect.shrunk(5.2)
    town.cover(inner, "pavement")
    block = _lengthwise(town, inner)
    deep = rng.uniform(11, 13)
    length, width = block.length - 8, block.width - 8
    court = block.inner(0, 0, length - 2 * deep, width - 2 * deep)
    town.covers.append(Cover(court.polygon(), "lawn" if rng.random() < 0.5 else "old asphalt"))
    palette = TILES if rng.random() < 0.75 else SLATES
    rgb = palette[rng.integers(len(palette))]
    form, eave = str(rng.choice(["hip", "gable"])), rng.uniform(10, 13)
    across = (width - deep) / 2
    wings = [Part(block.inner(0, side * across, length, deep), form, eave, 0.5) for side in (-1, 1)]
    sides = [
        Part(
            Box(*block.at(side * (length - deep) / 2, 0), width, deep, block.angle + QUARTER), form, eave, 0.5
        )
        for side in (-1, 1)
    ]
    missing = rng.integers(0, 4)
    parts = [part for number, part in enumerate(wings + sides) if number != missing]
    town.build("court", parts, "tile", rgb)
    house = court.inner(0, 0, min(12.0, 0.4 * court.length), min(8.0, 0.4 * court.width))
    town.build("flat", [Part(house, "flat", 4)], "flat", FLATS[rng.integers(len(FLATS))])
    for _ in range(5):
        place = court.at(rng.uniform(-0.4, 0.4) * court.length, rng.uniform(-0.4, 0.4) * court.width)
        town.trees.append(Tree(*place, rng.uniform(1.5, 3.2)))


def _flats(town: Town, rect: Rect) -> None:
    """Slabs of flats between lawns, with a car park."""
    rng = town.rng
    inner = rect.shrunk(5.2)
    town.cover(inner, "lawn")
    block = _lengthwise(town, inner)
    for v in (-0.27, 0.27):
        site = block.inner(
            rng.uniform(-4, 4), v * block.width, block.length - rng.uniform(14, 24), rng.uniform(12, 14.5)
        )
        parts = [Part(site, "flat", rng.uniform(11, 15))]
        if rng.random() < 0.4:
            parts.append(
                Part(site.inner(0.3 * site.length, 3, 9, site.width + 4), "flat", parts[0].eave + 0.3)
            )
        town.build("flat", parts, "flat", FLATS[rng.integers(len(FLATS))])
        town.covers.append(Cover(site.inner(0, 10, site.length, 2.0).polygon(), "paving"))
    lot = Rect(
        inner.middle[0] - 0.3 * inner.size[0],
        inner.middle[1] - 4.5,
        inner.middle[0] + 0.3 * inner.size[0],
        inner.middle[1] + 4.5,
    )
    if inner.size[0] < inner.size[1]:
        lot = Rect(
            inner.middle[0] - 4.5,
            inner.middle[1] - 0.3 * inner.size[1],
            inner.middle[0] + 4.5,
            inner.middle[1] + 0.3 * inner.size[1],
        )
    town.park(lot, 0.6)
    town.plant(inner, 26, 1.4, 4.2)


def _industry(town: Town, rect: Rect) -> None:
    """A large hall or two on an asphalt yard."""
    rng = town.rng
    inner = rect.shrunk(5.5)
    town.cover(inner, "old asphalt")
    block = _lengthwise(town, inner)
    split = rng.random() < 0.4
    for shift in (-0.25, 0.25) if split else (0.0,):
        length = block.length * (0.42 if split else 0.78) - rng.uniform(0, 8)
        site = block.inner(
            shift * block.length, -0.14 * block.width, length, block.width * rng.uniform(0.5, 0.6)
        )
        form = str(rng.choice(["flat", "gable", "saw"], p=[0.5, 0.35, 0.15]))
        town.build(
            "hall",
            [Part(site, form, rng.uniform(7, 10), 0.12 if form == "gable" else 0.22)],
            "sheet",
            SHEETS[rng.integers(len(SHEETS))],
        )
        office = site.inner(-0.3 * length, site.width / 2 + 7.5, min(24.0, 0.5 * length), 11)
        if rng.random() < 0.6:
            town.build("flat", [Part(office, "flat", 7)], "flat", FLATS[rng.integers(len(FLATS))])
    for u in np.arange(-0.42 * block.length, 0.42 * block.length, 2.7):
        if rng.random() < 0.55:
            town.cars.append(
                Box(*block.at(u, block.width / 2 - 3.2), rng.uniform(4, 4.8), 1.8, block.angle + QUARTER)
            )
        if rng.random() < 0.06:
            town.cars.append(block.inner(float(u), block.width / 2 - 11, 11.5, 2.5))
    for u in np.arange(-0.48, 0.5, 0.07):
        town.trees.append(Tree(*block.at(u * block.length, -block.width / 2 + 1), rng.uniform(1.2, 2.6)))


def _bare(town: Town, rect: Rect) -> None:
    """A building site: earth, gravel heaps and tracks."""
    inner = rect.shrunk(4)
    town.cover(inner, "rough lawn")
    town.cover(inner.shrunk(5), "earth")
    for _ in range(7):
        u, v = (
            town.rng.uniform(inner.left + 10, inner.right - 10),
            town.rng.uniform(inner.top + 10, inner.bottom - 10),
        )
        blob = Point(town.bend.point(u, v)).buffer(town.rng.uniform(3, 11))
        town.covers.append(Cover(blob, str(town.rng.choice(["gravel", "track", "rough lawn"]))))
    town.plant(inner, 8, 0.8, 2.0)


def _field(town: Town, rect: Rect) -> None:
    town.fields.append((rect.shrunk(2.2), town.rng.choice([0.0, QUARTER])))


def _forest(town: Town, rect: Rect) -> None:
    inner = rect.shrunk(6)
    town.cover(inner, "forest floor")
    town.plant(inner, int(inner.size[0] * inner.size[1] / 24), 2.2, 4.8, conifers=0.3)


def _park(town: Town, rect: Rect) -> None:
    """Meadows with groups of trees and paths; the lake is drawn over them."""
    rng = town.rng
    inner = rect.shrunk(6)
    town.cover(inner, "lawn")
    for v in (60.0, 150.0, 250.0):
        line = town.bend.line([(inner.left, v), (-250.0, v + 25), (inner.right, v - 12)])
        town.covers.append(Cover(line.buffer(1.3), "track"))
    for _ in range(26):
        u, v = rng.uniform(inner.left, inner.right), rng.uniform(inner.top, inner.bottom)
        spread = rng.uniform(6, 20)
        town.plant(Rect(u - spread, v - spread, u + spread, v + spread), int(rng.integers(3, 14)), 2.0, 4.8)


FILLERS: dict[str, Callable[[Town, Rect], None]] = {
    "houses": _houses,
    "rows": _rows,
    "centre": _centre,
    "flats": _flats,
    "industry": _industry,
    "bare": _bare,
    "field": _field,
    "forest": _forest,
    "park": _park,
}
