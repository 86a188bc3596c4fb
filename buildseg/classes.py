"""What the numbers in a target and the channels of logits stand for."""

BACKGROUND = 0
BUILDING = 1
BOUNDARY = 1
"""Of a boundary label: a pixel near the outline of one building, or between two that nearly touch."""
IGNORE = 255
"""A pixel without a label; so there are at most 255 classes."""
