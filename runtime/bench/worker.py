# SPDX-License-Identifier: Apache-2.0
"""One fresh process: opens a contestant, and checks, times or cold-starts it. Its report goes to its stdout."""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from msgspec import Struct

from zoo.media import Film
from zoo.runtime.bench import machine
from zoo.runtime.bench.inputs import Inputs
from zoo.runtime.bench.stats import Sample, rounded, sample_of
from zoo.runtime.bench.subject import (
    BatchSubject,
    Result,
    Subject,
    difference,
    open_subject,
    result_of,
    timing_of,
)

if TYPE_CHECKING:
    from zoo.runtime.prediction import Timing

#: Outputs kept from each timed scope and scored again.
KEPT = 64
#: Largest difference that the same inputs may make on the same machine (threads may add in another order).
RESCORE_TOLERANCE = 1e-4
#: A warm-up that does not settle ends after so many times its least duration.
_WARMUP_LIMIT = 10
_BLOCK_RUNS = 10
#: Least blocks of the repetition test, nine calls each.
_REPEAT_TURNS = 12


class Request(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a worker is to do."""

    mode: Literal["check", "time", "cold"]
    spec: str
    bundle: str | None
    inputs: str
    threads: int | None
    batch: int = 1
    scopes: tuple[Literal["engine", "model", "pipeline"], ...] = ()
    seconds: float = 10.0
    samples: int = 459
    warmup_seconds: float = 2.0
    duty: tuple[tuple[float, int], ...] = ()
    seed: int = 0


class Timed(Struct, frozen=True, kw_only=True):
    """One scope in this process. ``cpu_ms``: CPU time of a call, all threads and the measuring loop included."""

    sample: Sample
    cpu_ms: float
    settled: bool


class Response(Struct, frozen=True, kw_only=True):
    """What a worker found. ``error`` is the message of a ZooError, ``error_code`` its exit code."""

    error: str | None = None
    error_code: int = 1
    results: list[Result] = []
    first_result_ns: int = 0
    first_result_cpu_ms: float = 0.0
    scopes: dict[str, Timed] = {}
    wrong: str | None = None
    breakdown_ms: tuple[float, float, float, float] | None = None
    stages_ms: dict[str, float] = {}
    overhead_ms: tuple[float, float] | None = None
    repeat_ratio: float | None = None
    duty: list[tuple[float, float, float, int]] = []
    peak_rss_bytes: int = 0
    millijoules: float | None = None
    no_energy: str | None = None
    states: list[machine.State] = []
    cpu_share: float = 1.0
    placement: dict[str, int] = {}
    misplaced: str | None = None
    versions: dict[str, str] = {}


def main(arguments: Sequence[str]) -> int:
    """Entry point of ``python -m zoo.runtime.bench``."""
    if len(arguments) != 2 or arguments[0] != "--worker":
        sys.stderr.write("usage: python -m zoo.runtime.bench --worker JSON (zoo bench starts it)\n")
        return 2
    # Whatever a library prints must not mix with the report.
    report = os.dup(1)
    os.dup2(2, 1)
    from zoo.errors import ZooError

    request = msgspec.json.decode(arguments[1], type=Request)
    try:
        response = {"check": _check, "time": _time, "cold": _cold}[request.mode](request)
    except ZooError as error:
        response = Response(error=str(error), error_code=error.exit_code)
    with os.fdopen(report, "wb") as stream:
        stream.write(msgspec.json.encode(response))
    return 0


def _open(request: Request) -> Subject:
    return open_subject(request.spec, Path(request.bundle) if request.bundle else None, request.threads)


def _check(request: Request) -> Response:
    """Every input once; where the nodes run; versions."""
    subject = _open(request)
    results = [result_of(subject.pipeline(raw)) for raw in Inputs.open(Path(request.inputs)).raws()]
    placement, misplaced = _placement(subject)
    # str: some libraries' version is a subclass of it.
    versions = {str(name): str(number) for name, number in subject.versions().items()}
    return Response(results=results, placement=placement, misplaced=misplaced, versions=versions)


def _placement(subject: Subject) -> tuple[dict[str, int], str | None]:
    """Nodes by provider, and which nodes do not run on the provider that was asked for."""
    function = getattr(subject, "placement", None)
    if function is None:
        return {}, None
    nodes = function()
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.provider] = counts.get(node.provider, 0) + 1
    from zoo.runtime.engines import fallback_problem

    wanted: str | None = getattr(subject, "requested", None)
    if wanted is None:
        return counts, None
    return counts, fallback_problem(
        [replace(node, fallback=node.fallback or node.provider != wanted) for node in nodes], wanted
    )


def _cold(request: Request) -> Response:
    """The first result of a fresh process."""
    subject = _open(request)
    inputs = Inputs.open(Path(request.inputs))
    subject.pipeline(inputs.raws()[0])
    return Response(
        first_result_ns=machine.monotonic_ns(),
        first_result_cpu_ms=rounded(time.process_time() * 1e3),
        peak_rss_bytes=machine.peak_rss(),
    )


class _Keeper:
    """A uniform random sample of results with the index of their input (reservoir sampling)."""

    def __init__(self, result: Callable[[Any], Result], rng: random.Random) -> None:
        self._result = result
        self._rng = rng
        self.kept: list[tuple[int, Result]] = []
        self._seen = 0

    def __call__(self, index: int, output: Any) -> None:
        self._seen += 1
        if len(self.kept) < KEPT:
            self.kept.append((index, self._result(output)))
        elif (slot := self._rng.randrange(self._seen)) < KEPT:
            self.kept[slot] = (index, self._result(output))


def _timed(
    call: Callable[[Any], Any],
    items: Sequence[Any],
    order: Sequence[int],
    seconds: float,
    minimum: int,
    after: Callable[[int, Any], None] | None = None,
) -> list[int]:
    """Nanoseconds of each call, until both ``seconds`` and ``minimum`` are reached."""
    clock = time.perf_counter_ns
    samples: list[int] = []
    deadline = clock() + int(seconds * 1e9)
    end = 0
    while end < deadline or len(samples) < minimum:
        index = order[len(samples) % len(order)]
        item = items[index]
        start = clock()
        output = call(item)
        end = clock()
        samples.append(end - start)
        if after is not None:
            after(index, output)
    return samples


def warm_up(call: Callable[[Any], Any], items: Sequence[Any], seconds: float) -> bool:
    """Call until two blocks' medians differ by less than 2 %, at least ``seconds`` and 20 runs.

    Returns
    -------
    bool
        Whether it settled before ten times ``seconds`` had passed.
    """
    begun = time.perf_counter()
    block = max(seconds / 8, 0.01)
    last = float("inf")
    runs = 0
    while True:
        samples = _timed(call, items, range(len(items)), block, _BLOCK_RUNS)
        runs += len(samples)
        middle = float(np.median(samples))
        spent = time.perf_counter() - begun
        if spent >= seconds and runs >= 20:
            if abs(middle / last - 1) < 0.02:
                return True
            if spent >= _WARMUP_LIMIT * seconds:
                return False
        last = middle


def _time(request: Request) -> Response:
    """All scopes, then what belongs to them."""
    subject: Subject | BatchSubject
    raws: list[Any] = list(Inputs.open(Path(request.inputs)).raws())
    if request.batch > 1:
        subject = BatchSubject(Path(request.spec), request.threads, request.batch)
        # As many calls as inputs, none like another.
        raws = [[raws[(i + k) % len(raws)] for k in range(request.batch)] for i in range(len(raws))]
    else:
        subject = _open(request)
    rng = random.Random(request.seed)
    order = list(range(len(raws)))
    rng.shuffle(order)
    features = [subject.features(raw) for raw in raws]
    engine, decode, pipeline = subject.engine, subject.decode, subject.pipeline
    calls: dict[str, tuple[Callable[[Any], Any], Sequence[Any], Callable[[Any], Result]]] = {
        "pipeline": (pipeline, raws, result_of),
        "model": (lambda item: decode(engine(item)), features, result_of),
        "engine": (engine, features, lambda output: result_of(decode(output))),
    }
    main_scope = next(name for name in calls if name in request.scopes)
    states = [machine.state()]
    energy = machine.Energy()
    millijoules: float | None = None
    cpu_share = 1.0
    scopes: dict[str, Timed] = {}
    keepers: list[tuple[str, _Keeper]] = []
    timings: list[Timing] = []
    for name, (call, items, result) in calls.items():
        if name not in request.scopes:
            continue
        # The process is warm once the headline has been timed: the others only need to settle.
        share = 1.0 if name == main_scope else 0.3
        settled = warm_up(call, items, request.warmup_seconds * share)
        keeper = _Keeper(result, rng)
        keepers.append((name, keeper))
        after: Callable[[int, Any], None] = keeper
        if name == "pipeline":
            after = _with_timings(keeper, timings)
        gc.collect()
        before, begun, spent = energy.read(), time.perf_counter(), time.process_time()
        samples = _timed(call, items, order, request.seconds * share, request.samples, after)
        cpu, wall = time.process_time() - spent, time.perf_counter() - begun
        if name == main_scope:
            cpu_share = cpu / wall
            used = energy.between(before, energy.read())
            millijoules = None if used is None else used / len(samples)
        scopes[name] = Timed(
            sample=sample_of(samples), cpu_ms=rounded(cpu * 1e3 / len(samples)), settled=settled
        )
        states.append(machine.state())
    overhead = repeat = None
    duty: list[tuple[float, float, float, int]] = []
    if "pipeline" in request.scopes:
        overhead = _overhead(subject, raws, order, 0.2 * request.seconds, request.samples // 2)
        repeat = _repeat_ratio(pipeline, raws, order, 0.1 * request.seconds)
        duty = [_duty(pipeline, raws, order, period, count) for period, count in request.duty]
    peak = machine.peak_rss()
    states.append(machine.state())
    return Response(
        scopes=scopes,
        wrong=_rescore(_open(request), raws, keepers),
        breakdown_ms=_medians(timings),
        stages_ms=_stage_medians(timings),
        overhead_ms=overhead,
        repeat_ratio=repeat,
        duty=duty,
        peak_rss_bytes=peak,
        millijoules=millijoules,
        no_energy=energy.reason,
        states=states,
        cpu_share=round(cpu_share, 3),
    )


def _with_timings(keeper: _Keeper, timings: list[Timing]) -> Callable[[int, Any], None]:
    def after(index: int, output: Any) -> None:
        keeper(index, output)
        timing = timing_of(output)
        if timing is not None:
            timings.append(timing)

    return after


def _medians(timings: list[Timing]) -> tuple[float, float, float, float] | None:
    if not timings:
        return None
    parts = [(timing.decode_input, timing.preprocess, timing.engine, timing.decode) for timing in timings]
    a, b, c, d = (rounded(float(value)) for value in np.median(np.array(parts), axis=0))
    return a, b, c, d


def _stage_medians(timings: list[Timing]) -> dict[str, float]:
    names = timings[0].stages if timings else ()
    return {name: rounded(float(np.median([timing.stages[name] for timing in timings]))) for name in names}


def _rescore(fresh: Subject, raws: Sequence[Any], keepers: Sequence[tuple[str, _Keeper]]) -> str | None:
    """Compare what the timed runs returned with a freshly opened subject's answers, one input at a time."""
    expected: dict[int, Result] = {}
    for scope, keeper in keepers:
        for index, found in keeper.kept:
            if index not in expected:
                raw = raws[index]
                answer = (
                    [fresh.pipeline(each) for each in raw] if isinstance(raw, list) else fresh.pipeline(raw)
                )
                expected[index] = result_of(answer)
            error = difference(found, expected[index])
            if error > RESCORE_TOLERANCE:
                what = (
                    f"label {found[0]!r} for {expected[index][0]!r}"
                    if error == float("inf")
                    else f"off by {error:.2g}"
                )
                return f"wrong result while timing {scope}, input {index}: {what}"
    return None


def _overhead(
    subject: Subject | BatchSubject, raws: Sequence[Any], order: Sequence[int], seconds: float, minimum: int
) -> tuple[float, float]:
    """Median of pipeline minus (features, engine) on the same input, and the latter's median; milliseconds.

    The second of a pair finds its input in the cache, so each order is counted by itself and the two averaged.
    """
    clock = time.perf_counter_ns
    features, engine, pipeline = subject.features, subject.engine, subject.pipeline
    gains: tuple[list[int], list[int]] = ([], [])
    bare: list[int] = []
    deadline = clock() + int(seconds * 1e9)
    end = turn = 0
    while end < deadline or turn < minimum:
        raw = raws[order[turn % len(order)]]
        # Another order on each input from pass to pass, whatever the number of inputs.
        side = (turn + turn // len(order)) % 2
        first = clock()
        if side:
            pipeline(raw)
            middle = clock()
            engine(features(raw))
            end = clock()
            whole, parts = middle - first, end - middle
        else:
            engine(features(raw))
            middle = clock()
            pipeline(raw)
            end = clock()
            whole, parts = end - middle, middle - first
        gains[side].append(whole - parts)
        bare.append(parts)
        turn += 1
    gain = float(np.mean([np.median(side) for side in gains if side]))
    return rounded(gain / 1e6), rounded(float(np.median(bare)) / 1e6)


def _repeat_ratio(
    call: Callable[[Any], Any], raws: Sequence[Any], order: Sequence[int], seconds: float
) -> float:
    """p50 of repeating an input over p50 of distinct ones, in alternating blocks over changing inputs.

    Before each call its input is read once, untimed: samples that lie in the CPU's cache are not what is looked for.
    """
    clock = time.perf_counter_ns
    distinct: list[int] = []
    repeated: list[int] = []
    deadline = clock() + int(seconds * 1e9)
    turn = 0
    while clock() < deadline or turn < _REPEAT_TURNS:
        for k in range(4):
            _touch(raws[order[(turn + k) % len(order)]])
            distinct += _timed(call, raws, [order[(turn + k) % len(order)]], 0.0, 1)
        # The first of five brings the input back; it is not a repetition.
        for k in range(5):
            _touch(raws[order[turn % len(order)]])
            spent = _timed(call, raws, [order[turn % len(order)]], 0.0, 1)
            repeated += spent if k else []
        turn += 1
    return rounded(float(np.median(repeated)) / float(np.median(distinct)))


def _touch(raw: Any) -> None:
    """Read every sample."""
    if isinstance(raw, np.ndarray):
        raw.max()
    elif isinstance(raw, (tuple, list)):
        for part in raw:
            _touch(part)
    elif isinstance(raw, Film):
        for source in (raw.sound, raw.pictures):
            for block in source.blocks() if source is not None else ():
                _touch(block)


def _duty(
    call: Callable[[Any], Any], raws: Sequence[Any], order: Sequence[int], period: float, count: int
) -> tuple[float, float, float, int]:
    """Period, p50 and greatest latency in ms, and count, with sleep between calls."""
    samples: list[int] = []
    due = time.perf_counter()
    for i in range(count):
        due += period
        time.sleep(max(0.0, due - time.perf_counter()))
        samples += _timed(call, raws, [order[i % len(order)]], 0.0, 1)
    return period * 1e3, rounded(float(np.median(samples)) / 1e6), rounded(max(samples) / 1e6), count
