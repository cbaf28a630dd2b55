# SPDX-License-Identifier: Apache-2.0
"""NTUA-SLP on real tweets under the whole protocol: every built bundle against what a user would write today.

One tweet a call (all of a file's, and those of exactly 20 tokens), then as many tweets a second as each contestant answers when it is
given all of them: the zoo puts tweets of one length together, the peers pad tweets of like length. Writes
``benchmarks/results/ntua-slp-<date>-<isa>-<cpu>.json`` and the same as ``.md``. About 20 minutes; ``--quick`` takes a few and
writes nothing unless told where. Run it on a machine that does nothing else.

Example: python benchmarks/suites/ntua_slp.py --data DIR
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click
from msgspec import Struct

from zoo import registry
from zoo.bundle import Bundle, open_bundle
from zoo.data import open_dataset
from zoo.errors import DataError, ZooError
from zoo.runtime.bench import Contestant, Inputs, Options, Report, Row, bench
from zoo.store import DEFAULT_TARGET

sys.path.insert(0, str(Path(__file__).parent))
from _contest import (
    BENCHMARKS,
    Goal,
    Quantised,
    built_bundles,
    goal_lines,
    int8_lines,
    peer_goals,
    progress,
    quantised,
    refuse_void,
    report_lines,
    runnable,
    skipped_lines,
)
from _results import file_stem, table, write_results
from _throughput import Throughput, measure

#: What a user would write today, and how many times as fast the zoo is to be.
PEERS = {"ekphrasis_onnxruntime": 4.0, "ekphrasis_torch": 10.0}
#: Precisions that the goals are told for: as exact as the peers, and the fastest inside the accuracy budget.
PRECISIONS = ("fp32", "int8")
#: Tokens of the tweets of the second run.
TOKENS = 20


class Suite(Struct, frozen=True, kw_only=True):
    """Everything that one run of this file found."""

    schema: Literal[1]
    model: str
    main: Report
    twenty: Report
    throughput: tuple[Throughput, ...]
    goals: tuple[Goal, ...]
    int8: tuple[Quantised, ...]
    skipped: tuple[str, ...]


def tweets(bundle: Bundle, data: Path) -> tuple[Inputs, Inputs]:
    """The held-out tweets of a bundle's data set, each once; and those among them of exactly 20 tokens.

    Raises
    ------
    DataError
        The data set is not there, or holds no such tweets.
    """
    card, variant = registry.find(bundle.manifest.name)
    dataset = open_dataset(card, variant.data, data).only(variant.held_out)
    texts = tuple(dict.fromkeys(str(item.source) for item in dataset.items))
    pipeline = bundle.pipeline()
    chosen = tuple(text for text in texts if len(pipeline.tokens(text)) == TOKENS)
    if not chosen:
        raise DataError(f"{dataset.name}: none of {len(texts)} tweets has {TOKENS} tokens")
    where = f"{dataset.name} {'+'.join(variant.held_out)}"
    return (
        Inputs(texts, 0, f"every tweet of {where}"),
        Inputs(chosen, 0, f"every tweet of {where} with {TOKENS} tokens"),
    )


def goals(report: Report) -> Iterator[Goal]:
    """One tweet a call, against each peer."""
    for row in _goal_rows(report):
        yield from peer_goals(report, PEERS, row)


def _goal_rows(report: Report) -> list[Row]:
    return [row for row in report.rows if row.target == DEFAULT_TARGET and row.precision in PRECISIONS]


def markdown(suite: Suite) -> str:
    """The tables for people."""
    lines = [
        f"# {suite.model}, {suite.main.machine.zoo_isa or 'unknown'} kernels, {suite.main.created[:10]}",
        "",
        f"Made by `benchmarks/suites/ntua_slp.py` of version {suite.main.zoo_version}; see [the protocol](../README.md).",
        "",
        *goal_lines(suite.goals),
        *report_lines("One tweet a call", suite.main),
        *report_lines(f"One tweet of {TOKENS} tokens a call", suite.twenty),
        *("", "## All tweets at once", ""),
        *table(
            ("contestant", "tweets/s", "least..greatest", "CPU us a tweet", "processes"),
            [
                (
                    t.name,
                    f"{t.per_second:.0f}",
                    f"{t.spread[0]:.0f}..{t.spread[1]:.0f}",
                    f"{t.cpu_us:.0f}",
                    str(t.n),
                )
                for t in suite.throughput
            ],
        ),
        *int8_lines(suite.int8),
        *skipped_lines(suite.skipped),
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--model",
    default="ntua-slp-e-c",
    show_default=True,
    help="Whose built bundles are measured when none are given.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="ZOO_DATA",
    required=True,
    help="Folder of the tweets.",
)
@click.option("--quick", is_flag=True, help="A look: nothing to publish, nothing written without --out.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results.")
@click.option("--force", is_flag=True, help="Replace results of the same name.")
def main(
    bundles: tuple[Path, ...], model: str, data: Path, quick: bool, out: Path | None, force: bool
) -> None:
    """Measure BUNDLES (default: all built ones) of NTUA-SLP. The peers redo the first one, an fp32 bundle of onnxruntime."""
    kept, skipped = runnable(list(bundles) or built_bundles(model))
    if not kept:
        raise ZooError("no bundle can run here: " + "; ".join(skipped))
    options = replace(Options.quick() if quick else Options(), threads=1)
    inputs, twenty = tweets(open_bundle(kept[0]), data)
    peers = [Contestant(f"{BENCHMARKS / 'peers' / name}.py:factory") for name in PEERS]
    base, *others = [Contestant(str(path)) for path in kept]
    contestants = [base, *peers, *others]
    report = bench(contestants, options, inputs=inputs, progress=progress)
    goal_rows = [row.name for row in _goal_rows(report)]
    short = bench(
        [
            c
            for row, c in zip(report.rows, contestants, strict=True)
            if row.kind == "peer" or row.name in goal_rows
        ],
        options,
        inputs=twenty,
        progress=progress,
    )
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder:
        rates = measure(
            [
                (row.name, os.path.abspath(contestant.spec), kept[0].resolve())
                for row, contestant in zip(report.rows, contestants, strict=True)
            ],
            inputs,
            processes=options.processes,
            seconds=options.seconds / 2,
            folder=Path(folder),
        )
    suite = Suite(
        schema=1,
        model=str(report.rows[0].model),
        main=report,
        twenty=short,
        throughput=rates,
        goals=tuple(goals(report)),
        int8=tuple(quantised(report)),
        skipped=tuple(skipped),
    )
    text = markdown(suite)
    click.echo(text)
    if out is None and not report.quick:
        out = BENCHMARKS / "results"
    if out is not None:
        stem = write_results(out, f"ntua-slp-{file_stem(report)}", suite, text, force=force)
        click.echo(f"written: {os.path.relpath(stem)}.json and .md", err=True)
    refuse_void(report, short)


if __name__ == "__main__":
    try:
        main()
    except ZooError as error:
        click.echo(f"ntua_slp: {error}", err=True)
        sys.exit(error.exit_code)
