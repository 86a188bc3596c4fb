"""Training: the loss, the changes to crops, the chips as tensors, and whole small runs."""

import copy
import csv
import math
import os
import signal
from types import SimpleNamespace

import lightning
import matplotlib.image
import numpy as np
import pytest
import torch
from affine import Affine
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

import scenes
from bright_model import Brightness
from buildseg.chip_file import ChipFile
from buildseg.classes import IGNORE
from buildseg.contract import Contract
from buildseg.devices import resolve_device
from buildseg.model_file import ModelCard, load_model, read_card
from buildseg.networks import AuxiliaryLogits, Embedding, NetworkOutput, build_network
from buildseg.tiles import open_tiles
from buildseg.training.augment import make_augment, mirror, resize
from buildseg.training.callbacks import RunRecorder, worst_and_best
from buildseg.training.category_consistent import category_consistent_loss
from buildseg.training.checkpoint import CHECKPOINT
from buildseg.training.cut import draw_cut
from buildseg.training.dataset import Sample, TrainingCrops, WholeChips, load_chip, pixels_of
from buildseg.training.depthwise import keep_depthwise_precise
from buildseg.training.loaders import make_loader, plain_faults, train_loader
from buildseg.training.losses import bce_dice_loss
from buildseg.training.module import SegmentationModule
from buildseg.training.options import NetworkChoice, TrainOptions
from buildseg.training.pictures import Example, draw_curves, draw_examples, viewable
from buildseg.training.run import _quiet_lightning, default_crop, train
from buildseg.training.sampling import Draw
from buildseg.training.start import make_contract
from tiling.errors import ModelFileError, OptionError, OutputError, TilesError, TrainingError

FORKED = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
SMALL = {"encoder": "tu-resnet10t", "encoder_weights": "none"}
PLAIN = Contract(("gray",), "float32", (0.0,), (1.0,), 0.5, 64)


def bright_roofs(side=64, seed=0, bands=3, dtype="uint8", invalid=None):
    """Pixels (bands, side, side) with bright rectangles on dark noise, and their mask."""
    random = np.random.default_rng(seed)
    mask = np.zeros((side, side), bool)
    for _ in range(3):
        row, col = random.integers(0, side - 20, 2)
        height, width = random.integers(12, 20, 2)
        mask[row : row + height, col : col + width] = True
    share = np.where(mask, 0.75, 0.25) + random.normal(0, 0.04, (bands, side, side))
    full = np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else 1
    pixels = (share.clip(0.01, 0.99) * full).astype(dtype)
    return pixels if invalid is None else np.where(invalid, 0, pixels).astype(dtype), mask


def put(folder, stem, pixels, mask, gsd=0.5, **creation):
    """Write a chip; each stands in a place of its own."""
    paths = []
    transform = Affine(gsd, 0, 690000 + 1000 * int(stem), 0, -gsd, 5340000)
    for kind, content in (("images", pixels), ("masks", mask[None].astype(np.uint8) * 255)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        options = creation if kind == "images" else {}
        paths.append(scenes.write(folder / kind / f"{stem}.tif", content, transform=transform, **options))
    return ChipFile(*paths, gsd, mask.shape)


def tiles_of(folder, train_chips=4, val_chips=2, **options):
    for split, count, seed in (("train", train_chips, 0), ("val", val_chips, 100)):
        for number in range(count):
            put(folder / split, f"{number}", *bright_roofs(seed=seed + number, **options))
    return open_tiles([folder])


def run(tiles, out, choice=None, overwrite=False, resume=False, show_progress=False, **options):
    choice = choice or NetworkChoice(name="unet", options={"decoder_channels": [32, 16, 16, 8, 8]}, **SMALL)
    basic = {"epochs": 1, "batch_size": 4, "crop": 64, "workers": 0, "device": "cpu", "precision": "fp32"}
    how = {"overwrite": overwrite, "resume": resume, "show_progress": show_progress}
    return train(tiles, out, choice, TrainOptions.of(basic | options), **how)


def random_batch(seed=0, shape=(2, 11, 13)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], 1, *shape[1:], generator=generator) * 2
    target = torch.randint(0, 2, shape, generator=generator, dtype=torch.uint8)
    target[torch.rand(shape, generator=generator) < 0.3] = IGNORE
    return logits, target


# ---- the loss


def numpys_loss(logits, target):
    """BCE + Dice written from their definitions, in double precision, over the labelled pixels only."""
    scores, truth = logits[:, 0][target != IGNORE].astype(float), target[target != IGNORE].astype(float)
    probability = 1 / (1 + np.exp(-scores))
    bce = -np.mean(truth * np.log(probability) + (1 - truth) * np.log(1 - probability))
    return bce + 1 - (2 * np.sum(probability * truth) + 1) / (np.sum(probability) + np.sum(truth) + 1)


@pytest.mark.parametrize("seed", range(3))
def test_loss_is_bce_and_dice_of_the_labelled_pixels(seed):
    logits, target = random_batch(seed)
    assert bce_dice_loss(logits, target).item() == pytest.approx(numpys_loss(logits.numpy(), target.numpy()), rel=1e-5)


def test_loss_pulls_at_labelled_pixels_only():
    logits, target = random_batch()
    logits.requires_grad_()
    bce_dice_loss(logits, target).backward()
    gradient = logits.grad[:, 0]
    ignored = target == IGNORE
    assert (gradient[ignored] == 0).all() and (gradient[~ignored] != 0).all()
    for place in torch.nonzero(~ignored)[::40].tolist():
        image, row, col = place
        step = np.zeros(logits.shape)
        step[image, 0, row, col] = 1e-4
        ahead, behind = (numpys_loss(logits.detach().double().numpy() + s, target.numpy()) for s in (step, -step))
        assert gradient[image, row, col].item() == pytest.approx((ahead - behind) / 2e-4, rel=1e-3)


def test_what_is_ignored_does_not_matter():
    logits, target = random_batch()
    other = torch.where((target == IGNORE)[:, None], torch.full_like(logits, 50.0), logits)
    assert bce_dice_loss(other, target).item() == pytest.approx(bce_dice_loss(logits, target).item(), rel=1e-6)


def test_loss_without_a_label_is_zero():
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    loss = bce_dice_loss(logits, torch.full((2, 8, 8), IGNORE, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_loss_is_small_where_right_and_large_where_wrong(dtype):
    target = torch.zeros(1, 16, 16, dtype=torch.uint8)
    target[:, 4:9] = 1
    right = (target.to(dtype) * 2 - 1)[:, None] * 60
    assert bce_dice_loss(right, target).item() < 1e-3
    assert 50 < bce_dice_loss(-right, target).item() < 70


# ---- changes to crops


def changes(preset="strong", side=64, **kind):
    """What becomes of an image in memory, as a function of it, its mask and a seed: a crop of 64 x 64."""
    augment = make_augment(preset=preset, **kind)

    def change(pixels, mask, seed):
        cut = draw_cut(mask.shape, side, preset, seed)
        place = cut.inside(mask.shape).toslices()
        image, label = (mirror(content[place], cut.beyond(mask.shape)) for content in (pixels, mask))
        return augment(*resize(image, label, 64, 64), seed)

    return change


def coordinates(side=120):
    """An image whose two bands are its own columns and rows."""
    rows, cols = np.indices((side, side), np.float32)
    return np.stack([cols, rows], axis=-1), np.zeros((side, side), np.uint8)


def test_crops_come_in_all_eight_orientations_and_in_many_scales_and_places():
    augment = changes(bands=2, dtype="float32")
    counts, scales, places = {}, [], []
    for seed in range(300):
        image, _ = augment(*coordinates(), seed)
        down, right = image[40, 32] - image[24, 32], image[32, 40] - image[32, 24]
        orientation = tuple(np.sign(np.round(np.concatenate([down, right]))).astype(int).tolist())
        counts[orientation] = counts.get(orientation, 0) + 1
        scales.append(max(abs(down)) / 16)
        places.append(image[32, 32])
    assert len(counts) == 8 and min(counts.values()) > 15
    assert all(sum(map(abs, orientation)) == 2 for orientation in counts)
    assert 0.69 < min(scales) < 0.75 and 1.35 < max(scales) < 1.41
    assert (np.ptp(places, axis=0) > 50).all()


@pytest.mark.parametrize(("bands", "dtype"), [(1, "float32"), (3, "uint8"), (4, "uint8")])
def test_image_and_mask_move_together(bands, dtype):
    augment = changes(bands=bands, dtype=dtype)
    for seed in range(40):
        pixels, mask = bright_roofs(100, seed, bands, dtype)
        image, moved = augment(np.ascontiguousarray(pixels.transpose(1, 2, 0)), mask.astype(np.uint8), seed)
        assert image.shape == (64, 64, bands) and moved.shape == (64, 64)
        if 0.05 < moved.mean() < 0.95:
            grey = image.mean(axis=-1)
            halfway = (grey[moved == 1].mean() + grey[moved == 0].mean()) / 2
            assert np.mean((grey > halfway) == moved) > 0.93


def test_masks_stay_masks():
    augment = changes(bands=1, dtype="float32")
    pixels, mask = bright_roofs(70, 0, 1, "float32")
    labels = mask.astype(np.uint8)
    labels[:20] = IGNORE
    for seed in range(20):
        _, moved = augment(pixels.transpose(1, 2, 0), labels, seed)
        assert moved.dtype == np.uint8 and set(np.unique(moved)) <= {0, 1, IGNORE}


def test_light_changes_eight_bits_only():
    for dtype, full in (("uint8", 255), ("float32", 1)):
        augment = changes(bands=3, dtype=dtype)
        flat = np.full((100, 100, 3), full // 2 or 0.5, dtype)
        means = [augment(flat, np.zeros((100, 100), np.uint8), n)[0].mean() / full for n in range(30)]
        assert (np.ptp(means) > 0.1) == (dtype == "uint8")


def test_the_seed_decides_the_changes():
    pixels, mask = bright_roofs(100)
    drawn = []
    for seeds in (range(5), range(5), range(5, 10)):
        augment = changes(bands=3, dtype="uint8")
        drawn.append([augment(pixels.transpose(1, 2, 0), mask.astype(np.uint8), seed)[0] for seed in seeds])
    assert all(map(np.array_equal, drawn[0], drawn[1]))
    assert not any(map(np.array_equal, drawn[0], drawn[2]))
    assert not any(np.array_equal(drawn[0][0], later) for later in drawn[0][1:])


@pytest.mark.parametrize("shape", [(20, 30), (64, 64), (100, 70)])
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_crops_of_any_image_have_one_size(shape, bands, dtype):
    augment = changes(bands=bands, dtype=dtype)
    for seed in range(15):
        image, mask = augment(np.ones((*shape, bands), dtype), np.ones(shape, np.uint8), seed)
        assert image.shape == (64, 64, bands) and image.dtype == dtype
        assert mask.shape == (64, 64) and mask.all()


def test_resampling_averages_and_keeps_labels():
    pixels, mask = bright_roofs(64, bands=2, dtype="float32")
    half, labels = resize(pixels.transpose(1, 2, 0), mask.astype(np.uint8), 32, 32)
    assert np.allclose(half, pixels.reshape(2, 32, 2, 32, 2).mean(axis=(2, 4)).transpose(1, 2, 0), atol=1e-6)
    assert labels.shape == (32, 32) and np.mean(labels == mask[::2, ::2]) > 0.95
    double, labels = resize(pixels.transpose(1, 2, 0), mask.astype(np.uint8), 128, 128)
    assert double.shape == (128, 128, 2) and np.array_equal(labels[::2, ::2], mask)
    labels[:40] = IGNORE
    for side in (51, 90, 166):
        assert set(np.unique(resize(double, labels, side, side)[1])) <= {0, 1, IGNORE}
    same, _ = resize(half, labels[:32, :32], 32, 32)
    assert same is half


# ---- chips as tensors


@pytest.mark.parametrize("gsd", [0.25, 0.5, 1.0])
def test_chips_come_at_the_resolution_of_the_contract(tmp_path, gsd):
    side = round(32 / gsd)
    pixels, mask = bright_roofs(side, bands=1, dtype="float32")
    chip = put(tmp_path, "0", pixels, mask, gsd)
    image, target = load_chip(chip, PLAIN)
    assert image.shape == (64, 64, 1) and target.shape == (64, 64)
    assert pixels_of(chip, PLAIN) == pytest.approx(64 * 64)
    assert np.mean((image[..., 0] > 0.5) == target) > 0.95
    assert target.mean() == pytest.approx(mask.mean(), abs=0.05)


def test_chips_that_do_not_say_their_resolution_stay(tmp_path):
    pixels, mask = bright_roofs(48, bands=1, dtype="float32")
    chip = put(tmp_path, "0", pixels, mask)
    bare = ChipFile(chip.image, chip.mask, None, chip.shape)
    assert load_chip(bare, PLAIN)[0].shape == (48, 48, 1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 4, 5])
def test_pixels_of_every_kind_become_scaled_floats(tmp_path, dtype, bands):
    pixels, mask = bright_roofs(64, bands=bands, dtype=dtype)
    chip = put(tmp_path, "0", pixels, mask, colours=[scenes.ColorInterp.undefined] * bands)
    mean, std = (pixels.astype(float).mean(axis=(1, 2)), pixels.astype(float).std(axis=(1, 2)))
    contract = Contract(tuple(map(str, range(bands))), dtype, tuple(mean), tuple(std), 0.5, 64)
    image, target, _ = WholeChips([chip], contract)[0]
    expected = (pixels - mean[:, None, None]) / std[:, None, None]
    assert image.dtype == torch.float32 and target.dtype == torch.uint8
    assert np.allclose(image.numpy(), expected, atol=1e-4)
    assert np.array_equal(target.numpy(), mask)
    crop, label, _ = TrainingCrops([chip], contract, 64)[Draw(0, 0)]
    assert crop.shape == (bands, 64, 64) and label.shape == (64, 64)
    assert torch.isfinite(crop).all() and crop.abs().max() < 12


@pytest.mark.parametrize("gsd", [0.5, 0.8, 0.3])
def test_nodata_is_ignored_and_lends_nothing_to_its_neighbours(tmp_path, gsd):
    invalid = ~scenes.hole(64, 64)
    pixels, mask = bright_roofs(64, bands=2, dtype="float32")
    chip = put(tmp_path, "0", np.where(invalid, -9999, pixels).astype(np.float32), mask, nodata=-9999)
    contract = Contract(("band1", "band2"), "float32", (0.5, 0.5), (0.25, 0.25), gsd, 64)
    for sample in (WholeChips([chip], contract)[0], TrainingCrops([chip], contract, 64)[Draw(0, 0)]):
        assert sample.image.abs().max() < 2.1
        assert 0.02 < (sample.target == IGNORE).float().mean() < 0.5
        assert (sample.image[:, sample.target == IGNORE] == 0).all()
    target = load_chip(chip, Contract(("band1", "band2"), "float32", (0.5, 0.5), (0.25, 0.25), 0.5, 64))[1]
    assert np.array_equal(target, np.where(invalid, IGNORE, mask))


def test_a_chip_counts_as_often_as_crops_fit_it(tmp_path):
    chips = [
        put(tmp_path, f"{n}", *bright_roofs(side, bands=1, dtype="float32")) for n, side in enumerate((64, 128, 40))
    ]
    assert len(TrainingCrops(chips, PLAIN, 64)) == 1 + 4 + 1
    coarse = Contract(("gray",), "float32", (0.0,), (1.0,), 1.0, 64)
    assert len(TrainingCrops(chips, coarse, 64)) == 1 + 1 + 1


def test_batches_of_training_are_full(tmp_path):
    chips = [put(tmp_path, f"{n}", *bright_roofs(64, bands=1, dtype="float32")) for n in range(3)]
    options = TrainOptions(batch_size=8, workers=0)
    few = list(train_loader(TrainingCrops(chips, PLAIN, 64), options))
    assert [len(batch.image) for batch in few] == [8]


def test_chips_of_validation_come_one_by_one_and_whole(tmp_path):
    chips = [put(tmp_path, f"{side}", *bright_roofs(side, bands=1, dtype="float32")) for side in (64, 96, 40)]
    batches = list(make_loader(WholeChips(chips, PLAIN), workers=0, batch_size=1))
    assert [tuple(batch.target.shape) for batch in batches] == [(1, 64, 64), (1, 96, 96), (1, 40, 40)]


@FORKED
@pytest.mark.parametrize("workers", [0, 1])
def test_a_chip_that_goes_bad_is_named_in_a_line(tmp_path, workers):
    chip = put(tmp_path, "0", *bright_roofs(64, bands=1, dtype="float32"))
    chip.image.chmod(0o600)
    chip.image.write_bytes(chip.image.read_bytes()[:-500])
    with (
        pytest.raises(TilesError, match=r"^\S*images/0.tif cannot be read as an image \(.*\); copy it again or"),
        plain_faults(),
    ):
        list(make_loader(WholeChips([chip], PLAIN), workers=workers, batch_size=1))


class Deadly(WholeChips):
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


@FORKED
def test_a_loader_process_that_is_killed_ends_training_with_a_line(tmp_path):
    chip = put(tmp_path, "0", *bright_roofs(64, bands=1, dtype="float32"))
    with pytest.raises(TrainingError, match=r"was ended from outside .* go on with --resume"), plain_faults():
        list(make_loader(Deadly([chip], PLAIN), workers=1, batch_size=1))


@FORKED
@pytest.mark.parametrize("workers", [0, 2])
def test_every_crop_of_every_worker_and_epoch_is_another(tmp_path, workers):
    chips = [put(tmp_path, "0", *bright_roofs(100, bands=1, dtype="float32"))] * 4

    def epochs():
        options = TrainOptions(batch_size=2, workers=workers, seed=7)
        loader = train_loader(TrainingCrops(chips, PLAIN, 64), options)
        crops = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            crops.extend(image.numpy().tobytes() for batch in loader for image in batch.image)
        return crops

    crops = epochs()
    assert len(crops) == 2 * 8
    assert len(set(crops)) == len(crops)
    assert epochs() == crops


# ---- the training step


class Fixed(Brightness):
    """Gives one logit everywhere, with auxiliary ones in training."""

    def __init__(self, value, auxiliary=(), embedding=None):
        super().__init__(3)
        self.value, self.auxiliary, self.embedding = value, auxiliary, embedding

    def predict(self, x):
        logits = self.gain * 0 + torch.full_like(x[:, :1], self.value)
        auxiliary = tuple(AuxiliaryLogits(logits + shift, weight) for shift, weight in self.auxiliary)
        return NetworkOutput(logits, auxiliary, self.embedding)


class Recorder(lightning.Callback):
    def __init__(self):
        self.rates, self.scores = [], {}

    def on_train_batch_start(self, trainer, *_):
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_epoch_end(self, trainer, _):
        self.scores = {name: value.item() for name, value in trainer.callback_metrics.items()}


def fit(network, batches, val_batches=(), epochs=1, **options):
    recorder = Recorder()
    loaders = [DataLoader(list(content), batch_size=None) for content in (batches, val_batches) if content]
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with _quiet_lightning():
        trainer = lightning.Trainer(accelerator="cpu", max_epochs=epochs, callbacks=[recorder], **off)
        trainer.fit(SegmentationModule(network, TrainOptions.of(options)), *loaders)
    return recorder


def batch_of(target, bands=3):
    return Sample(torch.ones(len(target), bands, *target.shape[1:]), target)


def test_auxiliary_losses_count_by_their_weight():
    _, target = random_batch()
    module = SegmentationModule(Fixed(0.4, [(1.0, 0.5), (-2.0, 2.0)]), TrainOptions())
    module.log = lambda *arguments, **options: None
    logits = np.full((2, 1, 11, 13), 0.4)
    parts = [numpys_loss(logits + shift, target.numpy()) for shift in (0, 1.0, -2.0)]
    expected = parts[0] + 0.5 * parts[1] + 2.0 * parts[2]
    assert module.training_step(batch_of(target), 0).item() == pytest.approx(expected, rel=1e-5)


def test_a_network_without_an_encoder_trains_with_nothing_said_of_weights(tmp_path):
    choice = NetworkChoice(name="bisenetv2", options={"width": 0.25, "head_channels": 8})
    result = run(tiles_of(tmp_path / "tiles"), tmp_path / "run", choice)
    assert load_model(result.model).card.architecture["encoder"] is None


def test_the_loss_of_an_embedding_counts_by_its_weight():
    _, target = random_batch()
    losses = []
    for weight in (0.0, 0.5, 2.0):
        embedding = Embedding(torch.randn(2, 4, 11, 13, generator=torch.Generator().manual_seed(2)), 1, weight)
        module = SegmentationModule(Fixed(0.4, embedding=embedding), TrainOptions())
        module.log = lambda *arguments, **options: None
        losses.append(module.training_step(batch_of(target), 0).item())
    assert losses[1] - losses[0] == pytest.approx(0.5 * category_consistent_loss(embedding, target).item(), rel=1e-4)
    assert losses[2] - losses[0] == pytest.approx(2.0 * category_consistent_loss(embedding, target).item(), rel=1e-4)


def test_every_weight_of_danet_learns():
    network = build_network("danet", encoder="resnet18")
    module = SegmentationModule(network, TrainOptions())
    module.log = lambda *arguments, **options: None
    target = torch.zeros(2, 64, 64, dtype=torch.uint8)
    target[:, 20:40] = 1
    module.training_step(Sample(torch.randn(2, 3, 64, 64), target), 0).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_the_learning_rate_warms_up_and_then_falls_along_a_cosine():
    _, target = random_batch()
    rates = fit(Brightness(3), [batch_of(target)] * 20, epochs=2, learning_rate=0.01, warmup=0.2).rates
    assert all(len(set(rate)) == 1 for rate in rates) and len(rates) == 40
    drawn = [rate[0] for rate in rates]
    assert drawn[:8] == pytest.approx([0.01 * (step + 1) / 8 for step in range(8)])
    assert drawn[8:] == pytest.approx([0.005 * (1 + math.cos(math.pi * step / 32)) for step in range(32)])
    assert drawn[-1] < 0.01 * 0.003


def test_norms_and_biases_do_not_decay():
    module = SegmentationModule(build_network("unet", encoder="tu-resnet10t"), TrainOptions.of({"weight_decay": 0.1}))
    module.trainer = type("Steps", (), {"estimated_stepping_batches": 10})()
    decaying, others = module.configure_optimizers()["optimizer"].param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {p.dim() for p in decaying["params"]} == {4} and {p.dim() for p in others["params"]} == {1}
    assert len(decaying["params"]) + len(others["params"]) == len(list(module.network.parameters()))


@pytest.mark.parametrize(("logit", "found"), [(0.3, 1.0), (-0.3, 0.0), (3.0, 1.0)])
def test_scores_are_taken_at_a_probability_of_one_half(logit, found):
    """A logit of 0.3 is building, though it would not be as a probability."""
    target = torch.zeros(2, 20, 20, dtype=torch.uint8)
    target[:, :5] = 1
    target[:, 15:] = IGNORE
    scores = fit(Fixed(logit), [batch_of(target)], [batch_of(target)] * 2).scores
    assert scores["val_recall"] == found
    assert scores["val_iou"] == pytest.approx(found / 3)
    assert scores["val_precision"] == pytest.approx(found / 3)
    assert scores["val_f1"] == pytest.approx(found / 2)
    assert scores["val_loss"] == pytest.approx(numpys_loss(np.full((2, 1, 20, 20), logit), target.numpy()), rel=1e-4)


# ---- whole runs


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return tiles_of(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network trained on bright roofs for seconds; one of the chips has a hole."""
    folder = tmp_path_factory.mktemp("trained")
    invalid = np.zeros((64, 64), bool)
    invalid[:30, 40:] = True
    put(folder / "tiles" / "val", "7", *bright_roofs(seed=9, invalid=invalid), nodata=0)
    tiles = tiles_of(folder / "tiles", 12, 3)
    result = run(tiles, folder / "run", epochs=5, batch_size=2, learning_rate=5e-3, seed=1)
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return tiles, folder / "run", result, rows


def test_a_small_run_learns(trained):
    _, _, result, rows = trained
    assert len(rows) == 5
    assert rows[-1]["train_loss"] < 0.6 * rows[0]["train_loss"]
    assert result.scores["val_iou"] > 0.8
    assert result.scores["val_f1"] == pytest.approx(2 * result.scores["val_iou"] / (1 + result.scores["val_iou"]))


def test_a_run_leaves_these_files(trained):
    _, folder, result, _ = trained
    names = sorted(path.name for path in folder.iterdir())
    (events,) = [name for name in names if name.startswith("events.out.tfevents.")]
    expected = ["best.safetensors", "checkpoint.ckpt", "curves.png", "last.safetensors", "metrics.csv", "report.html"]
    expected += ["run.yaml", "validation.png"]
    assert [name for name in names if name != events] == expected
    assert result.model == folder / "best.safetensors"


def test_the_scores_are_those_of_the_best_model(trained):
    """Scored again by counting pixels, from the file."""
    tiles, _, result, rows = trained
    model = load_model(result.model)
    chips = WholeChips(tiles.val, model.card.contract)
    assert any((chip.target == IGNORE).any() for chip in chips)
    both = either = 0
    for number in range(len(chips)):
        image, target, _ = chips[number]
        with torch.inference_mode():
            found = model.network(image[None])[0, 0] > 0
        known, truth = target != IGNORE, target == 1
        both += (found & truth & known).sum().item()
        either += ((found | truth) & known).sum().item()
    assert result.scores["val_iou"] == pytest.approx(both / either, abs=2e-3)
    best = max(rows, key=lambda row: row["val_iou"])
    assert result.scores["epoch"] == best["epoch"] and result.scores["val_iou"] == pytest.approx(best["val_iou"])
    assert dict(model.card.scores) == result.scores


def test_the_last_model_is_that_of_the_last_epoch(trained):
    _, folder, _, rows = trained
    scores = read_card(folder / "last.safetensors").scores
    assert scores["epoch"] == 5
    assert scores["val_iou"] == pytest.approx(rows[-1]["val_iou"])


def test_the_best_epoch_is_kept_though_later_ones_are_worse(tiles, tmp_path):
    chips = WholeChips(tiles.val, make_contract(tiles, TrainOptions()))
    recorder = RunRecorder(tmp_path, ModelCard({"name": "brightness"}, PLAIN), chips, torch.float32)
    module = SegmentationModule(Brightness(3), TrainOptions())
    module._scored = (module.network,)
    others = dict.fromkeys(("train_loss", "val_loss", "val_f1", "val_precision", "val_recall"), torch.tensor(0.5))
    for epoch, iou in enumerate((0.5, 0.7, 0.7, 0.6)):
        metrics = others | {"val_iou": torch.tensor(iou)}
        trainer = SimpleNamespace(is_global_zero=True, callback_metrics=metrics, current_epoch=epoch)
        recorder.on_train_epoch_end(trainer, module)
    best, last = (read_card(tmp_path / f"{name}.safetensors").scores for name in ("best", "last"))
    assert (best["epoch"], best["val_iou"]) == (3, pytest.approx(0.7)) and recorder.best == best
    assert (last["epoch"], len(recorder.history)) == (4, 4)


def test_the_worst_and_the_best_chips_are_shown():
    assert worst_and_best([0.5, 0.1, math.nan, 0.9, 0.2], 1) == [1, 3]
    assert worst_and_best([0.5, 0.1, math.nan, 0.9, 0.2], 2) == [1, 4, 0, 3]
    assert worst_and_best([0.5, 0.1, math.nan], 2) == [1, 0]
    assert worst_and_best([math.nan, math.nan]) == [0, 1]
    assert worst_and_best([]) == []


def test_the_card_says_where_the_model_comes_from(trained):
    tiles, folder, _, _ = trained
    card = read_card(folder / "best.safetensors")
    assert card.contract == Contract(
        ("red", "green", "blue"), "uint8", tiles.statistics.mean, tiles.statistics.std, tiles.gsd, 512
    )
    assert card.contract.gsd == pytest.approx(0.5, rel=1e-2)
    assert card.architecture["name"] == "unet" and card.architecture["encoder"] == "tu-resnet10t"
    training = card.training
    assert (training["tiles"], training["train_chips"], training["val_chips"]) == (["tiles"], 12, 4)
    assert training["options"]["epochs"] == 5 and training["options"]["crop"] == 64 and training["options"]["seed"] == 1
    assert training["network"]["name"] == "unet" and training["network"]["encoder_weights"] == "none"
    assert training["versions"].keys() == {"buildseg", "torch"}
    assert TrainOptions.of(training["options"]).flat() == training["options"]


def test_tensorboard_holds_the_same_numbers(trained):
    _, folder, _, rows = trained
    events = EventAccumulator(str(folder))
    events.Reload()
    names = {"train_loss", "val_loss", "val_iou", "val_f1", "val_precision", "val_recall"}
    assert names <= set(events.Tags()["scalars"])
    assert rows[0].keys() == names | {"epoch"}
    for name in names:
        drawn = [event.value for event in events.Scalars(name)]
        assert drawn == pytest.approx([row[name] for row in rows], rel=1e-5)


def test_the_pictures_can_be_looked_at(trained):
    _, folder, _, _ = trained
    curves, examples = (matplotlib.image.imread(folder / name) for name in ("curves.png", "validation.png"))
    assert curves.shape[:2] == (360, 900)
    assert examples.shape[:2] == (90 * (3 * 4 + 1), 1080)
    for colour in ((0.13, 0.65, 0.30), (0.12, 0.40, 0.85), (0.90, 0.20, 0.15)):
        assert (np.abs(examples[..., :3] - colour).max(axis=-1) < 0.02).any()


def test_the_report_holds_all_there_is_to_see(trained):
    _, folder, result, rows = trained
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page and 'src="data:' in page
    assert f"<b>{result.scores['val_iou']:.3f}</b>" in page
    assert page.count("<tr>") == 1 + len(rows) and f"<td>{result.scores['epoch']:.0f} (best)</td>" in page
    for name, value in (("learning rate", "0.005"), ("loss", "bce-dice"), ("seed", "1"), ("crop", "64")):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in page


def test_the_same_seed_gives_the_same_weights(tiles, tmp_path):
    models = [run(tiles, tmp_path / f"{n}", seed=seed).model for n, seed in enumerate((3, 3, 4))]
    first, again, other = (load_model(path).network.state_dict() for path in models)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.model.conv1.0.weight"], other["encoder.model.conv1.0.weight"])


@FORKED
@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 4), ("float32", 1)])
def test_a_worker_loads_chips_of_any_kind_and_resolution(tmp_path, dtype, bands):
    for number, (gsd, side) in enumerate(((0.5, 64), (0.25, 120), (1.0, 50))):
        pixels, mask = bright_roofs(side, number, bands, dtype)
        for split in ("train", "val"):
            put(tmp_path / "t" / split, f"{number}", pixels, mask, gsd)
    tiles = open_tiles([tmp_path / "t"])
    result = run(tiles, tmp_path / "run", workers=1, batch_size=2, store="float16", window=96)
    model = load_model(result.model)
    assert model.card.contract.gsd == tiles.gsd and model.card.contract.window == 96
    assert (model.card.contract.dtype, len(model.card.contract.bands)) == (dtype, bands)
    assert 0 <= result.scores["val_iou"] <= 1


def test_mixed_precision_and_a_bar_on_the_cpu(tiles, tmp_path, capsys):
    types = set()

    def see(module, inputs, output):
        if isinstance(module, torch.nn.Conv2d) and module.training and torch.is_autocast_enabled("cpu"):
            types.add((module.groups > 1, output.dtype))

    watch = torch.nn.modules.module.register_module_forward_hook(see)
    choice = NetworkChoice(name="lraspp", encoder="tu-mobilenetv3_small_100", encoder_weights="none")
    result = run(tiles, tmp_path / "run", choice, precision="bf16", show_progress=True)
    watch.remove()
    assert types == {(True, torch.float32), (False, torch.bfloat16)}
    assert "Epoch 0/0" in capsys.readouterr().out
    assert all(torch.isfinite(value).all() for value in load_model(result.model).network.state_dict().values())


def test_depthwise_convolutions_keep_their_results_and_weights():
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 1), torch.nn.Conv2d(6, 6, 3, groups=6))
    precise = copy.deepcopy(plain)
    keep_depthwise_precise(precise)
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(precise(x), plain(x))
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in precise.state_dict().items())
    with torch.autocast("cpu", torch.bfloat16):
        half = plain[0](x)
        kept = precise(x)
    assert torch.equal(kept, plain[1](half.float()))


def test_a_loss_that_is_no_number_stops_the_run(tiles, tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1, step 2, on \d.tif, \d.tif; lower") as caught:
        run(tiles, tmp_path / "run", learning_rate=1e30, batch_size=2, warmup=0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_weights_are_recorded_without_their_folder(tiles, tmp_path):
    weights = tmp_path / "elsewhere" / "encoder.safetensors"
    weights.parent.mkdir()
    network = build_network("unet", **SMALL, decoder_channels=[32, 16, 16, 8, 8])
    save_file(network.encoder.state_dict(), weights)
    choice = NetworkChoice(None, "unet", SMALL["encoder"], str(weights), {"decoder_channels": [32, 16, 16, 8, 8]})
    card = read_card(run(tiles, tmp_path / "run", choice).model)
    assert card.training["network"]["encoder_weights"] == "encoder.safetensors"
    assert str(tmp_path) not in str(card.training)


# ---- going on from a model


def test_a_model_is_trained_further(trained, tiles, tmp_path):
    _, folder, _, _ = trained
    start = folder / "best.safetensors"
    result = run(tiles, tmp_path / "run", NetworkChoice(start), learning_rate=1e-12)
    before, after = load_model(start), load_model(result.model)
    assert after.card.architecture == before.card.architecture
    assert after.card.contract == before.card.contract
    assert after.card.contract.mean != tiles.statistics.mean
    state = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["state_dict"]
    weights = ((old, state[f"network.{name}"]) for name, old in before.network.named_parameters())
    assert all(torch.allclose(old, new, atol=1e-6) for old, new in weights)
    assert result.scores["val_iou"] > 0.8
    assert after.card.training["started_from"] == before.card.training
    assert after.card.training["network"] == {"start": "best.safetensors"}


def test_a_model_that_is_not_there_is_not_trained_further(tiles, tmp_path):
    with pytest.raises(ModelFileError):
        run(tiles, tmp_path / "run", NetworkChoice(tmp_path / "none.safetensors"))
    assert not (tmp_path / "run").exists()


# ---- the run's folder


def test_a_run_is_not_mixed_with_an_earlier_one(tiles, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    leftovers = ["best.safetensors", "last.safetensors", "metrics.csv", "curves.png", "events.out.tfevents.1"]
    for name in (*leftovers, "notes.txt"):
        (out / name).write_text("from before")
    with pytest.raises(OutputError, match="holds a run already; add --overwrite"):
        run(tiles, out)
    assert all((out / name).read_text() == "from before" for name in leftovers)
    with pytest.raises(TrainingError):
        run(tiles, out, overwrite=True, learning_rate=1e30, batch_size=2, warmup=0)
    assert not any((out / name).exists() for name in leftovers)
    assert (out / "notes.txt").read_text() == "from before"


def test_a_run_needs_a_folder(tiles, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="is a file; name a folder"):
        run(tiles, tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="cannot be made"):
        run(tiles, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    "choice",
    [
        NetworkChoice(name="segmenter"),
        NetworkChoice(name="unet", encoder="resnet9"),
        NetworkChoice(name="unet", options={"colour": 1}, **SMALL),
    ],
)
def test_nothing_is_made_for_a_network_that_is_not_known(tiles, tmp_path, choice):
    with pytest.raises(OptionError):
        run(tiles, tmp_path / "run", choice)
    assert list(tmp_path.iterdir()) == []


# ---- options


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"batch_size": 1}, "--batch-size"),
        ({"crop": 32}, "--crop"),
        ({"crop": 100}, "--crop"),
        ({"window": 70}, "--window"),
        ({"gsd": 0.0}, "--gsd"),
        ({"gsd": math.nan}, "--gsd"),
        ({"coarsest_gsd": 0.0}, "--coarsest-gsd"),
        ({"gsd": 0.5, "coarsest_gsd": 0.5}, "--coarsest-gsd 0.5"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"learning_rate": math.nan}, "--learning-rate"),
        ({"warmup": 1.5}, "--warmup"),
        ({"workers": -1}, "--workers"),
        ({"seed": -1}, "--seed"),
        ({"seed": 2**32}, "--seed"),
        ({"precision": "fp8"}, "--precision"),
        ({"store": "int8"}, "--store"),
    ],
)
def test_options_out_of_range_name_their_flag(changes, flag):
    with pytest.raises(OptionError, match=f"^{flag} "):
        TrainOptions.of(changes)


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "gpu", "xpu"])
def test_devices_that_are_not_there(name):
    with pytest.raises(OptionError, match=f"^--device {name} "):
        resolve_device(name)


def test_half_floats_need_a_gpu(tiles, tmp_path):
    with pytest.raises(OptionError, match="--precision fp16 needs a GPU"):
        run(tiles, tmp_path / "run", precision="fp16")
    assert not (tmp_path / "run").exists()


def test_contract_and_crop_follow_tiles_and_options(tiles, tmp_path):
    contract = make_contract(tiles, TrainOptions())
    assert (contract.gsd, contract.window) == (tiles.gsd, 512)
    assert default_crop(tiles, contract) == 64
    other = make_contract(tiles, TrainOptions(gsd=0.1, window=256))
    assert (other.gsd, other.window, other.mean) == (0.1, 256, tiles.statistics.mean)
    assert default_crop(tiles, other) == 64 * 5 // 32 * 32
    assert default_crop(tiles, make_contract(tiles, TrainOptions(gsd=0.01))) == 512


# ---- pictures


def test_pictures_of_one_epoch_and_one_dark_chip(tmp_path):
    draw_curves(tmp_path / "curves.png", [{"train_loss": 1.0, "val_loss": 1.0, "val_iou": 0.0, "val_f1": 0.0}])
    dark, nothing = np.zeros((32, 48, 3), np.float32), np.full((32, 48), IGNORE, np.uint8)
    draw_examples(tmp_path / "examples.png", [Example("a", dark, nothing, np.ones((32, 48), np.float32))], "a title")
    assert matplotlib.image.imread(tmp_path / "examples.png").shape[1] == 1080
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "examples.png"]


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_any_bands_can_be_viewed(bands):
    picture = viewable(np.random.default_rng(0).normal(7, 3, (bands, 20, 30)))
    assert picture.shape == (20, 30, 3) and picture.dtype == np.float32
    assert picture.min() == 0 and picture.max() == 1
    assert viewable(np.zeros((1, 4, 4))).max() == 0
