"""Everything of the sample scene that is no roof: land, water, streets, cars, hedges and trees."""

from dataclasses import dataclass

import numpy as np
from shapely.geometry import LineString, Point
from shapely.geometry.base import BaseGeometry

from canvas import Box, Canvas, Floats, Material, Rgb, Slices, sunlit

LAWN = Material((98, 128, 78), (122, 136, 86), grain=0.09, mottle=0.06, patches=0.05)
ASPHALT = Material((126, 127, 129), (144, 143, 140), grain=0.035, mottle=0.025, patches=0.025)
PAINT = Material((222, 222, 216), grain=0.03)
MATERIALS = {
    "lawn": LAWN,
    "rough lawn": Material((100, 118, 70), (142, 138, 96), grain=0.12, mottle=0.10, patches=0.06),
    "lush lawn": Material((84, 122, 72), (100, 134, 80), grain=0.08, mottle=0.05),
    "asphalt": ASPHALT,
    "old asphalt": Material((156, 154, 150), (136, 134, 132), grain=0.04, mottle=0.04),
    "pavement": Material((178, 174, 166), (166, 164, 158), grain=0.045, mottle=0.04),
    "paving": Material((176, 168, 156), (156, 148, 138), grain=0.06, mottle=0.05),
    "gravel": Material((178, 168, 150), (160, 150, 130), grain=0.08, mottle=0.06),
    "earth": Material((160, 132, 102), (136, 110, 84), grain=0.08, mottle=0.09, patches=0.06),
    "track": Material((176, 160, 132), (154, 142, 112), grain=0.07, mottle=0.07),
    "forest floor": Material((70, 84, 52), (90, 94, 64), grain=0.12, mottle=0.12),
    "meadow": Material((96, 120, 74), (132, 134, 90), grain=0.11, mottle=0.09, patches=0.06),
    "mud": Material((128, 104, 82), (144, 120, 94), grain=0.08, mottle=0.09),
    "water": Material((44, 92, 72), (56, 106, 84), grain=0.03, mottle=0.03, patches=0.02),
    "shallows": Material((96, 112, 96), grain=0.03, mottle=0.04),
    "pool": Material((96, 178, 196), grain=0.04, mottle=0.03),
    "marking": PAINT,
}
CROPS = (
    Material((112, 134, 72), (132, 144, 82), grain=0.07, mottle=0.05, patches=0.04),
    Material((156, 132, 104), (138, 116, 92), grain=0.08, mottle=0.06, patches=0.05),
    Material((176, 166, 116), (160, 152, 104), grain=0.06, mottle=0.05, patches=0.04),
    Material((86, 118, 62), (102, 128, 70), grain=0.09, mottle=0.06, patches=0.04),
)
CARS: tuple[Rgb, ...] = (
    (228, 230, 230),
    (215, 217, 220),
    (60, 64, 70),
    (44, 46, 52),
    (122, 126, 132),
    (160, 164, 168),
    (150, 44, 40),
    (52, 74, 122),
    (236, 236, 234),
)
LEAVES: tuple[Rgb, ...] = (
    (92, 122, 66),
    (106, 132, 72),
    (82, 110, 64),
    (120, 138, 78),
    (74, 102, 68),
    (128, 136, 86),
    (88, 116, 78),
    (112, 104, 74),
)
HEDGE = Material((74, 104, 60), grain=0.16, mottle=0.10)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree: place and crown radius in metres; conifers are darker and pointed."""

    x: float
    y: float
    radius: float
    conifer: bool = False


@dataclass(frozen=True, slots=True)
class Cover:
    """A piece of ground and the name of the material on it."""

    shape: BaseGeometry
    material: str


@dataclass(frozen=True, slots=True)
class Street:
    """A street's centre line, its width in metres and what kind it is: "main", "lane" or "track"."""

    line: LineString
    width: float
    kind: str


def draw_streets(canvas: Canvas, streets: list[Street]) -> None:
    """Pavements first, then carriageways, then the paint, so that junctions stay open."""
    paved = [street for street in streets if street.kind != "track"]
    for street in streets:
        if street.kind == "track":
            canvas.paint(street.line.buffer(street.width / 2), MATERIALS["track"])
            canvas.paint(street.line.buffer(0.4), MATERIALS["rough lawn"], 0.7)
    for street in paved:
        canvas.paint(street.line.buffer(street.width / 2 + 1.7), MATERIALS["pavement"])
    for street in paved:
        canvas.paint(street.line.buffer(street.width / 2), ASPHALT)
    for street in paved:
        draw_wear(canvas, street)


def draw_wear(canvas: Canvas, street: Street) -> None:
    """Wheel tracks, a few repairs, and on main streets the dashed line."""
    for side in (-1, 1):
        canvas.paint(street.line.offset_curve(side * street.width / 4).buffer(0.5), MATERIALS["old asphalt"], 0.3)
    for start in canvas.rng.uniform(0, street.line.length, int(street.line.length / 60)):
        patch = _piece(street.line, start, canvas.rng.uniform(2, 9)).offset_curve(canvas.rng.uniform(-2, 2))
        canvas.paint(patch.buffer(0.9, cap_style="flat"), Material((118, 118, 120), grain=0.03), 0.8)
    if street.kind == "main":
        for start in np.arange(4, street.line.length - 8, 9.0):
            canvas.paint(_piece(street.line, float(start), 4).buffer(0.11, cap_style="flat"), PAINT, 0.9)
        for side in (-1, 1):
            edge = street.line.offset_curve(side * (street.width / 2 - 0.3))
            canvas.paint(edge.buffer(0.09), PAINT, 0.7)


def _piece(line: LineString, start: float, length: float) -> LineString:
    return LineString([line.interpolate(start), line.interpolate(start + length / 2), line.interpolate(start + length)])


def draw_field(canvas: Canvas, shape: BaseGeometry, angle: float, rng: np.random.Generator) -> None:
    """A field with furrows along `angle`, tramlines and a soft edge of grass."""
    material = CROPS[rng.integers(len(CROPS))]
    canvas.paint(shape, MATERIALS["rough lawn"])
    window = canvas.window(shape)
    if canvas.height[window].size == 0:
        return
    before = canvas.colour[window].copy()
    inner = shape.buffer(-2.5)
    canvas.paint(inner, material)
    x, y = canvas.grid(window)
    across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle)) + 0.35 * canvas.patches[window]
    furrow = 0.06 * np.sin(2 * np.pi * across / rng.uniform(1.3, 2.6))
    tramline = -0.10 * (np.mod(across, 18.0) < 0.6) - 0.10 * (np.mod(across - 2.0, 18.0) < 0.6)
    changed = np.any(canvas.colour[window] != before, axis=-1)
    canvas.colour[window] *= np.where(changed, 1 + furrow + tramline, 1).astype(np.float32)[..., None]


def draw_lake(canvas: Canvas, lake: BaseGeometry) -> None:
    """A strip of bare shore, shallow water, and the deep."""
    canvas.paint(lake.buffer(2.5), MATERIALS["gravel"], 0.8)
    canvas.paint(lake, MATERIALS["shallows"])
    for depth in (1.5, 3.0, 5.0):
        canvas.paint(lake.buffer(-depth), MATERIALS["water"], 0.6)


def draw_hedge(canvas: Canvas, line: LineString, width: float, rise: float) -> None:
    """A clipped hedge along a line."""
    shape = line.buffer(width / 2, cap_style="flat")
    window = canvas.window(shape)
    if canvas.height[window].size == 0:
        return
    before = canvas.colour[window].copy()
    canvas.paint(shape, HEDGE)
    grown = np.any(np.abs(canvas.colour[window] - before) > 1, axis=-1)
    lumps = rise + 0.25 * canvas.grain[window] + 0.2 * canvas.mottle[window]
    canvas.height[window] = np.where(grown, np.maximum(lumps, 0.3), canvas.height[window])


def draw_car(canvas: Canvas, box: Box, rng: np.random.Generator) -> None:
    """A parked car: body, cabin and windows."""
    rgb = CARS[rng.integers(len(CARS))]
    canvas.stack(box, Material(rgb, grain=0.02), 0.9)
    glass = Material((48, 54, 62), grain=0.03)
    canvas.stack(box.inner(-0.05 * box.length, 0, 0.58 * box.length, 0.84 * box.width), glass, 0.3)
    canvas.stack(box.inner(-0.07 * box.length, 0, 0.32 * box.length, 0.80 * box.width), Material(rgb, grain=0.02), 0.2)


def draw_tree(canvas: Canvas, tree: Tree, rng: np.random.Generator) -> None:
    """A crown of lumps whose sunny side is bright."""
    window = canvas.window(Point(tree.x, tree.y).buffer(1.3 * tree.radius))
    if canvas.height[window].size == 0:
        return
    crown, alpha = _crown(canvas, tree, window, rng)
    rgb = (62, 86, 62) if tree.conifer else LEAVES[rng.integers(len(LEAVES))]
    tint = rng.normal(1, 0.08)
    material = Material((rgb[0] * tint, rgb[1] * tint, rgb[2] * tint), grain=0.14, mottle=0.08)
    light = np.clip(sunlit(crown), 0.4, 1.5)
    taller = crown > canvas.height[window]
    canvas.blend(window, np.where(taller, alpha, 0), canvas.textured(material, window), light)
    canvas.height[window] = np.where((alpha > 0.5) & taller, crown, canvas.height[window])


def _crown(canvas: Canvas, tree: Tree, window: Slices, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Height and opacity of a crown: a dome or a cone with a ragged edge and lumps."""
    x, y = canvas.grid(window)
    grain, mottle = canvas.grain[window], canvas.mottle[window]
    east, south = x - np.float32(tree.x), y - np.float32(tree.y)
    bearing = np.arctan2(south, east)
    ragged = [0.09 * np.sin(k * bearing + rng.uniform(0, 6.3)) for k in (2, 3, 5, 8)]
    edge = 1 + np.sum(ragged, axis=0)
    reach = np.hypot(east, south) / (tree.radius * edge) + 0.08 * grain + 0.06 * mottle
    dome = np.clip(1.05 - reach, 0, 1) if tree.conifer else np.sqrt(np.clip(1 - reach**2, 0, 1))
    tall = tree.radius * (2.4 if tree.conifer else 1.25) + 1.5
    crown = tall * (0.5 + 0.5 * dome) + min(1.0, tree.radius / 3) * (0.4 * mottle + 0.22 * grain)
    alpha = 0.95 * np.clip((1 - reach) * tree.radius / 0.45, 0, 1)
    return crown.astype(np.float32), alpha.astype(np.float32)
