"""What every network returns, so that training knows none of them by name."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class AuxiliaryLogits:
    """Logits that exist for the sake of the loss.

    Attributes:
        logits: (N, classes, H, W), of the input's size.
        weight: What their loss is multiplied by before it is added to the main one.
    """

    logits: Tensor
    weight: float


@dataclass(frozen=True, slots=True)
class NetworkOutput:
    """What a network in training mode returns.

    Attributes:
        logits: The prediction, (N, classes, H, W), of the input's size.
        auxiliary: Further logits to train with; often none.
    """

    logits: Tensor
    auxiliary: tuple[AuxiliaryLogits, ...] = ()
