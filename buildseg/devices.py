"""Where torch runs, and what it is fast at there."""

from typing import Any, Literal

import torch

from tiling.errors import OptionError


def resolve_device(name: str) -> torch.device:
    """Find the device asked for.

    Args:
        name: ``auto`` for the GPU if there is one and else the CPU, or a device such as ``cpu``, ``cuda``,
            ``cuda:1`` or ``mps``.

    Raises:
        OptionError: There is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"--device {name} is unknown; use auto, cpu, cuda, cuda:1, ... or mps") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise OptionError(f"--device {name} is not available on this machine; use --device auto or cpu")
    return device


def resolve_precision(name: str, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """Choose the arithmetic of a prediction.

    On a GPU fp16 is as fast as bf16 and three bits finer. On a CPU only bf16 has fast instructions.

    Args:
        name: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        device: Where the network runs.

    Raises:
        OptionError: The name is unknown, or the device has no such arithmetic.
    """
    match name:
        case "fp32" | "bf16":
            return "bf16" if name == "bf16" else "fp32"
        case "fp16" if device.type == "cuda":
            return "fp16"
        case "fp16":
            raise OptionError("--precision fp16 needs a CUDA GPU; use auto, bf16 or fp32")
        case "auto":
            if device.type == "cuda":
                return "fp16"
            return "bf16" if fast_half_precision(device) == "bf16" else "fp32"
    raise OptionError(f"--precision {name} is unknown; use auto, fp32, bf16 or fp16")


def fast_half_precision(device: torch.device) -> Literal["bf16", "fp16"] | None:
    """Name the half precision that the device computes faster than float32, if any."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None
    return None
