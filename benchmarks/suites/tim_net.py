# SPDX-License-Identifier: Apache-2.0
"""TIM-Net under the whole protocol: against what a user would write today, and every built bundle side by side.

Writes ``benchmarks/results/<date>-<isa>-<cpu>.json`` and the same as ``.md``. About 25 s a contestant and process;
``--quick`` takes a few minutes and writes nothing unless told where. Run it on a machine that does nothing else.

Example: python benchmarks/suites/tim_net.py
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from msgspec import Struct

from zoo.errors import ZooError
from zoo.runtime.bench import Report, bench
from zoo.runtime.bench.driver import environment, run_process, tail
from zoo.runtime.bench.stats import rounded

sys.path.insert(0, str(Path(__file__).parent))
from _contest import (
    Contest,
    Found,
    Goal,
    command,
    head_lines,
    int8_lines,
    peer_goals,
    quantised,
    report_lines,
    skipped_lines,
    why,
)
from _results import progress, start, table

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


class Suite(Found, frozen=True, kw_only=True):
    """Everything that one run of this file found."""

    resampled: Report | None
    startup: Startup


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
    yield from peer_goals(report, PEERS)
    overhead = base.overhead
    yield Goal(
        goal=f"runtime overhead at most {OVERHEAD_SHARE:.0%} or {OVERHEAD_MS * 1e3:.0f} us",
        measured=f"{overhead.ms * 1e3:.1f} us, {overhead.share:.1%}" if overhead else why(base),
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
        measured=f"{base.cold.p50_ms / 1e3:.3f} s" if base.cold else why(base),
        met=base.cold is not None and base.cold.p50_ms <= FIRST_LABEL_MS,
    )


def markdown(suite: Suite) -> str:
    """The tables for people."""
    lines = head_lines(suite, __file__)
    reports = [("Inputs at the model's rate", suite.main), ("Inputs that must be resampled", suite.resampled)]
    for title, report in reports:
        lines += report_lines(title, report) if report is not None else []
    lines += int8_lines(suite.int8)
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
    lines += skipped_lines(suite.skipped)
    return "\n".join(lines) + "\n"


@command("tim-net-emodb", PEERS)
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
@click.option("--duty", is_flag=True, help="Also one call every 100 ms and every 2 s.")
def main(contest: Contest, data: Path | None, other_rate: int, duty: bool) -> None:
    """Measure BUNDLES (default: all built ones) of TIM-Net. The first one is the base of all ratios."""
    options = replace(contest.options, duty=duty, data=data)
    report = bench(contest.contestants, options, progress=progress)
    resampled = None
    if other_rate:
        other = replace(options, rate=other_rate, duty=False, peer_tolerance=RESAMPLED_TOLERANCE)
        resampled = bench(contest.compared, other, progress=progress)
    from zoo.models import tim_net

    clip = Path(next(iter(tim_net.__path__))) / "golden" / "english_48000.wav"
    startup = measure_startup(contest.bundles[0], clip, 3 if options.is_quick else STARTS)
    suite = Suite(
        schema=1,
        model=str(report.rows[0].model),
        main=report,
        resampled=resampled,
        startup=startup,
        goals=tuple(goals(report, startup)),
        int8=tuple(quantised(report)),
        skipped=contest.skipped,
    )
    contest.finish(suite, markdown(suite), resampled)


if __name__ == "__main__":
    start(main, __file__)
