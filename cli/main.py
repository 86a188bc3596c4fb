"""The `buildseg` program: its commands, and how its errors reach a person."""

import errno
import logging
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from tiling.errors import BuildsegError, OutputError

from .evaluate import evaluate
from .explain import explain
from .info import info
from .merge import merge
from .models import models
from .predict import predict
from .preview import preview
from .tile import tile
from .train import train
from .vectorize import vectorize

INTERRUPTED = 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

app = typer.Typer(
    name="buildseg",
    help="From overhead images of any size to building footprints, and from labelled images to a model.",
    epilog="Start with: buildseg predict scene.tif --out buildings.geojson",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (tile, preview, train, predict, vectorize, merge, evaluate, explain, info, models):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from buildseg import __version__

        typer.echo(f"buildseg {__version__}")
        raise typer.Exit


@app.callback()
def common(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only results, warnings and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options of every command; they stand before its name."""
    logger = logging.getLogger("buildseg")
    logger.handlers = [_log_handler()]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


def run() -> None:
    """Run the program: a `BuildsegError`, or one of the system, becomes a line on standard error and its exit code."""
    debug = "--debug" in sys.argv
    try:
        app()
    except BuildsegError as error:
        if debug:
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)
    except OSError as error:  # a disk that is full, above all
        if debug:
            raise
        place = f"{error.filename}: " if error.filename else ""
        remedy = "; make room, or choose another folder" if error.errno in _FULL else ""
        sys.stderr.write(f"error: {place}{' '.join((error.strerror or str(error)).split())}{remedy}\n")
        sys.exit(OutputError.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        code = INTERRUPTED if isinstance(end, KeyboardInterrupt) else end.code
        if code == INTERRUPTED:  # of which Typer says nothing
            sys.stderr.write("interrupted\n")
        sys.exit(code)


def _log_handler() -> logging.Handler:
    console = Console(stderr=True)
    if console.is_terminal:
        return RichHandler(console=console, show_time=False, show_path=False, show_level=False)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler
