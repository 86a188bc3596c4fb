"""What a comparison gives, for people and for machines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyproj

from buildseg import __version__
from buildseg.evaluation.measures import KEYS
from buildseg.evaluation.objects import Objects
from buildseg.evaluation.scores import Scores
from buildseg.evaluation.views import Gallery
from tiling.errors import OptionError, ScoreError
from tiling.output import written_whole

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A comparison and what it was made of.

    Attributes:
        scores: All that was measured.
        objects: Both sides, building by building.
        about: What was compared, where and how, as JSON values by name.
        gallery: Pictures of it.
        metric: The projection that buildings are in; None for chips, which have no place.
        crs: The CRS of the truth; None for chips.
    """

    scores: Scores
    objects: Objects
    about: Mapping[str, Any]
    gallery: Gallery
    metric: pyproj.CRS | None = None
    crs: pyproj.CRS | None = None

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values, under keys that do not change."""
        scores = self.scores
        return {
            "version": FORMAT_VERSION,
            "made_by": f"buildseg {__version__}",
            "about": dict(self.about),
            "scores": dict(scores.values),
            "intervals": {key: list(interval) for key, interval in scores.intervals.items()},
            "blocks": scores.blocks,
            "sizes": [each._asdict() for each in scores.sizes],
            "reliability": [each._asdict() for each in scores.reliability],
        }


def write_json(evaluation: Evaluation, target: Path, *, overwrite: bool = False) -> None:
    """Write the scores for other programs.

    Args:
        evaluation: The comparison.
        target: The file to write.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists or cannot be written.
    """
    with written_whole(target, overwrite=overwrite) as partial:
        partial.write_text(json.dumps(evaluation.to_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_limits(pairs: Sequence[str], flag: str) -> dict[str, float]:
    """Read limits of scores.

    Args:
        pairs: Each ``key=number``, the key one of the JSON's scores.
        flag: The option, for messages.

    Raises:
        OptionError: One is no such pair.
    """
    limits = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        if key.strip() not in KEYS:
            raise OptionError(f"{flag} {pair}: there is no score {key.strip()}; choose from {', '.join(KEYS)}")
        try:
            limits[key.strip()] = float(text)
        except ValueError as error:
            raise OptionError(f"{flag} {pair} is no NAME=NUMBER, such as iou=0.7") from error
    return limits


def check_limits(scores: Scores, under: Mapping[str, float], over: Mapping[str, float]) -> None:
    """Hold scores to their limits.

    Args:
        scores: What was measured.
        under: The least that each may be.
        over: The most that each may be.

    Raises:
        ScoreError: One fails, or cannot be measured.
    """
    failed = []
    for limits, flag in ((under, "--fail-under"), (over, "--fail-over")):
        for key, limit in limits.items():
            value = scores.values[key]
            if value is None:
                failed.append(f"{key} could not be measured, so {flag} {key}={limit:g} does not hold")
            elif value < limit if limits is under else value > limit:
                failed.append(f"{key} is {value:.4f}, {flag[7:]} the limit of {limit:g}")
    if failed:
        raise ScoreError(f"{'; '.join(failed)}; look at the errors with --report or --errors")
