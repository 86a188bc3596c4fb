"""HRNet-OCR with polarized self-attention."""

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from buildseg.attention import PolarizedSelfAttention
from buildseg.attention.looking import PositionMapped
from buildseg.networks import build_network
from buildseg.networks.object_context import ObjectContext, ObjectContextHead
from network_rules import Network, built, images
from tiling.errors import OptionError, WeightsError

SMALL = {"encoder": "tu-hrnet_w18_small", "head_channels": 64}


class TestHRNetOCRPSA(Network):
    name, options, auxiliary = "hrnet-ocr-psa", SMALL, (0.4,)


def attentions(network: nn.Module) -> list[PolarizedSelfAttention]:
    return [m for m in network.modules() if isinstance(m, PolarizedSelfAttention)]


def shapes_of_convolutions(module: nn.Module) -> list[tuple[int, int, int]]:
    convs = (m for m in module.modules() if isinstance(m, nn.Conv2d))
    return [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convs]


def test_by_default_it_is_the_system_of_the_articles():
    with torch.device("meta"):
        reference = timm.create_model("hrnet_w48", features_only=True, feature_location="")
    network = build_network("hrnet-ocr-psa", classes=19)
    assert network.encoder.out_channels == [3, 64, 48, 96, 192, 384]
    assert network.output_stride == 4
    plain = {k for k in network.encoder.state_dict() if ".aa." not in k}
    assert plain == {f"model.{key}" for key in reference.state_dict()}
    found = attentions(network)
    assert len(found) == 2 * 4 + 4 * 3 * 4 + 3 * 4 * 4  # modules x branches x blocks of stages 2 to 4
    assert {(m.layout, m.form) for m in found} == {("parallel", "official")}
    assert shapes_of_convolutions(network.head.coarse) == [(720, 720, 1), (720, 19, 1)]
    assert shapes_of_convolutions(network.head.reduce) == [(720, 512, 3)]
    pair = [(512, 256, 1), (256, 256, 1)]
    rest = [(512, 256, 1), (256, 512, 1), (1024, 512, 1)]
    assert shapes_of_convolutions(network.head.context) == [*pair, *pair, *rest]
    assert shapes_of_convolutions(network.head.classifier) == [(512, 19, 1)]
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout2d)] == [0.05]


def test_attention_is_in_the_residual_blocks_after_the_first_convolution():
    network = built("hrnet-ocr-psa", **SMALL).eval()
    block = network.encoder.model.stage3[0].branches[1][1]
    x = images(2, 32, 6, 5)
    attended = block.aa(block.bn1(block.conv1(x)).relu())
    torch.testing.assert_close(block(x), (block.bn2(block.conv2(attended)) + x).relu())
    assert isinstance(block.aa, PolarizedSelfAttention)
    assert not attentions(network.encoder.model.layer1)  # the bottlenecks of the first stage have none


def test_with_gates_of_a_half_it_is_hrnet_ocr():
    network = built("hrnet-ocr-psa", **SMALL, form="paper").eval()
    x = images(1, 3, 64, 96)
    before = network(x)
    for module in attentions(network):
        nn.init.zeros_(module.channel_out[1].norm.weight)
        nn.init.zeros_(module.spatial_value.weight)
    half = network(x)
    for block in network.encoder.modules():
        if isinstance(getattr(block, "aa", None), PolarizedSelfAttention):
            block.aa = nn.Identity()
    assert not attentions(network)
    torch.testing.assert_close(network(x), half, rtol=1e-4, atol=1e-5)
    assert (half - before).abs().max() > 1e-3


@pytest.mark.parametrize("layout", ["parallel", "serial"])
@pytest.mark.parametrize("form", ["paper", "official"])
def test_layout_and_form_can_be_chosen(layout, form):
    network = built("hrnet-ocr-psa", **SMALL, layout=layout, form=form)
    assert {(m.layout, m.form) for m in attentions(network)} == {(layout, form)}
    assert network.eval()(images(1, 3, 33, 40)).shape == (1, 1, 33, 40)


def test_its_features_are_the_four_branches_at_a_quarter_of_the_size():
    network = built("hrnet-ocr-psa", **SMALL).eval()
    seen = []
    network.head.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    x = images(1, 3, 64, 96)
    logits = network(x)
    features, (fine, coarse) = seen[0]
    assert features.shape == (1, 16 + 32 + 64 + 128, 16, 24)
    assert fine.shape == coarse.shape == (1, 1, 16, 24)
    assert network.predict(x).auxiliary == ()
    branches = network.encoder(x)[2:]
    torch.testing.assert_close(features[:, :16], branches[0])
    deepest = nn.functional.interpolate(branches[3], scale_factor=8, mode="bilinear")
    torch.testing.assert_close(features[:, 112:], deepest)
    torch.testing.assert_close(logits, nn.functional.interpolate(fine, scale_factor=4, mode="bilinear"))


def test_coarser_branches_are_interpolated_and_not_repeated():
    network = built("hrnet-ocr-psa", **SMALL)
    upsamplings = [m for m in network.encoder.modules() if isinstance(m, nn.Upsample)]
    assert {m.mode for m in upsamplings} == {"bilinear"}
    assert len(upsamplings) == 1 + 3 + 6


def test_weights_of_timm_and_of_its_own_fit(tmp_path):
    classifier = timm.create_model("hrnet_w18_small").state_dict()
    safetensors.torch.save_file(classifier, tmp_path / "timm.safetensors")
    network = built("hrnet-ocr-psa", **SMALL, encoder_weights=tmp_path / "timm.safetensors")
    stored = {k.removeprefix("model."): v for k, v in network.encoder.state_dict().items() if ".aa." not in k}
    assert len(stored) > 400
    for key, value in stored.items():
        assert torch.equal(value, classifier[key])
    safetensors.torch.save_file(network.state_dict(), tmp_path / "own.safetensors")
    again = build_network("hrnet-ocr-psa", **SMALL, encoder_weights=tmp_path / "own.safetensors")
    assert torch.equal(again.encoder.model.conv1.weight, network.encoder.model.conv1.weight)
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="does not fit the encoder"):
        build_network("hrnet-ocr-psa", **SMALL, encoder_weights=tmp_path / "empty.pth")


def test_one_small_image_of_four_bands_trains():
    output = built("hrnet-ocr-psa", **SMALL, in_channels=4)(images(1, 4, 33, 9))
    assert output.logits.shape == output.auxiliary[0].logits.shape == (1, 1, 33, 9)


def head(classes: int) -> ObjectContextHead:
    """In float64, with no weight and no running statistic at a special value."""
    module = ObjectContextHead(6, classes, inner=8, dropout=0.0).double()
    generator = torch.Generator().manual_seed(3)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.abs_().add_(0.5)
            norm.bias.data.abs_()  # or ReLU would leave little
    return module.eval()


def features(height: int = 4, width: int = 5) -> Tensor:
    return images(2, 6, height, width).double().requires_grad_()


def slow_context(module: ObjectContext, x: Tensor, coarse: Tensor) -> Tensor:
    """Equations 2 to 6, position by position and region by region."""
    attended = []
    for image, guess in zip(x, coarse, strict=True):
        logits = [guess[0], -guess[0]] if len(guess) == 1 else list(guess)
        shares = [logit.exp() / logit.exp().sum() for logit in logits]
        objects = [(share * image).sum(dim=(1, 2))[None, :, None, None] for share in shares]
        keys, values = [module.key(o).flatten() for o in objects], [module.value(o).flatten() for o in objects]
        queries = module.query(image[None])[0]
        context = torch.zeros_like(queries)
        for row in range(image.shape[1]):
            for column in range(image.shape[2]):
                scores = [((queries[:, row, column] * key).sum() / len(key) ** 0.5).exp() for key in keys]
                context[:, row, column] = sum(s * v for s, v in zip(scores, values, strict=True)) / sum(scores)
        attended.append(module.fuse(torch.cat([module.out(context[None]), image[None]], dim=1)))
    return torch.cat(attended)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_object_context_and_its_gradients_are_the_formula(classes):
    module, x = head(classes), features()

    def slow_head(x):
        coarse = module.coarse(x)
        return module.classifier(slow_context(module.context, module.reduce(x), coarse)), coarse

    def with_gradients(call):
        out, coarse = call(x)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape).cos()
        return [out, coarse, *torch.autograd.grad((out * weights).sum(), [x, *module.parameters()])]

    for mine, other in zip(with_gradients(module), with_gradients(slow_head), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)


def test_one_class_gives_a_region_of_it_and_a_region_of_the_rest():
    module, x = head(1).context, images(2, 8, 4, 6).double()
    building = images(2, 1, 4, 6).double()
    torch.testing.assert_close(module(x, building), module(x, torch.cat([building, -building], dim=1)))
    assert (module(x, building) - module(x, -building)).abs().max() < 1e-9  # regions have no order
    assert (module(x, building) - module(x, 3 * building)).abs().max() > 1e-3


def test_what_a_position_attends_to_is_a_mixture_of_regions():
    module = head(3).context
    x, coarse = images(1, 8, 4, 6).double(), images(1, 3, 4, 6).double()
    assert isinstance(module, PositionMapped)
    seen = module.position_map(x, coarse, row=2, column=5)
    assert seen.shape == (4, 6)
    assert seen.sum().item() == pytest.approx(1)
    regions = coarse[0].flatten(1).softmax(dim=1)
    objects = torch.stack([(region.reshape(4, 6) * x[0]).sum(dim=(1, 2)) for region in regions])
    keys = module.key(objects.T[None, :, :, None])[0, :, :, 0]
    weights = (module.query(x)[0, :, 2, 5] @ keys / 2).softmax(dim=0)
    torch.testing.assert_close(seen, (weights @ regions).reshape(4, 6))
    for row, column in ((4, 0), (0, 6), (-1, 0)):
        with pytest.raises(OptionError, match=f"row {row}, column {column} of 1 of 4 x 6"):
            module.position_map(x, coarse, row, column)
    with pytest.raises(OptionError, match="of 2 of 4 x 6"):
        module.position_map(torch.cat([x, x]), torch.cat([coarse, coarse]), 0, 0)


def test_regions_and_scores_stay_in_float32_under_autocast():
    module = head(2).context.float()
    x, coarse = images(1, 8, 32, 32), 5 * images(1, 2, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = module.position_map(x, coarse.bfloat16(), 3, 3)
    assert seen.dtype == torch.float32
    assert seen.sum().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(seen, module.position_map(x, coarse, 3, 3), rtol=0.1, atol=1e-4)
    half = module(x.bfloat16().float(), coarse.bfloat16().float()), module.bfloat16()(x.bfloat16(), coarse.bfloat16())
    torch.testing.assert_close(half[1].float(), half[0], rtol=0.05, atol=0.15)


REFUSED = [
    ({"encoder": "resnet18"}, "hrnet-ocr-psa needs an HRNet such as tu-hrnet_w48 as encoder, not 'resnet18'"),
    ({"encoder": "tu-hrnet_w17"}, "unknown encoder 'tu-hrnet_w17': did you mean"),
    ({"layout": "both"}, "layout 'both' is none of parallel, serial"),
    ({"form": "mine"}, "form 'mine' is none of paper, official"),
    ({"head_channels": 1}, "head_channels is a whole number, 2 or more, not 1"),
    ({"head_channels": 64.0}, "head_channels is a whole number, 2 or more, not 64.0"),
    ({"dropout": 1.0}, "dropout is from 0 to below 1, not 1.0"),
    (
        {"multi_grid": [1, 2, 4]},
        "hrnet-ocr-psa has no option 'multi_grid': valid are layout, form, head_channels, dropout",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_be_built_is_refused_by_name(options, message):
    with pytest.raises(OptionError, match=message):
        build_network("hrnet-ocr-psa", **(SMALL | options))
