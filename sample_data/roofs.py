"""Buildings of the sample scene: what their roofs are made of, and how they are drawn."""

from dataclasses import dataclass

import numpy as np
from shapely import set_precision, union_all
from shapely.geometry import Polygon

from canvas import SUN_AZIMUTH, Box, Canvas, Floats, Material, Rgb, sunlit

TILES: tuple[Rgb, ...] = (
    (196, 138, 108),
    (182, 122, 94),
    (170, 112, 90),
    (150, 108, 92),
    (132, 102, 92),
    (166, 128, 108),
    (188, 150, 122),
    (120, 96, 90),
)
SLATES: tuple[Rgb, ...] = ((98, 102, 108), (84, 88, 96), (118, 120, 122), (72, 78, 88))
FLATS: tuple[Rgb, ...] = (
    (186, 186, 180),
    (168, 168, 164),
    (204, 204, 200),
    (150, 148, 142),
    (128, 128, 128),
    (222, 222, 218),
)
SHEETS: tuple[Rgb, ...] = (
    (206, 210, 210),
    (186, 194, 198),
    (168, 176, 182),
    (190, 186, 176),
    (222, 222, 220),
)
GRAINS = {"tile": (0.075, 0.045, 0.04), "sheet": (0.02, 0.012, 0.025), "flat": (0.05, 0.03, 0.045)}
MACHINE = Material((205, 207, 206), grain=0.05)
DARK_GLASS = Material((62, 72, 86), grain=0.04)
BRIGHT_GLASS = Material((226, 232, 232), grain=0.03)
PANEL = Material((44, 54, 78), grain=0.05)
BRICK = Material((140, 108, 96), grain=0.08)


@dataclass(frozen=True, slots=True)
class Part:
    """One rectangle of a roof: form ("gable", "hip", "flat", "saw"), eave height in metres, slope."""

    box: Box
    form: str
    eave: float
    slope: float = 0.5

    def surface(self, u: Floats, v: Floats) -> Floats:
        """Height of the roof above the ground, continued beyond its edge."""
        across, along = self.box.width / 2 - np.abs(v), self.box.length / 2 - np.abs(u)
        if self.form == "gable":
            climb = across
        elif self.form == "hip":
            climb = np.minimum(across, along)
        elif self.form == "saw":
            climb = np.mod(u + self.box.length / 2, 9.0)
        else:
            climb = np.zeros_like(u)
        return np.asarray(self.eave + self.slope * climb, dtype=np.float32)

    def crease(self, u: Floats, v: Floats) -> Floats:
        """1 on the ridge and hip lines, 0 elsewhere."""
        across, along = self.box.width / 2 - np.abs(v), self.box.length / 2 - np.abs(u)
        lines = np.zeros(u.shape, dtype=bool)
        if self.form == "gable":
            lines = np.abs(v) < 0.22
        elif self.form == "hip":
            lines = (np.abs(v) < 0.22) & (along > across) | (np.abs(across - along) < 0.25)
        return lines.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Building:
    """A building: its kind, the rectangles of its roof, what covers it, and the colour."""

    kind: str
    parts: tuple[Part, ...]
    cover: str
    rgb: Rgb

    def outline(self) -> Polygon:
        """The roof's outline, on a grid of a millimetre."""
        return set_precision(union_all([part.box.polygon() for part in self.parts]), 0.001)


def draw_building(canvas: Canvas, building: Building, rng: np.random.Generator) -> None:
    """Draw a roof and what stands on it."""
    window = canvas.window(building.outline())
    if canvas.height[window].size == 0:
        return
    x, y = canvas.grid(window)
    top = np.full(x.shape, -1, dtype=np.float32)
    alpha, light, tone = np.zeros_like(x), np.ones_like(x), np.ones_like(x)
    for part in building.parts:
        u, v = part.box.local(x, y)
        inside, surface = part.box.coverage(u, v), part.surface(u, v)
        mine = (inside > 0) & (surface > top)
        top = np.where(mine, surface, top)
        light = np.where(mine, sunlit(surface), light)
        tone = np.where(mine, _texture(building, part, u, v, rng) + 0.12 * part.crease(u, v), tone)
        alpha = np.maximum(alpha, inside)
    material = Material(building.rgb, None, *GRAINS[building.cover])
    canvas.blend(window, alpha, canvas.textured(material, window) * tone[..., None], light)
    canvas.height[window] = np.where(alpha >= 0.5, top, canvas.height[window])
    for part in building.parts:
        _furnish(canvas, building, part, rng)


def _texture(building: Building, part: Part, u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Relative brightness: courses of tiles, seams, sheets, or the stains of a flat roof."""
    length = part.box.length
    column = np.clip(((u + length / 2) / 0.6).astype(int), 0, int(length / 0.6) + 1)
    streaks = rng.normal(0, 1, int(length / 0.6) + 2)[column]
    if building.cover == "tile":
        tone = 1 + 0.05 * np.sin(2 * np.pi * v / 0.95) + 0.03 * streaks
    elif building.cover == "sheet":
        tone = 1 + 0.035 * np.sin(2 * np.pi * u / 1.1) + 0.025 * streaks
    else:
        tone = 1 + 0.012 * streaks
    if building.kind == "row":
        unit = np.clip(((u + length / 2) / 6.5).astype(int), 0, int(length / 6.5) + 1)
        tone = tone * rng.normal(1, 0.09, int(length / 6.5) + 2)[unit]
    if part.form in ("gable", "hip"):
        tone = tone - 0.10 * (part.box.width / 2 - np.abs(v) < 0.35)
    return np.asarray(tone, dtype=np.float32)


def _furnish(canvas: Canvas, building: Building, part: Part, rng: np.random.Generator) -> None:
    if part.form == "flat":
        _rim(canvas, building, part.box)
        _machinery(canvas, part.box, rng)
    elif building.kind == "hall":
        _skylight_bands(canvas, part.box)
    elif building.kind != "shed":
        _chimneys(canvas, part.box, rng)
        if building.kind in ("row", "court"):
            _dormers(canvas, building, part.box, rng)
        elif rng.random() < 0.14:
            sunny = 1 if np.cos(part.box.angle - SUN_AZIMUTH) < 0 else -1
            panels = part.box.inner(0, sunny * 0.25 * part.box.width, 5.5, 0.3 * part.box.width)
            canvas.stack(panels, PANEL, 0.05)


def _chimneys(canvas: Canvas, box: Box, rng: np.random.Generator) -> None:
    """Chimneys by the ridge, and windows in the slopes."""
    for _ in range(max(1, int(box.length / 9))):
        u, v = rng.uniform(-0.38, 0.38) * box.length, rng.choice([-1, 1]) * rng.uniform(0.5, 1.4)
        canvas.stack(box.inner(u, v, 0.9, 0.7), BRICK, 1.3)
    for _ in range(rng.integers(0, 4)):
        u, v = rng.uniform(-0.4, 0.4) * box.length, rng.choice([-1, 1]) * rng.uniform(0.2, 0.36) * box.width
        canvas.stack(box.inner(u, v, 0.8, 1.1), DARK_GLASS, 0.0)


def _dormers(canvas: Canvas, building: Building, box: Box, rng: np.random.Generator) -> None:
    """Boxes with a window, in a line along both slopes."""
    if rng.random() < 0.4:
        return
    for u in np.arange(-box.length / 2 + 3.3, box.length / 2 - 3, 6.5):
        for sign in (-1, 1):
            canvas.stack(box.inner(float(u), sign * 0.28 * box.width, 1.8, 2.0), Material(building.rgb), 0.9)


def _rim(canvas: Canvas, building: Building, box: Box) -> None:
    """The parapet."""
    red, green, blue = building.rgb
    rim = Material((1.1 * red, 1.1 * green, 1.1 * blue))
    for sign in (-1, 1):
        canvas.stack(box.inner(0, sign * (box.width / 2 - 0.2), box.length, 0.4), rim, 0.5)
        canvas.stack(box.inner(sign * (box.length / 2 - 0.2), 0, 0.4, box.width - 0.8), rim, 0.5)


def _machinery(canvas: Canvas, box: Box, rng: np.random.Generator) -> None:
    """A stair head, roof lights and air-conditioning units on a large flat roof."""
    area = box.length * box.width
    if area > 200:
        u, v = rng.uniform(-0.3, 0.3) * box.length, rng.uniform(-0.15, 0.15) * box.width
        canvas.stack(box.inner(u, v, 4.5, 3.2), MACHINE, 2.4)
    for _ in range(int(area / 90) + 1 if area > 60 else 0):
        u, v = rng.uniform(-0.42, 0.42) * box.length, rng.uniform(-0.36, 0.36) * box.width
        if rng.random() < 0.45:
            canvas.stack(box.inner(u, v, 1.4, 1.4), BRIGHT_GLASS, 0.3)
        else:
            unit = box.inner(u, v, rng.uniform(1.2, 3.0), rng.uniform(1.0, 2.0))
            canvas.stack(unit, MACHINE, rng.uniform(0.8, 1.6))


def _skylight_bands(canvas: Canvas, box: Box) -> None:
    for u in np.arange(-box.length / 2 + 7, box.length / 2 - 4, 9.0):
        for sign in (-1, 1):
            canvas.stack(box.inner(float(u), sign * 0.25 * box.width, 1.2, 0.32 * box.width), BRIGHT_GLASS, 0.0)
