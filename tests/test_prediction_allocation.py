import platform
import subprocess
import sys

import pytest

RUN = """
import resource
from concurrent.futures import ThreadPoolExecutor
from buildseg.prediction.allocation import keep_freed_memory

def work(mebibytes, times):
    size = mebibytes << 20
    held = b"x" * size
    for _ in range(times):
        b"x" * size

def in_thread(mebibytes, times):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work, mebibytes, times).result()

def pages(mebibytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    in_thread(mebibytes, 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
@pytest.mark.parametrize(
    ("calls", "mebibytes"),
    [("keep_freed_memory()", 200), ("in_thread(1, 1); keep_freed_memory()", 48)],
    ids=["before other threads run", "after they have"],
)
def test_a_thread_that_frees_and_asks_again_gets_the_same_pages(calls, mebibytes):
    code = f"{RUN}\n{calls}\nin_thread({mebibytes}, 5)\nprint(pages({mebibytes}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3 * (mebibytes << 20) // 4096
