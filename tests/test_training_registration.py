"""Labels moved to the image: losses of all shifts, the shift that is taken, moved labels, and a whole run."""

import csv
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bright_model import Brightness
from buildseg.classes import IGNORE
from buildseg.model_file import read_card
from buildseg.training.dataset import Sample
from buildseg.training.module import SegmentationModule
from buildseg.training.options import TrainOptions
from buildseg.training.record import read_record
from buildseg.training.registration import find_shifts, move_labels, registers, shift_losses
from test_cli_tile_train import ON_CPU, here  # noqa: F401 - a fixture
from test_training import bright_roofs, put, run, tiles_of
from tiling.errors import OptionError

COMMAND = ["train", "--network", "unet", "--encoder", "tu-resnet10t", "--encoder-weights", "none"]
COMMAND += ["--option", "decoder_channels=32,16,16,8,8", "--batch-size", 2, "--crop", 64, *ON_CPU]


def drawn(seed, shape, classes, ignored):
    """Logits that know nothing of the labels, of which a share is missing."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (shape[0], classes, *shape[1:])).astype(np.float32)
    target = random.integers(0, max(2, classes), shape).astype(np.uint8)
    target[random.random(shape) < ignored] = IGNORE
    return torch.from_numpy(logits), torch.from_numpy(target)


def logits_of(target, classes=1, scale=4.0):
    """Logits of a network that is right about the labels."""
    if classes == 1:
        return ((target == 1).float() * 2 - 1)[:, None] * scale
    return torch.stack([(target == number).float() * scale for number in range(classes)], dim=1)


def roofs(seeds, side=64):
    masks = [bright_roofs(side, seed)[1] for seed in seeds]
    return torch.from_numpy(np.stack(masks).astype(np.uint8))


def entropies_one_by_one(logits, target, reach):
    """Mean cross-entropies of one crop, pixel by pixel, and how many pixels each is of."""
    rows, cols = target.shape
    scores = logits.astype(float)
    scores = np.concatenate([np.zeros_like(scores), scores]) if len(scores) == 1 else scores
    side = 2 * reach + 1
    total, count = np.zeros((side, side)), np.zeros((side, side))
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            for row in range(reach, rows - reach):
                for col in range(reach, cols - reach):
                    label = target[row + down, col + right]
                    if IGNORE in (label, target[row, col]):
                        continue
                    score = scores[:, row, col]
                    total[reach + down, reach + right] += np.log(np.exp(score).sum()) - score[label]
                    count[reach + down, reach + right] += 1
    return total / np.maximum(count, 1), count


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(8, 12),
    st.integers(8, 12),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.3, 0.9]),
)
def test_losses_of_all_shifts_are_those_of_a_loop(seed, rows, cols, reach, classes, ignored):
    logits, target = drawn(seed, (2, rows, cols), classes, ignored)
    found = shift_losses(logits, target, reach).numpy()
    for one, scores, labels in zip(found, logits.numpy(), target.numpy(), strict=True):
        expected, count = entropies_one_by_one(scores, labels, reach)
        expected[count < count[reach, reach] / 2] = np.inf
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.integers(3, 9))
def test_moved_labels_come_from_where_the_shift_says(seed, rows, cols):
    _, target = drawn(seed, (3, rows, cols), 3, 0.2)
    shifts = torch.from_numpy(np.random.default_rng(seed).integers(-4, 5, (3, 2)))
    moved = move_labels(target, shifts).numpy()
    for crop, (down, right) in enumerate(shifts.tolist()):
        for row, col in np.ndindex(rows, cols):
            inside = 0 <= row + down < rows and 0 <= col + right < cols
            kept = inside and target[crop, row, col] != IGNORE
            assert moved[crop, row, col] == (target[crop, row + down, col + right] if kept else IGNORE)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_known_shifts_are_found_and_undone(classes, dtype):
    truth = roofs(range(6))
    if classes == 3:
        truth[:, :, 40:] *= 2
    offsets = torch.tensor([[0, 0], [3, 0], [0, -4], [-5, 5], [2, 1], [-1, -3]])
    target = move_labels(truth, -offsets)
    target[:, :3] = IGNORE
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shifts = find_shifts(logits_of(truth, classes).to(dtype), target, 6)
    assert torch.equal(shifts, offsets)
    moved = move_labels(target, shifts)
    known = moved != IGNORE
    assert torch.equal(moved[known], truth[known])
    assert known.float().mean() > 0.8 and not known[:, :3].any()


def test_labels_stay_where_moving_them_does_not_pay():
    truth = roofs(range(4))
    target = move_labels(truth, torch.tensor([[0, 3]] * 4))
    assert find_shifts(logits_of(truth), target, 6).tolist() == [[0, -3]] * 4
    knows_nothing = torch.zeros(4, 1, 64, 64)
    assert not find_shifts(knows_nothing, target, 6).any()
    hardly_sure = logits_of(truth, scale=0.01)
    assert not find_shifts(hardly_sure, target, 6).any()


@pytest.mark.parametrize("label", [0, 1, IGNORE])
def test_labels_of_one_class_stay(label):
    target = torch.full((2, 64, 64), label, dtype=torch.uint8)
    target[0, :, 50:] = IGNORE
    target[1, :2] = 1 - label % 2  # beyond what is looked at
    logits, _ = drawn(0, (2, 64, 64), 1, 0)
    logits[1, :, 6:8] = -40.0 if label == 1 else 40.0  # what is there would be wanted here
    assert not find_shifts(logits, target, 6).any()


def test_training_registers_target_and_boundary_alike_after_a_quarter_of_the_epochs(monkeypatch):
    assert [epoch for epoch in range(8) if registers(epoch, 8)] == [2, 3, 4, 5, 6, 7]
    assert not registers(0, 1)
    truth = roofs(range(4))
    offsets = torch.tensor([[0, 0], [3, 0], [0, -4], [-3, 4]])
    target = move_labels(truth, -offsets)
    batch = Sample(torch.where(truth == 1, 2.0, -2.0)[:, None], target, target * 1)
    for epoch, reach, far in ((0, 6, 0), (7, 6, 3.0), (7, 0, None)):
        module = SegmentationModule(Brightness(1), TrainOptions.of({"epochs": 8, "register_labels": reach}))
        module._boundary, logged, seen = False, {}, []
        monkeypatch.setattr(SegmentationModule, "current_epoch", epoch)
        module.log = lambda name, value, logged=logged, **options: logged.update({name: value.detach()})
        monkeypatch.setattr(module, "_loss", lambda logits, batch, seen=seen: seen.append(batch) or logits.sum())
        module.training_step(batch, 0)
        assert logged.get("label_shift") == (None if far is None else pytest.approx(far))
        assert torch.equal(seen[0].target, move_labels(target, offsets) if far else target)
        module._boundary = True
        logits = torch.cat([logits_of(truth), torch.zeros(4, 1, 64, 64)], dim=1)
        if far:
            registered = module._registered(batch, logits)
            assert torch.equal(registered.boundary, registered.target)
            assert torch.equal(registered.target, move_labels(target, offsets))


# ---- whole runs


def test_a_run_brings_labels_back_and_is_recorded(tmp_path, here):  # noqa: F811
    """A network that starts anew, on labels that each lie up to three pixels beside their roofs."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for number in range(count):
            pixels, mask = bright_roofs(seed=number + 100 * (split == "val"))
            way = random.integers(-3, 4, 2) if split == "train" else (0, 0)
            put(tmp_path / "tiles" / split, f"{number}", pixels, np.roll(mask, way, axis=(0, 1)))
    given = ["--tiles", "tiles", "--epochs", 4, "--register-labels", 6, "--augment", "none", "--learning-rate", 5e-3]
    code, _, errors = here(*COMMAND, *given, "--out", "run", folder=tmp_path)
    assert (code, errors) == (0, [])
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        shifts = [float(row["label_shift"]) for row in csv.DictReader(file)]
    assert shifts[0] == 0 and 0.3 < shifts[-1] < 6 * math.sqrt(2)
    assert read_record(tmp_path / "run" / "run.yaml")["register_labels"] == 6
    assert read_card(tmp_path / "run" / "best.safetensors").training["options"]["register_labels"] == 6


def test_reaches_that_crops_have_no_room_for_are_refused(tmp_path):
    with pytest.raises(OptionError, match=r"^--register-labels -1 is out of range"):
        TrainOptions.of({"register_labels": -1})
    tiles = tiles_of(tmp_path / "tiles")
    with pytest.raises(OptionError, match=r"--register-labels 17 is much for crops of 64 pixels; give 16 or less"):
        run(tiles, tmp_path / "run", register_labels=17)
