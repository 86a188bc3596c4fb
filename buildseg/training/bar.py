"""The bar that a person watches."""

import time
from datetime import timedelta

import lightning
from lightning.pytorch.callbacks import RichProgressBar


class RunBar(RichProgressBar):
    """Lightning's bar of an epoch, and what time is left to the whole run."""

    def __init__(self) -> None:
        super().__init__(leave=True)
        self._began: tuple[float, int] | None = None

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Give what stands beside the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        now, step = time.monotonic(), trainer.global_step
        if self._began is None:
            self._began = (now, step)
        began, first = self._began
        if step > first:
            seconds = (now - began) / (step - first) * max(0, int(trainer.estimated_stepping_batches) - step)
            metrics["left"] = str(timedelta(seconds=round(seconds)))
        return metrics
