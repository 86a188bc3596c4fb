"""Several processes that train together: they share what is scored, and score as one would."""

import csv
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from buildseg.classes import IGNORE
from buildseg.model_file import load_model
from buildseg.networks import build_network
from buildseg.tiles import open_tiles
from buildseg.training.dataset import WholeChips
from buildseg.training.losses import bce_dice_loss
from buildseg.training.processes import Processes
from test_training import bright_roofs, put

SCRIPT = Path(__file__).with_name("two_processes.py")


def together(folder, count, tiles):
    """Start so many processes as torchrun would, and give what each knows in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": 1, "GROUP_RANK": 0}
    started = []
    for rank in range(count):
        told = common | {"RANK": rank, "LOCAL_RANK": rank}
        environment = os.environ | {name: str(value) for name, value in told.items()}
        command = [sys.executable, SCRIPT, tiles, folder / "run"]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        said = [process.communicate(timeout=900)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * count, said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Three chips to validate on, which two processes cannot share evenly, each of a loss of its own."""
    folder = tmp_path_factory.mktemp("tiles")
    for number in range(80):
        put(folder / "train", f"{number}", *bright_roofs(seed=number))
    for number, side in enumerate((64, 96, 160)):
        put(folder / "val", f"{number}", *bright_roofs(side, seed=100 + number))
    return folder


def scored(model, chips):
    """Score a model chip by chip, by counting pixels."""
    losses, counts = [], []
    for number in range(len(chips)):
        image, target, _ = chips[number]
        with torch.inference_mode():
            logits = model.network(image[None])
        found, truth, known = logits[0, 0] > 0, target == 1, target != IGNORE
        losses.append(bce_dice_loss(logits, target[None]).item())
        counts.append(
            [(found & truth).sum().item(), ((found | truth) & known).sum().item(), (found & known).sum().item()]
        )
    return losses, torch.tensor(counts, dtype=torch.float64)


def test_two_processes_score_their_model_as_one_would(tiles, tmp_path):
    first, second = together(tmp_path, 2, tiles)
    model = load_model(tmp_path / "run" / "last.safetensors")
    losses, counts = scored(model, WholeChips(open_tiles([tiles]).val, model.card.contract))
    both, either, found = counts.sum(dim=0).tolist()
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        (row,) = ({name: float(value) for name, value in row.items()} for row in csv.DictReader(file))
    assert 0 < both < either and max(losses) - min(losses) > 1e-3
    assert row["val_iou"] == pytest.approx(both / either, rel=1e-5)
    assert row["val_f1"] == pytest.approx(2 * both / (both + either), rel=1e-5)
    assert row["val_precision"] == pytest.approx(both / found, rel=1e-5)
    assert row["val_loss"] == pytest.approx(sum(losses) / 3, rel=1e-4)
    assert first["scores"] == second["scores"] == pytest.approx(dict(model.card.scores))
    for one in (first, second):
        assert one["ious"] == pytest.approx((counts[:, 0] / counts[:, 1]).tolist(), rel=1e-5)
    steps = [*first["losses"], *second["losses"]]
    assert len(first["losses"]) == len(second["losses"]) == 20 and first["losses"] != second["losses"]
    assert row["train_loss"] == pytest.approx(sum(steps) / 40, rel=1e-5)


@given(st.integers(1, 40), st.integers(1, 9))
def test_processes_share_chips_evenly_and_none_stands_idle(chips, count):
    shares = [list(Processes(rank, count, count).share(chips)) for rank in range(count)]
    times = [sum(share.count(chip) for share in shares) for chip in range(chips)]
    assert set(times) == ({1} if chips >= count else {count})
    assert all(shares) and max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("encoder", ["tu-resnet10t", "tu-efficientnet_lite0"])
def test_batches_of_several_gpus_are_normalised_together(encoder):
    """What is computed stays: layers of timm hold an activation behind their normalisation."""
    network = build_network("unet", encoder=encoder, encoder_weights=None).eval()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.inference_mode():
        before = network(image)
    names = list(network.state_dict())
    for group, device in ((Processes(0, 1, 1), "cuda"), (Processes(0, 2, 2), "cpu")):
        group.normalise_together(network, torch.device(device))
        assert not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
    Processes(0, 2, 2).normalise_together(network, torch.device("cuda", 0))
    assert norms and all(isinstance(network.get_submodule(name), nn.SyncBatchNorm) for name in norms)
    with torch.inference_mode():
        assert torch.allclose(network(image), before, atol=1e-5) and math.isfinite(before.sum())
    assert list(network.state_dict()) == names
