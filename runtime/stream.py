# SPDX-License-Identifier: Apache-2.0
"""Cuts live signals: sound into overlapping windows, pictures into those that are judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError

_T = TypeVar("_T")

#: Seconds between windows where none are asked for.
HOP = 0.5


def marked(chunks: Iterable[_T]) -> Iterator[tuple[bool, _T | None]]:
    """(False, chunk) of each, then (True, None)."""
    for chunk in chunks:
        yield False, chunk
    yield True, None


def hop_rows(rate: float, hop: float) -> int:
    """Samples, or pictures, in a hop of ``hop`` seconds.

    Raises
    ------
    InputError
        Less than one.
    """
    if not (np.isfinite(hop) and round(hop * rate) >= 1):
        raise InputError(f"stream: hop is {hop} s; give at least one sample ({1 / rate:.6f} s)")
    return round(hop * rate)


class AudioWindows:
    """Windows of ``window`` seconds, one every ``hop`` seconds; memory is bounded by one window and one chunk.

    Parameters
    ----------
    rate : int
        Samples a second.
    window, hop : float
        Seconds.
    """

    def __init__(self, rate: int, window: float, hop: float) -> None:
        if not 1 <= rate <= 768_000:
            raise InputError(f"stream: rate is {rate} Hz; give 1 to 768000")
        self.rate = rate
        self.window = round(window * rate)
        self.hop = hop_rows(rate, hop)

    def cut(self, chunks: Iterable[Any]) -> Iterator[tuple[NDArray[Any], float, float]]:
        """Yield (samples, start second, end second); samples are valid until the next step."""
        buffer: NDArray[Any] | None = None
        filled = 0  # samples held in the buffer
        first = 0  # position in the stream of the buffer's first sample
        skip = 0  # samples still to pass over, where the hop is longer than the window
        given = False
        for chunk in chunks:
            array = np.asarray(chunk)
            if array.ndim not in (1, 2):
                raise InputError(
                    f"stream: a chunk has shape {array.shape}; give chunks, arrays (n,) or (n, channels), not one array or a file"
                )
            if buffer is None:
                buffer = np.zeros((self.window, *array.shape[1:]), array.dtype)
            elif array.dtype != buffer.dtype or array.shape[1:] != buffer.shape[1:]:
                raise InputError(
                    f"stream: a chunk is {array.dtype}{array.shape}, the ones before were {buffer.dtype} "
                    f"with {buffer.shape[1:] or 'one'} channels"
                )
            at = 0
            while at < len(array):
                if skip:
                    step = min(skip, len(array) - at)
                    skip -= step
                    at += step
                    continue
                take = min(self.window - filled, len(array) - at)
                buffer[filled : filled + take] = array[at : at + take]
                filled += take
                at += take
                if filled == self.window:
                    yield buffer, first / self.rate, (first + self.window) / self.rate
                    given = True
                    keep = max(self.window - self.hop, 0)
                    buffer[:keep] = buffer[self.window - keep :].copy()
                    filled, skip = keep, max(self.hop - self.window, 0)
                    first += self.hop
        if not given and buffer is not None and filled:
            yield buffer[:filled], 0.0, filled / self.rate
