"""The model file: one safetensors file with the weights and, as JSON in its header, all that goes with them."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from buildseg import __version__
from buildseg.contract import Contract
from buildseg.networks import SegmentationNetwork, build_again
from tiling.errors import BuildsegError, ModelFileError
from tiling.output import written_whole

FORMAT_VERSION = 1
_KEY = "buildseg"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """All of a model file but its weights.

    Attributes:
        architecture: Arguments of `build_network`, without the encoder's weights.
        contract: What the network expects of its input.
        training: Data, options and versions that made the weights.
        scores: What the weights reached, by name.
    """

    architecture: Mapping[str, Any]
    contract: Contract
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """The network's name, and on which encoder it stands."""
        name, encoder = self.architecture["name"], self.architecture.get("encoder")
        return f"{name} on {encoder}" if encoder else str(name)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A network with its card.

    Attributes:
        network: In evaluation mode.
        card: What it is and expects.
    """

    network: SegmentationNetwork
    card: ModelCard


def save_model(
    path: Path, network: SegmentationNetwork, card: ModelCard, *, storage: torch.dtype = torch.float32
) -> None:
    """Write a model file; an existing one is replaced at once when the new one is whole.

    Args:
        path: The file to write.
        network: Its weights are taken.
        card: What goes with them.
        storage: Type for weights of two dimensions and more. Others, batch statistics among them, keep theirs.

    Raises:
        OutputError: The file cannot be written.
    """
    record = {"format": FORMAT_VERSION, "made_by": f"buildseg {__version__}", **asdict(card)}
    weights = {name: _stored(value, storage) for name, value in network.state_dict().items()}
    with written_whole(path, overwrite=True) as partial:
        partial.write_bytes(save(weights, metadata={_KEY: json.dumps(record)}))


def load_model(path: Path | None = None) -> Model:
    """Read a model file and build its network, on the CPU and in evaluation mode.

    Args:
        path: The file; None takes the model that comes with the package.

    Raises:
        ModelFileError: It is no model file, is damaged, or comes from a newer buildseg.
    """
    if path is None:
        with shipped_model() as shipped:
            return load_model(shipped)
    card = read_card(path)
    try:
        network = build_again(card.architecture)
        with safetensors.safe_open(path, framework="pt") as file:
            network.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    except (BuildsegError, RuntimeError, KeyError, TypeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ModelFileError(f"{path}: weights and architecture do not fit ({reason}); get the file again") from error
    return Model(network.eval(), card)


def read_card(path: Path) -> ModelCard:
    """Read what a model file says of itself, without its weights.

    Args:
        path: The file.

    Raises:
        ModelFileError: It is no model file, is damaged, or comes from a newer buildseg.
    """
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist; check the path of the model file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})[_KEY])
        version = int(record["format"])
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ModelFileError(
            f"{path} is not a buildseg model file, or is cut short; give a .safetensors file that buildseg train wrote"
        ) from error
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} was made by {record.get('made_by', 'a newer buildseg')} in model format {version}, and this is "
            f"buildseg {__version__}, which reads up to {FORMAT_VERSION}; update buildseg"
        )
    try:
        return ModelCard(
            architecture=dict(record["architecture"]),
            contract=Contract(**record["contract"]),
            training=dict(record["training"]),
            scores=dict(record["scores"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: its description is damaged ({error}); get the file again") from error


def shipped_model() -> AbstractContextManager[Path]:
    """Lay the model that comes with the package open as a file, for the length of a with block."""
    return as_file(files("buildseg.models").joinpath("default.safetensors"))


def _stored(value: Tensor, storage: torch.dtype) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(storage) if value.is_floating_point() and value.dim() > 1 else value
