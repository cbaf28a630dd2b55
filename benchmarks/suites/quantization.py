# SPDX-License-Identifier: Apache-2.0
"""INT8 of ``zoo export`` beside what other quantisers make of the same graph: accuracy, size and latency.

For every variant of the registry with trained weights, fold models and their data, and for each engine: the exporter's int8 with
its defaults, and each of ``benchmarks/peers/quantize_*.py`` with its own defaults, from the same float32 ONNX graph and the same
calibration features. Accuracy is that of the fold models on the items they have not seen, the same for all, compared in pairs;
size is that of the engine's files; latency is the engine's, in fresh interleaved processes under the protocol of
``benchmarks/README.md``, all run by the zoo's runtime with one thread. Small trained networks of the kinds that the registry
may lack (``--stand-ins``) take part as variants of their own.

Writes ``benchmarks/results/quantization-<date>-<isa>-<cpu>.json`` and the same as ``.md``.

Example: python benchmarks/suites/quantization.py --data DIR
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import click
import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from zoo import metrics, registry
from zoo.bundle import Bundle, Manifest, write_bundle
from zoo.card import Card, Variant
from zoo.data import Dataset, default_root, open_dataset
from zoo.errors import CheckFailed, ZooError
from zoo.evaluation import judge, scores_of
from zoo.export import calibrate
from zoo.export.exporter import DEFAULT_BUDGET, DEFAULT_CALIBRATION, Cell, Exporter, code_version
from zoo.export.gate import Fold, make_folds
from zoo.export.graph import Graph
from zoo.export.parity import Run
from zoo.export.targets import Target, find_target
from zoo.runtime.bench import Contestant, Options, Report, bench
from zoo.runtime.bench.machine import Machine, describe
from zoo.runtime.bench.report import machine_line
from zoo.runtime.bench.stats import Ratio, rounded
from zoo.runtime.engines import EngineOptions, open_engine

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))
from _quantize import Quantizer, Source
from _results import check_folder, file_stem, progress, start, table, write_results

BENCHMARKS = Path(__file__).resolve().parent.parent
TARGETS = ("cpu-x86", "openvino-cpu")
OURS, FLOAT = "zoo", "fp32"
Progress = Callable[[str, int, int], None]


class Interval(Struct, frozen=True, kw_only=True):
    """A difference of the headline metric (a fraction of one) with its 95 % interval, paired bootstrap over items."""

    value: float
    low: float
    high: float


class Row(Struct, frozen=True, kw_only=True):
    """One contestant. ``loss`` is against fp32; ``gain`` and ``ratio`` (of p50) are this one's against the zoo's int8.

    ``better``: in what a peer beats the zoo's, by the figures themselves; ``clearly``: those of them whose interval says so too.
    ``dominates``: it loses less at a latency that is not clearly higher, which the project wants of no peer.
    """

    name: str
    settings: str
    versions: dict[str, str] = {}
    metric: float | None = None
    loss: Interval | None = None
    gain: Interval | None = None
    size_bytes: int | None = None
    p50_ms: float | None = None
    cpu_ms: float | None = None
    ratio: Ratio | None = None
    better: tuple[str, ...] = ()
    clearly: tuple[str, ...] = ()
    dominates: bool = False
    problem: str | None = None


class Case(Struct, frozen=True, kw_only=True):
    """A variant on a target. ``kept``: layers that the exporter's gate left in fp32."""

    variant: str
    target: str
    engine: str
    metric: str
    protocol: str
    n: int
    calibration: int
    kept: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    latency: Report | None = None


class Suite(Struct, frozen=True, kw_only=True):
    """Everything that one run found. ``remark`` is what whoever ran it says of the conditions."""

    schema: Literal[1]
    created: str
    zoo_version: str
    machine: Machine
    quick: bool
    remark: str
    cases: tuple[Case, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A contestant on its way: labels given to the held-out items, and the bundle that is timed."""

    name: str
    settings: str
    versions: Mapping[str, str]
    found: NDArray[Any] | None = None
    bundle: Path | None = None
    size: int | None = None
    problem: str | None = None


def quantizers(folder: Path = BENCHMARKS / "peers") -> tuple[list[Quantizer], list[str]]:
    """Those of every ``quantize_*.py`` whose library is installed, and a line for each other file."""
    found: list[Quantizer] = []
    missing = []
    for path in sorted(folder.glob("quantize_*.py")):
        try:
            found += importlib.import_module(path.stem).QUANTIZERS
        except ImportError as error:
            missing.append(f"{path.name}: {error}; pip install 'affect-zoo[dev]'")
    return found, missing


def reason(variant: Variant, target: Target) -> str | None:
    """Why a variant cannot take part on a target, or None."""
    if variant.weights.status == "random":
        return "its weights are random"
    if variant.data is None:
        return "its card names no data set"
    if variant.folds is None and not variant.held_out:
        return "its card has no fold models, so no items are held out"
    return target.refusal("int8", variant.refused)


class Bench:
    """One variant on one target: what all contestants share."""

    def __init__(
        self, card: Card, variant: Variant, target: Target, dataset: Dataset, work: Path, progress: Progress
    ) -> None:
        decode = card.decode(variant)
        self._decode, self._judge = decode, judge(decode, variant.labels)
        self._work, self._dataset, self._progress = work, dataset, progress
        self.variant, self.target = variant, target
        self.metric = self._judge.function(variant.metric)
        self.notes: list[str] = []
        self.session = Exporter(
            card, variant, target, None, dataset, DEFAULT_CALIBRATION, DEFAULT_BUDGET, progress
        )
        self.folds = make_folds(self.session.recipe("int8"), dataset, self.session.folds())
        self.truth = self._judge.truth(dataset, [item for fold in self.folds for item in fold.items])
        self.chosen = calibrate.choose(dataset, without=variant.held_out)
        self.cell = self._int8()

    def _int8(self) -> Cell:
        try:
            return self.session.cell("int8")
        except CheckFailed as error:
            self.notes.append(f"zoo export refuses this int8; measured here all the same: {error}")
            self.session.budget = 1.0
            return self.session.cell("int8")

    def float32(self) -> Entry:
        """The reference precision."""
        recipe = self.session.recipe("fp32")
        found = self._score(lambda fold: recipe.runner(recipe.lower(fold.graph, inputs=())), FLOAT)
        manifest, contents = self.session.bundle(self.session.cell("fp32"))
        return self._entry(FLOAT, "no quantisation", {}, found, manifest, contents)

    def ours(self) -> Entry:
        """What ``zoo export --precision int8`` makes, with the layers kept that its gate keeps."""
        recipe, kept = self.session.recipe("int8"), self.cell.gate.kept if self.cell.gate else ()

        def run(fold: Fold) -> Run:
            return recipe.runner(recipe.lower(fold.graph, inputs=(), chosen=fold.chosen, kept=kept))

        manifest, contents = self.session.bundle(self.cell)
        settings = f"defaults: {DEFAULT_CALIBRATION} ranges, {len(kept)} layers kept in fp32"
        versions = {"affect-zoo": code_version()}
        return self._entry(OURS, settings, versions, self._score(run, OURS), manifest, contents)

    def peer(self, quantizer: Quantizer) -> Entry:
        """A peer's engine of the same graphs. Whatever it raises is its result."""
        versions: Mapping[str, str] = {}
        try:
            versions = quantizer.versions()
            found = self._score(lambda fold: self._peer_run(quantizer, fold), quantizer.name)
            files = self._make(quantizer, self.session.graph, self.chosen)
            manifest = self._manifest(quantizer, files)
            _, contents = self.session.bundle(self.cell)
            others = {
                name: data for name, data in contents.items() if not name.startswith(("engine.", "build."))
            }
            return self._entry(
                quantizer.name, quantizer.settings, versions, found, manifest, others | dict(files)
            )
        except Exception as error:  # a tool's own exception types have no common base
            problem = (
                f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            )
            return Entry(quantizer.name, quantizer.settings, versions, problem=problem[:300])

    def _score(self, make: Callable[[Fold], Run], name: str) -> NDArray[Any]:
        scores: list[NDArray[Any]] = []
        for done, fold in enumerate(self.folds):
            self._progress(f"{name}: held-out groups", done, len(self.folds))
            run, features = make(fold), self.session.preprocessor.items(fold.items)
            scores += [scores_of(self._decode, run(item)) for item in features]
        return self._judge.decide(np.stack(scores))

    def _peer_run(self, quantizer: Quantizer, fold: Fold) -> Run:
        assert fold.chosen is not None
        files = self._make(quantizer, fold.graph, fold.chosen)
        manifest = self._manifest(quantizer, files)
        engine = open_engine(Bundle(Path(quantizer.name), manifest, b"", files), EngineOptions(strict=False))
        names = [tensor.name for tensor in engine.outputs]

        def run(features: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
            return dict(zip(names, engine.run([array[None] for array in features]), strict=True))

        return run

    def _make(
        self, quantizer: Quantizer, graph: Graph, chosen: calibrate.CalibrationSet
    ) -> Mapping[str, bytes]:
        """The peer's engine files, named as the zoo's own are."""
        inputs = self.cell.artifact.built.spec.inputs
        feeds = [
            {tensor.name: array[None] for tensor, array in zip(graph.inputs, features, strict=True)}
            for features in self.session.preprocessor.items(chosen.items)
        ]
        shapes = {
            tensor.name: tuple(dim if isinstance(dim, int) else -1 for dim in tensor.shape)
            for tensor in inputs
        }
        # Tools print what they do; standard output is for the tables.
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            path = quantizer.make(Source(graph.data, shapes, feeds), Path(folder))
            beside = [path, *sorted(path.parent.glob(f"{path.stem}.*"))]
            return {f"engine{file.suffix}": file.read_bytes() for file in dict.fromkeys(beside)}

    def _manifest(self, quantizer: Quantizer, files: Mapping[str, bytes]) -> Manifest:
        """The manifest of the zoo's int8 with the peer's files, and without what was measured of ours."""
        manifest, _ = self.session.bundle(self.cell)
        spec = msgspec.structs.replace(manifest.engines[0], kept=(), placement={})
        if set(files) != {spec.file, *spec.extra_files}:
            raise ZooError(
                f"{quantizer.name} made {', '.join(files)}; {spec.kind} needs {spec.file} and what belongs to it"
            )
        key = msgspec.structs.replace(manifest.key, onnx_sha256=hashlib.sha256(files[spec.file]).hexdigest())
        return msgspec.structs.replace(
            manifest,
            engines=(spec,),
            key=key,
            parity=None,
            gate=None,
            quality=(),
            notes=(f"Quantised by {quantizer.name}, to compare with.",),
        )

    def _entry(
        self,
        name: str,
        settings: str,
        versions: Mapping[str, str],
        found: NDArray[Any],
        manifest: Manifest,
        contents: Mapping[str, bytes],
    ) -> Entry:
        spec = manifest.engines[0]
        size = sum(len(contents[file]) for file in (spec.file, *spec.extra_files))
        path = self._work / f"{self.variant.name}-{self.target.folder}-{_slug(name)}"
        return Entry(name, settings, versions, found, write_bundle(path, manifest, contents), size)


def measure(
    card: Card,
    variant: Variant,
    target: Target,
    dataset: Dataset,
    peers: Sequence[Quantizer],
    options: Options,
    work: Path,
    progress: Progress,
) -> Case:
    """One variant on one target.

    Raises
    ------
    ZooError
        The exporter cannot make its own int8, or a contestant fails while it is timed.
    """
    shared = Bench(card, variant, target, dataset, work, progress)
    entries = [shared.ours(), shared.float32()]
    entries += [shared.peer(peer) for peer in peers if peer.engine == target.engine]
    report = None
    try:
        timed = [Contestant(str(entry.bundle), entry.name) for entry in entries if entry.bundle is not None]
        report = bench(timed, options, progress=progress)
    except ZooError as error:
        shared.notes.append(f"latency is not measured: {error}")
    return Case(
        variant=variant.name,
        target=target.name,
        engine=target.engine,
        metric=variant.metric,
        protocol=variant.protocol,
        n=len(shared.truth),
        calibration=len(shared.chosen.items),
        kept=len(shared.cell.gate.kept) if shared.cell.gate else 0,
        rows=tuple(compare(shared.metric, shared.truth, entries, report)),
        notes=tuple(shared.notes),
        latency=report,
    )


def compare(
    metric: metrics.Metric, truth: NDArray[np.int64], entries: Sequence[Entry], report: Report | None
) -> Iterator[Row]:
    """Figures of every contestant, and where a peer beats the zoo's int8 (the first entry)."""
    ours = entries[0]
    reference = next(entry for entry in entries if entry.name == FLOAT)
    assert ours.found is not None
    assert reference.found is not None
    assert ours.size is not None
    timed = {row.name: row for row in report.rows} if report else {}
    for entry in entries:
        if entry.found is None:
            yield Row(
                name=entry.name,
                settings=entry.settings,
                versions=dict(entry.versions),
                problem=entry.problem,
            )
            continue
        row = timed.get(entry.name)
        scope = row.scopes.get("engine") if row and not row.void else None
        figures = Row(
            name=entry.name,
            settings=entry.settings,
            versions=dict(entry.versions),
            metric=float(metric(truth, entry.found)),
            loss=_difference(metric, truth, entry.found, reference.found),
            size_bytes=entry.size,
            p50_ms=scope.p50_ms if scope else None,
            cpu_ms=scope.cpu_ms if scope else None,
            ratio=scope.vs_first if scope else None,
            problem=f"void: {row.void}" if row and row.void else None,
        )
        if entry.name not in (OURS, FLOAT):
            assert entry.size is not None
            gain = _difference(metric, truth, ours.found, entry.found)
            figures = judged(msgspec.structs.replace(figures, gain=gain), ours.size)
        yield figures


def judged(row: Row, our_size: int) -> Row:
    """A peer's row with what it is better in."""
    assert row.gain is not None
    assert row.size_bytes is not None
    better, clearly = [], []
    if row.gain.value > 0:
        better.append("accuracy")
        clearly += ["accuracy"] if row.gain.low > 0 else []
    if row.ratio is not None and row.ratio.value < 1:
        better.append("latency")
        clearly += ["latency"] if row.ratio.high < 1 else []
    if row.size_bytes < our_size:
        better.append("size")
        clearly.append("size")
    return msgspec.structs.replace(
        row,
        better=tuple(better),
        clearly=tuple(clearly),
        dominates=row.gain.value > 0 and row.ratio is not None and row.ratio.low <= 1,
    )


def _difference(
    metric: metrics.Metric, truth: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]
) -> Interval:
    value, low, high = metrics.paired_bootstrap(metric, truth, a, b)
    return Interval(value=value, low=low, high=high)


def _slug(name: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in name.lower())


def markdown(suite: Suite) -> str:
    """The tables for people."""
    isa = suite.machine.zoo_isa or "unknown"
    lines = [
        f"# INT8 beside other quantisers, {isa} kernels, {suite.created[:10]}",
        "",
        f"Made by `benchmarks/suites/quantization.py` of version {suite.zoo_version}; see [what is compared](../README.md#int8-beside-other-quantisers).",
        *(["", "**QUICK: not for publication.**"] if suite.quick else []),
        *(["", f"**{suite.remark}**"] if suite.remark else []),
        "",
        "Points are hundredths of the headline metric. `loss` is fp32 minus the contestant, `gain` a peer minus the zoo's int8, both on the",
        "same held-out items with the 95 % interval of a paired bootstrap. `p50 / zoo` above 1 means that the zoo's int8 is faster.",
        "",
        "## Where a peer wins",
        "",
        "By the figures themselves; **bold** where the interval says so too. The last column marks what the project wants of no peer: a smaller",
        "loss at a latency that is not clearly higher.",
        "",
    ]
    won = [(case, row) for case in suite.cases for row in case.rows if row.better]
    lines += table(
        ("variant", "target", "peer", "better in", "gain, points", "p50 / zoo", "size / zoo", "goal missed"),
        [
            (
                *(case.variant, case.target, row.name),
                ", ".join(f"**{what}**" if what in row.clearly else what for what in row.better),
                *(_points(row.gain), _ratio(row.ratio), _size_ratio(row, case)),
                ("clearly" if "accuracy" in row.clearly else "within the noise") if row.dominates else "-",
            )
            for case, row in won
        ],
    )
    peers = [row for case in suite.cases for row in case.rows if row.name not in (OURS, FLOAT)]
    missed = [row for row in peers if row.dominates]
    lines += [
        "",
        f"{len(peers)} comparisons; in {len(missed)} a peer loses less at a latency that is not clearly higher, "
        f"in {sum('accuracy' in row.clearly for row in missed)} of them by more than the noise; "
        f"{sum(row.problem is not None for row in peers)} could not be made.",
    ]
    for case in suite.cases:
        lines += ["", f"## {case.variant}, {case.target}", ""]
        lines += table(
            (
                *("contestant", f"{case.metric}, %", "loss, points [95 %]", "gain, points [95 %]", "size kB"),
                *("p50 ms", "CPU ms", "p50 / zoo [95 %]", "remarks"),
            ),
            [
                (
                    row.name,
                    "-" if row.metric is None else f"{100 * row.metric:.2f}",
                    *("-" if row.name == FLOAT else _points(row.loss), _points(row.gain)),
                    "-" if row.size_bytes is None else f"{row.size_bytes / 1e3:.0f}",
                    *("-" if time is None else f"{time:.3f}" for time in (row.p50_ms, row.cpu_ms)),
                    _ratio(row.ratio),
                    row.problem or row.settings,
                )
                for row in case.rows
            ],
        )
        lines += [
            "",
            f"{case.n} items, {case.protocol}; {case.calibration} calibration items; the engine is {case.engine}.",
        ]
        if case.latency:
            lines += [f"{machine_line(case.latency)}.", ""]
            flagged = [f"{row.name}: {', '.join(row.flags)}" for row in case.latency.rows if row.flags]
            lines += [f"- {line}" for line in (*case.latency.notes, *flagged)]
        lines += ["", *(f"- {note}" for note in case.notes)] if case.notes else []
    versions = {f"{name} {number}" for row in peers for name, number in row.versions.items()}
    lines += ["", f"Versions: {', '.join(sorted(versions))}, Python {suite.machine.python}."]
    lines += [f"CPU: {suite.machine.cpu}; flags: {', '.join(suite.machine.isa_flags)}."]
    if suite.skipped:
        lines += ["", "## Not measured here", "", *(f"- {line}" for line in suite.skipped)]
    return "\n".join(lines) + "\n"


def _points(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{100 * interval.value:+.2f} [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"


def _ratio(ratio: Ratio | None) -> str:
    return "-" if ratio is None else f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _size_ratio(row: Row, case: Case) -> str:
    ours = case.rows[0].size_bytes
    return "-" if row.size_bytes is None or ours is None else f"{rounded(row.size_bytes / ours):.2f}"


def run(
    names: Sequence[str],
    targets: Sequence[Target],
    data: Path | None,
    options: Options,
    work: Path,
    progress: Progress,
    remark: str = "",
) -> Iterator[Suite]:
    """Every variant on every target; what cannot take part is listed with its reason.

    Parameters
    ----------
    names : sequence of str
        Variants; none means all of the registry.

    Yields
    ------
    Suite
        All that is known after each case, so that an interrupted run keeps what it has measured.

    Raises
    ------
    ZooError
        Nothing could be measured.
    """
    peers, skipped = quantizers()
    chosen = [registry.find(name) for name in names] or list(registry.variants())
    cases: list[Case] = []
    for card, variant in chosen:
        for target in targets:
            try:
                why = reason(variant, target)
                if why is not None:
                    raise ZooError(why)
                dataset = open_dataset(card, variant.data, data)
                cases.append(measure(card, variant, target, dataset, peers, options, work, progress))
            except ZooError as error:
                skipped.append(f"{variant.name}, {target.name}: {error}")
                continue
            yield Suite(
                schema=1,
                created=datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
                zoo_version=code_version(),
                machine=describe(),
                quick=options.is_quick,
                remark=remark,
                cases=tuple(cases),
                skipped=tuple(skipped),
            )
    if not cases:
        raise ZooError("nothing could be measured: " + "; ".join(skipped))


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--target", "targets", multiple=True, default=TARGETS, show_default=True, help="Of `zoo list --targets`."
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder of the variants' data sets. Default: ZOO_DATA."
)
@click.option(
    "--stand-ins",
    type=click.Path(path_type=Path),
    help="Also measure small recurrent and transformer networks, trained in this folder if they are not there yet.",
)
@click.option("--seconds", default=10.0, show_default=True, help="Timed in each process.")
@click.option("--quick", is_flag=True, help="A look: nothing to publish, nothing written without --out.")
@click.option("--remark", default="", help="Said at the top of the results, such as 'shared machine'.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results.")
@click.option("--force", is_flag=True, help="Replace results of the same name.")
def main(
    names: tuple[str, ...],
    targets: tuple[str, ...],
    data: Path | None,
    stand_ins: Path | None,
    seconds: float,
    quick: bool,
    remark: str,
    out: Path | None,
    force: bool,
) -> None:
    """Compare the variants NAMES (default: all that can be) with other quantisers."""
    options = Options.quick() if quick else Options(seconds=seconds)
    options = replace(options, scopes=("engine",), threads=1)
    data = data or default_root()
    if out is None and not quick:
        out = BENCHMARKS / "results"
    check_folder(out)
    if stand_ins is not None:
        from _stand_ins import prepare

        added = str(prepare(stand_ins, data, progress).resolve())
        os.environ["ZOO_MODELS"] = os.pathsep.join(filter(None, (os.environ.get("ZOO_MODELS"), added)))
    chosen = [find_target(name) for name in targets]
    stem, text = None, ""
    with tempfile.TemporaryDirectory(prefix="zoo-quantization-") as folder:
        for suite in run(names, chosen, data, options, Path(folder), progress, remark):
            text = markdown(suite)
            if out is not None:
                stem = stem or f"quantization-{file_stem(suite)}"
                path = write_results(out, stem, suite, text, force=force)
                click.echo(f"written: {os.path.relpath(path)}.json and .md", err=True)
                force = True  # the next case adds to what this run wrote
    click.echo(text)


if __name__ == "__main__":
    start(main, __file__)
