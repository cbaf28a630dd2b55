# SPDX-License-Identifier: Apache-2.0
"""Runs a pipeline and an engine along a whole film in bounded memory: block in, rows, engine outputs of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.media import Film, Pictures, Sound
from zoo.pipeline import MinMax, Op, Pipeline, Source, op_files, pipeline_of
from zoo.runtime.stream import marked
from zoo.specs import curves

if TYPE_CHECKING:
    from zoo._native import PipelineStream
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
    source : str
        ``sound`` or ``pictures``.

    Raises
    ------
    InputError
        See :class:`zoo.pipeline.Pipeline`.
    """

    def __init__(
        self,
        ops: Sequence[Op],
        files: Mapping[str, bytes],
        *,
        source: Source = "sound",
        remembered: int = REMEMBERED,
    ) -> None:
        last = ops[-1] if ops else None
        #: The rows are scaled by the extremes of the whole input.
        self.own_bounds = isinstance(last, MinMax) and not last.low
        #: What makes them, without that scaling.
        self.pipeline = pipeline_of(source, ops[:-1] if self.own_bounds else ops, files=files)
        self._remembered = remembered

    def of(self, source: Sound | Pictures) -> Iterator[NDArray[np.float32]]:
        """Blocks of rows in order, of any lengths, none empty.

        Raises
        ------
        InputError
            The input cannot be decoded, is not finite, or is too short for a row.
        """
        if not self.own_bounds:
            yield from self._pushed(source)
            return
        kept: list[NDArray[np.float32]] | None = []
        size = 0
        low = high = np.empty(0, np.float32)
        for rows in self._pushed(source):
            least, most = rows.min(axis=0), rows.max(axis=0)
            low, high = (np.minimum(low, least), np.maximum(high, most)) if low.size else (least, most)
            size += rows.nbytes
            kept = [*kept, rows] if kept is not None and size <= self._remembered else None
        bounds = MinMax(low=tuple(low.ravel().tolist()), high=tuple(high.ravel().tolist()))
        scale = Pipeline([bounds], shape=(-1, *low.shape))
        for rows in kept if kept is not None else self._pushed(source):
            yield scale.run(rows)

    def _pushed(self, source: Sound | Pictures) -> Iterator[NDArray[np.float32]]:
        stream = self.pipeline.stream(source.rate, shape=source.shape)
        given = 0
        made = False
        for block in source.blocks():
            given += len(block)
            rows = stream.push(block)
            if len(rows):
                made = True
                yield rows
        rows = stream.finish() if given else np.empty(0, np.float32)
        if len(rows):
            made = True
            yield rows
        if not made:
            what = "sound" if isinstance(source, Sound) else "pictures"
            raise InputError(f"the input has {given / source.rate:.3f} s of {what}, too little for one step")


def together(sources: Sequence[Iterator[NDArray[np.float32]]]) -> Iterator[tuple[NDArray[np.float32], ...]]:
    """Blocks of rows of several sources side by side, each as many; ends with the shortest."""
    held: list[NDArray[np.float32] | None] = [None] * len(sources)
    while True:
        for i, source in enumerate(sources):
            if held[i] is None:
                held[i] = next(source, None)
        blocks = [block for block in held if block is not None]
        if len(blocks) < len(sources):
            return
        rows = min(len(block) for block in blocks)
        yield tuple(block[:rows] for block in blocks)
        held = [block[rows:] if len(block) > rows else None for block in blocks]


def windows(
    rows: Iterator[tuple[NDArray[np.float32], ...]], steps: int, context: int
) -> Iterator[tuple[tuple[NDArray[np.float32], ...], int]]:
    """Rows in blocks of up to ``steps``, each led by up to ``context`` of the rows before it.

    Yields
    ------
    (tuple of float32 arrays, int)
        The block, and how many leading rows of it were in the one before.
    """
    held: tuple[NDArray[np.float32], ...] = ()
    lead = 0
    for block in rows:
        held = tuple(map(_joined, held, block)) if held else block
        while len(held[0]) - lead >= steps:
            end = lead + steps
            yield tuple(array[:end] for array in held), lead
            start = max(end - context, 0)
            lead = end - start
            held = tuple(array[start:] for array in held)
    if held and len(held[0]) > lead:
        yield held, lead


def _joined(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate((one, other)) if len(one) else other


@dataclass(frozen=True)
class Step:
    """One step of a live signal: the engine's outputs, (1, ...), and the milliseconds of preprocessing since the step before
    and of the engine.
    """

    outputs: dict[str, NDArray[Any]]
    preprocess_ms: float
    engine_ms: float


class StepRunner:
    """Pipelines and engine of a bundle whose decoding gives curves, run along inputs of any length. Thread-safe.

    Memory is that of a block, of the rows that are remembered, and of the engine's outputs for every step.

    Raises
    ------
    InputError
        See :class:`zoo.pipeline.Pipeline`.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        manifest = bundle.manifest
        self._name, self._rate = manifest.name, manifest.input.rate
        self._engine = engine
        self._rows: list[tuple[str, Source, Rows]] = []
        for spec, branch in zip(engine.inputs, manifest.all_branches(), strict=True):
            files = {name: bundle.read(name) for name in op_files(branch.pipeline)}
            self._rows.append((spec.name, branch.source, Rows(branch.pipeline, files, source=branch.source)))
        self._period = curves(manifest.decode)[0].period
        self._context = max(curve.context for curve in curves(manifest.decode))
        steps = engine.inputs[0].shape[1]
        most = manifest.key.profile.get(steps, (1, 1, STEPS))[2] if isinstance(steps, str) else steps
        self._steps = max(most - self._context, 1)

    def run(self, film: Film) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
        """Run along a film.

        Returns
        -------
        outputs : dict of str to array
            Of all steps, (steps, ...).
        seconds : dict of str to float
            Time spent: ``decode <input>`` and ``preprocess <input>`` for each engine input, and ``engine``.

        Raises
        ------
        InputError
            See :meth:`Rows.of`; the film lacks sound or pictures that the model needs.
        """
        clocks = {name: (Clock(), Clock()) for name, _, _ in self._rows}
        sources = []
        for name, kind, rows in self._rows:
            decoding, preparing = clocks[name]
            sources.append(preparing.each(rows.of(timed(film.source(kind), decoding))))
        engine = Clock()
        arrays = self.over(together(sources), engine)
        outputs = {output.name: array for output, array in zip(self._engine.outputs, arrays, strict=True)}
        seconds = {f"decode {name}": decoding.seconds for name, (decoding, _) in clocks.items()}
        for name, (decoding, preparing) in clocks.items():
            seconds[f"preprocess {name}"] = preparing.seconds - decoding.seconds
        return outputs, seconds | {"engine": engine.seconds}

    def stream(
        self, chunks: Iterable[Any], rate: float | None = None, hop: float | None = None
    ) -> Iterator[Step]:
        """Run along a live signal, each step as soon as its last sample or picture is there.

        Parameters
        ----------
        chunks : iterable of arrays
            Sound, (n,) or (n, channels), or pictures, uint8 (n, height, width, 3).
        rate : float or None
            Samples, or pictures, a second; None means the model's own.
        hop : float or None
            Seconds between steps; the model's own is the only one.

        Raises
        ------
        InputError
            The model needs all of its input, or both sound and pictures; another hop or rate; a chunk that a pipeline refuses.
        """
        rate = self._rate if rate is None else rate
        sources = {source for _, source, _ in self._rows}
        pictures = sources == {"pictures"}
        if any(rows.own_bounds for _, _, rows in self._rows):
            raise InputError(
                f"{self._name} scales its input by the extremes of all of it, so it cannot stream; run it on the whole"
            )
        if len(sources) > 1:
            raise InputError(
                f"{self._name} looks at pictures and at sound; a stream carries one of them, so run it on the whole"
            )
        if hop not in (None, self._period):
            raise InputError(
                f"{self._name}: a stream every {hop:g} s; its steps are {self._period:g} s apart. Leave hop out"
            )
        if rate is None:
            raise InputError(f"{self._name}: give the rate of the stream")
        if pictures and self._rate is not None and rate != self._rate:
            raise InputError(
                f"{self._name}: a stream of {rate:g} pictures a second; it takes {self._rate}. Leave some out, or show some again"
            )
        streams: list[PipelineStream] = []
        held: list[NDArray[np.float32]] = []
        seen = lead = 0  # rows so far; rows held that were judged before
        spent = 0.0
        for last, chunk in marked(chunks):
            began = perf_counter()
            if last:
                fresh = [stream.finish() for stream in streams] if seen else []
            else:
                block = np.asarray(chunk)
                if pictures and (block.ndim != 4 or block.shape[3] != 3 or block.dtype != np.uint8):
                    raise InputError(
                        f"{self._name}: a chunk is {block.dtype} {block.shape}; give pictures, uint8 (n, height, width, 3)"
                    )
                if not streams:
                    shape = block.shape[1:] if pictures else None
                    streams = [rows.pipeline.stream(rate, shape=shape) for _, _, rows in self._rows]
                fresh = [stream.push(block) for stream in streams]
                seen += len(block)
            held = list(map(_joined, held, fresh)) if held and fresh else held or fresh
            spent += perf_counter() - began
            while held and min(map(len, held)) > lead:
                began = perf_counter()
                arrays = self._engine.run([np.ascontiguousarray(rows[None, : lead + 1]) for rows in held])
                engine = perf_counter() - began
                outputs = {
                    output.name: array[0, lead:]
                    for output, array in zip(self._engine.outputs, arrays, strict=True)
                }
                yield Step(outputs, spent * 1e3, engine * 1e3)
                spent = 0.0
                start = max(lead + 1 - self._context, 0)
                lead += 1 - start
                held = [rows[start:] for rows in held]

    def over(self, rows: Iterator[tuple[NDArray[np.float32], ...]], clock: Clock) -> list[NDArray[Any]]:
        """The engine's outputs for every row, (steps, ...), and its time added to a clock."""
        found: list[list[NDArray[Any]]] = [[] for _ in self._engine.outputs]
        for blocks, lead in windows(rows, self._steps, self._context):
            features = [np.ascontiguousarray(block[None]) for block in blocks]
            for parts, array in zip(found, clock.run(partial(self._engine.run, features)), strict=True):
                parts.append(array[0, lead:])
        return [np.concatenate(parts) for parts in found]


def timed(source: Sound | Pictures, clock: Clock) -> Sound | Pictures:
    """The same source, the time to decode it added to a clock."""
    return replace(source, blocks=lambda: clock.each(source.blocks()))
