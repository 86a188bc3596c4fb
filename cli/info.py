"""`buildseg info`."""


def info() -> None:
    """To come."""
