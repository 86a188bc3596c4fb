"""What the numbers in a target, the channels of logits and the bands of a probability raster stand for."""

BACKGROUND = 0
BUILDING = 1
BOUNDARY = 1
"""Of a boundary label: a pixel near the outline of one building, or between two that nearly touch."""
IGNORE = 255
"""A pixel without a label; so there are at most 255 classes."""
BAND_NAMES = ("building probability", "boundary probability")
"""Of a probability raster; of models that know no boundaries it has the first alone."""
