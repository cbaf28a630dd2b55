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
from pathlib import Path

import click

from zoo import registry
from zoo.bundle import Bundle, open_bundle
from zoo.data import open_dataset
from zoo.errors import DataError
from zoo.runtime.bench import Inputs, Report, Row, bench
from zoo.store import DEFAULT_TARGET

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
)
from _results import progress, start, table
from _throughput import Throughput, measure

#: What a user would write today, and how many times as fast the zoo is to be.
PEERS = {"ekphrasis_onnxruntime": 4.0, "ekphrasis_torch": 10.0}
#: Precisions that the goals are told for: as exact as the peers, and the fastest inside the accuracy budget.
PRECISIONS = ("fp32", "int8")
#: Tokens of the tweets of the second run.
TOKENS = 20


class Suite(Found, frozen=True, kw_only=True):
    """Everything that one run of this file found."""

    twenty: Report
    throughput: tuple[Throughput, ...]


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
        *head_lines(suite, __file__),
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


@command("ntua-slp-e-c", PEERS)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="ZOO_DATA",
    required=True,
    help="Folder of the tweets.",
)
def main(contest: Contest, data: Path) -> None:
    """Measure BUNDLES (default: all built ones) of NTUA-SLP. The peers redo the first one, an fp32 bundle of onnxruntime."""
    base, options = contest.bundles[0], contest.options
    inputs, twenty = tweets(open_bundle(base), data)
    contestants = contest.contestants
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
                (row.name, os.path.abspath(contestant.spec), base.resolve())
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
        skipped=contest.skipped,
    )
    contest.finish(suite, markdown(suite), short, prefix="ntua-slp-")


if __name__ == "__main__":
    start(main, __file__)
