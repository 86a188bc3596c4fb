"""What training can be told: losses, optimisers, schedules, augmentation, sampling, averages, and its record."""

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from buildseg.cli.train import train as train_command
from hypothesis import given
from hypothesis import strategies as st
from segmentation_models_pytorch.losses import LovaszLoss

from bright_model import Brightness
from buildseg.classes import IGNORE
from buildseg.model_file import load_model
from buildseg.networks import build_network
from buildseg.training.callbacks import MovingAverage
from buildseg.training.checkpoint import CHECKPOINT
from buildseg.training.dataset import TrainingCrops
from buildseg.training.loaders import train_loader
from buildseg.training.losses import segmentation_loss
from buildseg.training.module import SegmentationModule
from buildseg.training.optimization import make_optimizer, make_schedule
from buildseg.training.options import (
    GROUPS,
    PLAIN,
    DataOptions,
    LossOptions,
    NetworkChoice,
    OptimizerOptions,
    ScheduleOptions,
    TrainOptions,
)
from buildseg.training.record import Run, read_record, write_record
from buildseg.training.sampling import EpochSampler, balanced_weights, folder_weights
from test_training import PLAIN as CONTRACT
from test_training import SMALL, batch_of, bright_roofs, changes, fit, put, random_batch, run, tiles_of
from tiling.errors import OptionError

LOSSES = ["bce-dice", "focal", "lovasz", "tversky", "ohem", "outline"]


# ---- losses


def drawn(seed, classes):
    logits, target = random_batch(seed)
    if classes > 1:
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(2, classes, 11, 13, generator=generator) * 2
        target = torch.where(target == IGNORE, target, torch.randint(0, classes, target.shape, generator=generator))
        target = target.to(torch.uint8)
    return logits, target


def numpys_terms(logits, target):
    """Of the labelled pixels: the cross-entropy of each, and probability and truth of each class, (pixels, classes)."""
    scores = np.moveaxis(logits.double().numpy(), 1, -1)[target.numpy() != IGNORE]
    truth = target.numpy()[target.numpy() != IGNORE]
    if scores.shape[1] == 1:
        probability = 1 / (1 + np.exp(-scores))
        entropy = -np.log(np.where(truth == 1, probability[:, 0], 1 - probability[:, 0]))
        return entropy, probability, truth[:, None] == 1
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return -np.log(probability[np.arange(len(truth)), truth]), probability, truth[:, None] == np.arange(scores.shape[1])


def tversky(probability, truth, missed):
    hit = (probability * truth).sum(axis=0)
    wrong = (1 - missed) * (probability * ~truth).sum(axis=0) + missed * ((1 - probability) * truth).sum(axis=0)
    return np.mean(1 - (hit + 0.5) / (hit + wrong + 0.5))


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("seed", range(2))
def test_losses_are_their_definitions(classes, seed):
    logits, target = drawn(seed, classes)
    entropy, probability, truth = numpys_terms(logits, target)
    dice = tversky(probability, truth, 0.5)
    hardest = np.sort(entropy)[-round(0.3 * len(entropy)) :].mean()
    expected = {
        LossOptions("bce-dice"): entropy.mean() + dice,
        LossOptions("focal", focal_gamma=1.5): (entropy * (1 - np.exp(-entropy)) ** 1.5).mean() + dice,
        LossOptions("focal", focal_gamma=0): entropy.mean() + dice,
        LossOptions("tversky", tversky_missed=0.8): entropy.mean() + tversky(probability, truth, 0.8),
        LossOptions("ohem", ohem_share=0.3): hardest + dice,
        LossOptions("outline", outline_weight=1): entropy.mean() + dice,
    }
    for options, value in expected.items():
        assert segmentation_loss(logits, target, options).item() == pytest.approx(value, rel=1e-5), options
    mode = "binary" if classes == 1 else "multiclass"
    lovasz = LovaszLoss(mode, per_image=False)(
        logits.movedim(1, -1)[target != IGNORE].T[None, ..., None], target[target != IGNORE].long()[None, ..., None]
    )
    loss = segmentation_loss(logits, target, LossOptions("lovasz")).item()
    assert loss == pytest.approx(entropy.mean() + lovasz.item(), rel=1e-4)


@pytest.mark.parametrize("classes", [1, 3])
def test_label_smoothing_is_cross_entropy_with_softer_labels(classes):
    logits, target = drawn(0, classes)
    _, probability, truth = numpys_terms(logits, target)
    if classes == 1:
        probability, truth = np.hstack([1 - probability, probability]), np.hstack([~truth, truth])
    soft = truth * 0.8 + 0.2 / truth.shape[1]
    entropy = -(soft * np.log(probability)).sum(axis=1).mean()
    smoothed = segmentation_loss(logits, target, LossOptions(label_smoothing=0.2)).item()
    sharp = segmentation_loss(logits, target, LossOptions()).item()
    hard = -(truth * np.log(probability)).sum(axis=1).mean()
    assert smoothed - sharp == pytest.approx(entropy - hard, rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("classes", [1, 3])
def test_pixels_without_a_label_do_not_count(loss, classes):
    options = LossOptions(loss, label_smoothing=0.1)
    logits, target = drawn(1, classes)
    logits.requires_grad_()
    value = segmentation_loss(logits, target, options)
    value.backward()
    ignored = (target == IGNORE)[:, None].expand_as(logits)
    assert (logits.grad[ignored] == 0).all() and (logits.grad[~ignored] != 0).any()
    other = torch.where(ignored, torch.full_like(logits, -30.0), logits)
    assert segmentation_loss(other, target, options).item() == pytest.approx(value.item(), rel=1e-5)
    blank = torch.zeros(2, classes, 8, 8, requires_grad=True)
    nothing = segmentation_loss(blank, torch.full((2, 8, 8), IGNORE, dtype=torch.uint8), options)
    nothing.backward()
    assert nothing.item() == 0 and (blank.grad == 0).all()


def test_the_outline_loss_weighs_both_sides_of_outlines():
    target = torch.zeros(1, 20, 20, dtype=torch.uint8)
    target[:, 6:14, 6:14] = 1
    target[:, :, 17:] = IGNORE
    logits = torch.zeros(1, 1, 20, 20, requires_grad=True)
    plain = torch.autograd.grad(segmentation_loss(logits, target, LossOptions("outline", outline_weight=1)), logits)[0]
    weighed = torch.autograd.grad(
        segmentation_loss(logits, target, LossOptions("outline", outline_weight=9, outline_width=2)), logits
    )[0]
    bce = 0.5 * (1 - 2 * target.float())
    known = target != IGNORE
    dice = plain[0] - torch.where(known, bce, 0) / known.sum()
    found = torch.where(known[0], (weighed[0] - dice)[0] / bce[0], 0)
    expected = torch.ones(20, 20)
    expected[4:16, 4:16] = 9
    expected[8:12, 8:12] = 1
    expected[:, 17:] = 0
    torch.testing.assert_close(found / found[0, 0], expected, rtol=1e-3, atol=1e-3)


# ---- optimisers and schedules


def test_the_encoder_learns_at_a_rate_of_its_own():
    network = build_network("unet", encoder="tu-resnet10t")
    groups = make_optimizer(network, OptimizerOptions(learning_rate=0.1, encoder_rate=0.01)).param_groups
    slow = {id(p) for group in groups if group["lr"] == pytest.approx(0.001) for p in group["params"]}
    fast = {id(p) for group in groups if group["lr"] == pytest.approx(0.1) for p in group["params"]}
    assert slow == {id(p) for p in network.encoder.parameters()}
    assert slow | fast == {id(p) for p in network.parameters()} and not slow & fast
    with pytest.raises(OptionError, match="bisenetv2 has no encoder"):
        make_optimizer(build_network("bisenetv2"), OptimizerOptions(encoder_rate=0.1))


def test_defaults_follow_the_optimiser():
    network = Brightness(3)
    adamw, sgd = (make_optimizer(network, OptimizerOptions(name)) for name in ("adamw", "sgd"))
    assert isinstance(adamw, torch.optim.AdamW) and adamw.defaults["lr"] == 1e-3
    assert isinstance(sgd, torch.optim.SGD) and sgd.defaults["lr"] == 1e-2
    assert sgd.defaults["momentum"] == 0.9 and sgd.defaults["nesterov"]
    assert OptimizerOptions("sgd").weight_decay == 1e-4 and OptimizerOptions().weight_decay == 1e-2


@pytest.mark.parametrize("schedule", ["cosine", "poly", "one-cycle"])
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_schedules_rise_and_fall_for_each_group(schedule, steps):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([{"params": [weight], "lr": 0.5}])
    following = make_schedule(optimizer, steps, ScheduleOptions(schedule, warmup=0.25))
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        following.step()
    peak = int(np.argmax(rates))
    assert max(rates) <= 0.5 + 1e-9
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    if steps == 40:
        assert peak == 9 and max(rates) == pytest.approx(0.5) and rates[-1] < 0.05
        if schedule == "poly":
            assert rates[10:] == pytest.approx([0.5 * (1 - step / 30) ** 0.9 for step in range(30)])


def test_gradients_are_clipped_and_accumulated(tmp_path):
    tiles = tiles_of(tmp_path / "tiles", 8, 1)
    common = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0, "warmup": 0.0}
    runs = {}
    for name, options in {"clip": {"gradient_clip": 1e-4}, "four": {"accumulate": 4, "gradient_clip": 1e-4}}.items():
        run(tiles, tmp_path / name, batch_size=2, **common, **options)
        state = torch.load(tmp_path / name / CHECKPOINT, weights_only=True)["state_dict"]
        runs[name] = torch.cat([value.flatten() for key, value in state.items() if key.endswith(("weight", "bias"))])
    torch.manual_seed(0)
    # One step of length 1e-4 instead of four of falling length, from the same weights.
    assert 1e-5 < (runs["clip"] - runs["four"]).norm() < 3e-4


def test_a_frozen_encoder_stays_as_it_was():
    network = build_network("unet", encoder="tu-resnet10t", decoder_channels=[32, 16, 16, 8, 8])
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    _, target = random_batch(shape=(2, 32, 32))
    batches = [batch_of(target)] * 3
    fit(network, batches, epochs=2, freeze_encoder=2)
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())
    fit(network, batches, epochs=2, freeze_encoder=1)
    changed = [not torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items()]
    assert np.mean(changed) > 0.9


# ---- which weights are kept


def test_the_moving_average_is_scored_and_kept(tmp_path):
    """With a decay of (1 + n) / (10 + n) in the first steps."""
    average = MovingAverage(0.999)
    module = SegmentationModule(Brightness(1), TrainOptions())
    average.setup(None, module, "fit")
    expected = None
    for step in range(1, 6):
        with torch.no_grad():
            module.network.gain.fill_(float(step))
        average.on_train_batch_end(SimpleNamespace(global_step=step), module, None, None, step - 1)
        kept = (1 + step - 1) / (10 + step - 1)
        expected = float(step) if expected is None else expected * kept + step * (1 - kept)
    average.on_validation_epoch_start(None, module)
    assert module.network.gain.item() == pytest.approx(expected, rel=1e-5)
    average.on_validation_epoch_end(None, module)
    assert module.network.gain.item() == 5
    tiles = tiles_of(tmp_path / "tiles")
    both = [run(tiles, tmp_path / f"{ema}", epochs=2, ema=ema, learning_rate=1e-2) for ema in (0.0, 0.9)]
    plain, averaged = (load_model(result.model.with_name("last.safetensors")) for result in both)
    pairs = zip(plain.network.parameters(), averaged.network.parameters(), strict=True)
    assert any(not torch.allclose(one, other) for one, other in pairs)
    assert averaged.card.training["options"]["ema"] == 0.9


def test_training_stops_when_it_gets_no_better(tmp_path):
    tiles = tiles_of(tmp_path / "tiles")
    run(tiles, tmp_path / "run", epochs=9, learning_rate=0.5, warmup=0.0, patience=1)
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    ious = [float(line.split(",")[3]) for line in lines[1:]]
    assert len(ious) < 9
    assert ious[:-1] == sorted(set(ious[:-1])) and ious[-1] <= max(ious[:-1])
    run(tiles, tmp_path / "run", epochs=9, learning_rate=0.5, warmup=0.0, patience=1, resume=True)
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines() == lines


# ---- which crops are shown


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_presets_change_more_and_more(dtype):
    pixels, mask = bright_roofs(100, dtype=dtype)
    pixels, mask = np.ascontiguousarray(pixels.transpose(1, 2, 0)), mask.astype(np.uint8)
    plain, light, strong = (changes(name, bands=3, dtype=dtype) for name in ("none", "light", "strong"))
    windows = np.lib.stride_tricks.sliding_window_view(mask, (64, 64)).reshape(-1, 64, 64)
    for seed in range(10):
        image, label = plain(pixels, mask, seed)
        place = int(np.flatnonzero((windows == label).all(axis=(1, 2)))[0])
        row, col = divmod(place, 37)
        assert np.array_equal(image, pixels[row : row + 64, col : col + 64])
    means = [[augment(pixels, mask, seed)[0].mean() for seed in range(30)] for augment in (light, strong)]
    assert np.std(means[0]) < np.std(means[1])


def test_rare_changes_come_independently():
    """One seed for all steps would give every blurred crop its noise too."""
    flat = np.full((64, 64, 3), 128, np.uint8)
    augment = changes(bands=3, dtype="uint8")
    noisy, bright = [], []
    for seed in range(400):
        image, _ = augment(flat, np.zeros((64, 64), np.uint8), seed)
        noisy.append(image[..., 0].std() > 0.5)
        bright.append(abs(image.mean() - 128) > 1.5)
    both = np.mean(np.logical_and(noisy, bright))
    assert 0.09 < np.mean(noisy) < 0.22 and both == pytest.approx(np.mean(noisy) * np.mean(bright), abs=0.03)


@given(st.integers(1, 30), st.integers(1, 70), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_an_epoch_is_a_function_of_its_number(size, count, epoch, seed):
    sampler = EpochSampler(size, count, seed)
    draws = sampler.draws(epoch)
    assert draws == EpochSampler(size, count, seed).draws(epoch) and len(draws) == count
    times = np.bincount([draw.place for draw in draws], minlength=size)
    assert times.max() - times.min() <= 1
    sampler.set_epoch(epoch)
    assert list(sampler) == draws
    if count > 3:
        assert draws != sampler.draws(epoch + 1)
    shares = [EpochSampler(size, count, seed, share=(rank, 3)).draws(epoch) for rank in range(3)]
    assert {len(share) for share in shares} == {count // 3}
    assert sorted(draw for one in shares for draw in one) == sorted(draws[: count // 3 * 3])


def test_balanced_sampling_shows_the_rare_as_often(tmp_path):
    shares = [0.0] * 8 + [0.02] * 4 + [0.1] + [0.5] * 3
    chips = []
    for number, share in enumerate(shares):
        mask = np.arange(64 * 64).reshape(64, 64) < share * 64 * 64
        chips.append(put(tmp_path, f"{number}", np.ones((1, 64, 64), np.uint8), mask))
    weights = balanced_weights(chips)
    groups = [weights[:8].sum(), weights[8:12].sum(), weights[12], weights[13:].sum()]
    assert groups == pytest.approx([1] * 4)
    places = [draw.place for draw in EpochSampler(16, 4000, 0, weights).draws(0)]
    assert np.mean(np.array(places) == 12) == pytest.approx(0.25, abs=0.03)
    crops = TrainingCrops(chips, CONTRACT, 64)
    seen = {}
    for sampling in ("uniform", "balanced"):
        sampler = train_loader(crops, TrainOptions(workers=0, data=DataOptions(sampling=sampling))).sampler
        seen[sampling] = np.mean([draw.place == 12 for epoch in range(50) for draw in sampler.draws(epoch)])
    assert seen["uniform"] == 1 / 16 and seen["balanced"] == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(("power", "share"), [(0.0, 0.5), (0.5, 0.25), (1.0, 0.1)])
def test_folders_are_drawn_by_a_power_of_their_size(tmp_path, power, share):
    white = np.ones((1, 64, 64), np.uint8)
    large = [put(tmp_path / "large", f"{n}", white, white[0]) for n in range(9)]
    small = [put(tmp_path / "small", "0", white, white[0])]
    crops = TrainingCrops([*large, *small], CONTRACT, 64)
    weights = folder_weights(crops.chips, power)
    assert weights[-1] / weights.sum() == pytest.approx(share)
    data = DataOptions(sampling="folders", folder_power=power, crops=4000)
    draws = train_loader(crops, TrainOptions(workers=0, data=data)).sampler.draws(0)
    assert len(draws) == 4000
    assert np.mean([draw.place == 9 for draw in draws]) == pytest.approx(share, abs=0.03)


def test_an_epoch_has_as_many_crops_as_asked_and_goes_on_to_others(tmp_path):
    white = np.ones((1, 64, 64), np.uint8)
    crops = TrainingCrops([put(tmp_path, f"{n}", white, white[0]) for n in range(20)], CONTRACT, 64)
    options = TrainOptions(batch_size=2, workers=0, data=DataOptions(crops=6))
    sampler = train_loader(crops, options).sampler
    assert len(sampler) == len(set(sampler.draws(0))) == 6
    assert len({draw.place for epoch in range(9) for draw in sampler.draws(epoch)}) > 15


# ---- options and the record


def test_option_names_are_those_of_the_command_and_so_are_defaults():
    parameters = inspect.signature(train_command).parameters
    values = TrainOptions().flat()
    assert len(values) == len(PLAIN) + sum(len(inspect.signature(group).parameters) for group in GROUPS.values())
    for name, value in values.items():
        default = parameters[name].default
        assert default in (value, None), name
        if default is None:
            assert value is None or name in {"learning_rate", "weight_decay", "warmup"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"loss": "hinge"}, "--loss hinge is unknown; choose from bce-dice, focal"),
        ({"label_smoothing": 1.0}, "--label-smoothing 1 is out of range"),
        ({"focal_gamma": -1.0}, "--focal-gamma"),
        ({"tversky_missed": 1.1}, "--tversky-missed"),
        ({"ohem_share": 0.0}, "--ohem-share"),
        ({"outline_weight": math.nan}, "--outline-weight"),
        ({"outline_width": 0}, "--outline-width"),
        ({"optimizer": "lion"}, "--optimizer lion"),
        ({"weight_decay": -1.0}, "--weight-decay"),
        ({"momentum": 1.0}, "--momentum"),
        ({"encoder_rate": 0.0}, "--encoder-rate"),
        ({"freeze_encoder": -1}, "--freeze-encoder"),
        ({"gradient_clip": -1.0}, "--gradient-clip"),
        ({"accumulate": 0}, "--accumulate"),
        ({"schedule": "step"}, "--schedule step"),
        ({"poly_power": 0.0}, "--poly-power"),
        ({"augment": "heavy"}, "--augment heavy"),
        ({"sampling": "rare"}, "--sampling rare"),
        ({"folder_power": 1.5}, "--folder-power 1.5"),
        ({"crops": 0}, "--crops 0"),
        ({"ema": 1.0}, "--ema 1"),
        ({"patience": -1}, "--patience"),
    ],
)
def test_options_out_of_range_name_their_flag(changes, says):
    with pytest.raises(OptionError, match=f"^{says}"):
        TrainOptions.of(changes)


def test_a_record_gives_back_all_that_was_recorded(tmp_path):
    options = {"loss": "focal", "learning_rate": 3e-5, "crop": 96, "gsd": 0.25, "schedule": "poly", "seed": 7}
    choice = NetworkChoice(name="unet", options={"decoder_channels": [8], "attention": True}, boundary=False, **SMALL)
    before = Run([tmp_path / "tiles", tmp_path / "ä"], 3, choice, TrainOptions.of(options))
    write_record(tmp_path / "run.yaml", before)
    values = read_record(tmp_path / "run.yaml")
    assert values == before.flat() and Run.of(values) == before
    text = (tmp_path / "run.yaml").read_text(encoding="utf-8")
    assert "\n# Loss\nloss: focal\n" in text and list(yaml.safe_load(text)) == list(values)


def test_going_on_from_a_model_is_gentler_unless_told():
    start = {"tiles": ["t"], "model": "m.safetensors"}
    assert Run.of(start).options.optimizer.rate == pytest.approx(1e-4)
    assert Run.of(start | {"optimizer": "sgd"}).options.optimizer.rate == pytest.approx(1e-3)
    assert Run.of(start | {"learning_rate": 3e-3}).options.optimizer.rate == 3e-3
    assert Run.of({"tiles": ["t"]}).options.optimizer.rate == 1e-3
    again = Run.of(Run.of(start).flat())
    assert again.options.optimizer.rate == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epoch: 3", "has an unknown option epoch; did you mean epochs?"),
        ("zzz: 3", "has an unknown option zzz; see buildseg train --help"),
        ("epochs: many", "epochs is 'many'; give a whole number"),
        ("epochs: true", "epochs is True; give a whole number"),
        ("gsd: fine", "gsd is 'fine'; give a number"),
        ("tiles: 3", "tiles is 3; give a list"),
        ("- 3", "holds no options by name"),
        ("tiles: t\na: [", "cannot be read as YAML in line 2; give the run.yaml of a run"),
    ],
)
def test_what_is_no_record_is_refused_in_a_line(tmp_path, text, says):
    path = tmp_path / "some.yaml"
    path.write_text(text)
    with pytest.raises(OptionError) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"--config {path}") and says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_may_be_written_by_hand(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("tiles: here\nlearning-rate: 1e-4\ngsd: 1\nweight_decay: null\n")
    assert read_record(path) == {"tiles": ["here"], "learning_rate": 1e-4, "gsd": 1.0, "weight_decay": None}
