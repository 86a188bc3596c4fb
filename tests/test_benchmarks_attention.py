"""The benchmark of the attention modules: its textbook forms compute what ours compute, and its table is whole."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import textbook_attention as textbook
from buildseg import attention

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "attention.py"
PAIRS = {
    "pam": (attention.PositionAttention(16), textbook.position_attention, [16]),
    "cam": (attention.ChannelAttention(16), textbook.channel_attention, [16]),
    "criss-cross": (attention.CrissCrossAttention(16), textbook.criss_cross_attention, [16]),
    "apnb": (attention.AsymmetricPyramidAttention(16), textbook.asymmetric_pyramid_attention, [16]),
    "afnb": (attention.AsymmetricFusionAttention(8, 16), textbook.asymmetric_fusion_attention, [8, 16]),
    "psa": (attention.PolarizedSelfAttention(16), textbook.polarized_self_attention, [16]),
}


def randomized(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(5)
    for parameter in module.double().eval().parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2
    return module


@pytest.mark.parametrize("name", PAIRS)
def test_the_textbook_form_and_its_gradients_are_ours(name):
    module, form, channels = PAIRS[name]
    randomized(module)
    generator = torch.Generator().manual_seed(6)
    # Two images, neither square nor a multiple of the pyramid's sizes.
    inputs = [torch.randn(2, c, 9, 11, generator=generator, dtype=torch.float64, requires_grad=True) for c in channels]
    both = []
    for out in (module(*inputs), form(module, *inputs)):
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape).cos()
        both.append([out, *torch.autograd.grad((out * weights).sum(), [*inputs, *module.parameters()])])
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_non_local_is_its_formula():
    module = randomized(textbook.NonLocal(6))
    x = torch.randn(1, 6, 3, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    query, key, value = (p(x)[0].flatten(1) for p in (module.query, module.key, module.value))
    weights = (query.T @ key).exp()
    attended = torch.einsum("ji,ci->cj", weights / weights.sum(dim=1, keepdim=True), value)
    torch.testing.assert_close(module(x), x + module.out(attended.reshape(1, 3, 3, 4)))


def run(*options):
    command = [sys.executable, SCRIPT, "--channels", "64", "--repeats", "1", *options]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # each further one has memory of its own
    return subprocess.run([str(part) for part in command], env=one_thread, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured as Linux reports it")
def test_the_benchmark_measures_both_forms_of_a_module(tmp_path):
    out = tmp_path / "rows.json"
    done = run("--sizes", "40", "--modules", "pam", "afnb", "non-local", "--json", out, "--markdown")
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(out.read_text(encoding="utf-8")) if row["case"]["device"] == "cpu"]
    assert [(row["case"]["module"], row["case"]["training"]) for row in rows] == [
        (name, training) for name in ("pam", "afnb", "non-local") for training in (False, True)
    ]
    for row in rows:
        assert set(row) == {"case", "ours", "textbook", "difference"}
        assert row["textbook"]["seconds"] > 0
        if row["case"]["module"] == "non-local":
            assert row["ours"] is None
            assert row["difference"] is None
        else:
            assert row["difference"] < 1e-5
            assert row["ours"]["seconds"] > 0
        if row["case"]["module"] != "afnb":
            assert row["textbook"]["extra_bytes"] > 2 * 4 * 40**4  # the scores and their softmax
    assert rows[0]["ours"]["extra_bytes"] < rows[0]["textbook"]["extra_bytes"] / 4
    assert f"| PAM | 40 x 40 | forward | cpu | {rows[0]['ours']['extra_bytes'] / 2**20:.1f} |" in done.stdout


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("attention")


def row(benchmark, module, ours, textbook, difference=1e-6):
    case = benchmark.Case(module, 128, 512, training=False, device="cpu")
    figures = [None if size is None else benchmark.Figures(size, 1.0) for size in (ours, textbook)]
    return benchmark.Row(case, *figures, difference)


@pytest.mark.parametrize(("pam", "criss_cross", "difference"), [(101, 100, 1e-5), (100, 126, 1e-5), (100, 125, 2e-4)])
def test_each_bar_can_be_missed(benchmark, pam, criss_cross, difference):
    rows = [
        row(benchmark, "pam", pam, 1000),
        row(benchmark, "criss-cross", criss_cross, 500, difference),
        row(benchmark, "non-local", None, 1000, None),
    ]
    assert [met for met, _ in benchmark.judge(rows)].count(False) == 1
    met = [row(benchmark, "pam", 100, 1000), row(benchmark, "criss-cross", 125, 500), rows[2]]
    assert [met for met, _ in benchmark.judge(met)] == [True] * 4


def test_what_finds_no_room_is_said_to(benchmark):
    cells = benchmark.cells(row(benchmark, "pam", 2**20, None, None))
    assert cells[4:] == ["1.0", "out of memory", "-", "1,000.0", "out of memory", "-", "-"]
    assert not benchmark.fits(benchmark.Case("pam", 2**12, 512, training=False, device="cpu"), "textbook")
