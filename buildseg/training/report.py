"""One HTML page that says how a run went."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from buildseg.page import html_figure, html_footer, html_keys, html_list, html_page, html_table
from buildseg.training.callbacks import CURVES, EXAMPLES
from tiling.output import written_whole

REPORT = "report.html"
_COLUMNS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_iou": "IoU",
    "val_f1": "F1",
    "val_precision": "precision",
    "val_recall": "recall",
    "val_boundary_f1": "F1 of boundaries",
}
_KEYS = ("val_iou", "val_f1", "val_precision", "val_recall")
_ROWS = 12


def write_report(
    folder: Path, history: Sequence[Mapping[str, float]], best: Mapping[str, float], options: Mapping[str, Any]
) -> None:
    """Write the page, with the pictures that lie in the run's folder.

    Args:
        folder: Of the run.
        history: Logged values of each epoch.
        best: Scores of the best model, and its epoch, from 1.
        options: Every option of the run, by name.
    """
    name = folder.resolve().name
    keys = [(_COLUMNS[key], f"{best[key]:.3f}", "validation") for key in _KEYS if key in best]
    tiles = ", ".join(Path(path).name for path in options["tiles"])
    network = Path(options["model"]).name if options["model"] else options["network"]
    body = (
        f'<h1>How well did {escape(name)} learn?</h1>\n<p class="soft">{escape(str(network))} on {escape(tiles)}; '
        f"best of {len(history)} epochs: {best['epoch']:.0f}.</p>\n{html_keys(keys)}"
        f"<h2>Curves</h2>\n{_picture(folder / CURVES, 'losses and scores over the epochs')}"
        f"<h2>The worst and the best chips</h2>\n{_picture(folder / EXAMPLES, 'of the best model')}"
        f'<h2>Epochs</h2>\n<div class="wide">{_epochs(history, int(best["epoch"]))}</div>\n'
        f"<h2>Every option</h2>\n{html_list({key.replace('_', ' '): _said(value) for key, value in options.items()})}"
        f"{html_footer()}"
    )
    with written_whole(folder / REPORT, overwrite=True) as partial:
        partial.write_text(html_page(f"{name}: training", body), encoding="utf-8")


def _picture(path: Path, caption: str) -> str:
    return html_figure(path.read_bytes(), "png", caption, caption) if path.exists() else ""


def _epochs(history: Sequence[Mapping[str, float]], best: int) -> str:
    """A table of some epochs, the best and the last among them."""
    step = -(-len(history) // _ROWS)
    shown = sorted({*range(1, len(history) + 1, step), best, len(history)})
    names = [name for name in _COLUMNS if name in history[0]]
    rows = [
        (f"{epoch}{' (best)' if epoch == best else ''}", *(f"{history[epoch - 1][name]:.3f}" for name in names))
        for epoch in shown
    ]
    return html_table("losses and scores", ("epoch", *(_COLUMNS[name] for name in names)), rows)


def _said(value: Any) -> str:  # noqa: ANN401 - an option
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "by default" if value is None else str(value)
