"""Weights that bfloat16 holds as they are."""

import copy

import pytest
import torch
from torch import nn

from buildseg.contract import Contract
from buildseg.networks import NETWORKS
from buildseg.networks.base import smallest_image
from buildseg.prediction.fitting import fitted_to_bfloat16
from buildseg.prediction.folding import fold_batch_norm, normalised
from buildseg.prediction.half_precision import WEIGHED, precise_modules
from buildseg.prediction.stem import PreciseStem, find_stems, spread
from network_rules import built, images
from test_prediction_network import CHEAP, same_weights, with_statistics

CONTRACT = Contract(("red", "green", "blue"), "uint8", (101.3, 87.6, 80.5), (44.1, 39.9, 51.2), 0.3, 64)


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def network(request):
    return with_statistics(built(request.param, **CHEAP[request.param]))


@pytest.fixture(scope="module")
def fitted(network):
    return fitted_to_bfloat16(network, CONTRACT)


def off_the_grid(values):
    """How far numbers are from those of bfloat16, of what those are apart: half at most."""
    return ((values - values.bfloat16()).abs() / (2.0**-8 * values.abs()).clamp_min(1e-30)).max()


def folded_weights(network):
    """Of the convolutions that are rounded, as they are rounded."""
    folded = fold_batch_norm(network, smallest_image(network))
    stems, precise = find_stems(folded, smallest_image(network)), precise_modules(folded)
    return [
        module.weight.detach() / (spread(CONTRACT) if name in stems else 1)
        for name, module in folded.named_modules()
        if isinstance(module, WEIGHED) and module not in precise
    ]


def test_what_is_rounded_later_is_there_already(network, fitted):
    before, after = folded_weights(network), folded_weights(fitted)
    assert len(before) == len(after) > 0
    assert max(map(off_the_grid, before)) > 0.4
    assert max(map(off_the_grid, after)) < 0.01
    assert all((one - other).abs().max() <= 2**-7 * one.abs().max() for one, other in zip(before, after, strict=True))


def test_biases_are_numbers_of_bfloat16_once_folded(fitted):
    precise = precise_modules(fitted)
    names = {module: name for name, module in fitted.named_modules()}
    folded = fold_batch_norm(fitted, smallest_image(fitted))
    biases = [
        folded.get_submodule(names[convolution]).bias.detach()
        for convolution, _ in normalised(fitted, smallest_image(fitted))
        if convolution not in precise
    ]
    assert len(biases) > 5
    assert all((bias - bias.bfloat16()).abs().max() <= 2**-14 * bias.abs().max() for bias in biases)


def test_what_is_fitted_is_left_as_it_was():
    network = with_statistics(built("bisenetv2"))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    fitted_to_bfloat16(network, CONTRACT)
    assert same_weights(network, state)


def test_it_answers_as_before(network, fitted):
    x = images(1, 3, 64, 96)
    with torch.inference_mode():
        wanted, answer = network(x), fitted(x)
    assert (answer - wanted).abs().mean() < 0.02 * wanted.abs().mean() + 0.01


def test_fitted_again_it_stays(fitted):
    twice, once = fitted_to_bfloat16(fitted, CONTRACT).state_dict(), fitted.state_dict()
    for name, value in twice.items():
        torch.testing.assert_close(value, once[name], rtol=1e-4, atol=1e-5)


def test_kept_as_float16_they_are_still_next_to_those_of_bfloat16(fitted):
    kept = copy.deepcopy(fitted)
    for parameter in kept.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.half().float()
    apart = [(weight - weight.bfloat16()).abs().max() / weight.abs().max() for weight in folded_weights(kept)]
    assert max(apart) < 2**-11


def test_the_stem_is_then_one_convolution_of_the_bands():
    network = with_statistics(built("lraspp", **CHEAP["lraspp"]))
    bands = {}
    for name, one in (("trained", network), ("fitted", fitted_to_bfloat16(network, CONTRACT))):
        stem = fold_batch_norm(one, smallest_image(one)).encoder.features[0][0]
        raw = PreciseStem(stem, CONTRACT).raw
        assert isinstance(raw, nn.Conv2d)
        bands[name] = raw.in_channels
    assert bands == {"trained": 6, "fitted": 3}


def test_channels_that_are_switched_off_stay_as_they_are():
    network = with_statistics(built("lraspp", **CHEAP["lraspp"]))
    convolution, norm = network.encoder.features[0][0], network.encoder.features[0][1]
    with torch.no_grad():
        norm.weight[3] = 0
    fitted = fitted_to_bfloat16(network, CONTRACT)
    assert torch.equal(fitted.encoder.features[0][0].weight[3], convolution.weight[3])
    assert all(torch.isfinite(value).all() for value in fitted.state_dict().values())
