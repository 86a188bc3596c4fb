"""Every error that buildseg raises on purpose, in one tree.

It stands in the lowest layer so that every layer can raise from it::

    BuildsegError                     exit code 1
    ├── OptionError (ValueError)                2   an option's value, or two options that conflict
    ├── SceneError (ValueError)                10   the scene: unreadable, not georeferenced, wrong bands
    ├── LabelError (ValueError)                11   the labels: no CRS, empty, no polygons, elsewhere
    ├── TilesError (ValueError)                12   the tiles folder: empty, unpaired, wrong sizes or values
    ├── ModelFileError (ValueError)            13   the model file: not one, damaged, too new
    ├── ContractError (ValueError)             14   a scene that the model was not made for
    ├── ProbabilityError (ValueError)          15   a raster that is no probability raster
    ├── WeightsError (RuntimeError)            16   pretrained encoder weights that cannot be had
    ├── TrainingError (RuntimeError)           17   training that cannot go on
    ├── FootprintsError (ValueError)           18   a footprint file: missing, unreadable, no CRS, no polygons
    ├── ScoreError (RuntimeError)              19   a score that fails what was asked of it
    └── OutputError (OSError)                  20   the output: exists, folder missing, read-only

Each message says what is wrong, where, and what to do about it. The command line prints it in one
line and exits with the class's ``exit_code``.
"""

from typing import ClassVar


class BuildsegError(Exception):
    """Root of the tree.

    Attributes:
        exit_code: What the command line exits with.
    """

    exit_code: ClassVar[int] = 1


class OptionError(BuildsegError, ValueError):
    """An option's value is out of range, or two options conflict."""

    exit_code = 2


class SceneError(BuildsegError, ValueError):
    """A scene cannot be read, has no place on earth, or lacks the bands asked for."""

    exit_code = 10


class LabelError(BuildsegError, ValueError):
    """Labels have no CRS, are empty, are no polygons, or lie elsewhere."""

    exit_code = 11


class TilesError(BuildsegError, ValueError):
    """A tiles folder is empty, unpaired, or holds masks that are no masks."""

    exit_code = 12


class ModelFileError(BuildsegError, ValueError):
    """A model file is not one, is damaged, or comes from a newer version."""

    exit_code = 13


class ContractError(BuildsegError, ValueError):
    """A scene does not meet the model's contract and cannot be converted."""

    exit_code = 14


class ProbabilityError(BuildsegError, ValueError):
    """A raster is not a probability raster."""

    exit_code = 15


class WeightsError(BuildsegError, RuntimeError):
    """Pretrained encoder weights cannot be loaded."""

    exit_code = 16


class TrainingError(BuildsegError, RuntimeError):
    """Training cannot start or go on."""

    exit_code = 17


class FootprintsError(BuildsegError, ValueError):
    """A file of footprints cannot be read, has no CRS, or holds no polygons."""

    exit_code = 18


class ScoreError(BuildsegError, RuntimeError):
    """A score is not as good as it has to be."""

    exit_code = 19


class OutputError(BuildsegError, OSError):
    """An output exists already, or its folder is missing or read-only."""

    exit_code = 20
