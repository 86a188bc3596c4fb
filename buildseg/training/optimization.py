"""Optimisers and schedules, made from options."""

import math
from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from buildseg.networks import SegmentationNetwork
from buildseg.training.options import OptimizerOptions, ScheduleOptions
from tiling.errors import OptionError


def make_optimizer(network: SegmentationNetwork, options: OptimizerOptions) -> torch.optim.Optimizer:
    """Make the optimiser. Norms and biases do not decay; the encoder may learn more slowly.

    Args:
        network: Its weights are moved.
        options: How.

    Raises:
        OptionError: The encoder is to learn in its own way, and there is none.
    """
    encoder = set(encoder_of(network).parameters()) if options.encoder_rate != 1 else set()
    groups = []
    for inside, factor in ((False, 1.0), (True, options.encoder_rate)):
        mine = [parameter for parameter in network.parameters() if (parameter in encoder) == inside]
        for decays in (True, False):
            chosen = [parameter for parameter in mine if (parameter.dim() > 1) == decays]
            if chosen:
                decay = options.decay if decays else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "lr": options.rate * factor})
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.rate, momentum=options.momentum, nesterov=options.momentum > 0)
    return torch.optim.AdamW(groups, lr=options.rate)


def encoder_of(network: SegmentationNetwork) -> torch.nn.Module:
    """Give the part of a network that is its encoder.

    Raises:
        OptionError: It is one piece.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, torch.nn.Module):
        name = network.architecture.name
        raise OptionError(f"{name} has no encoder; leave out --freeze-encoder and --encoder-rate")
    return encoder


def make_schedule(optimizer: torch.optim.Optimizer, steps: int, options: ScheduleOptions) -> LRScheduler:
    """Make the schedule of the learning rate, step by step.

    Args:
        optimizer: Its rates are the peaks.
        steps: Of the whole run.
        options: How the rate goes.
    """
    if options.schedule == "one-cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        # Smith and Topin 2018, arXiv:1708.07120; it also lowers momentum while the rate is high.
        return OneCycleLR(optimizer, peaks, total_steps=max(2, steps), pct_start=min(max(options.rise, 0.01), 0.99))
    return LambdaLR(optimizer, _factor(steps, options))


def _factor(steps: int, options: ScheduleOptions) -> Callable[[int], float]:
    """Linear warm-up, then decay to zero along a cosine or a polynomial (Chen et al. 2018, arXiv:1606.00915)."""
    warmup = max(1, round(steps * options.rise))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        gone = min(1.0, (step - warmup) / max(1, steps - warmup))
        return (1 - gone) ** options.poly_power if options.schedule == "poly" else 0.5 * (1 + math.cos(math.pi * gone))

    return factor
