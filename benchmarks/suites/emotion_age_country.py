# SPDX-License-Identifier: Apache-2.0
"""Large encoders in every precision: time for clips of 1 s and 5 s, memory, and how far the embedding moves.

The first bundle is what the others are compared with. Each process opens one bundle, alone, and the order rotates; times
are of raw samples to result, one thread. Cosines are of embeddings on real clips: as they are, and with the mean of the
first bundle's embeddings taken off both, which is what tells clips apart. Writes
``results/<name>-<date>-<isa>-<cpu>.json`` and the same as ``.md``.

Example: python benchmarks/suites/emotion_age_country.py FP32.zoo INT8.zoo --data DIR
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from zoo.bundle import open_bundle
from zoo.data import emodb
from zoo.errors import InputError, ZooError
from zoo.runtime.bench.driver import environment, run_process, tail
from zoo.runtime.bench.machine import Machine, describe, peak_rss

sys.path.insert(0, str(Path(__file__).parent))
from _results import check_folder, file_stem, table, write_results

RATE = 16_000
SECONDS = (1.0, 5.0)
#: Engine output that is compared.
EMBEDDING = "hidden_states"


class Speed(Struct, frozen=True, kw_only=True):
    """Clips of one length: medians over processes of p50 and of its ratio to the first bundle's in the same round."""

    seconds: float
    p50_ms: float
    least_ms: float
    rtf: float
    ratio: float
    """Time of the first bundle over this one's: above 1, this one is faster."""


class Agreement(Struct, frozen=True, kw_only=True):
    """Cosines between this bundle's embeddings and the first one's."""

    clips: int
    least: float
    mean: float
    centred_least: float
    centred_mean: float


class Row(Struct, frozen=True, kw_only=True):
    """One bundle."""

    variant: str
    target: str
    precision: str
    weights: str
    kept: int
    size_bytes: int
    peak_rss_bytes: int
    open_ms: float
    speeds: tuple[Speed, ...]
    agreement: Agreement


class Suite(Struct, frozen=True, kw_only=True):
    """Everything that one run found."""

    schema: int
    created: str
    zoo_version: str
    machine: Machine
    remark: str
    processes: int
    runs: int
    rows: tuple[Row, ...]


def measure(bundle: str, runs: int, clips: Sequence[str]) -> dict[str, Any]:
    """What one process finds: peak memory after the timed runs, times in ms, and embeddings of ``clips``."""
    from zoo.runtime import load

    began = time.perf_counter()
    model = load(bundle, threads=1)
    opened = (time.perf_counter() - began) * 1e3
    generator = np.random.default_rng(0)
    times: dict[str, list[float]] = {}
    for seconds in SECONDS:
        noise = generator.standard_normal((4, int(seconds * RATE))) * 0.1
        inputs = noise.astype(np.float32)
        model((inputs[0], RATE))
        taken = times.setdefault(str(seconds), [])
        for turn in range(runs):
            began = time.perf_counter()
            model((inputs[turn % len(inputs)], RATE))
            taken.append((time.perf_counter() - began) * 1e3)
    memory = peak_rss()
    embeddings = [model(clip).outputs[EMBEDDING].tolist() for clip in clips]
    return {"open": opened, "times": times, "memory": memory, "embeddings": embeddings}


def _process(bundle: Path, runs: int, clips: Sequence[Path], folder: Path) -> dict[str, Any]:
    request = folder / "request.json"
    request.write_text(json.dumps({"bundle": str(bundle), "runs": runs, "clips": [str(c) for c in clips]}))
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(request)]
    code, out, err = run_process(command, environment(1), folder)
    if code:
        raise ZooError(f"{bundle}: measuring it failed: {tail(err)}")
    found: dict[str, Any] = json.loads(out)
    return found


def agreement(first: NDArray[np.float64], other: NDArray[np.float64]) -> Agreement:
    """Cosines row by row, plain and with the mean row of ``first`` taken off both."""

    def cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        product: NDArray[np.float64] = (a * b).sum(1)
        return product / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    plain, centred = cosines(first, other), cosines(first - first.mean(0), other - first.mean(0))
    return Agreement(
        clips=len(first),
        least=float(plain.min()),
        mean=float(plain.mean()),
        centred_least=float(centred.min()),
        centred_mean=float(centred.mean()),
    )


def run(bundles: Sequence[Path], data: Path, *, processes: int, runs: int, clips: int) -> tuple[Row, ...]:
    """Measure all bundles, in rounds of one process each."""
    items = emodb.read(data, subset="full4").items
    chosen = [item.source for item in items[:: max(1, len(items) // clips)]][:clips]
    paths = [source for source in chosen if isinstance(source, Path)]
    found: dict[Path, list[dict[str, Any]]] = {bundle: [] for bundle in bundles}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(processes):
            shift = turn % len(bundles)
            for bundle in [*bundles[shift:], *bundles[:shift]]:
                click.echo(f"round {turn + 1} of {processes}: {bundle.name}", err=True)
                found[bundle].append(_process(bundle, runs, paths if turn == 0 else (), Path(name)))
    first = np.array(found[bundles[0]][0]["embeddings"])
    rows = []
    for bundle, rounds in found.items():
        manifest = open_bundle(bundle).manifest
        speeds = []
        for seconds in SECONDS:
            p50 = [float(np.median(one["times"][str(seconds)])) for one in rounds]
            base = [float(np.median(one["times"][str(seconds)])) for one in found[bundles[0]]]
            speeds.append(
                Speed(
                    seconds=seconds,
                    p50_ms=float(np.median(p50)),
                    least_ms=min(p50),
                    rtf=float(np.median(p50)) / 1e3 / seconds,
                    ratio=float(np.median([b / p for b, p in zip(base, p50, strict=True)])),
                )
            )
        rows.append(
            Row(
                variant=manifest.name,
                target=manifest.target,
                precision=manifest.precision,
                weights=manifest.provenance.weights,
                kept=len(manifest.engines[0].kept),
                size_bytes=sum(entry.size for entry in manifest.files),
                peak_rss_bytes=int(np.median([one["memory"] for one in rounds])),
                open_ms=float(np.median([one["open"] for one in rounds])),
                speeds=tuple(speeds),
                agreement=agreement(first, np.array(rounds[0]["embeddings"])),
            )
        )
    return tuple(rows)


def markdown(suite: Suite) -> str:
    """The report as Markdown."""
    header = ["variant", "target", "precision", "weights", "MB", "peak RSS, MB"]
    header += [f"{seconds:g} s: p50, ms (RTF, faster)" for seconds in SECONDS]
    header += ["cosine, least / mean", "centred"]
    rows = []
    for row in suite.rows:
        cells = [row.variant, row.target, row.precision, row.weights]
        cells += [f"{row.size_bytes / 1e6:.0f}", f"{row.peak_rss_bytes / 1e6:.0f}"]
        cells += [f"{s.p50_ms:.0f} ({s.rtf:.3f}, {s.ratio:.2f}×)" for s in row.speeds]
        a = row.agreement
        cells += [f"{a.least:.5f} / {a.mean:.5f}", f"{a.centred_least:.4f} / {a.centred_mean:.4f}"]
        rows.append(cells)
    flags = ", ".join(suite.machine.isa_flags)
    return "\n".join(
        [
            "<!-- SPDX-License-Identifier: Apache-2.0 -->",
            "# Encoder in every precision",
            "",
            f"{suite.created[:10]}, {suite.machine.cpu}, {suite.machine.cores} cores ({flags}); {suite.processes} processes a "
            f"bundle in rotating order, {suite.runs} runs of each length, one thread. {suite.remark}",
            "",
            *table(header, rows),
            "",
            f"Cosines over {suite.rows[0].agreement.clips} clips of EmoDB against the first row.",
            "",
        ]
    )


@click.command()
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Folder with EmoDB.")
@click.option("--processes", default=5, show_default=True, help="Fresh processes a bundle.")
@click.option("--runs", default=20, show_default=True, help="Timed runs of each length in a process.")
@click.option("--clips", default=48, show_default=True, help="Clips that embeddings are compared on.")
@click.option("--remark", default="", help="A sentence for the report, such as how busy the machine was.")
@click.option("--name", default="encoder", show_default=True, help="Begins the names of the two files.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(__file__).resolve().parent.parent / "results",
    help="Folder of the two files.  [default: benchmarks/results]",
)
@click.option("--force", is_flag=True, help="Replace them.")
@click.option("--worker", type=click.Path(path_type=Path), hidden=True)
def main(
    bundles: tuple[Path, ...],
    data: Path | None,
    processes: int,
    runs: int,
    clips: int,
    remark: str,
    name: str,
    out: Path,
    force: bool,
    worker: Path | None,
) -> None:
    """Measure BUNDLES beside the first of them."""
    if worker is not None:
        request = json.loads(worker.read_text())
        click.echo(json.dumps(measure(request["bundle"], request["runs"], request["clips"])))
        return
    try:
        if not bundles or data is None:
            raise InputError("give bundles, the one to compare with first, and --data DIR with EmoDB")
        check_folder(out)
        for bundle in bundles:  # told before the first one is measured
            open_bundle(bundle)
        suite = Suite(
            schema=1,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            zoo_version=metadata.version("affect-zoo"),
            machine=describe(),
            remark=remark,
            processes=processes,
            runs=runs,
            rows=run([b.absolute() for b in bundles], data, processes=processes, runs=runs, clips=clips),
        )
        text = markdown(suite)
        click.echo(text)
        click.echo(str(write_results(out, f"{name}-{file_stem(suite)}", suite, text, force=force)))
    except ZooError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
