"""Measurements of one attention module on one feature map, each to be taken in a process of its own."""

import ctypes
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import textbook_attention as textbook
import torch
from torch import Tensor, nn

from buildseg import attention

WARM_UP_SIZE = 16
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # from malloc.h


@dataclass(frozen=True, slots=True)
class Subject:
    """A module to measure.

    Attributes:
        title: What the table calls it.
        build: Makes it for C channels.
        textbook: Its textbook form, a function of the module and its inputs.
        inputs: Channels of each input, in multiples of C; the output has the shape of the last one.
        ours: Whether the module itself is a form of its own; plain non-local has the textbook form alone.
        dense: Whether the textbook form holds n x n scores.
        gram: Whether the scores are products of the input with itself, over all positions.
    """

    title: str
    build: Callable[[int], nn.Module]
    textbook: Callable[..., Tensor]
    inputs: tuple[int, ...] = (1,)
    ours: bool = True
    dense: bool = False
    gram: bool = False


SUBJECTS = {
    "pam": Subject("PAM", attention.PositionAttention, textbook.position_attention, dense=True),
    "cam": Subject("CAM", attention.ChannelAttention, textbook.channel_attention, gram=True),
    "criss-cross": Subject("criss-cross", attention.CrissCrossAttention, textbook.criss_cross_attention),
    "apnb": Subject("APNB", attention.AsymmetricPyramidAttention, textbook.asymmetric_pyramid_attention),
    "afnb": Subject(
        "AFNB (2C, 4C)",
        lambda c: attention.AsymmetricFusionAttention(2 * c, 4 * c),
        textbook.asymmetric_fusion_attention,
        inputs=(2, 4),
    ),
    "psa": Subject("PSA", attention.PolarizedSelfAttention, textbook.polarized_self_attention),
    "non-local": Subject("non-local", textbook.NonLocal, textbook.NonLocal.forward, ours=False, dense=True),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: a module of SUBJECTS on a map of size x size positions.

    Attributes:
        module: Key of SUBJECTS.
        size: H and W.
        channels: C.
        training: Forward and backward, not forward alone.
        device: "cpu" or "cuda".
    """

    module: str
    size: int
    channels: int
    training: bool
    device: str

    def forms(self) -> list[str]:
        """The forms that there are of the module."""
        return ["ours", "textbook"] if SUBJECTS[self.module].ours else ["textbook"]


class Experiment:
    """A module of random weights with its inputs: what a case runs."""

    def __init__(self, case: Case) -> None:
        """Draw weights and inputs, the same ones for every form."""
        torch.manual_seed(0)
        torch.backends.cudnn.allow_tf32 = False  # or a GPU's convolutions would lose 13 of 23 bits
        self.case, self.subject = case, SUBJECTS[case.module]
        self.module = randomized(self.subject.build(case.channels)).eval().to(case.device)
        self.inputs = self.draw(case.size)

    def draw(self, size: int) -> list[Tensor]:
        """Random inputs, scaled where scores would grow with their number of positions."""
        scale = size**-0.5 if self.subject.gram else 1.0
        shapes = [(1, factor * self.case.channels, size, size) for factor in self.subject.inputs]
        inputs = [torch.randn(shape, device=self.case.device).mul_(scale) for shape in shapes]
        return [x.requires_grad_(self.case.training) for x in inputs]

    def run(self, form: str, inputs: list[Tensor]) -> list[Tensor]:
        """The output; in training the gradients of the inputs, from the last input as the output's gradient."""
        with torch.inference_mode(not self.case.training):
            out = self.module(*inputs) if form == "ours" else self.subject.textbook(self.module, *inputs)
        if not self.case.training:
            return [out]
        gradients = torch.autograd.grad(out, [*inputs, *self.module.parameters()], inputs[-1].detach())
        return list(gradients[: len(inputs)])

    def finish(self) -> None:
        """Wait for the device."""
        if self.case.device == "cuda":
            torch.cuda.synchronize()


def randomized(module: nn.Module) -> nn.Module:
    """The module with no parameter left at zero, where its attention would not count."""
    for parameter in module.parameters():
        if parameter.numel() == 1:
            nn.init.uniform_(parameter, 0.5, 1)
        elif not parameter.any():
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return module


def extra_memory(case: Case, form: str) -> int:
    """How far the peak of memory rises above what module and inputs take, in bytes."""
    if case.device == "cpu":
        give_back_freed_memory()
    experiment = Experiment(case)
    experiment.run(form, experiment.draw(WARM_UP_SIZE))  # what is set up once is none of its cost
    experiment.finish()
    if case.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        experiment.run(form, experiment.inputs)
        experiment.finish()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the peak back to what is resident now
    before = peak_bytes()
    experiment.run(form, experiment.inputs)
    return peak_bytes() - before


def give_back_freed_memory() -> None:
    """Have what is freed leave the process at once, or the peak would be that of malloc's leftovers, as it happens."""
    libc = ctypes.CDLL(None)
    for threshold in (TRIM_THRESHOLD, MMAP_THRESHOLD):
        libc.mallopt(threshold, 2**16)


def peak_bytes() -> int:
    """Peak resident memory of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def seconds_and_difference(
    case: Case, forms: list[str], repeats: int, clock: Callable[[], float]
) -> tuple[dict[str, float], float | None]:
    """Median time of each form, the forms taking turns, and the largest difference between their results."""
    experiment = Experiment(case)
    results = [experiment.run(form, experiment.inputs) for form in forms]  # the warm-up too
    difference = None
    if len(forms) > 1:
        difference = max((mine - other).abs().max().item() for mine, other in zip(*results, strict=True))
    del results
    times: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(repeats):
        for form in forms:
            experiment.finish()
            before = clock()
            experiment.run(form, experiment.inputs)
            experiment.finish()
            times[form].append(clock() - before)
    return {form: statistics.median(taken) for form, taken in times.items()}, difference
