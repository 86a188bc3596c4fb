"""`buildseg predict`."""


def predict() -> None:
    """To come."""
