"""A model as the engine wants it: arrays in, probabilities out."""

import numpy as np
import torch
from numpy.typing import NDArray

from buildseg.model_file import Model
from buildseg.networks.output import building_probability


class TorchNetwork:
    """Runs a model on a device, in channels-last memory and float32.

    Args:
        model: Of any number of classes.
        device: Where to run.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self.device = device
        self._network = model.network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict windows.

        Args:
            inputs: Scaled pixels, (N, bands, H, W).

        Returns:
            Building probabilities, (N, H, W), 0..1.
        """
        with torch.inference_mode():
            images = torch.from_numpy(inputs).to(self.device).contiguous(memory_format=torch.channels_last)
            logits = self._network(images)
            probability: NDArray[np.float32] = building_probability(logits).cpu().numpy()
            return probability
