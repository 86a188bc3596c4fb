"""What the numbers in a target and the channels of logits stand for."""

BACKGROUND = 0
BUILDING = 1
IGNORE = 255
"""A pixel without a label; so there are at most 255 classes."""
