"""Building footprints from overhead imagery: tile, train, predict and vectorize."""

from importlib.metadata import version

__version__ = version("buildseg")
