# SPDX-License-Identifier: Apache-2.0
"""Runs a pipeline and an engine along a whole film in bounded memory: block in, rows, engine outputs of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.media import Sound
from zoo.pipeline import MinMax, Op, Pipeline, op_files
from zoo.specs import curves

if TYPE_CHECKING:
    from zoo.bundle import Bundle
    from zoo.runtime.engines import Engine

_T = TypeVar("_T")

#: Bytes of rows that are remembered; a pipeline that scales by the input's own bounds computes longer inputs twice.
REMEMBERED = 64 << 20
#: Steps of an engine call where the engine's profile sets no limit.
STEPS = 256


class Clock:
    """Seconds spent in steps that other steps enclose."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def run(self, work: Callable[[], _T]) -> _T:
        """The result of ``work``, its time added."""
        start = perf_counter()
        try:
            return work()
        finally:
            self.seconds += perf_counter() - start

    def each(self, items: Iterator[_T]) -> Iterator[_T]:
        """The items, the time to make them added."""
        while (item := self.run(lambda: next(items, None))) is not None:
            yield item


class Rows:
    """The rows that a pipeline makes of an input, block by block; the same bits as of the whole at once.

    Every op must be able to stream, with one exception: a last ``min_max`` without bounds. It takes them from the
    whole input, so that one is gone through twice unless its rows are few enough to remember.

    Parameters
    ----------
    ops : sequence of Op
    files : mapping of str to bytes
        Content of the files that ops name.

    Raises
    ------
    InputError
        See :class:`zoo.pipeline.Pipeline`.
    """

    def __init__(
        self, ops: Sequence[Op], files: Mapping[str, bytes], *, remembered: int = REMEMBERED
    ) -> None:
        last = ops[-1] if ops else None
        self._own_bounds = isinstance(last, MinMax) and not last.low
        self._pipeline = Pipeline(ops[:-1] if self._own_bounds else ops, files=files)
        self._remembered = remembered

    def of(self, sound: Sound) -> Iterator[NDArray[np.float32]]:
        """Blocks of rows in order, of any lengths, none empty.

        Raises
        ------
        InputError
            The input cannot be decoded, is not finite, or is too short for a row.
        """
        if not self._own_bounds:
            yield from self._pushed(sound)
            return
        kept: list[NDArray[np.float32]] | None = []
        size = 0
        low = high = np.empty(0, np.float32)
        for rows in self._pushed(sound):
            least, most = rows.min(axis=0), rows.max(axis=0)
            low, high = (np.minimum(low, least), np.maximum(high, most)) if low.size else (least, most)
            size += rows.nbytes
            kept = [*kept, rows] if kept is not None and size <= self._remembered else None
        bounds = MinMax(low=tuple(low.ravel().tolist()), high=tuple(high.ravel().tolist()))
        scale = Pipeline([bounds], shape=(-1, *low.shape))
        for rows in kept if kept is not None else self._pushed(sound):
            yield scale.run(rows)

    def _pushed(self, sound: Sound) -> Iterator[NDArray[np.float32]]:
        stream = self._pipeline.stream(sound.rate)
        samples = 0
        made = False
        for block in sound.blocks():
            samples += len(block)
            rows = stream.push(block)
            if len(rows):
                made = True
                yield rows
        rows = stream.finish() if samples else np.empty(0, np.float32)
        if len(rows):
            made = True
            yield rows
        if not made:
            raise InputError(f"the input has {samples / sound.rate:.3f} s of sound, too little for one step")


def windows(
    rows: Iterator[NDArray[np.float32]], steps: int, context: int
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Rows in blocks of up to ``steps``, each led by up to ``context`` of the rows before it.

    Yields
    ------
    (float32 array, int)
        The block, and how many leading rows of it were in the one before.
    """
    held: NDArray[np.float32] | None = None
    lead = 0
    for block in rows:
        held = block if held is None else np.concatenate((held, block))
        while len(held) - lead >= steps:
            yield held[: lead + steps], lead
            start = max(lead + steps - context, 0)
            lead = lead + steps - start
            held = held[start:]
    if held is not None and len(held) > lead:
        yield held, lead


class StepRunner:
    """Pipeline and engine of a bundle whose decoding gives curves, run along inputs of any length. Thread-safe.

    Memory is that of a block, of the rows that are remembered, and of the engine's outputs for every step.

    Raises
    ------
    InputError
        See :class:`zoo.pipeline.Pipeline`.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        manifest = bundle.manifest
        self._engine = engine
        self._rows = Rows(
            manifest.pipeline, {name: bundle.read(name) for name in op_files(manifest.pipeline)}
        )
        self._context = max(curve.context for curve in curves(manifest.decode))
        steps = engine.inputs[0].shape[1]
        most = manifest.key.profile.get(steps, (1, 1, STEPS))[2] if isinstance(steps, str) else steps
        self._steps = max(most - self._context, 1)

    def run(self, sound: Sound) -> tuple[dict[str, NDArray[Any]], tuple[float, float, float]]:
        """Engine outputs of all steps by name, (steps, ...), and seconds of decoding, preprocessing and the engine.

        Raises
        ------
        InputError
            See :meth:`Rows.of`.
        """
        decoding, rows, engine = Clock(), Clock(), Clock()
        timed = Sound(sound.rate, lambda: decoding.each(sound.blocks()))
        found: list[list[NDArray[Any]]] = [[] for _ in self._engine.outputs]
        for block, lead in windows(rows.each(self._rows.of(timed)), self._steps, self._context):
            arrays = engine.run(partial(self._engine.run, [np.ascontiguousarray(block[None])]))
            for parts, array in zip(found, arrays, strict=True):
                parts.append(array[0, lead:])
        names = [output.name for output in self._engine.outputs]
        outputs = {name: np.concatenate(parts) for name, parts in zip(names, found, strict=True)}
        return outputs, (decoding.seconds, rows.seconds - decoding.seconds, engine.seconds)
