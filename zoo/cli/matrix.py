# SPDX-License-Identifier: Apache-2.0
"""``zoo export --all``: the options, the progress table and what is printed in the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.common import emit_table, human_size
from zoo.errors import DataError
from zoo.store import home

if TYPE_CHECKING:
    from rich.table import Table

    from zoo.export.matrix import CellReport, Event, MatrixReport

#: Called with (index, cell, event); event None where the cell has a new state.
OnChange = Callable[[int, "CellReport", "Event | None"], None]

_STYLES = {"built": "green", "skipped": "cyan", "refused": "yellow", "failed": "red", "pending": "dim"}


def matrix_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that only ``--all`` has."""
    for option in (
        click.option(
            "--jobs",
            type=click.IntRange(1, 64),
            default=1,
            show_default=True,
            help="With --all: worker processes.",
        ),
        click.option(
            "--model", "models", default="*", show_default=True, help="With --all: a pattern of model names."
        ),
        click.option(
            "--all", "everything", is_flag=True, help="Every model in every precision of the targets."
        ),
    ):
        command = option(command)
    return command


def export_all(
    targets: Sequence[str],
    *,
    models: str,
    precisions: str | None,
    compute_capability: str | None,
    out: Path | None,
    data: Path | None,
    budget: float,
    force: bool,
    jobs: int,
    report: Path | None,
    as_json: bool,
) -> None:
    """Run the matrix and print its report; exits with 1 unless every cell is as card and target declare."""
    from zoo.export import matrix

    if not targets:
        raise click.UsageError("--all needs --target; zoo targets lists them")
    if data is not None and not data.exists():
        raise DataError(f"{data}: no such file or folder")
    folder = (out if out is not None else home() / "bundles").absolute()
    cells = matrix.select(
        targets,
        out=folder,
        models=models,
        precisions=[part.strip() for part in (precisions or "").split(",") if part.strip()],
        compute_capability=compute_capability,
    )
    settings = matrix.Settings(data=str(data.absolute()) if data else None, budget=budget)
    path = report.absolute() if report is not None else folder / matrix.REPORT
    with _progress(cells) as on_change:
        run = matrix.Run(cells, settings, report=path, jobs=jobs, force=force, on_change=on_change)
        try:
            found = run.execute()
        except KeyboardInterrupt:
            found = run.report
    if as_json:
        click.echo(matrix.encode_report(found).decode(), nl=False)
    else:
        _print(found)
        click.echo(str(path))
    if found.interrupted:
        click.echo(f"zoo: interrupted, {_summary(found)}. The same command goes on", err=True)
        raise click.Abort
    if not found.passed:
        raise click.exceptions.Exit(1)


def _summary(report: MatrixReport) -> str:
    return ", ".join(f"{count} {state}" for state, count in report.counts.items() if count)


def _print(report: MatrixReport) -> None:
    header = ("name", "target", "precision", "state", "size", "seconds", "parity", "loss", "reason")
    emit_table(header, [_line(cell) for cell in report.cells])
    click.echo(f"{_summary(report)} in {report.seconds:.1f} s")


def _line(cell: CellReport) -> tuple[str, ...]:
    where = (
        f"{cell.node} ({cell.op}): " if cell.node and cell.op and cell.node not in (cell.reason or "") else ""
    )
    return (
        cell.name,
        cell.target,
        cell.precision,
        cell.state,
        "-" if cell.size is None else human_size(cell.size),
        "-" if cell.seconds is None else f"{cell.seconds:.1f}",
        "-" if cell.parity is None else f"{cell.parity.max_error:.1e}",
        "-" if cell.accuracy is None else f"{100 * cell.accuracy.difference:+.2f} {cell.accuracy.metric}",
        where + (cell.reason or ""),
    )


@contextmanager
def _progress(cells: Sequence[CellReport]) -> Iterator[OnChange]:
    """A live table on a terminal, one plain line for each cell that is done elsewhere. On stderr."""
    if sys.stderr.isatty():
        with _live(cells) as on_terminal:
            yield on_terminal
        return
    total = len(cells)
    done = sum(cell.state != "pending" for cell in cells)
    if done:
        click.echo(f"zoo: {done} of {total} cells are refused by card or target", err=True)

    def plain(index: int, cell: CellReport, event: Event | None) -> None:
        nonlocal done
        if event is not None or cells[index].state != "pending":
            return
        done += 1
        detail = cell.reason or (f"{cell.seconds:.1f} s" if cell.seconds is not None else "it is there")
        where = f"{cell.name} {cell.target} {cell.precision}"
        click.echo(f"zoo: {done}/{total} {where}: {cell.state} ({detail})", err=True)

    yield plain


@contextmanager
def _live(cells: Sequence[CellReport]) -> Iterator[OnChange]:
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    table = ProgressTable(cells, max(3, console.height - 8))
    with Live(table, console=console, transient=True, refresh_per_second=4):
        yield table.on_change


class ProgressTable:
    """What runs and what was done last, as far as it fits, and how much is left.

    Parameters
    ----------
    rows : int
        Most cells to show.
    """

    def __init__(self, cells: Sequence[CellReport], rows: int) -> None:
        self._cells = dict(enumerate(cells))
        self._recent = [index for index, cell in self._cells.items() if cell.state != "pending"]
        self._stages: dict[int, str] = {}
        self._rows = rows

    def on_change(self, index: int, cell: CellReport, event: Event | None) -> None:
        """Take a stage or a new state."""
        self._cells[index] = cell
        if event is not None:
            self._stages[index] = event.stage + (f" {event.done}/{event.total}" if event.total > 1 else "")
            return
        self._stages.pop(index, None)
        if index not in self._recent:
            self._recent.append(index)

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        done, total = len(self._recent), len(self._cells)
        table = Table(
            "model",
            "target",
            "precision",
            "state",
            "size",
            "seconds",
            "reason",
            title=f"{done} of {total} cells",
            title_justify="left",
        )
        running = list(self._stages)[: self._rows]
        room = self._rows - len(running)
        for index in (*(self._recent[-room:] if room else ()), *running):
            cell = self._cells[index]
            name, target, precision, state, size, seconds, _, _, reason = _line(cell)
            style = "bold" if index in self._stages else _STYLES[state]
            cells = (name, target, precision, self._stages.get(index, state), size, seconds, reason)
            table.add_row(*(Text(text, style, overflow="ellipsis", no_wrap=True) for text in cells))
        return table
