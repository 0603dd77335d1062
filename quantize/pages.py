"""Giving back the pages of a mapped file.

What is read through a mapping stays counted as the process's memory until the system wants it back, and a
system that is short of memory may swap out other programs instead. A converter reads every page once,
so it gives each back as soon as it is done with it: the process stays as small as one tensor.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

from torch import Tensor

MADV_DONTNEED = 4
MAPS = Path("/proc/self/maps")
NOT_FILES = ("/dev/", "/memfd:", "/SYSV", "/anon_hugepage")  # what the table of mappings shows like files


def release(tensor: Tensor) -> int:
    """Give back the pages that lie wholly within a tensor mapped from a file; return how many bytes.

    The tensor stays valid: a page that is touched again is read again. Anything that is not mapped from a file
    is left alone, as is everything on systems other than Linux. The tensor must never have been written to.
    """
    if sys.platform != "linux" or tensor.device.type != "cpu" or not tensor.is_contiguous():
        return 0
    page, start = mmap.PAGESIZE, tensor.data_ptr()
    first = -(-start // page) * page
    last = (start + tensor.nbytes) // page * page
    if last <= first or not _is_file(first, last):
        return 0
    advise = ctypes.CDLL(None).madvise
    failed = advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), ctypes.c_int(MADV_DONTNEED))
    return 0 if failed else last - first


def _is_file(first: int, last: int) -> bool:
    """Whether addresses `first` to `last` are one mapping of a file. Of memory, giving back would mean erasing."""
    for line in MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        span, *fields = line.split(maxsplit=5)
        begin, end = (int(place, 16) for place in span.split("-"))
        if begin <= first < end:
            path = fields[4] if len(fields) == 5 else ""
            return last <= end and path.startswith("/") and not path.startswith(NOT_FILES)
    return False
