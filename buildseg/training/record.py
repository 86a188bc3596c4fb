"""The record of a run: a YAML file with every option, from which the run can be repeated."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from buildseg.training.options import GROUPS, PLAIN, NetworkChoice, TrainOptions
from tiling.errors import OptionError
from tiling.output import written_whole

RECORD = "run.yaml"
# Where training goes on from a model, its learning rate is this of the usual one, unless told.
_GENTLE = 0.1
_HEAD = "# Every option of this run. To repeat it: buildseg train --config run.yaml --out FOLDER\n"
_NETWORK: dict[str, Any] = {
    "model": str | None,
    "network": str | None,
    "encoder": str | None,
    "encoder_weights": str | None,
    "option": dict[str, Any],
    "boundaries": bool | None,
}
_TILES: dict[str, Any] = {"tiles": list[str], "classes": int}


@dataclass(frozen=True, slots=True)
class Run:
    """All that decides a run.

    Attributes:
        tiles: Their folders.
        classes: Classes that their masks tell apart.
        choice: Which network.
        options: How it is trained.
    """

    tiles: Sequence[Path]
    classes: int
    choice: NetworkChoice
    options: TrainOptions

    def flat(self) -> dict[str, Any]:
        """Give everything by the name of its option on the command line, as YAML's values."""
        choice = self.choice
        weights = choice.encoder_weights
        network = {
            "model": str(choice.start.resolve()) if choice.start else None,
            "network": None if choice.start else choice.name,
            "encoder": choice.encoder,
            "encoder_weights": str(Path(weights).resolve()) if weights and Path(weights).is_file() else weights,
            "option": dict(choice.options),
            "boundaries": choice.boundary,
        }
        tiles = {"tiles": [str(folder.resolve()) for folder in self.tiles], "classes": self.classes}
        return tiles | network | self.options.flat()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Run":
        """Make it from options by their names on the command line.

        Args:
            values: See `flat`; those that are missing are at their defaults.
        """
        model = values.get("model")
        choice = NetworkChoice(
            Path(model) if model else None,
            values.get("network") or NetworkChoice().name,
            values.get("encoder"),
            values.get("encoder_weights"),
            values.get("option") or {},
            values.get("boundaries"),
        )
        options = TrainOptions.of(values)
        if model and values.get("learning_rate") is None:
            gentle = replace(options.optimizer, learning_rate=_GENTLE * options.optimizer.rate)
            options = replace(options, optimizer=gentle)
        folders = [Path(folder) for folder in values["tiles"]]
        return cls(folders, values.get("classes", 1), choice, options)


def write_record(path: Path, run: Run) -> None:
    """Write the record of a run.

    Args:
        path: File to write; an existing one is replaced.
        run: What to record.
    """
    values = run.flat()
    sections = {"Tiles": list(_TILES), "Network": list(_NETWORK), "Run": list(PLAIN)}
    sections |= {name.capitalize(): [each.name for each in fields(group)] for name, group in GROUPS.items()}
    text = _HEAD
    for title, names in sections.items():
        part = {name: values[name] for name in names}
        text += f"\n# {title}\n{yaml.safe_dump(part, sort_keys=False, allow_unicode=True)}"
    with written_whole(path, overwrite=True) as partial:
        partial.write_text(text, encoding="utf-8")


def read_record(path: Path) -> dict[str, Any]:
    """Read options from a record, or from any YAML file that has some of them.

    Args:
        path: The file.

    Returns:
        Values by the names of options on the command line.

    Raises:
        OptionError: The file is missing or no YAML, or holds an unknown option or a value of another type.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OptionError(f"--config {path} does not exist; give the {RECORD} of a run") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" cannot be read as YAML in line {mark.line + 1}" if mark else " cannot be read as YAML"
        raise OptionError(f"--config {path}{line}; give the {RECORD} of a run") from error
    if not isinstance(content, dict):
        raise OptionError(f"--config {path} holds no options by name; give the {RECORD} of a run")
    kinds = _kinds()
    found = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in kinds:
            close = difflib.get_close_matches(name, kinds, n=1)
            guess = f"did you mean {close[0]}?" if close else "see buildseg train --help"
            raise OptionError(f"--config {path} has an unknown option {key}; {guess}")
        found[name] = _typed(path, name, value, kinds[name])
    return found


def _kinds() -> dict[str, Any]:
    """What each option may be."""
    kinds = _TILES | _NETWORK
    for group in (TrainOptions, *GROUPS.values()):
        kinds |= {
            name: kind for name, kind in get_type_hints(group).items() if group is not TrainOptions or name in PLAIN
        }
    return kinds


def _typed(path: Path, name: str, value: Any, kind: Any) -> Any:  # noqa: ANN401 - what YAML holds
    allowed = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if value is None and type(None) in allowed:
        return None
    wanted = str if get_origin(allowed[0]) is Literal else get_origin(allowed[0]) or allowed[0]
    if wanted is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML takes 1e-3 for a word
        except ValueError:
            pass
    if wanted is list and isinstance(value, str):
        return [value]
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        words = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", list: "a list"}
        raise OptionError(f"--config {path}: {name} is {value!r}; give {words.get(wanted, 'names and values')}")
    return value
