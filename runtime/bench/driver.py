# SPDX-License-Identifier: Apache-2.0
"""Runs contestants in fresh, interleaved processes and gathers a report."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from zoo.errors import InputError, ZooError
from zoo.runtime.bench import machine
from zoo.runtime.bench.inputs import COUNT, Inputs, make_inputs
from zoo.runtime.bench.report import (
    SCOPES,
    Breakdown,
    Cold,
    Conditions,
    Duty,
    Energy,
    InputsInfo,
    Overhead,
    Protocol,
    Report,
    Row,
    Scope,
    ScopeName,
)
from zoo.runtime.bench.stats import Ratio, Sample, interval, paired_draws, rounded, typical
from zoo.runtime.bench.subject import agreement, split_peer
from zoo.runtime.bench.worker import Request, Response

if TYPE_CHECKING:
    from zoo.bundle import Bundle

#: What a published figure needs at least (docs: benchmarks/README.md).
FULL_PROCESSES, FULL_SECONDS, FULL_SAMPLES, FULL_WARMUP = 5, 10.0, 459, 2.0
#: A peer whose scores differ by more from the reference bundle's does other work, and is not timed.
PEER_TOLERANCE = 1e-3
#: Repeating an input may be this much faster (its samples stay in the cache of the CPU), no more.
REPEAT_LIMIT = 0.9
#: Largest batch: half of the distinct inputs.
BATCH_LIMIT = COUNT // 2
#: Called with (stage, done, total).
Progress = Callable[[str, int, int], None]

_THREAD_VARIABLES = (
    *(
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    *("NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
)


@dataclass(frozen=True)
class Contestant:
    """Who takes part.

    Attributes
    ----------
    spec : str
        A bundle's path, or ``FILE.py:factory`` for a peer (see :class:`zoo.runtime.bench.subject.PeerFactory`).
    name : str or None
        In tables; by default model, target and precision of a bundle, the file's name of a peer.
    bundle : Path or None
        Which bundle's work a peer redoes; None takes the first bundle of the run.
    threads : int or None
        Of this one alone; None takes what the options say for all.
    batch : int
        Inputs in one call of a bundle: times are then of the whole call.
    """

    spec: str
    name: str | None = None
    bundle: Path | None = None
    threads: int | None = None
    batch: int = 1


@dataclass(frozen=True)
class Options:
    """How to measure. ``threads`` None takes each bundle's own choice, and the largest of them for peers.

    ``peer_tolerance``: largest difference of a peer's scores from its reference bundle's; labels must be equal (where
    more than the default is allowed: equal or tied within twice as much). ``keep_going``: a contestant that fails while it is
    timed (out of memory, say) gets a void row instead of ending the run.
    """

    processes: int = FULL_PROCESSES
    seconds: float = FULL_SECONDS
    samples: int = FULL_SAMPLES
    warmup_seconds: float = FULL_WARMUP
    scopes: tuple[ScopeName, ...] = SCOPES
    threads: int | None = None
    duty: bool = False
    data: Path | None = None
    rate: int | None = None
    peer_tolerance: float = PEER_TOLERANCE
    keep_going: bool = False

    @classmethod
    def quick(cls) -> Options:
        """For a look; never for publication."""
        return cls(processes=3, seconds=1.0, samples=50, warmup_seconds=0.3)

    @property
    def is_quick(self) -> bool:
        """Whether anything is below the protocol."""
        return (
            self.processes < FULL_PROCESSES
            or self.seconds < FULL_SECONDS
            or self.samples < FULL_SAMPLES
            or self.warmup_seconds < FULL_WARMUP
        )

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        for name, value, low, high in (
            ("processes", self.processes, 1, 1000),
            ("seconds", self.seconds, 0.01, 3600),
            ("samples", self.samples, 1, 1_000_000),
            ("warmup_seconds", self.warmup_seconds, 0.01, 600),
            ("threads", self.threads or 1, 1, 1024),
            ("rate", self.rate or 16000, 1, 768_000),
        ):
            if not low <= value <= high:
                raise InputError(f"bench: {name} is {value}; give {low} to {high}")
        if not self.scopes or set(self.scopes) - set(SCOPES):
            raise InputError(f"bench: scopes are {self.scopes}; give some of {', '.join(SCOPES)}")


@dataclass(frozen=True)
class _Entry:
    """A contestant with what is known before it runs. ``limit`` is its own limit of threads, where it has one."""

    name: str
    spec: str
    peer: bool
    reference: Path | None
    opened: Bundle | None
    threads: int
    batch: int
    limit: int | None


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Order of round ``turn``: each contestant comes first equally often."""
    at = turn % len(names)
    return [*names[at:], *names[:at]]


def bench(
    contestants: Sequence[Contestant],
    options: Options | None = None,
    *,
    inputs: Inputs | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure contestants side by side.

    Parameters
    ----------
    contestants : sequence of Contestant
        Ratios are against the first one.
    options : Options or None
        None takes the full protocol.
    inputs : Inputs or None
        None makes them from ``options.data``, or from the first bundle's golden clips.
    progress : callable or None
        Called with (stage, done, total) before each process.

    Raises
    ------
    ZooError
        A contestant fails (named, with the end of its stderr); no contestant, or no bundle and no ``inputs``.
    """
    options = options or Options()
    options.check()
    entries = _entries(contestants, options)
    if inputs is None:
        first = next((entry.opened for entry in entries if entry.opened), None)
        if first is None:
            raise InputError("bench: give a bundle, whose inputs the peers get too")
        inputs = make_inputs(first, data=options.data, rate=options.rate)
    report = progress or (lambda stage, done, total: None)
    threads = max(entry.threads for entry in entries)
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder:
        inputs.save(Path(folder) / "inputs.npz")
        run = _Runner(Path(folder), threads, options)
        checks: dict[str, Response] = {}
        for done, entry in enumerate(entries):
            report("checking", done, len(entries))
            checks[entry.name] = run(entry, "check", 0)
        report("checking", len(entries), len(entries))
        voids = {entry.name: _refused(entry, entries, checks, options.peer_tolerance) for entry in entries}
        colds: dict[str, list[tuple[float, float, int]]] = {entry.name: [] for entry in entries}
        times: dict[str, list[Response]] = {entry.name: [] for entry in entries}
        by_name = {entry.name: entry for entry in entries}
        total = len(entries) * options.processes
        for turn in range(options.processes):
            for place, name in enumerate(rotated(list(by_name), turn)):
                report("measuring", turn * len(entries) + place, total)
                if voids[name] is not None:
                    continue
                try:
                    begun = machine.monotonic_ns()
                    cold = run(by_name[name], "cold", turn)
                    spent_ms = (cold.first_result_ns - begun) / 1e6
                    colds[name].append((spent_ms, cold.first_result_cpu_ms, cold.peak_rss_bytes))
                    times[name].append(run(by_name[name], "time", turn))
                except ZooError as error:
                    if not options.keep_going:
                        raise
                    voids[name] = str(error)
                    times[name].clear()
        report("measuring", total, total)
    described = machine.describe()
    rows = _rows(entries, checks, voids, colds, times)
    length = rounded(len(inputs.items[0]) / inputs.rate) if inputs.rate else 0.0
    return Report(
        schema=1,
        created=datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
        zoo_version=_zoo_version(),
        quick=options.is_quick,
        machine=described,
        inputs=InputsInfo(
            source=inputs.source,
            count=len(inputs.items),
            rate=inputs.rate,
            seconds=length,
        ),
        protocol=Protocol(
            processes=options.processes,
            seconds=options.seconds,
            samples=options.samples,
            warmup_seconds=options.warmup_seconds,
            duty=options.duty,
            peer_tolerance=options.peer_tolerance,
        ),
        rows=tuple(rows),
        notes=tuple(_notes(options, described, rows, length)),
    )


def environment(threads: int) -> dict[str, str]:
    """Environment of every worker: the same thread limits for all libraries, and this process's import path."""
    variables = dict(os.environ)
    for name in _THREAD_VARIABLES:
        variables[name] = str(threads)
    variables["OMP_WAIT_POLICY"] = "PASSIVE"
    # Workers run in a folder of their own, so that nothing is imported from where the user happens to be.
    path = [os.path.abspath(entry) for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if path:
        variables["PYTHONPATH"] = os.pathsep.join(path)
    return variables


class _Runner:
    """Starts workers, one at a time; none outlives an interruption."""

    def __init__(self, folder: Path, threads: int, options: Options) -> None:
        self._folder = folder
        self._threads = threads
        self._options = options

    def __call__(self, entry: _Entry, mode: str, turn: int) -> Response:
        options = self._options
        request = {
            "mode": mode,
            "spec": entry.spec,
            "bundle": str(entry.reference) if entry.reference else None,
            "inputs": str(self._folder / "inputs.npz"),
            "threads": entry.threads,
            "batch": entry.batch if mode == "time" else 1,
            "scopes": options.scopes,
            "seconds": options.seconds,
            "samples": options.samples,
            "warmup_seconds": options.warmup_seconds,
            "duty": _duty_plan(options) if options.duty else (),
            "seed": turn,
        }
        text = msgspec.json.encode(msgspec.convert(request, Request)).decode()
        command = [sys.executable, "-m", "zoo.runtime.bench", "--worker", text]
        code, out, err = run_process(command, environment(entry.limit or self._threads), self._folder)
        if code != 0:
            raise ZooError(f"bench: {entry.name} failed ({_ending(code)}) while in {mode}: {tail(err)}")
        try:
            response = msgspec.json.decode(out, type=Response)
        except msgspec.DecodeError as error:
            raise ZooError(
                f"bench: {entry.name} gave no report while in {mode} ({error}): {tail(err)}"
            ) from error
        if response.error is not None:
            raised = ZooError(f"bench: {entry.name}: {response.error}")
            raised.exit_code = response.error_code
            raise raised
        return response


def run_process(
    command: Sequence[str], variables: Mapping[str, str], folder: Path
) -> tuple[int, bytes, bytes]:
    """Run a process to its end; exit status, stdout, stderr. It is killed with its children when interrupted."""
    with _terminable():
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(variables),
            cwd=folder,
            start_new_session=True,
        )
        try:
            out, err = process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return process.returncode, out, err


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end this process through its cleanup, as Ctrl-C does (only where signals can be set)."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def tail(stderr: bytes, lines: int = 12) -> str:
    """The end of what a process wrote to stderr, for a message."""
    text = stderr.decode("utf-8", "replace").strip()
    return "\n".join(text.splitlines()[-lines:]) or "(its stderr is empty)"


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _duty_plan(options: Options) -> tuple[tuple[float, int], ...]:
    """(period in seconds, calls) in each process: one every 100 ms and every 2 s."""
    return ((0.1, 5), (2.0, 1)) if options.is_quick else ((0.1, 50), (2.0, 5))


def _entries(contestants: Sequence[Contestant], options: Options) -> list[_Entry]:
    from zoo.bundle import open_bundle

    if not contestants:
        raise InputError("bench: nothing to measure; give a bundle")
    opened = {c.spec: open_bundle(c.spec) for c in contestants if split_peer(c.spec) is None}
    first = next((Path(c.spec).resolve() for c in contestants if c.spec in opened), None)
    own = max((bundle.manifest.threads for bundle in opened.values()), default=1)
    entries: list[_Entry] = []
    for contestant in contestants:
        peer = split_peer(contestant.spec)
        bundle = opened.get(contestant.spec)
        if bundle is not None:
            spec = str(Path(contestant.spec).resolve())
            manifest = bundle.manifest
            name = contestant.name or f"{manifest.name} {manifest.target} {manifest.precision}"
            threads = contestant.threads or options.threads or manifest.threads
            most = manifest.key.profile.get("batch", (1, 1, 1))[2]
            if not 1 <= contestant.batch <= min(most, BATCH_LIMIT):
                raise InputError(
                    f"bench: {name}: batch is {contestant.batch}; give 1 to {min(most, BATCH_LIMIT)}"
                )
        else:
            assert peer is not None
            if contestant.batch != 1:
                raise InputError(
                    f"bench: {contestant.spec}: peers take one input a call, batch is not for them"
                )
            spec = f"{peer[0].resolve()}:{peer[1]}"
            name = contestant.name or peer[0].stem
            threads = contestant.threads or options.threads or own
        taken = {entry.name for entry in entries}
        unique = next(n for n in (name, *(f"{name} #{i}" for i in range(2, 1000))) if n not in taken)
        reference = (contestant.bundle.resolve() if contestant.bundle else first) if peer else None
        entries.append(
            _Entry(
                unique,
                spec,
                peer is not None,
                reference,
                bundle,
                threads,
                contestant.batch,
                contestant.threads,
            )
        )
    return entries


def _refused(
    entry: _Entry, entries: Sequence[_Entry], checks: Mapping[str, Response], tolerance: float
) -> str | None:
    """Why a contestant must not be timed, or None."""
    misplaced = checks[entry.name].misplaced
    if misplaced is not None:
        return misplaced
    base = _base(entry, entries)
    if not entry.peer or base is entry:
        return None
    found, expected = checks[entry.name].results, checks[base.name].results
    # two ways to do the same work may break a tie differently
    equal, worst = agreement(found, expected, 2 * tolerance if tolerance > PEER_TOLERANCE else 0.0)
    if equal < len(found) or not worst <= tolerance:
        return (
            f"does other work than {base.name}: {equal} of {len(found)} labels equal, "
            f"scores differ by up to {worst:.2g} (allowed {tolerance:g})"
        )
    return None


def _base(entry: _Entry, entries: Sequence[_Entry]) -> _Entry:
    """Whose answers a contestant is compared with: a peer's reference bundle if it takes part, else the first."""
    for other in entries:
        if not other.peer and entry.reference is not None and other.spec == str(entry.reference):
            return other
    return entries[0]


def _rows(
    entries: Sequence[_Entry],
    checks: Mapping[str, Response],
    voids: Mapping[str, str | None],
    colds: Mapping[str, list[tuple[float, float, int]]],
    times: Mapping[str, list[Response]],
) -> list[Row]:
    final: dict[str, str | None] = {}
    for entry in entries:
        wrong = next((response.wrong for response in times[entry.name] if response.wrong), None)
        final[entry.name] = voids[entry.name] or wrong
    first = entries[0].name
    base = times[first] if final[first] is None else []
    return [
        _row(entry, entries, checks, final[entry.name], colds[entry.name], times[entry.name], base)
        for entry in entries
    ]


def _row(
    entry: _Entry,
    entries: Sequence[_Entry],
    checks: Mapping[str, Response],
    void: str | None,
    colds: list[tuple[float, float, int]],
    times: list[Response],
    base: list[Response],
) -> Row:
    check = checks[entry.name]
    against = _base(entry, entries)
    equal, worst = agreement(check.results, checks[against.name].results)
    manifest = entry.opened.manifest if entry.opened else None
    scopes: dict[ScopeName, Scope] = {}
    for name in SCOPES:
        if times and name in times[0].scopes:
            first = [response.scopes[name].sample for response in base] if entry is not entries[0] else []
            settled = all(response.scopes[name].settled for response in times)
            cpu = float(np.median([response.scopes[name].cpu_ms for response in times]))
            scopes[name] = _scope(
                [response.scopes[name].sample for response in times], first, settled=settled, cpu_ms=cpu
            )
    repeats = [response.repeat_ratio for response in times if response.repeat_ratio is not None]
    return Row(
        name=entry.name,
        kind="peer" if entry.peer else "bundle",
        source=Path(entry.spec).name,
        model=manifest.name if manifest else None,
        target=manifest.target if manifest else None,
        precision=manifest.precision if manifest else None,
        engine=manifest.engines[0].kind if manifest else None,
        weights=manifest.provenance.weights if manifest else None,
        digest=manifest.digest if manifest else None,
        size_bytes=entry.opened.size if entry.opened else None,
        threads=entry.threads,
        batch=entry.batch,
        versions=check.versions,
        placement=check.placement,
        labels_equal=equal,
        checked=len(check.results),
        max_difference=rounded(min(worst, 1e9)),
        void=void,
        flags=tuple(_flags(entry, times, scopes, repeats)),
        scopes=scopes,
        breakdown=_breakdown(times),
        overhead=_overhead(times),
        repeat_ratio=rounded(float(np.median(repeats))) if repeats else None,
        cold=_cold(colds),
        duty=_duty(times),
        peak_rss_bytes=max((response.peak_rss_bytes for response in times), default=None),
        energy=_energy(times),
        conditions=_conditions(times),
    )


def _scope(samples: list[Sample], base: list[Sample], *, settled: bool, cpu_ms: float) -> Scope:
    middles = [sample.quantile(0.5) for sample in samples]

    def against(p: float) -> Ratio | None:
        return interval(*paired_draws(samples, base, p), len(samples)) if base else None

    return Scope(
        p50_ms=rounded(typical(samples, 0.5)),
        p95_ms=rounded(typical(samples, 0.95)),
        p99_ms=rounded(typical(samples, 0.99)),
        mean_ms=rounded(float(np.median([sample.mean_ms for sample in samples]))),
        min_ms=min(sample.quantiles_ms[0] for sample in samples),
        cpu_ms=rounded(cpu_ms),
        spread_ms=(rounded(min(middles)), rounded(max(middles))),
        n=sum(sample.n for sample in samples),
        settled=settled,
        vs_first=against(0.5),
        vs_first_p99=against(0.99),
        processes=tuple(samples),
    )


def _flags(
    entry: _Entry, times: Sequence[Response], scopes: Mapping[ScopeName, Scope], repeats: Sequence[float]
) -> Iterator[str]:
    if any(not scope.settled for scope in scopes.values()):
        yield "unsettled warm-up"
    if repeats and float(np.median(repeats)) < REPEAT_LIMIT:
        yield f"cache_suspect: repeating an input takes {np.median(repeats):.0%} of distinct ones"
    conditions = _conditions(times)
    if conditions is None:
        return
    if conditions.throttled:
        yield "throttled"
    # A single thread that computes all the time has a share of one, whatever the engine.
    if conditions.cpu_share < 0.95:
        yield f"busy machine: had a core {conditions.cpu_share:.0%} of the time"
    if conditions.cpu_share > entry.threads + 0.1:
        yield f"used {conditions.cpu_share:.1f} threads, was given {entry.threads}"


def _breakdown(times: Sequence[Response]) -> Breakdown | None:
    found = [response.breakdown_ms for response in times if response.breakdown_ms is not None]
    if not found:
        return None
    a, b, c, d = (rounded(float(value)) for value in np.median(np.array(found), axis=0))
    several = [response.stages_ms for response in times if response.breakdown_ms is not None]
    stages = {name: rounded(float(np.median([stage[name] for stage in several]))) for name in several[0]}
    return Breakdown(decode_input_ms=a, preprocess_ms=b, engine_ms=c, decode_ms=d, stages_ms=stages)


def _overhead(times: Sequence[Response]) -> Overhead | None:
    found = [response.overhead_ms for response in times if response.overhead_ms is not None]
    if not found:
        return None
    extra = float(np.median([gain for gain, _ in found]))
    return Overhead(ms=rounded(extra), share=rounded(float(np.median([gain / bare for gain, bare in found]))))


def _cold(colds: Sequence[tuple[float, float, int]]) -> Cold | None:
    if not colds:
        return None
    spans = [span for span, _, _ in colds]
    return Cold(
        p50_ms=rounded(float(np.median(spans))),
        min_ms=rounded(min(spans)),
        max_ms=rounded(max(spans)),
        cpu_ms=rounded(float(np.median([cpu for _, cpu, _ in colds]))),
        n=len(spans),
        peak_rss_bytes=max(peak for _, _, peak in colds),
    )


def _duty(times: Sequence[Response]) -> tuple[Duty, ...]:
    if not times:
        return ()
    rows = []
    for i, (period, *_) in enumerate(times[0].duty):
        middles = [response.duty[i][1] for response in times]
        worst = max(response.duty[i][2] for response in times)
        count = sum(response.duty[i][3] for response in times)
        rows.append(Duty(period_ms=period, p50_ms=rounded(float(np.median(middles))), max_ms=worst, n=count))
    return tuple(rows)


def _energy(times: Sequence[Response]) -> Energy | None:
    if not times:
        return None
    found = [response.millijoules for response in times if response.millijoules is not None]
    if not found:
        return Energy(millijoules=None, reason=times[0].no_energy)
    return Energy(millijoules=rounded(float(np.median(found))), reason=None)


def _conditions(times: Sequence[Response]) -> Conditions | None:
    if not times:
        return None
    states = [state for response in times for state in response.states]
    clocks = [state.mhz for state in states if state.mhz is not None]
    degrees = [state.celsius for state in states if state.celsius is not None]
    loads = [state.load for state in states]
    verdicts = [verdict for response in times if (verdict := machine.throttled(response.states)) is not None]
    return Conditions(
        mhz=(min(clocks), max(clocks)) if clocks else None,
        celsius=(min(degrees), max(degrees)) if degrees else None,
        throttled=any(verdicts) if verdicts else None,
        load=(min(loads), max(loads)),
        cpu_share=rounded(float(np.median([response.cpu_share for response in times]))),
    )


def _notes(options: Options, described: machine.Machine, rows: Sequence[Row], length: float) -> Iterator[str]:
    for row in rows:
        if length and row.breakdown is not None and row.breakdown.stages_ms:
            stages = (f"{name} {ms / 1e3 / length:.3g}" for name, ms in row.breakdown.stages_ms.items())
            yield f"real-time factors of {row.name} (time over the input's length): {', '.join(stages)}"
    if options.is_quick:
        yield "quick: fewer processes, seconds or samples than the protocol asks for; not for publication"
    if options.peer_tolerance > PEER_TOLERANCE:
        yield f"peers may differ from the bundle's scores by {options.peer_tolerance:g}: they do the same work in another way"
    if described.virtual:
        yield "virtual machine: neighbours may take time that no counter here shows"
    if all(row.energy is None or row.energy.millijoules is None for row in rows):
        reason = next(
            (row.energy.reason for row in rows if row.energy and row.energy.reason), "nothing was timed"
        )
        yield f"no energy figures: {reason}"
    if all(row.conditions is None or row.conditions.celsius is None for row in rows):
        yield "no temperature sensor: throttling can be told from the clock only"
    if any(row.conditions and row.conditions.load[1] > described.cores for row in rows):
        yield "the machine was busy (load average above its number of cores)"
    yield "cold start: the file cache was warm, a checking process having run before"


def _zoo_version() -> str:
    try:
        return version("affect-zoo")
    except PackageNotFoundError:
        return "unknown (not installed)"


__all__ = ["Contestant", "Options", "bench", "environment", "rotated", "run_process", "tail"]
