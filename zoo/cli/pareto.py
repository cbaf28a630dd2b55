# SPDX-License-Identifier: Apache-2.0
"""The table of accuracy, latency and size: on the terminal, and as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from zoo.cli.common import emit_table, human_size, percent

if TYPE_CHECKING:
    from zoo.bundle import Candidate, Manifest, Pareto

_HEADER = ("precision", "kept", "metric", "loss [95 %]", "p50", "of fp32", "engine", "in budget", "")


def emit_pareto(table: Pareto | None) -> None:
    """Print a bundle's table; nothing where it has none."""
    if table is None:
        return
    emit_table(_HEADER, _lines(table), title="Accuracy, latency and size")
    click.echo(_about(table))
    for line in _kept(table, optimal=True):
        click.echo(line)


def write_report(path: Path, manifest: Manifest) -> None:
    """Write a bundle's table: JSON where the name ends so, else Markdown; whole or not at all."""
    from zoo.bundle import write_output

    table = manifest.pareto
    if table is None:
        return
    what = {"name": manifest.name, "target": manifest.target, "version": manifest.version}
    if path.suffix == ".json":
        content = msgspec.json.encode({"schema": 1, **what, "pareto": table})
        write_output(path, msgspec.json.format(content, indent=1).decode() + "\n")
        return
    rows = [_HEADER, ("---",) * len(_HEADER), *_lines(table)]
    lines = [
        f"# {manifest.name} on {manifest.target}: accuracy, latency and size",
        "",
        *(
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
            for row in rows
        ),
        "",
        _about(table),
        "",
        *(f"- {line}" for line in _kept(table, optimal=False)),
    ]
    write_output(path, "\n".join(lines).rstrip() + "\n")


def _lines(table: Pareto) -> list[tuple[str, ...]]:
    base = next((row.latency for row in table.rows if row.precision == "fp32" and row.latency), None)
    return [_line(row, base) for row in table.rows]


def _line(row: Candidate, base: float | None) -> tuple[str, ...]:
    loss = "-"
    if row.loss is not None and row.low is not None and row.high is not None:
        loss = f"{100 * row.loss:+.2f} [{100 * row.low:+.2f}, {100 * row.high:+.2f}]"
    return (
        "+".join((row.precision, *row.quantize)),
        str(len(row.kept)),
        "-" if row.value is None else percent(row.value),
        loss,
        "-" if row.latency is None else f"{1e3 * row.latency:.3f} ms",
        "-" if row.latency is None or base is None else f"{row.latency / base:.2f}",
        "-" if row.size is None else human_size(row.size),
        {True: "yes", False: "no", None: "-"}[row.within_budget],
        row.refused or ("optimal" if row.optimal else ""),
    )


def _about(table: Pareto) -> str:
    scored = (
        f"{table.metric}: {table.protocol}, n = {table.n}, budget {100 * table.budget:.2f} points."
        if table.n
        else "Accuracy was not measured: no fold models, or no data set (--data DIR)."
    )
    meaning = (
        "Optimal: no other row is at least as good in loss, p50 and size and better in one, by these figures."
    )
    timed = f"p50 of the engine, one thread, {table.inputs} inputs, all in turn, on {table.machine}."
    return f"{scored} {timed} {meaning}" if table.n else f"{scored} {timed}"


def _kept(table: Pareto, *, optimal: bool) -> list[str]:
    return [
        f"{'+'.join((row.precision, *row.quantize))}, {len(row.kept)} kept in fp32: {', '.join(row.kept)}"
        for row in table.rows
        if row.kept and row.refused is None and (row.optimal or not optimal)
    ]
