"""The category-consistent loss against a slow reference, and where there is little or nothing to measure."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from buildseg.classes import IGNORE
from buildseg.networks.output import Embedding
from buildseg.training.category_consistent import category_consistent_loss


def reference(features: Tensor, stride: int, target: Tensor) -> Tensor:
    """The article's equations 3 to 8, cell by cell, class by class and pair by pair."""
    members: dict[int, list[Tensor]] = {}
    for image, labels in zip(features, target.tolist(), strict=True):
        for i in range(image.shape[1]):
            for j in range(image.shape[2]):
                row, column = i * stride + stride // 2, j * stride + stride // 2
                if row < len(labels) and column < len(labels[0]) and labels[row][column] != 255:
                    members.setdefault(labels[row][column], []).append(image[:, i, j])
    zero = features.sum() * 0
    if not members:
        return zero
    means = {label: sum(vectors) / len(vectors) for label, vectors in members.items()}
    variance, nearness, size = zero, zero, zero
    for label, vectors in members.items():
        variance = variance + sum(scatter(length(v - means[label])) for v in vectors) / len(vectors)
        size = size + length(means[label])
        for other, mean in means.items():
            if other != label and length(means[label] - mean) < 3:
                nearness = nearness + (3 - length(means[label] - mean)) ** 2
    count = len(members)
    return variance / count + nearness / max(1, count * (count - 1)) + 0.001 * size / count


def scatter(distance: Tensor) -> Tensor:
    if distance > 1.5:
        return distance - 1.5 + (1.5 - 0.5) ** 2
    return (distance - 0.5) ** 2 if distance > 0.5 else distance * 0


def length(vector: Tensor) -> Tensor:
    squares = (vector**2).sum()
    return squares.sqrt() if squares > 0 else squares


def drawn(seed: int, shape: tuple[int, ...], classes: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Features in float64, and a target with as many classes, of which the last is `IGNORE`."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([*range(classes), IGNORE], dtype=torch.uint8)
    return features, labels[torch.randint(classes + 1, (shape[0], *size), generator=generator)]


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_the_loss_and_its_gradient_are_the_formula(classes, spread):
    features, target = drawn(classes, (2, 3, 4, 5), classes, (32, 40))
    ours = category_consistent_loss(Embedding(features * spread, 8, 1.0), target)
    theirs = reference(features * spread, 8, target)
    torch.testing.assert_close(ours, theirs)
    for mine, other in zip(torch.autograd.grad(ours, features), torch.autograd.grad(theirs, features), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_every_case_of_the_distance_is_among_those_compared():
    features, _ = drawn(2, (2, 3, 4, 5), 2, (32, 40))
    distances = torch.cat([(features * spread).detach().norm(dim=1).flatten() for spread in (0.1, 0.5, 1.0, 4.0)])
    assert (distances < 0.5).any()
    assert ((distances > 0.5) & (distances < 1.5)).any()
    assert (distances > 1.5).any()


def test_the_gradient_is_that_of_finite_differences():
    features, target = drawn(4, (1, 3, 3, 4), 3, (24, 32))
    assert torch.autograd.gradcheck(lambda f: category_consistent_loss(Embedding(f, 8, 1.0), target), features)


@given(st.integers(1, 33), st.integers(1, 33), st.sampled_from([1, 2, 3, 4, 8]), st.integers(0, 9))
def test_a_cell_has_the_label_of_its_centre_and_none_outside_of_the_target(height, width, stride, seed):
    cells = (-(-height // stride), -(-width // stride))
    features, target = drawn(seed, (2, 2, *cells), 3, (height, width))
    loss = category_consistent_loss(Embedding(features, stride, 1.0), target)
    torch.testing.assert_close(loss, reference(features, stride, target))


def test_features_may_cover_a_padded_image():
    features, target = drawn(1, (1, 4, 4, 8), 2, (17, 50))
    loss = category_consistent_loss(Embedding(features, 8, 1.0), target)
    torch.testing.assert_close(loss, reference(features, 8, target))
    (gradient,) = torch.autograd.grad(loss, features)
    # Rows 2 and 3 and columns 6 and 7 have their centres at 20, 28, 52 and 60.
    assert not gradient[:, :, 2:].any()
    assert not gradient[..., 6:].any()


def test_two_tight_clusters_far_apart_cost_next_to_nothing_and_mixed_ones_much():
    target = torch.zeros(1, 16, 16, dtype=torch.uint8)
    target[..., 8:] = 1
    apart = torch.zeros(1, 2, 2, 2)
    apart[:, 0, :, 1] = 3.0
    mixed = torch.tensor([[0.0, 3.0], [3.0, 0.0]]).expand(1, 2, 2, 2)
    assert category_consistent_loss(Embedding(apart, 8, 1.0), target).item() == pytest.approx(0.001 * 1.5)
    assert category_consistent_loss(Embedding(mixed, 8, 1.0), target) > 9


def test_a_class_alone_is_kept_from_no_other():
    features = torch.full((1, 4, 2, 2), 0.2)
    target = torch.full((1, 16, 16), 7)
    loss = category_consistent_loss(Embedding(features, 8, 1.0), target)
    assert loss.item() == pytest.approx(0.001 * 0.4)


@pytest.mark.parametrize("size", [(16, 16), (3, 16)])
def test_without_any_label_the_loss_and_its_gradient_are_zero(size):
    features = torch.randn(2, 4, 2, 2, requires_grad=True)
    target = torch.full((2, *size), IGNORE, dtype=torch.uint8)
    target[:, :4] = 1  # cells have their centres in rows 4 and 12
    loss = category_consistent_loss(Embedding(features, 8, 1.0), target)
    loss.backward()
    assert loss == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_features_all_alike_have_a_finite_gradient():
    features = torch.zeros(1, 4, 2, 2, requires_grad=True)
    target = torch.zeros(1, 16, 16, dtype=torch.uint8)
    target[..., 8:] = 1
    loss = category_consistent_loss(Embedding(features, 8, 1.0), target)
    loss.backward()
    assert loss == 9
    assert features.grad.isfinite().all()


def test_it_is_in_float32_under_autocast_and_of_bfloat16_features():
    features, target = drawn(3, (2, 4, 4, 5), 2, (32, 40))
    features = features.detach().bfloat16().requires_grad_()
    expected = category_consistent_loss(Embedding(features.float(), 8, 1.0), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = category_consistent_loss(Embedding(features, 8, 1.0), target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    loss.backward()
    assert features.grad.isfinite().all()


def test_uint8_and_int64_targets_give_the_same_and_the_weight_is_left_to_the_caller():
    features, target = drawn(6, (2, 4, 4, 5), 3, (32, 40))
    loss = category_consistent_loss(Embedding(features, 8, 1.0), target)
    assert category_consistent_loss(Embedding(features, 8, 0.3), target.long()) == loss
