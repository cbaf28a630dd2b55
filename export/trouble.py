# SPDX-License-Identifier: Apache-2.0
"""Memory or disk that ran out, told plainly whichever library noticed it."""

from __future__ import annotations

import errno
import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.export.inputs import Progress

_MEMORY = (errno.ENOMEM,)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: How torch, onnxruntime, OpenVINO, TensorRT, the C++ library and the dynamic loader say it.
_MEMORY_TEXT = (
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
    "out of memory",
    "outofmemory",
    "can't start new thread",
)
_DISK_TEXT = ("no space left on device", "disk quota exceeded", "file too large")


def cause(error: BaseException) -> str | None:
    """What ran out, with the words of the library that noticed it; None where that is not why it failed."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        number = link.errno if isinstance(link, OSError) else None
        text = str(link).lower()
        said = next((line.strip() for line in str(link).splitlines() if line.strip()), type(link).__name__)
        if isinstance(link, MemoryError) or number in _MEMORY or any(t in text for t in _MEMORY_TEXT):
            return f"out of memory ({said[:200]}); free memory, or use a machine with more"
        if number in _DISK or any(t in text for t in _DISK_TEXT):
            return f"no space left ({said[:200]}); free space on the disk, or write to another one"
        link = link.__cause__ or link.__context__
    return None


@contextmanager
def told_plainly(what: str, progress: Progress | None = None) -> Iterator[Progress]:
    """Turn memory or disk that ran out inside into one clear error; everything else passes as it is.

    Gives a callback that passes on to ``progress`` and remembers the stage, which the error names.

    Raises
    ------
    ZooError
        It ran out. Nothing was written.
    """
    current = "preparing"

    def watch(stage: str, done: int, total: int) -> None:
        nonlocal current
        current = stage
        if progress:
            progress(stage, done, total)

    try:
        yield watch
    except Exception as error:
        found = cause(error)
        if found is None:
            raise
        _release(error)
        raise ZooError(f"{what}: {current}: {found}. Nothing was written") from error


def _release(error: BaseException) -> None:
    """Free what the frames of a traceback hold: there may not be enough left to print the message."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    gc.collect()
