"""A model without training, for tests of all that is around one: bright pixels are building."""

import torch

from buildseg.contract import Contract
from buildseg.model_file import Model, ModelCard
from buildseg.networks import Architecture, NetworkOutput, SegmentationNetwork


class Brightness(SegmentationNetwork):
    """Gives the mean of the bands, steepened, as logits."""

    stride = 1

    def __init__(self, bands):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(6.0))
        self.architecture = Architecture("brightness", bands, 1, None)

    def predict(self, x):
        return NetworkOutput(self.gain * x.mean(dim=1, keepdim=True))


def bright_model(bands=("red", "green", "blue"), dtype="uint8", gsd=None, window=64, coarsest_gsd=None):
    """Build it; pixels of value 100 stand on the threshold."""
    count = len(bands)
    contract = Contract(bands, dtype, (100.0,) * count, (50.0,) * count, gsd, window, coarsest_gsd)
    return Model(Brightness(count).eval(), ModelCard({"name": "brightness"}, contract))
