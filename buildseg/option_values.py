"""What the options of networks and attention modules may be; every check names the option and says what it takes."""

from collections.abc import Sequence

from tiling.errors import OptionError


def share(option: str, value: float) -> float:
    """Check an option that is a share of what is dropped.

    Args:
        option: What the option is called.
        value: From 0 to below 1.

    Returns:
        The value.

    Raises:
        OptionError: It is something else.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise OptionError(f"{option} is from 0 to below 1, not {value!r}")
    return value


def one_of(option: str, value: str, allowed: Sequence[str]) -> str:
    """Check an option that is one of a few words.

    Args:
        option: What the option is called.
        value: The word.
        allowed: The words there are.

    Returns:
        The word.

    Raises:
        OptionError: It is another.
    """
    if value not in allowed:
        raise OptionError(f"{option} {value!r} is none of {', '.join(allowed)}")
    return value


def flag(option: str, value: bool) -> bool:
    """Check an option that is on or off.

    Args:
        option: What the option is called.
        value: True or False.

    Returns:
        The value.

    Raises:
        OptionError: It is something else.
    """
    if not isinstance(value, bool):
        raise OptionError(f"{option} is true or false, not {value!r}")
    return value


def positive_numbers(option: str, values: Sequence[int], least: int, most: int) -> tuple[int, ...]:
    """Check an option that is a list of whole numbers.

    Args:
        option: What the option is called.
        values: The numbers, each at least 1.
        least: How many there are at least.
        most: How many there are at most.

    Returns:
        The numbers.

    Raises:
        OptionError: They are something else, or too few or too many.
    """
    whole = isinstance(values, Sequence) and all(
        isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values
    )
    if not whole or not least <= len(values) <= most:
        many = f"{least}" if least == most else f"{least} to {most}"
        raise OptionError(f"{option} takes {many} positive whole numbers, not {values!r}")
    return tuple(values)


def whole_number(option: str, value: int, least: int = 1) -> int:
    """Check an option that is a whole number.

    Args:
        option: What the option is called.
        value: The number.
        least: What it is at least.

    Returns:
        The number.

    Raises:
        OptionError: It is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{option} is a whole number, {least} or more, not {value!r}")
    return value
