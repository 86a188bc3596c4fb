"""What holds for every network: each is tested by a small subclass of `Network`."""

import dataclasses
import json

import pytest
import safetensors.torch
import torch
from torch import nn

from buildseg.networks import NetworkOutput, SegmentationNetwork, build_network

SMALL = {"encoder": "tu-resnet10t", "decoder_channels": [32, 16, 16, 8, 8]}


def images(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(5))


def built(name: str, **options) -> SegmentationNetwork:
    torch.manual_seed(11)
    return build_network(name, **options)


def total(output: NetworkOutput) -> torch.Tensor:
    """A loss without a meaning, of all that a network returns in training."""
    parts = [(output.logits, 1.0), *((a.logits, a.weight) for a in output.auxiliary)]
    if output.embedding is not None:
        parts.append((output.embedding.features, output.embedding.weight))
    return sum(weight * (values - 0.3).square().mean() for values, weight in parts)


class Network:
    """What holds for every network. A subclass says which."""

    name: str
    options: dict = {}  # noqa: RUF012 - read, never written
    auxiliary: tuple[float, ...] = ()

    def build(self, **more) -> SegmentationNetwork:
        return built(self.name, **(self.options | more))

    @pytest.mark.parametrize("size", [(1, 1), (33, 70), (64, 64), (97, 31)])
    def test_logits_have_the_size_of_the_image(self, size):
        network = self.build().eval()
        with torch.inference_mode():
            assert network(images(1, 3, *size)).shape == (1, 1, *size)

    @pytest.mark.parametrize("batch", [1, 2])
    def test_training_gives_all_logits_at_the_size_of_the_image(self, batch):
        output = self.build(in_channels=4, classes=5)(images(batch, 4, 65, 71))
        assert output.logits.shape == (batch, 5, 65, 71)
        assert tuple(a.weight for a in output.auxiliary) == self.auxiliary
        assert all(a.logits.shape == output.logits.shape for a in output.auxiliary)

    def test_after_one_step_every_parameter_learns(self):
        # Attention that starts as the identity lets no gradient through to its own queries: hence the step.
        network = self.build()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        x = images(2, 3, 65, 96)
        total(network(x)).backward()
        optimizer.step()
        optimizer.zero_grad()
        total(network(x)).backward()
        silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert silent == []

    def test_learns_one_image_by_heart(self):
        network = self.build()
        x = images(2, 3, 64, 64)
        truth = (nn.functional.avg_pool2d(x[:, :1], 17, 1, 8) > 0).float()
        loss = nn.functional.binary_cross_entropy_with_logits
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        losses = []
        for _ in range(12):
            output = network(x)
            losses.append(loss(output.logits, truth))
            extra = sum(a.weight * loss(a.logits, truth) for a in output.auxiliary)
            optimizer.zero_grad()
            (losses[-1] + extra).backward()
            optimizer.step()
        assert losses[-1] < 0.75 * losses[0]

    def test_evaluation_is_deterministic_and_independent_of_the_batch(self):
        network = self.build().eval()
        x = images(3, 3, 64, 96)
        with torch.inference_mode():
            together = network(x)
            torch.testing.assert_close(network(x), together, rtol=0, atol=0)
            alone = torch.cat([network(image) for image in x.split(1)])
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)

    def test_its_file_and_its_architecture_make_it_again(self, tmp_path):
        network = self.build(in_channels=4, classes=2)
        network(images(2, 4, 64, 64))  # moves the running statistics
        safetensors.torch.save_file(network.state_dict(), tmp_path / "network.safetensors")
        architecture = json.loads(json.dumps(dataclasses.asdict(network.architecture)))
        options = architecture.pop("options")
        again = build_network(**architecture, **options)
        again.load_state_dict(safetensors.torch.load_file(tmp_path / "network.safetensors"))
        assert again.architecture == network.architecture
        x = images(1, 4, 50, 40)
        torch.testing.assert_close(again.eval()(x), network.eval()(x), rtol=0, atol=0)

    def test_bfloat16_autocast_stays_near_full_precision(self):
        network = self.build()
        network(images(2, 3, 64, 64))
        x = images(1, 3, 60, 64)
        with torch.inference_mode():
            full = network.eval()(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                half = network(x)
        assert half.isfinite().all()
        assert (half.float() - full).abs().max() < 0.1 * full.abs().max() + 0.1

    def test_trains_under_autocast(self):
        network = self.build()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = total(network(images(2, 3, 64, 64)))
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())

    def test_can_be_exported(self):
        network = self.build().eval()
        x = images(1, 3, 64, 64)
        program = torch.export.export(network, (x,))
        torch.testing.assert_close(program.module()(x), network(x), rtol=1e-4, atol=1e-5)
