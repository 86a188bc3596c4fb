"""Memory and time of the attention modules, ours against the textbook form, and of plain non-local.

Run: python benchmarks/attention.py [--sizes 64 96 128] [--modules pam cam ...] [--channels 512] [--repeats 3]
                                    [--processor-time] [--json FILE] [--markdown]

Each row is one module on one map of H x W positions and C channels (AFNB: two maps, of 2C and of 4C, as in its
network): the forward pass alone (in inference mode), or forward and backward. Both forms have the same random weights.

Memory is how far the peak rises above what module and input take, in a fresh process that has warmed up on a small
input: resident memory as Linux reports it (glibc gives freed memory back at once there), on a GPU what PyTorch's
allocator gave out. Time is the median of repeats in which the forms take turns. The difference is the largest absolute
one between the outputs of the two forms; in forward and backward, between the gradients of the input.

CAM's input is scaled so that the energies between channels are about 1. At a variance of 1 and 128 x 128 they reach
16,384, where float32 itself puts ours 3e-4 and the textbook form 3e-3 away from float64.

At 128 x 128 with C = 512, forward on the CPU, bars are checked; one that is missed makes the exit code 1.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from attention_cases import SUBJECTS, Case, extra_memory, seconds_and_difference

BAR_SIZE, BAR_CHANNELS = 128, 512
COLUMNS = (
    "module       ",
    "H x W    ",
    "pass      ",
    "device",
    "  ours, MiB",
    "  textbook, MiB",
    "  ratio",
    "  ours, ms",
    "  textbook, ms",
    "  ratio",
    "  difference",
)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Figures:
    """What one form of a case took: bytes above module and input, and seconds."""

    extra_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: None where there is no such form, or no room for it."""

    case: Case
    ours: Figures | None
    textbook: Figures | None
    difference: float | None


def main() -> None:
    """Print the table and the verdicts."""
    options = parse()
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    cases = [
        Case(module, size, options.channels, training, device)
        for device in devices
        for module in options.modules
        for size in options.sizes
        for training in (False, True)
    ]
    machine = f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} at the start"
    print(f"C = {options.channels}, PyTorch {torch.__version__}, {machine}\n")
    print(line(COLUMNS, options.markdown))
    if options.markdown:
        print(line(["---"] * len(COLUMNS), markdown=True))
    rows = []
    for case in cases:
        processor_time = options.processor_time and case.device == "cpu"
        rows.append(measure(case, options.repeats, time.process_time if processor_time else time.perf_counter))
        print(line(cells(rows[-1]), options.markdown), flush=True)
    print()
    if "cuda" not in devices:
        print("GPU: skipped, PyTorch finds none here")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    verdicts = list(judge(rows))
    for met, bar in verdicts:
        print("PASS" if met else "FAIL", bar)
    sys.exit(0 if all(met for met, _ in verdicts) else 1)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--modules", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    busy = "count seconds of all processors on the CPU, which a busy machine stretches less than seconds on the clock"
    parser.add_argument("--processor-time", action="store_true", help=busy)
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser.parse_args()


def alone(call: Callable[..., Result], *arguments: object) -> Result | None:
    """Call a function in a process of its own; None if the memory does not suffice."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["torch", "buildseg.attention"])  # saves each process the seconds of its imports
    with ProcessPoolExecutor(1, processes) as pool:
        try:
            return pool.submit(call, *arguments).result()
        except (BrokenProcessPool, torch.OutOfMemoryError):  # on the CPU the system kills the process
            return None


def fits(case: Case, form: str) -> bool:
    """Whether a form's scores find room in the memory that is left."""
    if case.device != "cpu" or form == "ours" or not SUBJECTS[case.module].dense:
        return True
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    matrices = 4 if case.training else 2
    return matrices * 4 * case.size**4 + 2**30 < available


def measure(case: Case, repeats: int, clock: Callable[[], float]) -> Row:
    """Measure the forms of a case, those that there are and that the memory suffices for."""
    memory = {form: alone(extra_memory, case, form) for form in case.forms() if fits(case, form)}
    forms = [form for form, taken in memory.items() if taken is not None]
    times, difference = alone(seconds_and_difference, case, forms, repeats, clock) or ({}, None)
    figures = {form: Figures(memory[form] or 0, seconds) for form, seconds in times.items()}
    return Row(case, figures.get("ours"), figures.get("textbook"), difference)


def cells(row: Row) -> list[str]:
    """The row as the table shows it."""
    case, ours, textbook = row.case, row.ours, row.textbook
    lacking = {form: "out of memory" if form in case.forms() else "-" for form in ("ours", "textbook")}
    return [
        SUBJECTS[case.module].title,
        f"{case.size} x {case.size}",
        "+ backward" if case.training else "forward",
        case.device,
        f"{ours.extra_bytes / 2**20:,.1f}" if ours else lacking["ours"],
        f"{textbook.extra_bytes / 2**20:,.1f}" if textbook else lacking["textbook"],
        ratio(ours.extra_bytes, textbook.extra_bytes) if ours and textbook else "-",
        f"{ours.seconds * 1e3:,.1f}" if ours else lacking["ours"],
        f"{textbook.seconds * 1e3:,.1f}" if textbook else lacking["textbook"],
        ratio(ours.seconds, textbook.seconds) if ours and textbook else "-",
        "-" if row.difference is None else f"{row.difference:.1e}",
    ]


def ratio(ours: float, textbook: float) -> str:
    """Ours by the textbook form's; small maps can fit in memory that is there already."""
    return f"{ours / textbook:.2f}" if textbook else "-"


def line(texts: Iterable[str], markdown: bool) -> str:
    """One line of the table, names flush left and numbers flush right."""
    if markdown:
        return f"| {' | '.join(text.strip() for text in texts)} |"
    padded = [
        text.rjust(len(column)) if column.startswith(" ") else text.ljust(len(column))
        for text, column in zip(texts, COLUMNS, strict=True)
    ]
    return " ".join(padded)


def judge(rows: list[Row]) -> Iterator[tuple[bool, str]]:
    """Hold the rows that there are bars for against them."""
    judged = {
        row.case.module: row
        for row in rows
        if row.case == Case(row.case.module, BAR_SIZE, BAR_CHANNELS, training=False, device="cpu")
    }
    pam = judged.get("pam")
    if pam and pam.ours and pam.textbook:
        share = pam.ours.extra_bytes / pam.textbook.extra_bytes
        yield share <= 0.1, f"PAM: {share:.1%} of the textbook form's extra memory (at most 10%)"
    criss_cross, dense = judged.get("criss-cross"), judged.get("non-local")
    if criss_cross and criss_cross.ours and dense and dense.textbook:
        share = criss_cross.ours.extra_bytes / dense.textbook.extra_bytes
        yield share <= 1 / 8, f"criss-cross: {share:.1%} of plain non-local's extra memory (at most 1/8)"
    for name, row in judged.items():
        if row.difference is not None:
            title = SUBJECTS[name].title
            yield row.difference <= 1e-4, f"{title}: {row.difference:.1e} from the textbook form (at most 1e-4)"


if __name__ == "__main__":
    main()
