# SPDX-License-Identifier: Apache-2.0
"""TIM-Net under the whole protocol: against what a user would write today, and every built bundle side by side.

Writes ``benchmarks/results/<date>-<isa>-<cpu>.json`` and the same as ``.md``. About 25 s a contestant and process;
``--quick`` takes a few minutes and writes nothing unless told where. Run it on a machine that does nothing else.

Example: python benchmarks/suites/tim_net.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click
import numpy as np
from msgspec import Struct

from zoo.bundle import open_bundle
from zoo.errors import CheckFailed, ZooError
from zoo.runtime.bench import Contestant, Options, Report, Row, bench, summary
from zoo.runtime.bench.driver import environment, run_process, tail
from zoo.runtime.bench.report import machine_line
from zoo.runtime.bench.stats import Ratio, interval, paired_draws, rounded
from zoo.runtime.engines import engine_status
from zoo.store import DEFAULT_PRECISION, DEFAULT_TARGET, find_bundle, home

sys.path.insert(0, str(Path(__file__).parent))
from _results import file_stem, table, write_results

BENCHMARKS = Path(__file__).resolve().parent.parent
#: What a user would write today, and how many times as fast the zoo is to be.
PEERS = {"librosa_onnxruntime": 5.0, "librosa_torch": 8.0}
OVERHEAD_SHARE, OVERHEAD_MS = 0.05, 0.030
IMPORT_MS, FIRST_LABEL_MS = 150.0, 600.0
#: What neither importing nor running the zoo may load.
HEAVY = ("torch", "onnx", "librosa", "scipy", "zoo.export", "zoo.models")
STARTS = 11
#: The zoo's resampler and soxr_hq are two filters that part above 0.9 of the Nyquist frequency: scores must agree within this,
#: labels but for ties.
RESAMPLED_TOLERANCE = 0.05


class Startup(Struct, frozen=True, kw_only=True):
    """Medians over fresh processes, in milliseconds. ``heavy``: modules that should not have been loaded."""

    import_zoo_ms: float
    help_ms: float
    run_ms: float
    interpreter_ms: float
    heavy_after_import: tuple[str, ...]
    heavy_after_run: tuple[str, ...]
    n: int


class Goal(Struct, frozen=True, kw_only=True):
    """One target of the project, what was measured, and whether it is met."""

    goal: str
    measured: str
    met: bool


class Quantised(Struct, frozen=True, kw_only=True):
    """INT8 over fp32 on one target; above 1, INT8 is the slower one."""

    target: str
    scope: str
    ratio: Ratio


class Suite(Struct, frozen=True, kw_only=True):
    """Everything that one run of this file found."""

    schema: Literal[1]
    model: str
    main: Report
    resampled: Report | None
    startup: Startup
    goals: tuple[Goal, ...]
    int8: tuple[Quantised, ...]
    skipped: tuple[str, ...]


def built_bundles(model: str) -> list[Path]:
    """The model's bundles: the default one first, then those in the store."""
    first = find_bundle(model, target=DEFAULT_TARGET, precision=DEFAULT_PRECISION)
    stored = home() / "bundles" / model
    return [first, *(path for path in sorted(stored.glob("*-*")) if path.resolve() != first.resolve())]


def runnable(bundles: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Those whose engine has a device here; and a line for each other one."""
    kept, skipped = [], []
    for path in bundles:
        manifest = open_bundle(path).manifest
        status = engine_status(manifest.engines[0].kind)
        if status.devices:
            kept.append(path)
        else:
            skipped.append(f"{manifest.name} {manifest.target} {manifest.precision}: {status.problem}")
    return kept, skipped


def measure_startup(bundle: Path, clip: Path, count: int) -> Startup:
    """Start the interpreter, the library and the command in turns."""
    loaded = f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    commands = {
        "interpreter": ["-c", "pass"],
        "import": [
            "-c",
            f"import sys, json, time; t = time.perf_counter(); import zoo; t = time.perf_counter() - t; print(t); {loaded}",
        ],
        "help": ["-m", "zoo", "--help"],
        "run": ["-m", "zoo", "run", str(bundle.resolve()), str(clip.resolve()), "--json"],
        "load": [
            "-c",
            f"import sys, json, zoo; zoo.load({str(bundle.resolve())!r})({str(clip.resolve())!r}); {loaded}",
        ],
    }
    spans: dict[str, list[float]] = {name: [] for name in commands}
    output: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder:
        for turn in range(count + 1):
            for name, arguments in commands.items():
                begun = time.perf_counter()
                code, out, err = run_process([sys.executable, *arguments], environment(1), Path(folder))
                spent = (time.perf_counter() - begun) * 1e3
                if code != 0:
                    raise ZooError(f"python {' '.join(arguments)} failed: {tail(err)}")
                output[name] = out.decode().splitlines()
                if turn:  # the first one fills the file cache
                    spans[name].append(float(output[name][0]) * 1e3 if name == "import" else spent)
    middle = {name: rounded(float(np.median(values))) for name, values in spans.items()}
    return Startup(
        import_zoo_ms=middle["import"],
        help_ms=middle["help"],
        run_ms=middle["run"],
        interpreter_ms=middle["interpreter"],
        heavy_after_import=tuple(json.loads(output["import"][-1])),
        heavy_after_run=tuple(json.loads(output["load"][-1])),
        n=count,
    )


def goals(report: Report, startup: Startup) -> Iterator[Goal]:
    """The measured items 1 to 3."""
    base = report.rows[0]
    for name, wanted in PEERS.items():
        row = next((row for row in report.rows if row.name == name), None)
        scope = row.scopes.get("pipeline") if row and not row.void else None
        ratio = scope.vs_first if scope else None
        yield Goal(
            goal=f"pipeline p50 at least {wanted:g} times as fast as {name}",
            measured=f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else _why(row),
            met=ratio is not None and ratio.value >= wanted,
        )
    overhead = base.overhead
    yield Goal(
        goal=f"runtime overhead at most {OVERHEAD_SHARE:.0%} or {OVERHEAD_MS * 1e3:.0f} us",
        measured=f"{overhead.ms * 1e3:.1f} us, {overhead.share:.1%}" if overhead else _why(base),
        met=overhead is not None and (overhead.share <= OVERHEAD_SHARE or overhead.ms <= OVERHEAD_MS),
    )
    yield Goal(
        goal=f"import zoo below {IMPORT_MS:.0f} ms",
        measured=f"{startup.import_zoo_ms:.1f} ms",
        met=startup.import_zoo_ms < IMPORT_MS,
    )
    heavy = sorted({*startup.heavy_after_import, *startup.heavy_after_run})
    yield Goal(
        goal=f"importing and running load none of {', '.join(HEAVY)}",
        measured=f"loaded: {', '.join(heavy)}" if heavy else "none loaded",
        met=not heavy,
    )
    yield Goal(
        goal=f"process start to first label at most {FIRST_LABEL_MS / 1e3:g} s ({base.engine})",
        measured=f"{base.cold.p50_ms / 1e3:.3f} s" if base.cold else _why(base),
        met=base.cold is not None and base.cold.p50_ms <= FIRST_LABEL_MS,
    )


def _why(row: Row | None) -> str:
    return "not measured" if row is None or row.void is None else f"void: {row.void}"


def quantised(report: Report) -> Iterator[Quantised]:
    """INT8 against fp32 of the same target."""
    bundles = {
        (row.target, row.precision): row for row in report.rows if row.kind == "bundle" and not row.void
    }
    for (target, precision), row in bundles.items():
        full = bundles.get((target, "fp32"))
        if precision != "int8" or full is None or target is None:
            continue
        for name in ("engine", "pipeline"):
            new, old = row.scopes[name].processes, full.scopes[name].processes
            ratio = interval(*paired_draws(new, old, 0.5), min(len(new), len(old)))
            yield Quantised(target=target, scope=name, ratio=ratio)


def markdown(suite: Suite) -> str:
    """The tables for people."""
    lines = [
        f"# {suite.model}, {suite.main.machine.zoo_isa or 'unknown'} kernels, {suite.main.created[:10]}",
        "",
        f"Made by `benchmarks/suites/tim_net.py` of version {suite.main.zoo_version}; see [the protocol](../README.md).",
        "",
        "## Goals",
        "",
        *table(
            ("goal", "measured", "met"),
            [(g.goal, g.measured, "yes" if g.met else "**no**") for g in suite.goals],
        ),
    ]
    reports = [("Inputs at the model's rate", suite.main), ("Inputs that must be resampled", suite.resampled)]
    for title, report in reports:
        if report is None:
            continue
        lines += ["", f"## {title}", "", machine_line(report), "", *table(*summary(report))]
        versions = {f"{name} {number}" for row in report.rows for name, number in row.versions.items()}
        lines += ["", f"Versions: {', '.join(sorted(versions))}, Python {report.machine.python}."]
        flags = ", ".join(report.machine.isa_flags)
        lines += [f"CPU flags: {flags}.", "", *(f"- {note}" for note in report.notes)]
    if suite.int8:
        rows = [
            (
                *(q.target, q.scope, f"{q.ratio.value:.2f} [{q.ratio.low:.2f}, {q.ratio.high:.2f}]"),
                "faster" if q.ratio.high < 1 else "slower" if q.ratio.low > 1 else "no clear difference",
            )
            for q in suite.int8
        ]
        lines += [
            "",
            "## INT8 over fp32, p50 [95 %]",
            "",
            *table(("target", "scope", "ratio", "INT8 is"), rows),
        ]
    start = suite.startup
    lines += [
        *("", "## Start", ""),
        *table(
            ("what", "median ms"),
            [
                ("interpreter alone", f"{start.interpreter_ms:.1f}"),
                ("`import zoo`, inside", f"{start.import_zoo_ms:.1f}"),
                ("`zoo --help`, whole process", f"{start.help_ms:.1f}"),
                ("`zoo run BUNDLE CLIP --json`, whole process", f"{start.run_ms:.1f}"),
            ],
        ),
    ]
    if suite.skipped:
        lines += ["", "## Not measured here", "", *(f"- {line}" for line in suite.skipped)]
    return "\n".join(lines) + "\n"


def progress(stage: str, done: int, total: int) -> None:
    """One line on stderr for each process."""
    click.echo(f"{stage} {done}/{total}", err=True)


@click.command()
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--model",
    default="tim-net-emodb",
    show_default=True,
    help="Whose built bundles are measured when none are given.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of audio files for the inputs. Default: golden clips.",
)
@click.option(
    "--other-rate",
    default=16000,
    show_default=True,
    help="Rate of the second run's inputs, Hz; 0 leaves it out.",
)
@click.option("--quick", is_flag=True, help="A look: nothing to publish, nothing written without --out.")
@click.option("--duty", is_flag=True, help="Also one call every 100 ms and every 2 s.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results.")
@click.option("--force", is_flag=True, help="Replace results of the same name.")
def main(
    bundles: tuple[Path, ...],
    model: str,
    data: Path | None,
    other_rate: int,
    quick: bool,
    duty: bool,
    out: Path | None,
    force: bool,
) -> None:
    """Measure BUNDLES (default: all built ones) of TIM-Net. The first one is the base of all ratios."""
    kept, skipped = runnable(list(bundles) or built_bundles(model))
    if not kept:
        raise ZooError("no bundle can run here: " + "; ".join(skipped))
    options = replace(Options.quick() if quick else Options(), threads=1, duty=duty, data=data)
    peers = [Contestant(f"{BENCHMARKS / 'peers' / name}.py:factory") for name in PEERS]
    base, *others = [Contestant(str(path)) for path in kept]
    report = bench([base, *peers, *others], options, progress=progress)
    resampled = None
    if other_rate:
        other = replace(options, rate=other_rate, duty=False, peer_tolerance=RESAMPLED_TOLERANCE)
        resampled = bench([base, *peers], other, progress=progress)
    from zoo.models import tim_net

    clip = Path(next(iter(tim_net.__path__))) / "golden" / "english_48000.wav"
    startup = measure_startup(kept[0], clip, 3 if quick else STARTS)
    suite = Suite(
        schema=1,
        model=str(report.rows[0].model),
        main=report,
        resampled=resampled,
        startup=startup,
        goals=tuple(goals(report, startup)),
        int8=tuple(quantised(report)),
        skipped=tuple(skipped),
    )
    text = markdown(suite)
    click.echo(text)
    if out is None and not report.quick:
        out = BENCHMARKS / "results"
    if out is not None:
        stem = write_results(out, file_stem(report), suite, text, force=force)
        click.echo(f"written: {os.path.relpath(stem)}.json and .md", err=True)
    void = [
        f"{row.name}: {row.void}"
        for row in (*report.rows, *(resampled.rows if resampled else ()))
        if row.void
    ]
    if void:
        raise CheckFailed("void: " + "; ".join(void))


if __name__ == "__main__":
    try:
        main()
    except ZooError as error:
        click.echo(f"tim_net: {error}", err=True)
        sys.exit(error.exit_code)
