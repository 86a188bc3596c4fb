"""The attention modules once more: slow, in float64, with loops over positions and channels, from the formulas."""

import torch
from torch import Tensor

from buildseg.attention import ChannelAttention, PolarizedSelfAttention, PositionAttention


def position_attention(module: PositionAttention, x: Tensor) -> Tensor:
    """out_j = gamma * sum_i s_ji v_i + x_j, s_ji = exp(q_j . k_i) / sum_i exp(q_j . k_i)."""
    out = torch.zeros_like(x)
    for n, image in enumerate(x):
        columns = image.flatten(1).unbind(1)
        queries, keys, values = (
            [p.weight[:, :, 0, 0] @ column + p.bias for column in columns]
            for p in (module.query, module.key, module.value)
        )
        for j, query in enumerate(queries):
            scores = torch.stack([(query * key).sum().exp() for key in keys])
            attended = sum(score * value for score, value in zip(scores, values, strict=True))
            row, column = divmod(j, x.shape[3])
            out[n, :, row, column] = module.gamma * attended / scores.sum() + columns[j]
    return out


def channel_attention(module: ChannelAttention, x: Tensor) -> Tensor:
    """out_j = beta * sum_i w_ji a_i + a_j, w a softmax over i of a_j . a_i, or of max_i(a_j . a_i) - a_j . a_i."""
    out = torch.zeros_like(x)
    for n, image in enumerate(x):
        for j, row in enumerate(image):
            energies = torch.stack([(row * other).sum() for other in image])
            if module.form == "official":
                energies = energies.max() - energies
            scores = (energies - energies.max().detach()).exp()
            attended = sum(score * other for score, other in zip(scores, image, strict=True))
            out[n, j] = module.beta * attended / scores.sum() + row
    return out


def polarized_self_attention(module: PolarizedSelfAttention, x: Tensor) -> Tensor:
    """Both gates with the convolutions before the pooling, as the formulas have them, image by image."""
    outputs = []
    for image in x:
        gate = channel_gate(module, image)[:, None, None]
        if module.layout == "parallel":
            outputs.append(gate * image + spatial_gate(module, image) * image)
        else:
            gated = gate * image
            outputs.append(spatial_gate(module, gated) * gated)
    return torch.stack(outputs)


def channel_gate(module: PolarizedSelfAttention, image: Tensor) -> Tensor:
    """The gate (C,) of one image (C, H, W)."""
    query = torch.einsum("c,chw->hw", module.channel_query.weight[0, :, 0, 0], image).exp()
    value = torch.einsum("dc,chw->dhw", module.channel_value.weight[:, :, 0, 0], image)
    context = torch.einsum("dhw,hw->d", value, query / query.sum())
    if module.form == "paper":
        conv, norm = module.channel_out
        return sigmoid(layer_norm(norm.norm, conv.weight[:, :, 0, 0] @ context))
    if module.layout == "parallel":
        return sigmoid(module.channel_out.weight[:, :, 0, 0] @ context)
    down, norm, _, up = module.channel_out
    hidden = layer_norm(norm.norm, down.weight[:, :, 0, 0] @ context + down.bias).clamp(min=0)
    return sigmoid(up.weight[:, :, 0, 0] @ hidden + up.bias)


def spatial_gate(module: PolarizedSelfAttention, image: Tensor) -> Tensor:
    """The gate (H, W) of one image (C, H, W)."""
    query = torch.einsum("dc,chw->dhw", module.spatial_query.weight[:, :, 0, 0], image)
    query = query.sum(dim=(1, 2)) / image[0].numel()
    value = torch.einsum("dc,chw->dhw", module.spatial_value.weight[:, :, 0, 0], image)
    if module.form == "paper":
        query = query.exp() / query.exp().sum()
    elif module.layout == "serial":
        value = value.exp() / value.exp().sum(dim=(1, 2), keepdim=True)
    scores = torch.einsum("d,dhw->hw", query, value)
    if module.form == "official" and module.layout == "parallel":
        scores = scores.exp() / scores.exp().sum()
    return sigmoid(scores)


def layer_norm(norm: torch.nn.LayerNorm, values: Tensor) -> Tensor:
    centred = values - values.sum() / len(values)
    variance = (centred**2).sum() / len(values)
    return centred / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def sigmoid(values: Tensor) -> Tensor:
    return 1 / (1 + (-values).exp())


def position_row(module: PositionAttention, image: Tensor, row: int, column: int) -> Tensor:
    """s_j of one position j of an image (C, H, W), over all i, as (H, W)."""
    query, key = (
        torch.einsum("dc,chw->dhw", p.weight[:, :, 0, 0], image) + p.bias[:, None, None]
        for p in (module.query, module.key)
    )
    scores = torch.einsum("d,dhw->hw", query[:, row, column], key).exp()
    return scores / scores.sum()
