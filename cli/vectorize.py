"""`buildseg vectorize`."""


def vectorize() -> None:
    """To come."""
