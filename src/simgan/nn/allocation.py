"""Freed memory kept for the next tensor, instead of handed back to the operating system and asked for anew.

A turn of training frees and allocates hundreds of megabytes of feature maps, and so does refining. The C library
returns blocks of such sizes at once, and every page of the next one is then cleared by the system before its first use:
a fifth of R's update.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the numbers of glibc's malloc.h
_NEVER = 2**31 - 1
_MAPPED_FROM = 2**30  # bytes; larger blocks are still mapped and returned one by one


def keep_freed_memory() -> bool:
    """For the rest of the process, on Linux with glibc; whether it was done. What is in use is not changed by it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(set_option(_MMAP_THRESHOLD, _MAPPED_FROM)) and bool(set_option(_TRIM_THRESHOLD, _NEVER))
