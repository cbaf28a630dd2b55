# SPDX-License-Identifier: Apache-2.0
"""Precision, threads, batch and profile chosen by measuring on this machine, under the protocol of ``zoo bench``.

Settings are tried in two rounds. First precision, profile and threads compete on single inputs, from raw input to label;
then the winner tries batches, by time for each input. In both a setting takes the place of a simpler one (tried before it)
only if it is surely faster by ``GAIN`` and its p99 is not worse. Nothing here needs torch or onnx, so that a device can
tune a finished bundle (``zoo tune``).
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zoo.bundle import Gate, Manifest, Trial, Tuning, check_writable, open_bundle, write_bundle
from zoo.errors import CheckFailed, ProviderUnavailable, TargetError, ZooError
from zoo.runtime.bench import Contestant, Inputs, Options, Row, bench, make_inputs
from zoo.runtime.bench.driver import BATCH_LIMIT, Progress
from zoo.runtime.bench.machine import describe, usable_cores
from zoo.runtime.bench.stats import Ratio, interval, paired_draws, rounded, typical
from zoo.runtime.model import Model
from zoo.specs import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.export.exporter import Cell, Exporter

#: A setting replaces a simpler one only if the upper end of its time ratio's 95 % interval is below 1 / GAIN, ...
GAIN = 1.05
#: ... and the lower end of its p99's ratio is not above this (the bounds of a regression, design of the benchmarks).
TAIL = 1.10
#: More settings than these get a quick look first; the fastest go on.
FINALISTS = 4


@dataclass(frozen=True)
class Entrant:
    """A finished bundle that takes part. ``value`` and ``loss`` are its headline metric, where it was measured."""

    path: Path
    manifest: Manifest
    size: int
    value: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Setting:
    """One way to run one of the entrants (``index``)."""

    index: int
    threads: int = 1
    batch: int = 1


@dataclass
class Outcome:
    """The verdict on a setting; its row and that of the first setting beside it, where it was measured."""

    why: str
    row: Row | None = None
    first: Row | None = None
    quick: bool = False
    chosen: bool = False


@dataclass(frozen=True)
class Choice:
    """Which entrant, and how to run it."""

    index: int
    threads: int
    tuning: Tuning


@dataclass
class _Race:
    """Runs rounds on the same inputs, and remembers how."""

    entrants: Sequence[Entrant]
    options: Options
    inputs: Inputs
    progress: Progress | None
    looked: bool = False

    def run(self, settings: Sequence[Setting]) -> tuple[int, list[Outcome]]:
        """Measure and decide: index of the chosen setting, and what is known of each. A single one is not measured."""
        if len(settings) == 1:
            return 0, [Outcome("chosen: there is nothing else to try", chosen=True)]
        kept = list(range(len(settings)))
        outcomes: list[Outcome] = []
        if len(settings) > FINALISTS and not self.options.is_quick:
            self.looked = True
            look = replace(Options.quick(), scopes=self.options.scopes, keep_going=True)
            rows = self._bench(settings, look)
            _check_first(rows[0])
            kept = finalists(rows)
            outcomes = [Outcome(_screened(row, rows), row, rows[0], quick=True) for row in rows]
        rows = self._bench([settings[i] for i in kept], self.options)
        best, reasons = decide(rows)
        quick = self.options.is_quick
        found = [Outcome(why, row, rows[0], quick) for row, why in zip(rows, reasons, strict=True)]
        found[best].chosen = True
        if not outcomes:
            return best, found
        for i, outcome in zip(kept, found, strict=True):
            outcomes[i] = outcome
        return kept[best], outcomes

    def _bench(self, settings: Sequence[Setting], options: Options) -> tuple[Row, ...]:
        contestants = [
            Contestant(
                str(self.entrants[setting.index].path),
                _label(self.entrants[setting.index], setting, self.entrants),
                threads=setting.threads,
                batch=setting.batch,
            )
            for setting in settings
        ]
        return bench(contestants, options, inputs=self.inputs, progress=self.progress).rows


def tune(
    entrants: Sequence[Entrant],
    *,
    threads: Sequence[int],
    batches: bool,
    options: Options,
    untried: Sequence[Trial] = (),
    progress: Progress | None = None,
) -> Choice:
    """Measure every entrant with every number of threads, then batches of the fastest.

    Parameters
    ----------
    entrants : sequence of Entrant
        The simplest first: the first one with the first number of threads is what the others must beat.
    threads : sequence of int
        Numbers of engine threads to try, ascending.
    batches : bool
        Whether to try batches of 2, 4, ... up to what the winner's profile takes.
    options : Options
        The protocol; ``Options()`` is the full one, ``Options.quick()`` for a look. Scope and threads are set here.
    untried : sequence of Trial
        What failed before it could be measured, for the table.

    Raises
    ------
    CheckFailed
        The first entrant gives wrong results or does not run where it should.
    ZooError
        No inputs can be made for the bundle, or a measuring process fails.
    """
    options = replace(options, scopes=("pipeline",), threads=None, keep_going=True)
    first = open_bundle(entrants[0].path)
    race = _Race(entrants, options, make_inputs(first, data=options.data, rate=options.rate), progress)
    settings = [Setting(i, count) for i in range(len(entrants)) for count in threads]
    best, outcomes = race.run(settings)
    winner = settings[best]
    batch = 1
    sizes = batch_sizes(entrants[winner.index].manifest)
    if batches and len(sizes) > 1:
        tried = [Setting(winner.index, winner.threads, size) for size in sizes]
        fastest, found = race.run(tried)
        batch = tried[fastest].batch
        # One input a call is in the table already, from the first round if there was one.
        if outcomes[best].row is None:
            outcomes[best] = replace(found[0], why=outcomes[best].why, chosen=True)
        settings += tried[1:]
        outcomes += [replace(each, why=f"for several inputs, {each.why}") for each in found[1:]]
    trials = [_trial(entrants[s.index], s, outcome) for s, outcome in zip(settings, outcomes, strict=True)]
    machine = describe()
    metric = next((e.manifest.gate.metric for e in entrants if e.manifest.gate), None)
    tuning = Tuning(
        batch=batch,
        machine=f"{machine.cpu}, {machine.cores} cores, kernels {machine.zoo_isa or 'unknown'}, {machine.os}",
        protocol=_protocol(options, looked=race.looked),
        quick=options.is_quick,
        inputs=f"{len(race.inputs.items)} inputs from {race.inputs.source}",
        metric=metric,
        trials=(*trials, *untried),
    )
    return Choice(winner.index, winner.threads, tuning)


def tune_bundle(
    path: Path,
    out: Path,
    *,
    threads: Sequence[int] | None = None,
    options: Options | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Choose threads and batch of a finished bundle on the machine that runs it, and write it with the choice.

    Every file but the manifest stays as it is. Its precision and profile are fixed: only an export can choose these.

    Parameters
    ----------
    path, out : Path
        The bundle, and where the tuned one goes; ``out`` may be the bundle itself, with ``force``.
    threads : sequence of int or None
        Numbers of threads to try; None takes 1, 2, 4, ... up to the cores that this process may use.
    options : Options or None
        None takes the full protocol.

    Raises
    ------
    BundleError, ProviderUnavailable
        The bundle is damaged, a recipe, or does not run here.
    ZooError
        ``out`` exists; see also :func:`tune`.
    """
    check_writable(out, force=force)
    bundle = open_bundle(path)
    Model(bundle)  # a bundle that does not run here is refused before anything is measured
    manifest = bundle.manifest
    entrant = Entrant(path, manifest, bundle.size, *_figures(manifest))
    choice = tune(
        [entrant],
        threads=tuple(threads or thread_counts(manifest, usable_cores())),
        batches=True,
        options=options or Options(),
        progress=progress,
    )
    tuned = msgspec.structs.replace(manifest, threads=choice.threads, tuning=choice.tuning)
    try:
        contents = {file.path: bundle.read(file.path) for file in manifest.files}
        write_bundle(out, tuned, contents, force=force)
    except OSError as error:
        raise ZooError(f"{out} cannot be written: {error.strerror}") from error
    return tuned


def choose_cell(
    exporter: Exporter, candidates: Sequence[Precision], *, every: bool, options: Options
) -> tuple[Manifest, Mapping[str, bytes]]:
    """Build the candidates' cells, measure them here and give the chosen one's manifest and files.

    Parameters
    ----------
    candidates : sequence of str
        Precisions; fp32, else the first, is what the others must beat.
    every : bool
        Also try numbers of threads, batches, and a free batch dimension where the target fixes it; else only precisions are
        compared, on one thread.

    Raises
    ------
    TargetError
        The target's engine does not run here, so nothing can be measured.
    ZooError
        The one that the others must beat cannot be built, or does not pass its checks.
    """
    candidates = sorted(candidates, key=lambda precision: precision != "fp32")
    problem = exporter.recipe(candidates[0]).problem(exporter.graph)
    if problem is not None:
        raise TargetError(
            f"tuning (precision auto, --tune) measures on this machine, which cannot run target {exporter.target.name}: "
            f"{problem}; name a precision: {', '.join(exporter.target.precisions)}"
        )
    cells: list[tuple[Exporter, Cell]] = []
    untried: list[Trial] = []
    for precision in candidates:
        try:
            made, failed = _cells(exporter, precision, every)
        except (CheckFailed, ProviderUnavailable, TargetError) as error:
            if not cells:
                raise
            made, failed = [], [_untried(exporter, precision, f"not taken: {error}")]
        cells += made
        untried += failed
    with tempfile.TemporaryDirectory(prefix="zoo-tune-") as folder:
        entrants = []
        for i, (owner, cell) in enumerate(cells):
            manifest, contents = owner.bundle(cell)
            path = write_bundle(Path(folder) / str(i), manifest, contents)
            value, loss = _figures(manifest)
            if manifest.precision == "fp32":
                value, loss = _reference([made.gate.gate for _, made in cells if made.gate])
            size = sum(len(content) for content in contents.values())
            entrants.append(Entrant(path, manifest, size, value, loss))
        choice = tune(
            entrants,
            threads=thread_counts(entrants[0].manifest, usable_cores()) if every else (1,),
            batches=every,
            options=options,
            untried=untried,
            progress=exporter.progress,
        )
    owner, cell = cells[choice.index]
    notes = _notes(entrants[choice.index].manifest, choice) if len(candidates) > 1 else ()
    manifest, contents = owner.bundle(cell, notes)
    return msgspec.structs.replace(manifest, threads=choice.threads, tuning=choice.tuning), contents


def _cells(
    exporter: Exporter, precision: Precision, every: bool
) -> tuple[list[tuple[Exporter, Cell]], list[Trial]]:
    """The cell of a precision, and the same with a free batch where the target fixes it; what is not to be had, and why."""
    if precision == "int8" and exporter.dataset is None:
        return [], [_untried(exporter, precision, "not tried: no calibration data (--data DIR)")]
    cell = exporter.cell(precision)
    free = _with_free_batch(exporter) if every else None
    if free is None:
        return [(exporter, cell)], []
    try:
        # The gate compares graphs: a free batch changes nothing in them.
        return [(exporter, cell), (free, free.cell(precision, cell.gate))], []
    except (CheckFailed, ProviderUnavailable, TargetError) as error:
        return [(exporter, cell)], [_untried(free, precision, f"not taken: {error}")]


def _untried(exporter: Exporter, precision: Precision, why: str) -> Trial:
    profile = exporter.recipe(precision).profile
    return Trial(precision=precision, profile=profile, threads=1, batch=1, why=why)


def _with_free_batch(exporter: Exporter) -> Exporter | None:
    """The same exporter for engines whose batch is not fixed; None where it is free anyway."""
    target = exporter.target
    if not any("batch" in options.static for options in target.precisions.values()):
        return None
    freed = {
        precision: msgspec.structs.replace(
            options, static=tuple(dim for dim in options.static if dim != "batch")
        )
        for precision, options in target.precisions.items()
    }
    other = copy.copy(exporter)
    other.target = msgspec.structs.replace(target, precisions=freed)
    return other


def thread_counts(manifest: Manifest, cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to ``cores``, and ``cores`` itself; 1 where the engine uses no threads of the CPU."""
    if manifest.engines[0].kind in ("tensorrt", "tensorrt_rtx"):
        return (1,)
    counts = []
    count = 1
    while count < cores:
        counts.append(count)
        count *= 2
    return (*counts, cores)


def batch_sizes(manifest: Manifest) -> tuple[int, ...]:
    """1, 2, 4, ... as far as the engine's profile and the inputs of a measurement go."""
    most = min(manifest.key.profile.get("batch", (1, 1, 1))[2], BATCH_LIMIT)
    sizes = []
    size = 1
    while size <= most:
        sizes.append(size)
        size *= 2
    return tuple(sizes)


def finalists(rows: Sequence[Row]) -> list[int]:
    """The first row and the fastest of the others, ``FINALISTS`` in all, in their order."""
    valid = [i for i in range(1, len(rows)) if rows[i].void is None]
    fastest = sorted(valid, key=lambda i: _each(rows[i]))[: FINALISTS - 1]
    return [0, *sorted(fastest)]


def decide(rows: Sequence[Row]) -> tuple[int, list[str]]:
    """The row to take, and for each row why, or why not.

    Rows come in the order of simplicity. One is taken instead of a simpler one only if it is surely faster for each input.

    Raises
    ------
    CheckFailed
        The first row is void, so that there is nothing to compare with.
    """
    _check_first(rows[0])
    best = 0
    for i in range(1, len(rows)):
        if rows[i].void is None and _faster(rows[i], rows[best]) and not _tail(rows[i], rows[best]):
            best = i
    return best, [_why(row, rows[best], rows[0]) for row in rows]


def _check_first(row: Row) -> None:
    if row.void is not None:
        raise CheckFailed(f"tuning: {row.name} is void: {row.void}")


def _why(row: Row, best: Row, first: Row) -> str:
    if row.void is not None:
        return f"void: {row.void}"
    if row is best and row is first:
        return f"chosen: nothing tried is surely {GAIN - 1:.0%} faster"
    if row is best:
        return f"chosen: {_text(ratio(row, first, 0.5))} of the time of {first.name}"
    against = ratio(row, best, 0.5)
    if against.low > 1:
        return f"slower than {best.name}: {_text(against)} of its time"
    if _faster(row, best):
        return f"faster than {best.name}, but its p99 is {_text(ratio(row, best, 0.99))} of that one's"
    return f"not surely {GAIN - 1:.0%} faster than {best.name}: {_text(against)} of its time"


def _screened(row: Row, rows: Sequence[Row]) -> str:
    if row.void is not None:
        return f"void: {row.void}"
    return f"out after a quick look: {_text(ratio(row, rows[0], 0.5))} of the time of {rows[0].name}"


def _faster(row: Row, other: Row) -> bool:
    return ratio(row, other, 0.5).high < 1 / GAIN


def _tail(row: Row, other: Row) -> bool:
    return ratio(row, other, 0.99).low > TAIL


def ratio(row: Row, other: Row, p: float) -> Ratio:
    """Time for each input at quantile ``p`` over another row's of the same run, with its 95 % interval."""
    ours, theirs = row.scopes["pipeline"].processes, other.scopes["pipeline"].processes
    found = interval(*paired_draws(ours, theirs, p), min(len(ours), len(theirs)))
    scale = other.batch / row.batch
    return Ratio(
        value=rounded(found.value * scale), low=rounded(found.low * scale), high=rounded(found.high * scale)
    )


def _each(row: Row) -> float:
    return typical(row.scopes["pipeline"].processes, 0.5) / row.batch


def _text(found: Ratio) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _trial(entrant: Entrant, setting: Setting, outcome: Outcome) -> Trial:
    row, first = outcome.row, outcome.first
    timed = None if row is None or row.void is not None else row.scopes["pipeline"]
    beside = None
    if row is not None and first is not None and timed is not None and row is not first:
        found = ratio(row, first, 0.5)
        beside = (found.value, found.low, found.high)
    return Trial(
        precision=entrant.manifest.precision,
        profile=entrant.manifest.key.profile,
        threads=setting.threads,
        batch=setting.batch,
        why=outcome.why,
        p50_ms=timed.p50_ms if timed else None,
        p99_ms=timed.p99_ms if timed else None,
        cpu_ms=timed.cpu_ms if timed else None,
        ratio=beside,
        size=entrant.size,
        value=entrant.value,
        loss=entrant.loss,
        flags=row.flags if row else (),
        quick=outcome.quick,
        chosen=outcome.chosen,
    )


def _label(entrant: Entrant, setting: Setting, others: Sequence[Entrant]) -> str:
    manifest = entrant.manifest
    low, _, high = manifest.key.profile.get("batch", (1, 1, 1))
    parts = [str(manifest.precision), f"{setting.threads} thread{'s' if setting.threads > 1 else ''}"]
    if setting.batch > 1:
        parts.append(f"batch {setting.batch}")
    elif low != high and any(other.manifest.key.profile != manifest.key.profile for other in others):
        parts.append("free batch")
    return ", ".join(parts)


def _protocol(options: Options, *, looked: bool) -> str:
    text = (
        f"raw input to label, {options.processes} fresh processes a setting, interleaved, each at least {options.seconds:g} s "
        f"and {options.samples} calls after {options.warmup_seconds:g} s of warm-up"
    )
    return f"{text}; more than {FINALISTS} settings had a quick look first" if looked else text


def _figures(manifest: Manifest) -> tuple[float | None, float | None]:
    gate = manifest.gate
    return (gate.artifact, gate.difference) if gate else (None, None)


def _reference(gates: Sequence[Gate]) -> tuple[float | None, float | None]:
    """What fp32 itself has, which every gate measured."""
    return (gates[0].reference, 0.0) if gates else (None, None)


def _notes(manifest: Manifest, choice: Choice) -> tuple[str, ...]:
    """The choice in a sentence, and every precision that turned out slower than the first."""
    tuning = choice.tuning
    slower: dict[str, tuple[float, float, float]] = {}
    for trial in tuning.trials:
        alone = (trial.threads, trial.batch) == (tuning.trials[0].threads, tuning.trials[0].batch)
        other = trial.precision != tuning.trials[0].precision
        if trial.ratio is not None and trial.ratio[1] > 1 and other and alone:
            slower.setdefault(trial.precision, trial.ratio)
    text = f"auto chose {manifest.precision}, measured on the exporting machine (zoo inspect has the table)"
    for precision, (value, low, high) in slower.items():
        text += f"; {precision} is slower than {tuning.trials[0].precision} here: {value:.2f} [{low:.2f}, {high:.2f}] of its time"
    return (text + ".",)
