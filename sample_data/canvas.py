"""The drawing surface of the sample scene: shapes in metres, materials, noise, sunlight and the sensor.

Everything is drawn twice, as colour and as height above the ground. The heights then cast the shadows, so
that all of them agree with the one sun. Coordinates are metres from the scene's upper left corner, x to
the right and y down.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

SIZE = 2048
GSD = 0.3
SUN_AZIMUTH = np.radians(152.0)
SUN_ELEVATION = np.radians(46.0)
SKYLIGHT = np.array([0.24, 0.29, 0.37], dtype=np.float32)

Floats = NDArray[np.float32]
Rgb = tuple[float, float, float]
Slices = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: centre, length along its own u axis and width along v in metres, angle in radians."""

    x: float
    y: float
    length: float
    width: float
    angle: float = 0.0

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Place of a point given along the box's own axes."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return float(self.x + u * cos - v * sin), float(self.y + u * sin + v * cos)

    def inner(self, u: float, v: float, length: float, width: float) -> "Box":
        """A box with the same axes, its centre given along them."""
        return Box(*self.at(u, v), length, width, self.angle)

    def turned(self, u: float, v: float, length: float, width: float) -> "Box":
        """A box across this one, its centre given along this one's axes."""
        return Box(*self.at(u, v), length, width, self.angle + np.pi / 2)

    def polygon(self) -> Polygon:
        """The four corners as a polygon."""
        half_u, half_v = self.length / 2, self.width / 2
        return Polygon(
            [self.at(u, v) for u, v in ((-half_u, -half_v), (half_u, -half_v), (half_u, half_v), (-half_u, half_v))]
        )

    def local(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Coordinates along the box's own axes of points in the scene."""
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        east, south = x - np.float32(self.x), y - np.float32(self.y)
        return east * cos + south * sin, south * cos - east * sin

    def coverage(self, u: Floats, v: Floats) -> Floats:
        """Share of each pixel inside the box, 0 to 1, from the distance of its centre to the edge."""
        inside = np.minimum(self.length / 2 - np.abs(u), self.width / 2 - np.abs(v))
        return np.clip(0.5 + inside / GSD, 0, 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Material:
    """A colour (0 to 255) and how it varies: a second one in patches, relative noise at three sizes."""

    rgb: Rgb
    other: Rgb | None = None
    grain: float = 0.05
    mottle: float = 0.04
    patches: float = 0.05


def noise(rng: np.random.Generator, cell: float) -> Floats:
    """Smooth unit-variance noise over the whole scene whose features are about `cell` pixels wide."""
    coarse = rng.standard_normal((int(SIZE / cell) + 2,) * 2).astype(np.float32)
    place = np.arange(SIZE) / cell
    left = place.astype(int)
    weight = (place - left).astype(np.float32)
    weight = weight * weight * (3 - 2 * weight)
    rows = coarse[left] * (1 - weight)[:, None] + coarse[left + 1] * weight[:, None]
    smooth = rows[:, left] * (1 - weight) + rows[:, left + 1] * weight
    return np.asarray(smooth / smooth.std(), dtype=np.float32)


def sunlit(height: Floats) -> Floats:
    """Brightness of a surface by its slope towards the sun, 1 where it is level."""
    down, right = np.gradient(height, GSD)
    sun = np.array([np.sin(SUN_AZIMUTH), -np.cos(SUN_AZIMUTH)]) * np.cos(SUN_ELEVATION)
    facing = np.sin(SUN_ELEVATION) - right * sun[0] - down * sun[1]
    facing = facing / np.sqrt(1 + right**2 + down**2) / np.sin(SUN_ELEVATION)
    return np.asarray(np.clip(facing, 0.05, None) ** 1.1, dtype=np.float32)


@dataclass(slots=True)
class Canvas:
    """Colour, sunlight by slope, and height of every pixel, with the noise that materials take from."""

    rng: np.random.Generator
    colour: Floats = field(init=False)
    light: Floats = field(init=False)
    height: Floats = field(init=False)
    grain: Floats = field(init=False)
    mottle: Floats = field(init=False)
    patches: Floats = field(init=False)
    blotches: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.colour = np.zeros((SIZE, SIZE, 3), dtype=np.float32)
        self.light = np.ones((SIZE, SIZE), dtype=np.float32)
        self.height = np.zeros((SIZE, SIZE), dtype=np.float32)
        self.grain = 0.8 * noise(self.rng, 1.6) + 0.6 * noise(self.rng, 2.7)
        self.mottle = 0.8 * noise(self.rng, 5) + 0.6 * noise(self.rng, 9)
        self.patches = 0.8 * noise(self.rng, 23) + 0.6 * noise(self.rng, 51)
        self.blotches = self.patches + 0.5 * self.mottle + noise(self.rng, 170)

    def window(self, shape: BaseGeometry, margin: float = 1.0) -> Slices:
        """Rows and columns around a shape, cut to the scene."""
        left, top, right, bottom = shape.bounds
        columns = np.clip([(left - margin) / GSD, (right + margin) / GSD], 0, SIZE).astype(int)
        rows = np.clip([(top - margin) / GSD, (bottom + margin) / GSD], 0, SIZE).astype(int)
        if min(np.ptp(rows), np.ptp(columns)) < 2:
            return slice(0, 0), slice(0, 0)
        return slice(*map(int, rows)), slice(*map(int, columns))

    def grid(self, window: Slices) -> tuple[Floats, Floats]:
        """The x and y of the pixel centres in a window, in metres."""
        y, x = np.mgrid[window].astype(np.float32)
        return (x + np.float32(0.5)) * np.float32(GSD), (y + np.float32(0.5)) * np.float32(GSD)

    def textured(self, material: Material, window: Slices) -> Floats:
        """The material's colours over a window."""
        rgb = np.asarray(material.rgb, dtype=np.float32)
        colour = np.broadcast_to(rgb, (*self.height[window].shape, 3))
        if material.other is not None:
            mix = 1 / (1 + np.exp(-1.6 * self.blotches[window]))
            colour = colour + mix[..., None] * (np.asarray(material.other, dtype=np.float32) - rgb)
        wobble = material.grain * self.grain[window] + material.mottle * self.mottle[window]
        wobble = wobble + material.patches * self.patches[window]
        return np.asarray(colour * (1 + wobble)[..., None], dtype=np.float32)

    def blend(self, window: Slices, alpha: Floats, colour: Floats, light: Floats | float = 1.0) -> None:
        """Lay colour and light over a window with the given opacity."""
        self.colour[window] += alpha[..., None] * (colour - self.colour[window])
        self.light[window] += alpha * (light - self.light[window])

    def paint(self, shape: BaseGeometry, material: Material, opacity: float = 1.0) -> None:
        """Cover a flat shape on the ground with a material."""
        window = self.window(shape)
        rows, columns = (part.stop - part.start for part in window)
        if shape.is_empty or rows < 1 or columns < 1:
            return
        fine = 3 if rows * columns < SIZE * SIZE / 4 else 2
        corner = Affine.translation(window[1].start * GSD, window[0].start * GSD) @ Affine.scale(GSD / fine)
        mask = rasterize([shape], out_shape=(rows * fine, columns * fine), transform=corner, dtype="uint8")
        alpha = mask.reshape(rows, fine, columns, fine).mean(axis=(1, 3), dtype=np.float32)
        self.blend(window, alpha * np.float32(opacity), self.textured(material, window))

    def stack(self, box: Box, material: Material, rise: float) -> None:
        """Put a box on whatever is there: a car, a chimney, machinery; one without height lies on the slope."""
        window = self.window(box.polygon(), 0.6)
        if self.height[window].size == 0:
            return
        alpha = box.coverage(*box.local(*self.grid(window)))
        light = self.light[window] if rise < 0.1 else 1.0
        self.blend(window, alpha, self.textured(material, window), light)
        self.height[window] += np.where(alpha > 0.5, np.float32(rise), np.float32(0))

    def shadow(self) -> NDArray[np.bool_]:
        """Which pixels the heights hide from the sun."""
        east, south = -np.sin(SUN_AZIMUTH), np.cos(SUN_AZIMUTH)
        dark = np.zeros(self.height.shape, dtype=bool)
        reach = int(np.ceil(self.height.max() / np.tan(SUN_ELEVATION) / GSD))
        for step in range(1, reach + 1):
            across, down = round(step * east), round(step * south)
            drop = np.float32(np.hypot(across, down) * GSD * np.tan(SUN_ELEVATION) + 0.2)
            to, away = _shifted(down, across), _shifted(-down, -across)
            dark[to] |= self.height[away] - drop > self.height[to]
        return dark

    def photograph(self) -> NDArray[np.uint8]:
        """Light the scene and take its picture: haze, blur of the optics, noise of the sensor."""
        lit = np.where(self.shadow(), np.float32(0), np.float32(1))[..., None]
        sun = _blurred(lit, 0.8) * self.light[..., None]
        picture = self.colour * (SKYLIGHT + (1 - SKYLIGHT) * sun)
        picture = _blurred(picture, 0.55)
        picture = picture * np.float32(0.96) + np.array([5, 8, 10], dtype=np.float32)
        shot = self.rng.standard_normal(picture.shape, dtype=np.float32)
        common = self.rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32)
        picture += 1.2 * shot + 2.2 * common
        return np.asarray(np.clip(np.rint(picture), 0, 255), dtype=np.uint8)


def _shifted(down: int, across: int) -> Slices:
    return slice(max(down, 0), SIZE + min(down, 0)), slice(max(across, 0), SIZE + min(across, 0))


def _blurred(picture: Floats, sigma: float) -> Floats:
    taps = np.exp(-0.5 * (np.arange(-2, 3) / sigma) ** 2).astype(np.float32)
    taps /= taps.sum()
    padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)), mode="edge")
    rows = sum(tap * padded[k : k + SIZE] for k, tap in enumerate(taps))
    return np.asarray(sum(tap * rows[:, k : k + SIZE] for k, tap in enumerate(taps)), dtype=np.float32)
