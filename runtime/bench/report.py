# SPDX-License-Identifier: Apache-2.0
"""The report of a run, as versioned data. Holds no path, host or user name, so that it can be published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from zoo.bundle import check_output, write_output
from zoo.errors import DataError
from zoo.runtime.bench.machine import Machine
from zoo.runtime.bench.stats import Ratio, Sample

ScopeName = Literal["engine", "model", "pipeline"]
SCOPES: tuple[ScopeName, ...] = ("engine", "model", "pipeline")


class Record(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of everything in a report."""


class Scope(Record, frozen=True):
    """One scope of one contestant, in milliseconds.

    p50, p95, p99 and mean are medians over processes, ``min_ms`` is the least of all; ``spread_ms`` are the least and
    greatest p50 of a process. ``cpu_ms`` is mean CPU time of a call: other processes' load hardly moves it. ``vs_first`` is the p50 over the first contestant's: 5 means five times as long.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    min_ms: float
    cpu_ms: float
    spread_ms: tuple[float, float]
    n: int
    settled: bool
    vs_first: Ratio | None
    vs_first_p99: Ratio | None
    processes: tuple[Sample, ...]


class Breakdown(Record, frozen=True):
    """Medians of the runtime's own timing inside ``pipeline``, in milliseconds.

    ``stages_ms``: of models that give curves, the time of each engine input's decoding and preprocessing, and of the engine.
    """

    decode_input_ms: float
    preprocess_ms: float
    engine_ms: float
    decode_ms: float
    stages_ms: dict[str, float] = {}


class Overhead(Record, frozen=True):
    """What ``pipeline`` costs beyond bare preprocessing and the engine's own run on the same inputs.

    Measured in pairs, one right after the other in changing order; ``share`` is that of the pair's bare time.
    """

    ms: float
    share: float


class Cold(Record, frozen=True):
    """From process start to the first result: median, least, greatest, CPU time, and peak memory of such a process."""

    p50_ms: float
    min_ms: float
    max_ms: float
    cpu_ms: float
    n: int
    peak_rss_bytes: int


class Duty(Record, frozen=True):
    """Latency of ``pipeline`` when called once every ``period_ms``, asleep in between."""

    period_ms: float
    p50_ms: float
    max_ms: float
    n: int


class Energy(Record, frozen=True):
    """Package energy for each ``pipeline`` call, all of the machine included. ``reason`` where there is none."""

    millijoules: float | None
    reason: str | None


class Conditions(Record, frozen=True):
    """Clock, temperature and load over all processes of a contestant.

    ``cpu_share`` is CPU time over wall time in the timed loop: below 1 x threads the process waited for a core,
    above it used more threads than it was given.
    """

    mhz: tuple[float, float] | None
    celsius: tuple[float, float] | None
    throttled: bool | None
    load: tuple[float, float]
    cpu_share: float


class Row(Record, frozen=True):
    """One contestant. ``void`` says why its figures must not be used; ``flags`` what to mind.

    Times are of one call, which takes ``batch`` inputs.
    """

    name: str
    kind: Literal["bundle", "peer"]
    source: str
    model: str | None
    target: str | None
    precision: str | None
    engine: str | None
    weights: str | None
    digest: str | None
    size_bytes: int | None
    threads: int
    versions: dict[str, str]
    placement: dict[str, int]
    labels_equal: int
    checked: int
    max_difference: float
    void: str | None
    flags: tuple[str, ...]
    scopes: dict[ScopeName, Scope]
    breakdown: Breakdown | None
    overhead: Overhead | None
    repeat_ratio: float | None
    cold: Cold | None
    duty: tuple[Duty, ...]
    peak_rss_bytes: int | None
    energy: Energy | None
    conditions: Conditions | None
    batch: int = 1


class InputsInfo(Record, frozen=True):
    """What was fed in. Texts have neither rate nor length in seconds: both are 0."""

    source: str
    count: int
    rate: int
    seconds: float


class Protocol(Record, frozen=True):
    """How it was measured."""

    processes: int
    seconds: float
    samples: int
    warmup_seconds: float
    duty: bool
    peer_tolerance: float


class Report(Record, frozen=True):
    """One run of ``bench``."""

    schema: Literal[1]
    created: str
    zoo_version: str
    quick: bool
    machine: Machine
    inputs: InputsInfo
    protocol: Protocol
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def row(self, name: str) -> Row:
        """The row called ``name``; KeyError if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)


def write_report(path: Path, report: Report, *, force: bool = False) -> None:
    """Write as JSON, whole or not at all.

    Raises
    ------
    ZooError
        ``path`` exists and ``force`` is not given, or cannot be written.
    """
    check_output(path, force=force)
    text = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
    # Lists of numbers on one line each: a report stays readable, and its diffs short.
    text = re.sub(r"\[[-+0-9.eE,\s]+\]", lambda found: " ".join(found[0].split()), text)
    write_output(path, text + "\n")


def read_report(path: Path) -> Report:
    """Read a report.

    Raises
    ------
    DataError
        It is not there, or not a report of this schema.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise DataError(f"{path} is not a report of zoo bench: {error}") from error


def summary(report: Report, scope: ScopeName | None = None) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of a table for people. ``scope`` None takes ``pipeline`` where it was measured."""
    header = (
        *(
            "contestant",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "CPU ms",
            "p50 min..max",
            "vs first [95 %]",
            "prep",
            "engine",
        ),
        *("overhead", "cold s", "RSS", "size", "remarks"),
    )
    rows = []
    for row in report.rows:
        shown = scope if scope in row.scopes else headline(row)
        found = row.scopes.get(shown) if shown else None
        remarks = [f"VOID: {row.void}"] if row.void else []
        if shown and shown != "pipeline":
            remarks.append(f"scope {shown}")
        if row.weights == "random":
            remarks.append("weights: random")
        if row.kind == "peer" and not row.void and row.max_difference > 1e-3:
            remarks.append(f"scores differ by up to {row.max_difference:.1g}")
        cells = [row.name]
        if found is None:
            cells += ["-"] * 6
        else:
            ratio = found.vs_first
            cells += [_ms(found.p50_ms), _ms(found.p95_ms), _ms(found.p99_ms)]
            cells.append(_ms(found.cpu_ms))
            cells.append(f"{_ms(found.spread_ms[0])}..{_ms(found.spread_ms[1])}")
            cells.append(f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else "-")
        engine = row.scopes.get("engine")
        cells.append(_ms(row.breakdown.preprocess_ms) if row.breakdown else "-")
        cells.append(_ms(engine.p50_ms) if engine else _ms(row.breakdown.engine_ms) if row.breakdown else "-")
        cells.append(f"{row.overhead.ms * 1e3:.0f} us {row.overhead.share:+.1%}" if row.overhead else "-")
        cells.append(f"{row.cold.p50_ms / 1e3:.2f}" if row.cold else "-")
        cells.append(_size(row.peak_rss_bytes))
        cells.append(_size(row.size_bytes))
        cells.append("; ".join([*remarks, *row.flags]) or "-")
        rows.append(tuple(cells))
    return header, rows


def headline(row: Row) -> ScopeName | None:
    """``pipeline`` where it was measured, else the widest scope that was."""
    return next((name for name in reversed(SCOPES) if name in row.scopes), None)


def machine_line(report: Report) -> str:
    """CPU, instruction set, inputs and protocol in one line."""
    machine, inputs, protocol = report.machine, report.inputs, report.protocol
    return (
        f"{machine.cpu}, {machine.cores} cores{' (virtual)' if machine.virtual else ''}, "
        f"kernels {machine.zoo_isa or 'unknown'}, {machine.os}; "
        f"{inputs.count} inputs{f' of {inputs.seconds:g} s at {inputs.rate} Hz' if inputs.rate else ''} ({inputs.source}); "
        f"{protocol.processes} processes of {protocol.seconds:g} s"
        f"{'; QUICK: not for publication' if report.quick else ''}"
    )


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _size(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.1f} MB"
