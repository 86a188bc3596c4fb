"""Everything that stands on the plan, as it is put there."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

from canvas import Box, Rgb
from ground import Cover, Tree
from plan import Bend, Rect
from roofs import Building, Part

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

    def pick(self, palette: Sequence[Rgb]) -> Rgb:
        """One of the colours, a little lighter or darker."""
        red, green, blue = palette[int(self.rng.integers(len(palette)))]
        shade = self.rng.normal(1, 0.05)
        return min(245.0, red * shade), min(245.0, green * shade), min(245.0, blue * shade)

    def lengthwise(self, rect: Rect) -> Box:
        """A rectangle of the plan as an undistorted box whose u axis is its longer side."""
        long, short = max(rect.size), min(rect.size)
        return self.bend.box(rect.middle, long, short, 0.0 if rect.size[0] >= rect.size[1] else QUARTER)

    def cover(self, rect: Rect, material: str) -> None:
        """Put a material on a rectangle of the plan."""
        self.covers.append(Cover(self.bend.polygon(rect), material))

    def lay(self, box: Box, material: str) -> None:
        """Put a material on a box."""
        self.covers.append(Cover(box.polygon(), material))

    def build(self, kind: str, parts: list[Part], cover: str, rgb: Rgb) -> None:
        """Add a building unless it stands in the way of another."""
        building = Building(kind, tuple(parts), cover, rgb)
        outline = building.outline()
        if not self._outlines or shapely.distance(outline, self._outlines).min() > 0.6:
            self.buildings.append(building)
            self._outlines.append(outline)

    def plant(self, rect: Rect, count: int, low: float, high: float, conifers: float = 0.15) -> None:
        """Scatter trees over a rectangle."""
        for _ in range(count):
            u, v = self.rng.uniform(rect.left, rect.right), self.rng.uniform(rect.top, rect.bottom)
            conifer = bool(self.rng.random() < conifers)
            radius = self.rng.uniform(low, high) * (0.75 if conifer else 1)
            self.trees.append(Tree(*self.bend.point(u, v), radius, conifer))

    def stand(self, place: tuple[float, float], heading: float) -> None:
        """Leave a car somewhere."""
        self.cars.append(Box(*place, self.rng.uniform(3.9, 4.8), 1.8, heading + self.rng.normal(0, 0.02)))

    def park(self, lot: Box, share: float) -> None:
        """Asphalt with rows of parking places, some of them taken."""
        self.lay(lot, "old asphalt")
        for v in np.arange(-lot.width / 2 + 2.6, lot.width / 2 - 2.4, 8.2):
            for u in np.arange(-lot.length / 2 + 1.5, lot.length / 2 - 1, 2.6):
                self.lay(lot.inner(float(u) - 1.3, float(v), 0.12, 4.8), "marking")
                if self.rng.random() < share:
                    place = lot.at(u + self.rng.normal(0, 0.1), v + self.rng.normal(0, 0.2))
                    self.stand(place, lot.angle + QUARTER * self.rng.choice([-1, 1]))
