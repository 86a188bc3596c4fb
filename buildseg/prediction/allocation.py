"""Lets the C library keep memory that it will need again."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_LARGEST = 2**31 - 1
_TWO_HEAPS = 2 * 2**26


def keep_freed_memory() -> None:
    """Tell glibc not to give freed tensors back to the system at once; elsewhere nothing happens.

    Left alone, it maps every large tensor anew, and the system fills each page with zeros when it is first touched.
    For a U-Net on a CPU that is a third of the time. See mallopt(3).

    Threads that have run before leave arenas of their own, which are used again and consist of heaps of 64 MiB. The
    padding keeps those heaps, which would go whenever they are empty. One arena for all threads, as there is if none
    has run before, holds more memory in the long run: what stays lies between what comes and goes.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in (
            (_MMAP_THRESHOLD, _LARGEST),
            (_TRIM_THRESHOLD, _LARGEST),
            (_TOP_PAD, _TWO_HEAPS),
            (_ARENA_MAX, 1),
        ):
            mallopt(option, value)
