"""The model file: weights and card in one safetensors file, and what is none."""

import json
import pickle

import numpy as np
import pytest
import safetensors
import torch
from safetensors.numpy import save_file

from buildseg import __version__
from buildseg.contract import Contract
from buildseg.describe import describe
from buildseg.model_file import _KEY, FORMAT_VERSION, ModelCard, load_model, read_card, save_model, shipped_model
from buildseg.networks import build_network
from tiling.errors import ModelFileError, OutputError

CONTRACT = Contract(("red", "green", "blue"), "uint8", (90.5, 100, 80), (40, 41.25, 42), 0.3, 256)
TRAINING = {"tiles": ["geneva"], "train_chips": 12, "options": {"epochs": 3}, "versions": {"buildseg": "0.1.0"}}
SCORES = {"val_iou": 0.75, "val_f1": 0.857, "epoch": 3.0}


@pytest.fixture(scope="module")
def network():
    """A small network whose batch statistics are not those of a new one."""
    torch.manual_seed(0)
    built = build_network("psa-unet", encoder="tu-resnet10t", decoder_channels=[32, 24, 16, 16, 8])
    with torch.no_grad():
        for _ in range(3):
            built(torch.randn(2, 3, 64, 64) * 2 + 1)
    return built.eval()


@pytest.fixture(scope="module")
def card(network):
    architecture = network.architecture
    fields = {name: getattr(architecture, name) for name in ("name", "in_channels", "classes", "encoder", "options")}
    return ModelCard(fields, CONTRACT, TRAINING, SCORES)


@pytest.fixture(scope="module")
def saved(network, card, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, network, card)
    return path


@pytest.fixture
def image():
    return torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))


def answer(network, image):
    with torch.inference_mode():
        return torch.sigmoid(network(image))


# ---- there and back


def test_what_was_saved_comes_back(network, card, saved, image):
    model = load_model(saved)
    assert not model.network.training
    assert model.card == card
    stored, back = network.state_dict(), model.network.state_dict()
    assert stored.keys() == back.keys()
    assert all(torch.equal(stored[name], back[name]) and stored[name].dtype == back[name].dtype for name in stored)
    assert torch.equal(answer(model.network, image), answer(network, image))
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize(
    ("name", "options"),
    [("unet", {}), ("da-unet", {}), ("danet", {"encoder": "resnet18"})],
)
def test_every_network_comes_back_from_its_card(tmp_path, name, options, image):
    torch.manual_seed(1)
    built = build_network(name, **{"encoder": "tu-resnet10t"} | options).eval()
    architecture = {key: getattr(built.architecture, key) for key in built.architecture.__slots__}
    save_model(tmp_path / "m.safetensors", built, ModelCard(architecture, CONTRACT))
    model = load_model(tmp_path / "m.safetensors")
    assert model.card == ModelCard(architecture, CONTRACT)
    assert torch.equal(answer(model.network, image), answer(built, image))


def test_half_the_size_with_nearly_the_same_answer(network, card, saved, image, tmp_path):
    path = tmp_path / "half.safetensors"
    save_model(path, network, card, storage=torch.float16)
    assert path.stat().st_size < 0.55 * saved.stat().st_size
    with safetensors.safe_open(path, framework="pt") as file:
        kinds = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert any(tensor.dtype == torch.float16 for tensor in kinds.values())
    for name, tensor in kinds.items():
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.float16 if tensor.dim() > 1 else torch.float32), name
    loaded = load_model(path).network
    assert all(tensor.dtype == stored.dtype for tensor, stored in zip(loaded.parameters(), network.parameters()))  # noqa: B905
    difference = (answer(loaded, image) - answer(network, image)).abs().max()
    assert 0 < difference < 1e-2
    assert torch.equal(loaded.state_dict()["encoder.model.bn1.running_var"], network.encoder.model.bn1.running_var)


def test_the_card_is_json_in_the_header(saved):
    length = int.from_bytes(saved.read_bytes()[:8], "little")
    header = json.loads(saved.read_bytes()[8 : 8 + length])
    record = json.loads(header["__metadata__"][_KEY])
    assert record.keys() == {"format", "made_by", "architecture", "contract", "training", "scores"}
    assert record["format"] == FORMAT_VERSION and record["made_by"] == f"buildseg {__version__}"
    assert record["architecture"]["name"] == "psa-unet" and record["architecture"]["in_channels"] == 3
    assert record["architecture"]["options"]["decoder_channels"] == [32, 24, 16, 16, 8]
    assert record["contract"] == json.loads(json.dumps(CONTRACT.to_json()))
    assert (record["training"], record["scores"]) == (TRAINING, SCORES)


def test_saving_again_replaces_the_file_at_once(network, card, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_text("an older model")
    save_model(path, network, card)
    assert read_card(path) == card
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="does not exist"):
        save_model(tmp_path / "nowhere" / "m.safetensors", network, card)


def test_no_pickle_is_read_or_written(network, card, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        pytest.fail("something is pickled")

    for module, names in (
        (pickle, ("load", "loads", "Unpickler", "dump", "dumps", "Pickler")),
        (torch, ("load", "save")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    save_model(tmp_path / "m.safetensors", network, card)
    assert load_model(tmp_path / "m.safetensors").card == card


def test_the_contract_scales_to_zero_mean_and_unit_spread():
    pixels = np.random.default_rng(0).integers(0, 255, (2, 3, 20, 30), np.uint8)
    scaled = CONTRACT.scale(pixels)
    assert scaled.dtype == np.float32
    expected = (pixels - np.array(CONTRACT.mean)[:, None, None]) / np.array(CONTRACT.std)[:, None, None]
    assert np.allclose(scaled, expected, atol=1e-5)
    flat = Contract(("gray",), "uint8", (7,), (0,), None, 256)
    assert np.array_equal(flat.scale(np.full((1, 4, 4), 7, np.uint8)), np.zeros((1, 4, 4)))


def test_a_model_is_described_to_a_person(saved):
    said = describe(saved)
    assert said["file"].startswith("model.safetensors, ") and "buildseg model" in said["file"]
    assert said["network"] == "psa-unet on tu-resnet10t"
    assert said["bands"] == "red, green, blue as uint8"
    assert said["resolution"] == "0.3 m per pixel" and said["window"] == "256 pixels"
    assert said["trained on"] == "12 chips of geneva; 3 epochs, buildseg 0.1.0"
    assert said["scores"] == "iou 0.75, f1 0.857, epoch 3"


# ---- what is no model file


def rewritten(saved, path, change):
    """The saved file with another record, the weights as they are."""
    with safetensors.safe_open(saved, framework="np") as file:
        record = json.loads(file.metadata()[_KEY])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    record, weights = change(record, weights)
    save_file(weights, path, metadata={_KEY: record if isinstance(record, str) else json.dumps(record)})


def renamed(key, value):
    def change(record, weights):
        parts = key.split(".")
        inner = record
        for part in parts[:-1]:
            inner = inner[part]
        inner[parts[-1]] = value
        return record, weights

    return change


def without(key):
    return lambda record, weights: ({name: value for name, value in record.items() if name != key}, weights)


def weights_without_one(record, weights):
    return record, dict(list(weights.items())[1:])


def weights_of_another_shape(record, weights):
    name = next(name for name, value in weights.items() if value.ndim == 4)
    return record, weights | {name: weights[name][:, :1]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist; check the path"),
        (b"", "not a buildseg model file"),
        (b"just words", "not a buildseg model file"),
        (np.random.default_rng(0).bytes(5000), "not a buildseg model file"),
        (b"\xff" * 64, "not a buildseg model file"),
        (0.001, "not a buildseg model file, or is cut short"),
        (0.5, "not a buildseg model file, or is cut short"),
        (0.999, "not a buildseg model file, or is cut short"),
    ],
    ids=["missing", "empty", "words", "noise", "ones", "header-cut", "half", "last-bytes-cut"],
)
def test_files_that_are_no_models(saved, tmp_path, content, says):
    path = tmp_path / "m.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_bytes(saved.read_bytes()[: int(saved.stat().st_size * content)])
    for function in (load_model, read_card, describe):
        with pytest.raises(ModelFileError) as caught:
            function(path)
        message = str(caught.value)
        assert message.startswith(str(path)) and says in message and "\n" not in message


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {_KEY: "{"}, {_KEY: "[]"}, {_KEY: '{"format": "new"}'}])
def test_safetensors_of_something_else(tmp_path, metadata):
    path = tmp_path / "m.safetensors"
    save_file({"w": np.zeros(3, np.float32)}, path, metadata=metadata)
    with pytest.raises(ModelFileError, match=r"is not a buildseg model file.*buildseg train wrote") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_a_newer_format_asks_for_an_update(saved, tmp_path):
    path = tmp_path / "m.safetensors"
    rewritten(saved, path, lambda record, weights: ({"format": 2, "made_by": "buildseg 9.1", "what": 1}, weights))
    with pytest.raises(ModelFileError, match=r"made by buildseg 9\.1 in model format 2.*up to 1; update buildseg"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("contract"), "description is damaged"),
        (without("architecture"), "description is damaged"),
        (without("scores"), "description is damaged"),
        (renamed("contract", {"bands": ["red"]}), "description is damaged"),
        (renamed("contract.mean", 3), "description is damaged"),
        (renamed("architecture", "unet"), "description is damaged"),
        (renamed("training", None), "description is damaged"),
        (renamed("architecture.name", "segmenter"), "weights and architecture do not fit"),
        (renamed("architecture.name", "unet"), "weights and architecture do not fit"),
        (renamed("architecture.encoder", "resnet18"), "weights and architecture do not fit"),
        (renamed("architecture.in_channels", 4), "weights and architecture do not fit"),
        (renamed("architecture.in_channels", "many"), "weights and architecture do not fit"),
        (renamed("architecture.options", {"colour": "red"}), "weights and architecture do not fit"),
        (renamed("architecture.options", 5), "weights and architecture do not fit"),
        (renamed("architecture.extra", 1), "weights and architecture do not fit"),
        (weights_without_one, "weights and architecture do not fit"),
        (weights_of_another_shape, "weights and architecture do not fit"),
    ],
)
def test_models_that_do_not_hold_together(saved, tmp_path, change, says):
    path = tmp_path / "m.safetensors"
    rewritten(saved, path, change)
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and says in message and "get the file again" in message
    assert "\n" not in message


def test_the_model_that_comes_along_is_small_and_names_no_folder():
    with shipped_model() as path:
        assert path.stat().st_size <= 15_000_000
        card = read_card(path)
    assert not any(
        "/" in str(value) for value in (*card.training["tiles"], card.training["network"]["encoder_weights"])
    )
