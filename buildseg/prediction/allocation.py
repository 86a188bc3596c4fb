"""Lets the C library keep memory that it will need again."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Tell glibc not to give freed tensors back to the system at once; elsewhere nothing happens.

    Left alone, it maps every large tensor anew, and the system fills each page with zeros when it is first touched.
    For a U-Net on a CPU that is a third of the time. See mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _LARGEST), (_ARENA_MAX, 1)):
            mallopt(option, value)
