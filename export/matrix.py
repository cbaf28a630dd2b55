# SPDX-License-Identifier: Apache-2.0
"""The export matrix: every variant in every precision for the chosen targets, built by worker processes.

Workers are processes of their own, so that one that runs out of memory or crashes in a builder costs its cell and not
the rest. This module imports neither torch nor onnx: refused cells and cells that are there already cost nothing.
"""

from __future__ import annotations

import fnmatch
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import msgspec

from zoo import registry
from zoo.bundle import Gate, Manifest, Parity, open_bundle, write_file
from zoo.data import Dataset
from zoo.errors import BundleError, DataError, TargetError, ZooError
from zoo.export.histogram import DEFAULT_METHOD
from zoo.export.reserve import reserved
from zoo.export.sources import dataset_for, inputs_sha256, needs_data, no_data_reason
from zoo.export.targets import Target, find_target
from zoo.export.trouble import cause
from zoo.specs import Precision, WeightsStatus

if TYPE_CHECKING:
    from zoo.card import Card, Variant

State = Literal["built", "skipped", "refused", "failed", "pending"]
#: Who says no. ``card`` and ``target`` declare it as data; the others found it out by trying.
Source = Literal["card", "target", "engine", "machine", "data", "check", "export"]
DECLARED: tuple[Source, ...] = ("card", "target")
REPORT = "report.json"


class CellReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell. ``skipped``: a bundle made from the same inputs was there. ``pending``: not reached.

    ``reason`` and ``by`` say why it is refused or failed; ``node`` and ``op`` where in the graph, if that is known.
    ``size`` is bytes on disk, ``seconds`` of this build. ``accuracy`` is the gate's verdict, None where it was not measured.
    """

    name: str
    model: str
    weights: WeightsStatus
    target: str
    compute_capability: str | None
    precision: Precision
    bundle: str
    state: State = "pending"
    by: Source | None = None
    reason: str | None = None
    node: str | None = None
    op: str | None = None
    size: int | None = None
    seconds: float | None = None
    parity: Parity | None = None
    accuracy: Gate | None = None
    kept: int | None = None
    digest: str | None = None
    inputs_sha256: str | None = None

    @property
    def declared(self) -> bool:
        """Whether it is as the card and the target promise."""
        return self.state in ("built", "skipped") or (self.state == "refused" and self.by in DECLARED)


class MatrixReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of every cell. ``interrupted`` where the run was stopped before all were reached."""

    cells: tuple[CellReport, ...]
    counts: dict[State, int]
    passed: bool
    interrupted: bool
    seconds: float
    schema: Literal[1] = 1


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What all cells of a run share, in the words of :func:`zoo.export.export_model`."""

    data: str | None = None
    budget: float
    calibration: str = DEFAULT_METHOD


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of the cell it works on: a stage, or the result."""

    stage: str = ""
    done: int = 0
    total: int = 0
    result: CellReport | None = None


def select(
    targets: Sequence[str],
    *,
    out: Path,
    models: str = "*",
    precisions: Sequence[str] = (),
    compute_capability: str | None = None,
) -> tuple[CellReport, ...]:
    """Every cell that is asked for, ordered by variant, those that card or target refuse marked so.

    Parameters
    ----------
    targets : sequence of str
        Names of targets.
    out : Path
        Bundles go to ``out/<variant>/<target>-<precision>``.
    models : str
        Shell pattern of variant or model names.
    precisions : sequence of str
        Those wanted; empty: all that the target takes or declares as refused.

    Raises
    ------
    TargetError
        No such target, precision or compute capability.
    UnknownModel
        No variant or model fits the pattern.
    """
    chosen = [find_target(name).for_capability(compute_capability) for name in dict.fromkeys(targets)]
    for precision in precisions:
        if precision not in get_args(Precision):
            raise TargetError(
                f"no precision is called {precision!r}; there are {', '.join(get_args(Precision))}"
            )
    pairs = [
        (card, variant)
        for card, variant in registry.variants()
        if fnmatch.fnmatchcase(variant.name, models) or fnmatch.fnmatchcase(card.file.model, models)
    ]
    if not pairs:
        raise registry.UnknownModel(f"no model fits {models!r}; zoo list shows all names")
    cells = []
    for card, variant in pairs:
        for target in chosen:
            for precision, refusal in _refusals(variant, target, precisions).items():
                cells.append(_new_cell(card, variant, target, precision, refusal, out))
    return tuple(cells)


def _refusals(
    variant: Variant, target: Target, precisions: Sequence[str]
) -> dict[str, tuple[Source, str] | None]:
    found: dict[str, tuple[Source, str] | None] = {}
    for precision in dict.fromkeys(precisions or (*target.precisions, *target.refused)):
        reason = target.refusal(precision, variant.refused)
        by: Source = "target"
        if reason is not None and reason != target.refused.get(cast("Precision", precision)):
            by = "card"
        if reason is None and precision not in target.precisions:
            reason = f"target {target.name} does not take it; it takes {', '.join(target.precisions)}"
        if reason is None:
            reason, by = no_data_reason(variant, precision), "card"
        found[precision] = None if reason is None else (by, reason)
    return found


def _new_cell(
    card: Card,
    variant: Variant,
    target: Target,
    precision: str,
    refusal: tuple[Source, str] | None,
    out: Path,
) -> CellReport:
    cell = CellReport(
        name=variant.name,
        model=card.file.model,
        weights=variant.weights.status,
        target=target.name,
        compute_capability=target.compute_capability,
        precision=cast("Precision", precision),
        bundle=str(out / variant.name / f"{target.folder}-{precision}"),
    )
    if refusal is None:
        return cell
    return msgspec.structs.replace(cell, state="refused", by=refusal[0], reason=refusal[1])


def finished(
    cell: CellReport, manifest: Manifest, state: Literal["built", "skipped"], seconds: float | None
) -> CellReport:
    """The cell with what the manifest of its bundle says."""
    path = Path(cell.bundle)
    return msgspec.structs.replace(
        cell,
        state=state,
        size=sum(item.stat().st_size for item in path.rglob("*") if item.is_file()),
        seconds=None if seconds is None else round(seconds, 3),
        parity=manifest.parity,
        accuracy=manifest.gate,
        kept=len(manifest.engines[0].kept),
        digest=manifest.digest,
        inputs_sha256=manifest.provenance.inputs_sha256,
    )


class Inputs:
    """Cards and data sets of a run, opened once. Used by the run itself and by its workers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._known: dict[str, tuple[Card, Variant]] = {}
        self._datasets: dict[str, Dataset] = {}

    def of(self, cell: CellReport) -> tuple[Card, Variant, Target]:
        """Card, variant and target of a cell."""
        if cell.name not in self._known:
            self._known[cell.name] = registry.find(cell.name)
        return (*self._known[cell.name], find_target(cell.target).for_capability(cell.compute_capability))

    def dataset(self, cell: CellReport) -> Dataset | None:
        """The variant's data set. Where it is not at hand, None for a precision that can do without.

        Raises
        ------
        DataError
            The precision cannot do without.
        """
        if cell.name in self._datasets:
            return self._datasets[cell.name]
        card, variant, _ = self.of(cell)
        data = Path(self.settings.data) if self.settings.data else None
        try:
            found = dataset_for(card, variant, data, cell.precision)
        except DataError:
            if needs_data(cell.precision):
                raise
            return None
        if found is not None:
            self._datasets[cell.name] = found
        return found

    def sha256(self, cell: CellReport) -> str:
        """The hash that this cell's bundle would have; see :func:`zoo.export.sources.inputs_sha256`."""
        card, variant, target = self.of(cell)
        return inputs_sha256(
            card,
            variant,
            target,
            cell.precision,
            weights=None,
            dataset=self.dataset(cell),
            options={
                "calibration": self.settings.calibration,
                "budget": self.settings.budget,
                "quantize": [],
            },
        )


def present(cell: CellReport, inputs: Inputs) -> CellReport:
    """The cell as skipped, if a whole bundle from the same inputs is there; else as it was."""
    path = Path(cell.bundle)
    if not path.exists():
        return cell
    try:
        manifest = open_bundle(path).manifest
        if manifest.provenance.inputs_sha256 == inputs.sha256(cell):
            return finished(cell, manifest, "skipped", None)
    except (BundleError, DataError):
        pass  # the worker replaces what is damaged, and says what is missing
    return cell


class Run:
    """One run over selected cells.

    Parameters
    ----------
    report : Path
        Where the report is written, anew after every cell.
    jobs : int
        Worker processes.
    force : bool
        Build also what is there.
    on_change : callable or None
        Called with (index, cell, event): event None where the cell has a new state.
    """

    def __init__(
        self,
        cells: Sequence[CellReport],
        settings: Settings,
        *,
        report: Path,
        jobs: int = 1,
        force: bool = False,
        on_change: Callable[[int, CellReport, Event | None], None] | None = None,
    ) -> None:
        self.cells = list(cells)
        self.path = report
        self._settings, self._jobs, self._force = settings, jobs, force
        self._on_change = on_change or (lambda index, cell, event: None)
        self._start = time.monotonic()
        self._interrupted = False
        self.report = self._report()
        """Where every cell stands, as it was last written."""

    def _report(self) -> MatrixReport:
        counts = Counter(cell.state for cell in self.cells)
        return MatrixReport(
            cells=tuple(self.cells),
            counts={state: counts[state] for state in get_args(State)},
            passed=all(cell.declared for cell in self.cells),
            interrupted=self._interrupted,
            seconds=round(time.monotonic() - self._start, 3),
        )

    def execute(self) -> MatrixReport:
        """Build what is missing.

        Raises
        ------
        KeyboardInterrupt
            Stopped by the user; the report says what was done, and nothing is half-written.
        ZooError
            The report cannot be written, or another run writes it.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ZooError(f"{self.path.parent} cannot be made: {cause(error) or error.strerror}") from error
        with reserved(self.path):
            self._save(strict=True)  # a folder that cannot be written to is told before any work
            try:
                self._find_present()
                self._build()
            except KeyboardInterrupt:
                self._interrupted = True
                self._save(strict=True)
                raise
            self._save(strict=True)
        return self.report

    def _find_present(self) -> None:
        inputs = Inputs(self._settings)
        for index, cell in enumerate(self.cells):
            if cell.state == "pending" and not self._force:
                cell = present(cell, inputs)
            if cell.state != "pending":
                self._set(index, cell, save=False)
        self._save()

    def _build(self) -> None:
        from zoo.export.workers import Pool

        waiting = [index for index, cell in enumerate(self.cells) if cell.state == "pending"]
        if not waiting:
            return
        running: dict[int, int] = {}
        with Pool(self._settings, min(self._jobs, len(waiting))) as pool:
            try:
                while waiting or running:
                    for worker in pool.idle(running):
                        index = self._next(waiting, running, pool.last.get(worker))
                        if index is None:
                            break
                        waiting.remove(index)
                        running[worker] = index
                        pool.start(worker, self.cells[index])
                    worker, event = pool.wait()
                    index = running[worker]
                    if event.result is None:
                        self._on_change(index, self.cells[index], event)
                        continue
                    del running[worker]
                    if event.result.state != "built":
                        self._sweep(index)
                    self._set(index, event.result)
            finally:
                pool.stop()
                for index in running.values():
                    self._sweep(index)

    def _next(self, waiting: Sequence[int], running: dict[int, int], last: str | None) -> int | None:
        """A cell of the variant that the worker has traced, else of one that no other worker has."""
        busy = {self.cells[index].name for index in running.values()}
        for fits in (lambda name: name == last, lambda name: name not in busy, lambda name: True):
            for index in waiting:
                if fits(self.cells[index].name):
                    return index
        return None

    def _sweep(self, index: int) -> None:
        """What a worker left that was killed while writing; not while another process writes there."""
        with suppress(ZooError), reserved(Path(self.cells[index].bundle)):
            pass

    def _set(self, index: int, cell: CellReport, *, save: bool = True) -> None:
        self.cells[index] = cell
        self._on_change(index, cell, None)
        if save:
            self._save()

    def _save(self, *, strict: bool = False) -> None:
        """Write the report. A full disk in the middle of a run is the next cell's error; at its end it is ours."""
        self.report = self._report()
        try:
            write_file(self.path, encode_report(self.report))
        except OSError as error:
            if strict:
                raise ZooError(f"{self.path} cannot be written: {cause(error) or error.strerror}") from error


def encode_report(report: MatrixReport) -> bytes:
    """The report as JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
