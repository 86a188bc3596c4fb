"""The first convolution of a network in bfloat16, which must not be one of bfloat16."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from buildseg.contract import Contract
from buildseg.prediction.folding import hand_to_onednn
from buildseg.prediction.half_precision import to_bfloat16
from buildseg.prediction.stem import PreciseStem, find_stems, make_stems_precise, middle
from network_rules import images

CONTRACT = Contract(("red", "green", "blue"), "uint8", (101.3, 87.6, 80.5), (44.1, 39.9, 51.2), 0.3, 512)


def edge_finder(seed):
    """A convolution that answers 0 where the image is even, so that roundings show beside the answer."""
    torch.manual_seed(seed)
    convolution = nn.Conv2d(3, 8, 3, padding=1)
    convolution.weight.data -= convolution.weight.data.mean((1, 2, 3), keepdim=True)
    return convolution


def largest_error(found, exact):
    """How much more than the rounding of the result itself, in the image's unit."""
    inner = (..., slice(1, -1), slice(1, -1))
    return ((found.double() - exact).abs() - 2**-8 * exact.abs())[inner].max()


@torch.inference_mode()
@given(seed=st.integers(0, 1000), brightness=st.floats(-4, 4))
def test_scaled_images_are_convolved_as_in_float32(seed, brightness):
    convolution = edge_finder(seed)
    x = brightness + 0.01 * torch.randn(1, 3, 12, 15)
    exact = F.conv2d(x.double(), convolution.weight.double(), convolution.bias.double(), padding=1)
    stem = to_bfloat16(PreciseStem(convolution, CONTRACT))
    assert largest_error(stem(x), exact) < 2**-8 * convolution.bias.abs().max() + 1e-3
    weight = convolution.weight.bfloat16().double()
    plain = F.conv2d(x.bfloat16().double(), weight, convolution.bias.double(), padding=1)
    assert brightness**2 < 1 or largest_error(plain, exact) > 2e-3


@torch.inference_mode()
@given(seed=st.integers(0, 1000), brightness=st.integers(0, 255))
def test_whole_numbers_are_scaled_by_the_convolution(seed, brightness):
    convolution = edge_finder(seed)
    pixels = torch.randint(max(0, brightness - 3), brightness + 1, (1, 3, 12, 15), dtype=torch.uint8)
    mean, std = (torch.tensor(value)[:, None, None].double() for value in (CONTRACT.mean, CONTRACT.std))
    exact = F.conv2d((pixels - mean) / std, convolution.weight.double(), convolution.bias.double(), padding=1)
    stem = to_bfloat16(PreciseStem(convolution, CONTRACT))
    raw = pixels - middle(CONTRACT).bfloat16()
    assert raw.dtype == torch.bfloat16
    assert largest_error(stem(raw), exact) < 2**-8 * convolution.bias.abs().max() + 1e-3


def test_joined_activations_stay():
    network = nn.Sequential(edge_finder(0), nn.ReLU()).eval()
    image = images(1, 3, 8, 8)
    names = find_stems(network, image)
    hand_to_onednn(network, image)
    expected = network(image)
    make_stems_precise(network, names, CONTRACT)
    with torch.inference_mode():
        torch.testing.assert_close(to_bfloat16(network)(image).float(), expected, rtol=2**-7, atol=1e-3)


class Skipping(nn.Module):
    """Looks at the image twice: in a convolution and beside it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x) + x


@pytest.mark.parametrize(
    "network", [Skipping(), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)), nn.Conv2d(3, 6, 3, groups=3)]
)
def test_there_is_no_stem_where_anything_else_takes_the_image(network):
    assert find_stems(network.eval(), images(1, 3, 8, 8)) == []
