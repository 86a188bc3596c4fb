"""Criss-cross attention against a slow reference, and what it promises about memory, precision and its maps."""

import pytest
import torch
from torch import Tensor, nn

import attention_reference_criss_cross as reference
from buildseg.attention import CrissCrossAttention, RecurrentCrissCrossAttention
from test_attention import CHANNELS, check, extra_peak, features, randomized
from tiling.errors import OptionError

SIZES = [(3, 4), (4, 3), (1, 5), (5, 1), (1, 1)]


def modules(channels: int) -> list[nn.Module]:
    return [CrissCrossAttention(channels), *(RecurrentCrissCrossAttention(channels, r) for r in (1, 2, 3))]


@pytest.mark.parametrize("channels", CHANNELS)
def test_criss_cross_attention_and_its_gradients_are_the_formula(channels):
    check(randomized(CrissCrossAttention(channels)), reference.criss_cross_attention, features(channels))


@pytest.mark.parametrize("size", SIZES)
def test_a_map_of_any_height_and_width_will_do(size):
    check(randomized(CrissCrossAttention(8)), reference.criss_cross_attention, features(8, *size))


@pytest.mark.parametrize("recurrence", [1, 2, 3])
def test_recurrent_attention_and_its_gradients_are_the_same_module_again(recurrence):
    module = randomized(RecurrentCrissCrossAttention(6, recurrence))
    check(module, reference.recurrent_criss_cross_attention, features(6))


def test_the_passes_share_their_weights():
    counts = {len(list(RecurrentCrissCrossAttention(8, recurrence).parameters())) for recurrence in (1, 2, 3)}
    assert counts == {7}


@pytest.mark.parametrize("module", modules(16), ids=lambda m: type(m).__name__)
def test_it_starts_as_the_identity(module):
    x = features(16).detach().float()
    torch.testing.assert_close(module(x), x, rtol=0, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_each_position_of_the_cross_counts_once(size):
    height, width = size
    module = CrissCrossAttention(8)
    nn.init.zeros_(module.query.weight)
    nn.init.zeros_(module.query.bias)
    column, row = module.weights(torch.randn(2, 8, height, width))
    assert column.shape == (2, height, width, height)
    assert row.shape == (2, height, width, width)
    itself = torch.eye(height).bool()[:, None].expand(2, height, width, height)
    share = torch.tensor(1 / (height + width - 1))
    torch.testing.assert_close(column, torch.where(itself, 0, share))
    torch.testing.assert_close(row, share.expand_as(row))


@pytest.mark.parametrize("module", modules(16), ids=lambda m: type(m).__name__)
def test_channels_last_images_change_nothing(module):
    x = features(16, 5, 7).detach()
    module = randomized(module)
    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last)), module(x))


@pytest.mark.parametrize("module", modules(16), ids=lambda m: type(m).__name__)
def test_autocast_and_bfloat16_stay_near_full_precision(module):
    module = randomized(module).float()
    for parameter in module.parameters():
        parameter.data /= 2
    x = features(16, 5, 7).detach().float() / 4
    full = module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(module(x), full, rtol=0.05, atol=0.05)
        assert module(x.bfloat16()).dtype == torch.bfloat16
    half = module.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)


def keys_as_they_are() -> tuple[CrissCrossAttention, Tensor]:
    """A module whose queries are 1 and keys the first channels of x: both exact in bfloat16, their scores not."""
    module = CrissCrossAttention(16)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    nn.init.ones_(module.query.bias)
    nn.init.eye_(module.key.weight.data[:, :, 0, 0])
    generator = torch.Generator().manual_seed(2)
    return module, torch.randint(200, 208, (1, 16, 6, 7), generator=generator) / 2


def test_the_scores_and_their_softmax_are_in_float32_under_autocast_and_in_bfloat16():
    module, x = keys_as_they_are()
    full = module.weights(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = module.weights(x)
    for weights in (under_autocast, module.bfloat16().weights(x.bfloat16())):
        for part, expected in zip(weights, full, strict=True):
            assert part.dtype == torch.float32
            torch.testing.assert_close(part, expected)


@pytest.mark.parametrize("module", modules(16), ids=lambda m: type(m).__name__)
def test_it_can_be_exported_for_maps_of_any_size(module):
    module = randomized(module)
    x = features(16, 5, 7).detach()
    sizes = {axis: torch.export.Dim(f"axis{axis}", min=2, max=64) for axis in (0, 2, 3)}
    program = torch.export.export(module, (x,), dynamic_shapes=(sizes,))
    torch.testing.assert_close(program.module()(x), module(x))
    other = torch.cat([x, x])[:3, :, 1:, :4]
    torch.testing.assert_close(program.module()(other), module(other))


@pytest.mark.parametrize("recurrence", [1, 2, 3])
@pytest.mark.parametrize("size", [*SIZES, (5, 7)])
def test_the_map_of_a_position_is_its_row_of_the_product_of_all_passes(size, recurrence):
    module = randomized(RecurrentCrissCrossAttention(6, recurrence))
    x = features(6, *size).detach()[:1]
    for row, column in ((0, 0), (size[0] - 1, size[1] // 2)):
        seen = module.position_map(x, row, column)
        expected = reference.position_map(module, x[0], row, column)
        torch.testing.assert_close(seen, expected, rtol=1e-9, atol=1e-12)
        assert seen.sum().item() == pytest.approx(1)
        if recurrence == 1:
            torch.testing.assert_close(module.attention.position_map(x, row, column), seen, rtol=0, atol=0)


def test_one_pass_sees_the_cross_and_two_see_the_whole_image():
    x = features(8, 5, 7).detach()[:1]
    cross = torch.zeros(5, 7, dtype=torch.bool)
    cross[3, :], cross[:, 2] = True, True
    one, two = (randomized(RecurrentCrissCrossAttention(8, r)).position_map(x, 3, 2) for r in (1, 2))
    assert torch.equal(one > 0, cross)
    assert (two > 0).all()


def test_the_map_of_a_position_is_what_the_module_adds_there():
    module = randomized(CrissCrossAttention(16))
    x = features(16, 5, 7).detach()[:1]
    attended = torch.einsum("hw,chw->c", module.position_map(x, 3, 1), module.value(x)[0])
    torch.testing.assert_close(module.gamma * attended + x[0, :, 3, 1], module(x)[0, :, 3, 1])


def test_it_needs_a_sixth_of_the_memory_of_all_scores_in_prediction_and_a_quarter_in_training():
    side = 128
    scores = 4 * side**4  # of plain non-local attention, which holds them twice over
    module = CrissCrossAttention(512)
    x = torch.randn(1, 512, side, side)
    with torch.inference_mode():
        module(x[..., :8, :8])  # what is set up once is none of its cost
        assert extra_peak(lambda: module(x)) < scores / 6
    module(x[..., :8, :8]).sum().backward()
    assert extra_peak(lambda: module(x).sum().backward()) < scores / 4


def test_the_map_of_two_passes_never_holds_all_scores():
    side = 96
    module, x = RecurrentCrissCrossAttention(16), torch.randn(1, 16, side, side)
    with torch.inference_mode():
        module.position_map(x[..., :8, :8], 0, 0)
        assert extra_peak(lambda: module.position_map(x, 40, 50)) < 4 * side**4 / 8


@pytest.mark.parametrize("recurrence", [0, 4, True, 2.0, "2"])
def test_other_numbers_of_passes_are_refused(recurrence):
    with pytest.raises(OptionError, match=f"recurrence is 1, 2 or 3, not {recurrence!r}"):
        RecurrentCrissCrossAttention(8, recurrence)


def test_what_has_no_channels_or_no_such_position_is_refused():
    with pytest.raises(OptionError, match="at least 1 channel, not 0"):
        CrissCrossAttention(0)
    x = features(8).detach().float()
    for module in modules(8):
        for images, row, column in ((1, 3, 0), (1, 0, 4), (1, -1, 0), (1, 0, -1), (2, 0, 0)):
            with pytest.raises(OptionError, match=f"not of row {row}, column {column} of {images} of 3 x 4"):
                module.position_map(x[:images], row, column)
