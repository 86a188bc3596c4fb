"""Asymmetric attention against slow references, its pyramid, and what it promises about memory and precision."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attention_reference_asymmetric as reference
from buildseg.attention import AsymmetricFusionAttention, AsymmetricPyramidAttention
from buildseg.attention.looking import PositionMapped
from test_attention import extra_peak
from tiling.errors import OptionError

SIZES = (1, 3, 6, 8)
LOW, HIGH = 6, 10


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(11)


def pyramid(channels: int = HIGH, **options) -> AsymmetricPyramidAttention:
    return randomized(AsymmetricPyramidAttention(channels, **({"dropout": 0.0} | options)))


def fusion(**options) -> AsymmetricFusionAttention:
    return randomized(AsymmetricFusionAttention(LOW, HIGH, **({"dropout": 0.0, "width": 4} | options)))


def randomized(module: nn.Module) -> nn.Module:
    """In float64, with no weight and no running statistic at a special value, W least of all."""
    generator = torch.Generator().manual_seed(3)
    for tensor in [*module.double().parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.randn(tensor.shape, generator=generator, dtype=torch.float64) / 2
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.abs_().add_(0.5)
    return module


def features(channels: int, height: int, width: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(7 + channels)
    x = torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def with_gradients(call: Callable[..., Tensor], module: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    """The output, then the gradients of one random combination of it: of the inputs and of every weight."""
    out = call(*inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape).cos()
    return [out, *torch.autograd.grad((out * weights).sum(), [*inputs, *module.parameters()])]


def check(module: nn.Module, slow: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    ours = with_gradients(module, module, inputs)
    theirs = with_gradients(lambda *inputs: slow(module, *inputs), module, inputs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(2, 1), (3, 4), (9, 8)])
def test_pyramid_attention_and_its_gradients_are_the_formula(size, training):
    check(pyramid().train(training), reference.pyramid_attention, [features(HIGH, *size)])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("low", "high"), [((3, 4), (3, 4)), ((9, 8), (2, 3)), ((1, 1), (5, 4))])
def test_fusion_attention_and_its_gradients_are_the_formula(low, high, training):
    inputs = [features(LOW, *low), features(HIGH, *high)]
    check(fusion().train(training), reference.fusion_attention, inputs)


@pytest.mark.parametrize("height", [*range(1, 18), 24, 33, 64])
def test_the_pyramid_pools_as_adaptive_pooling_does(height):
    pool = pyramid().pyramid
    for width in (1, 2, 3, 7, 8, 13, 48):
        x = features(3, height, width).detach()
        expected = torch.cat([F.adaptive_avg_pool2d(x, size).flatten(2) for size in SIZES], dim=2)
        torch.testing.assert_close(pool(x), expected, rtol=1e-12, atol=1e-12)
        assert expected.shape == (2, 3, 110)


def test_other_pyramids_and_widths_can_be_asked_for():
    module = AsymmetricPyramidAttention(16, width=5, pool_sizes=[2, 4])
    assert module.pyramid(torch.randn(2, 3, 9, 9)).shape == (2, 3, 20)
    assert module.value.weight.shape == (5, 16, 1, 1)
    assert module(torch.randn(2, 16, 9, 9)).shape == (2, 16, 9, 9)


def test_widths_are_the_articles_unless_told_otherwise():
    apnb, afnb = AsymmetricPyramidAttention(512), AsymmetricFusionAttention(1024, 2048)
    assert [apnb.query[0].out_channels, apnb.value.out_channels] == [256, 256]
    assert [m.out_channels for m in (afnb.query[0], afnb.key[0], afnb.value)] == [256, 256, 256]
    assert not hasattr(apnb, "key")  # one convolution makes queries and keys


@pytest.mark.parametrize("training", [True, False])
def test_at_the_start_the_context_is_zeros_beside_the_features(training):
    low, high = features(LOW, 5, 7).float(), features(HIGH, 5, 7).float()
    for module, inputs in (
        (AsymmetricPyramidAttention(HIGH), [high]),
        (AsymmetricFusionAttention(LOW, HIGH), [low, high]),
    ):
        module.train(training).finish[-1].p = 0.0
        assert not module.out.weight.any()
        expected = module.finish(module.fuse(torch.cat([torch.zeros_like(high), high], dim=1)))
        torch.testing.assert_close(module(*inputs), expected, rtol=1e-5, atol=1e-6)


def test_what_goes_in_learns_from_the_first_step_on():
    # The article's code returns W context alone: with W zero, no gradient at all reaches what is below.
    low, high = features(LOW, 5, 7).float().detach().requires_grad_(), features(HIGH, 5, 7).float()
    high = high.detach().requires_grad_()
    for module, inputs in (
        (AsymmetricPyramidAttention(HIGH), [high]),
        (AsymmetricFusionAttention(LOW, HIGH), [low, high]),
    ):
        out = module(*inputs)
        weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape).cos()
        gradients = torch.autograd.grad((out * weights).sum(), [high, module.out.weight])
        assert all(gradient.abs().max() > 1e-3 for gradient in gradients)


def test_a_file_of_weights_holds_nothing_else():
    layers = {key.split(".")[0] for key in AsymmetricFusionAttention(8, 8).state_dict()}
    assert layers == {"query", "key", "value", "out", "fuse", "finish"}


def test_the_last_layers_are_those_of_the_article():
    assert [type(layer) for layer in AsymmetricPyramidAttention(8).finish] == [nn.BatchNorm2d, nn.ReLU, nn.Dropout2d]
    assert [type(layer) for layer in AsymmetricFusionAttention(8, 8).finish] == [nn.BatchNorm2d, nn.Dropout2d]
    assert AsymmetricPyramidAttention(8).finish[-1].p == AsymmetricFusionAttention(8, 8).finish[-1].p == 0.05


def calls() -> list[tuple[nn.Module, list[Tensor]]]:
    low, high = features(LOW, 9, 6).detach(), features(HIGH, 5, 7).detach()
    return [(pyramid().eval(), [high]), (fusion().eval(), [low, high])]


@pytest.mark.parametrize(("module", "inputs"), calls(), ids=["pyramid", "fusion"])
class TestBoth:
    def test_channels_last_images_change_nothing(self, module, inputs):
        expected = module(*inputs)
        changed = [x.to(memory_format=torch.channels_last) for x in inputs]
        torch.testing.assert_close(module.to(memory_format=torch.channels_last)(*changed), expected)

    def test_each_image_is_for_itself(self, module, inputs):
        alone = [module(*(x[n : n + 1] for x in inputs)) for n in range(2)]
        torch.testing.assert_close(torch.cat(alone), module(*inputs))

    def test_autocast_and_bfloat16_stay_near_full_precision(self, module, inputs):
        full = module(*inputs)
        module, inputs = module.float(), [x.float() for x in inputs]
        torch.testing.assert_close(module(*inputs), full.float(), rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(module(*inputs).float(), full.float(), rtol=0.05, atol=0.1)
        half = module.bfloat16()(*(x.bfloat16() for x in inputs))
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), full.float(), rtol=0.05, atol=0.1)
        module.double()

    def test_the_map_of_a_position_is_its_share_of_each_region(self, module, inputs):
        assert isinstance(module, PositionMapped)
        inputs = [x[:1] for x in inputs]
        query, key = (
            reference.projected(module.query, inputs[-1]),
            reference.projected(getattr(module, "key", module.query), inputs[0]),
        )
        for row, column in ((0, 0), (2, 6), (4, 3)):
            seen = module.position_map(*inputs, row, column)
            expected = reference.region_map(module, query[0, :, row, column], key[0])
            torch.testing.assert_close(seen, expected, rtol=1e-9, atol=1e-12)
            assert seen.shape == inputs[0].shape[2:]
            assert seen.sum().item() == pytest.approx(1)

    def test_the_map_of_a_position_is_what_the_module_adds_there(self, module, inputs):
        inputs = [x[:1] for x in inputs]
        seen = module.position_map(*inputs, row=3, column=1)
        context = torch.einsum("hw,chw->c", seen, module.value(inputs[0])[0])
        added = torch.cat([module.out(context[None, :, None, None]), inputs[-1][..., 3:4, 1:2]], dim=1)
        torch.testing.assert_close(module.finish(module.fuse(added)), module(*inputs)[..., 3:4, 1:2])

    def test_a_map_of_a_position_outside_is_refused(self, module, inputs):
        one = [x[:1] for x in inputs]
        for row, column in ((5, 0), (0, 7), (-1, 0)):
            with pytest.raises(OptionError, match=f"row {row}, column {column} of 1 of 5 x 7"):
                module.position_map(*one, row, column)
        with pytest.raises(OptionError, match="of 2 of 5 x 7"):
            module.position_map(*inputs, 0, 0)


def test_can_be_exported_for_any_size():
    module, x = pyramid().eval(), features(HIGH, 9, 6).detach()
    sides = {2: torch.export.Dim("height", max=64), 3: torch.export.Dim("width", max=64)}
    program = torch.export.export(module, (x,), dynamic_shapes=(sides,))
    for other in (x, x[..., :4, :5], torch.cat([x, x], dim=3)):
        torch.testing.assert_close(program.module()(other), module(other))


def test_the_scores_stay_in_float32_under_autocast():
    module = AsymmetricPyramidAttention(32, dropout=0.0).eval()
    x = 30 * torch.randn(1, 32, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = module.position_map(x, 5, 5)
        query = module.query(x)
        key = module.pyramid(query)
    assert seen.dtype == torch.float32
    scores = (query[0, :, 5, 5].double() @ key[0].double()) / 4
    torch.testing.assert_close(seen, module.pyramid.spread(scores.softmax(dim=0).float(), 24, 24), rtol=1e-4, atol=1e-7)


def test_memory_in_training_grows_with_the_positions_and_not_with_their_square():
    side, channels = 96, 16
    module = AsymmetricPyramidAttention(channels)
    x = torch.randn(1, channels, side, side, requires_grad=True)
    module(x[..., :12, :12]).sum().backward()  # what is set up once is none of its cost
    scores = 4 * side**2 * 110
    assert extra_peak(lambda: module(x).sum().backward()) < 8 * scores < 4 * side**4 / 8


def test_batch_normalisation_needs_a_second_value_in_training_alone():
    module = AsymmetricPyramidAttention(8)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        module(torch.randn(1, 8, 1, 1))
    assert module(torch.randn(1, 8, 1, 2)).shape == (1, 8, 1, 2)
    assert module(torch.randn(2, 8, 1, 1)).shape == (2, 8, 1, 1)
    assert module.eval()(torch.randn(1, 8, 1, 1)).shape == (1, 8, 1, 1)


REFUSED = [
    (lambda: AsymmetricPyramidAttention(0), "at least 1 channel, not 0"),
    (lambda: AsymmetricFusionAttention(0, 8), "at least 1 channel, not 0"),
    (lambda: AsymmetricFusionAttention(8, 8, width=0), "at least 1 channel, not 0"),
    (lambda: AsymmetricPyramidAttention(8, pool_sizes=[]), r"pool_sizes takes positive whole numbers, not \[\]"),
    (lambda: AsymmetricPyramidAttention(8, pool_sizes=[2, 0]), r"pool_sizes takes positive .* not \[2, 0\]"),
    (lambda: AsymmetricFusionAttention(8, 8, dropout=1.0), "dropout is from 0 to below 1, not 1.0"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_values_out_of_range_are_refused_by_name(make, message):
    with pytest.raises(OptionError, match=message):
        make()
