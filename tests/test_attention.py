"""Attention modules against slow references, and what they promise about memory and precision."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import attention_reference as reference
from buildseg.attention import ChannelAttention, DualAttention, PolarizedSelfAttention, PositionAttention
from buildseg.attention.looking import Gated, PositionMapped, attention_modules
from tiling.errors import OptionError

LAYOUTS = ("parallel", "serial")
FORMS = ("paper", "official")
CHANNELS = (1, 2, 6, 8, 20, 64)


def randomized(module: nn.Module) -> nn.Module:
    """In float64, with no weight at a special value, gamma and beta least of all."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.double().parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2
    return module


def features(channels: int, height: int = 3, width: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def with_gradients(call: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, then the gradients of one random combination of it: of x and of every weight."""
    out = call(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape).cos()
    return [out, *torch.autograd.grad((out * weights).sum(), [x, *module.parameters()])]


def check(module: nn.Module, slow: Callable[..., Tensor], x: Tensor) -> None:
    ours = with_gradients(module, module, x)
    theirs = with_gradients(lambda x: slow(module, x), module, x)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_polarized_attention_and_its_gradients_are_the_formula(layout, form, channels):
    module = randomized(PolarizedSelfAttention(channels, layout, form))
    check(module, reference.polarized_self_attention, features(channels))


@pytest.mark.parametrize("channels", CHANNELS)
def test_position_attention_and_its_gradients_are_the_formula(channels):
    check(randomized(PositionAttention(channels)), reference.position_attention, features(channels))


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("form", FORMS)
def test_channel_attention_and_its_gradients_are_the_formula(form, channels):
    check(randomized(ChannelAttention(channels, form)), reference.channel_attention, features(channels))


def modules(channels: int) -> list[nn.Module]:
    polarized = [PolarizedSelfAttention(channels, layout, form) for layout in LAYOUTS for form in FORMS]
    dual = [DualAttention(channels, form) for form in FORMS]
    return [*polarized, PositionAttention(channels), *(ChannelAttention(channels, f) for f in FORMS), *dual]


@pytest.mark.parametrize("module", modules(16), ids=lambda m: type(m).__name__)
def test_channels_last_images_change_nothing(module):
    x = features(16).detach()
    module = randomized(module)
    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last)), module(x))


@pytest.mark.parametrize("module", modules(16), ids=lambda m: type(m).__name__)
def test_one_position_and_one_image_are_enough(module):
    assert module(torch.ones(1, 16, 1, 1)).shape == (1, 16, 1, 1)


@pytest.mark.parametrize("module", modules(16), ids=lambda m: type(m).__name__)
def test_autocast_and_bfloat16_stay_near_full_precision(module):
    module = randomized(module).float()
    x = features(16).detach().float() / 4
    full = module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(module(x).float(), full, rtol=0.05, atol=0.05)
    half = module.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("make", [PositionAttention, ChannelAttention, DualAttention])
def test_dual_attention_starts_as_the_identity(make):
    x = features(16).detach().float()
    torch.testing.assert_close(make(16)(x), x, rtol=0, atol=0)


def test_polarized_attention_with_gates_of_a_half_is_the_identity_in_parallel_and_a_quarter_in_series():
    x = features(16).detach().float()
    for layout, share in (("parallel", 1.0), ("serial", 0.25)):
        module = PolarizedSelfAttention(16, layout)
        nn.init.zeros_(module.channel_out[1].norm.weight)
        nn.init.zeros_(module.spatial_value.weight)
        torch.testing.assert_close(module(x), share * x)


@pytest.mark.parametrize("module", modules(16)[:4], ids=lambda m: f"{m.layout}-{m.form}")
def test_gates_are_weights_per_channel_and_per_position(module):
    x = torch.randn(2, 16, 5, 7)
    channel, spatial = module.channel_gate(x), module.spatial_gate(x)
    assert channel.shape == (2, 16, 1, 1)
    assert spatial.shape == (2, 1, 5, 7)
    assert ((channel > 0) & (channel < 1)).all()
    assert ((spatial > 0) & (spatial < 1)).all()


def test_the_gram_matrix_stays_in_float32_under_autocast():
    torch.manual_seed(0)
    x = torch.randn(1, 8, 128, 128)
    x[:, 1:] = x[:, :1] + 0.02 * x[:, 1:]  # nearly alike channels: their energies differ in the last digits
    for form in FORMS:
        module = ChannelAttention(8, form)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            weights = module.weights(x)
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights, module.weights(x))


def test_position_attention_has_a_fused_kernel_at_every_width():
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):  # raises where PyTorch would fall back to n x n scores
        for channels in (*CHANNELS, 72, 512):
            for dtype in (torch.float32, torch.bfloat16):
                x = torch.randn(1, channels, 4, 5, dtype=dtype, requires_grad=True)
                PositionAttention(channels).to(dtype)(x).sum().backward()


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_freed_memory() -> None:
    """Undo `keep_freed_memory`, which a prediction earlier in this process may have called: see mallopt(3)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option in (-1, -2, -3):  # what is trimmed from the heap, what is left of it, and what is mapped beside it
            libc.mallopt(option, 128 * 1024)
        libc.malloc_trim(0)


def extra_peak(run: Callable[[], object]) -> int:
    """How far the process's resident memory rises above where it is, in bytes: the least of three times."""
    forget_freed_memory()
    return min(_extra_peak(run) for _ in range(3))


def _extra_peak(run: Callable[[], object]) -> int:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    except OSError:
        pytest.skip("this system does not tell a process's peak memory")
    before = peak_bytes()
    run()
    return peak_bytes() - before


@pytest.mark.parametrize("channels", [16, 64])
def test_position_attention_never_holds_the_scores_in_training(channels):
    side = 72
    scores = 4 * side**4
    module = PositionAttention(channels)
    x = torch.randn(1, channels, side, side, requires_grad=True)
    module(x[..., :8, :8]).sum().backward()  # what is set up once is none of its cost
    assert extra_peak(lambda: module(x).sum().backward()) < 0.2 * scores


def test_the_measurement_of_memory_sees_the_scores_where_they_are_held():
    module, x = PositionAttention(16), torch.randn(1, 16, 64, 64)
    with sdpa_kernel([SDPBackend.MATH]):
        assert extra_peak(lambda: module(x)) > 0.9 * 4 * 64**4


@pytest.mark.parametrize("make", [PolarizedSelfAttention, PositionAttention])
@pytest.mark.parametrize(("images", "row", "column"), [(1, 3, 0), (1, 0, 4), (1, -1, 0), (1, 0, -1), (2, 0, 0)])
def test_a_map_is_of_one_position_of_one_image(make, images, row, column):
    with pytest.raises(OptionError, match=f"not of row {row}, column {column} of {images} of 3 x 4"):
        make(8).position_map(torch.zeros(images, 8, 3, 4), row, column)


@pytest.mark.parametrize("module", modules(16), ids=lambda m: type(m).__name__)
def test_what_comes_out_has_the_precision_of_what_goes_in(module):
    x = features(16).detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module.float()(x).dtype == torch.bfloat16


def test_unknown_values_are_refused_by_name():
    with pytest.raises(OptionError, match="layout 'both' is none of parallel, serial"):
        PolarizedSelfAttention(8, "both")
    with pytest.raises(OptionError, match="form 'mine' is none of paper, official"):
        PolarizedSelfAttention(8, form="mine")
    with pytest.raises(OptionError, match="form 'mine' is none of paper, official"):
        ChannelAttention(8, "mine")
    for make in (PolarizedSelfAttention, PositionAttention, ChannelAttention):
        with pytest.raises(OptionError, match="at least 1 channel, not 0"):
            make(0)


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_map_of_a_position_is_its_row_of_the_textbook_softmax(channels):
    module = randomized(PositionAttention(channels))
    x = features(channels, 5, 7).detach()[:1]
    for row, column in ((0, 0), (2, 6), (4, 3)):
        seen = module.position_map(x, row, column)
        torch.testing.assert_close(seen, reference.position_row(module, x[0], row, column), rtol=1e-9, atol=1e-12)
        assert seen.sum().item() == pytest.approx(1)


def test_the_map_of_a_position_is_what_the_module_adds_there():
    module = randomized(PositionAttention(16))
    x = features(16, 5, 7).detach()[:1]
    seen = module.position_map(x, 3, 1)
    attended = torch.einsum("hw,chw->c", seen, module.value(x)[0])
    torch.testing.assert_close(module.gamma * attended + x[0, :, 3, 1], module(x)[0, :, 3, 1])


def test_the_map_of_a_position_never_makes_all_scores():
    side = 72
    module, x = PositionAttention(16), torch.randn(1, 16, side, side)
    with torch.inference_mode():
        module.position_map(x[..., :8, :8], 0, 0)
        assert extra_peak(lambda: module.position_map(x, 40, 50)) < 0.1 * 4 * side**4


@pytest.mark.parametrize("module", modules(16)[:4], ids=lambda m: f"{m.layout}-{m.form}")
def test_the_map_of_polarized_attention_is_the_gate_that_its_forward_applies(module):
    module = randomized(module)
    x = features(16, 5, 7).detach()[:1]
    seen = module.position_map(x, 4, 2)
    assert torch.equal(seen, module.position_map(x, 0, 0))
    channel = module.channel_gate(x)
    gated = x * (channel + seen) if module.layout == "parallel" else x * channel * seen
    torch.testing.assert_close(module(x), gated)


def test_attention_can_be_looked_at_module_by_module():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = PositionAttention(8)

        def position_map(self, x, row, column):
            return self.inner.position_map(x, row, column)

    network = nn.Sequential(nn.Conv2d(3, 8, 1), Recurrent(), DualAttention(8), PolarizedSelfAttention(8))
    found = attention_modules(network)
    assert list(found) == ["1", "2.position", "2.channel", "3"]
    assert [isinstance(m, PositionMapped) for m in found.values()] == [True, True, False, True]
    assert [isinstance(m, Gated) for m in found.values()] == [False, False, False, True]
    assert attention_modules(nn.Sequential(nn.Conv2d(3, 8, 1), nn.MaxPool2d(2))) == {}
