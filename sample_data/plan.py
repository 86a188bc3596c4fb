"""The town plan: zones cut into blocks by streets, on a grid that is turned and bent.

Plans are made in metres (u, v) on straight axes; `Bend` carries them into the scene.
"""

from dataclasses import dataclass

import numpy as np
from shapely.geometry import LineString, Polygon

from canvas import GSD, SIZE, Box
from ground import Street

MIDDLE = SIZE * GSD / 2
REACH = 420.0
Lines = list[list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle on the plan's straight axes, in metres."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def middle(self) -> tuple[float, float]:
        """Its centre."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def size(self) -> tuple[float, float]:
        """Its extent along u and v."""
        return self.right - self.left, self.bottom - self.top

    def shrunk(self, margin: float) -> "Rect":
        """The rectangle less a margin on all sides."""
        return Rect(self.left + margin, self.top + margin, self.right - margin, self.bottom - margin)


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of town with one use, and the largest block it is cut into."""

    use: str
    rect: Rect
    block: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Block:
    """The land between streets."""

    use: str
    rect: Rect


ZONES = (
    Zone("field", Rect(-REACH, -REACH, -205, -70), (150, 120)),
    Zone("forest", Rect(-REACH, -70, -205, 30), (900, 900)),
    Zone("houses", Rect(-205, -REACH, 50, 30), (140, 66)),
    Zone("houses", Rect(50, -REACH, REACH, -140), (66, 150)),
    Zone("centre", Rect(50, -140, 230, 30), (76, 70)),
    Zone("rows", Rect(230, -140, REACH, 30), (110, 66)),
    Zone("park", Rect(-REACH, 30, -90, REACH), (900, 900)),
    Zone("flats", Rect(-90, 30, 70, 180), (90, 80)),
    Zone("houses", Rect(-90, 180, 70, REACH), (90, 64)),
    Zone("industry", Rect(70, 30, REACH, 190), (140, 110)),
    Zone("bare", Rect(70, 190, 165, REACH), (200, 110)),
    Zone("houses", Rect(165, 190, REACH, REACH), (140, 62)),
)
MAIN: Lines = [
    [(-REACH, 30), (REACH, 30)],
    [(50, -REACH), (50, 30)],
    [(70, 30), (70, REACH)],
    [(-205, -REACH), (-205, 30)],
    [(50, -140), (REACH, -140)],
    [(-90, 30), (-90, REACH)],
    [(70, 190), (REACH, 190)],
]
LANES: Lines = [[(230, -140), (230, 30)], [(-90, 180), (70, 180)], [(165, 190), (165, REACH)]]
TURN = np.radians(-14.0)


class Bend:
    """Carries the plan's straight axes into the scene."""

    def point(self, u: float, v: float) -> tuple[float, float]:
        """Scene coordinates of a point of the plan."""
        u, v = u + 13 * np.sin(v / 95 + 0.5), v + 15 * np.sin(u / 120 - 0.4) + 5 * np.sin(u / 47)
        x = MIDDLE + u * np.cos(TURN) - v * np.sin(TURN)
        return float(x), float(MIDDLE + u * np.sin(TURN) + v * np.cos(TURN))

    def angle(self, u: float, v: float) -> float:
        """Direction of the plan's u axis at a point, in radians."""
        (x0, y0), (x1, y1) = self.point(u - 0.5, v), self.point(u + 0.5, v)
        return float(np.arctan2(y1 - y0, x1 - x0))

    def box(self, middle: tuple[float, float], length: float, width: float, turn: float = 0.0) -> Box:
        """An undistorted box at a point of the plan, along its u axis turned by `turn` radians."""
        return Box(*self.point(*middle), length, width, self.angle(*middle) + turn)

    def line(self, points: list[tuple[float, float]]) -> LineString:
        """A line of the plan, bent."""
        straight = LineString(points).segmentize(4.0)
        return LineString([self.point(u, v) for u, v in straight.coords])

    def polygon(self, rect: Rect) -> Polygon:
        """A rectangle of the plan, bent."""
        corners = [
            (rect.left, rect.top),
            (rect.right, rect.top),
            (rect.right, rect.bottom),
            (rect.left, rect.bottom),
        ]
        return Polygon(self.line([*corners, corners[0]]).coords)


def lay_out(rng: np.random.Generator, bend: Bend) -> tuple[list[Block], list[Street]]:
    """Cut the zones into blocks; streets run along every cut."""
    blocks: list[Block] = []
    streets = [Street(bend.line(points), 8.5, "main") for points in MAIN]
    streets += [Street(bend.line(points), 5.8, "lane") for points in LANES]
    for zone in ZONES:
        kind = "track" if zone.use in ("field", "bare") else "lane"
        pieces, cuts = _cut(rng, zone.rect, zone.block)
        blocks += [Block(zone.use, piece) for piece in pieces]
        streets += [Street(bend.line(cut), 3.2 if kind == "track" else 5.8, kind) for cut in cuts]
    return blocks, streets


def _cut(rng: np.random.Generator, rect: Rect, block: tuple[float, float]) -> tuple[list[Rect], Lines]:
    """Cut a rectangle in two, and those in two, until no piece is larger than a block."""
    excess = rect.size[0] / block[0], rect.size[1] / block[1]
    if max(excess) <= 1:
        return [rect], []
    share = rng.uniform(0.44, 0.56) if max(excess) < 2.2 else rng.uniform(0.4, 0.6)
    if excess[0] >= excess[1]:
        at = rect.left + share * rect.size[0]
        cut = [(at, rect.top), (at, rect.bottom)]
        halves = Rect(rect.left, rect.top, at, rect.bottom), Rect(at, rect.top, rect.right, rect.bottom)
    else:
        at = rect.top + share * rect.size[1]
        cut = [(rect.left, at), (rect.right, at)]
        halves = Rect(rect.left, rect.top, rect.right, at), Rect(rect.left, at, rect.right, rect.bottom)
    pieces, cuts = [], [cut]
    for half in halves:
        more, inner = _cut(rng, half, block)
        pieces += more
        cuts += inner
    return pieces, cuts
